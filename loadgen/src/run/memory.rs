//! How much memory this process has.

use std::fs;

/// The resident memory of this process in bytes; 0 where the kernel does not tell.
pub(super) fn resident_bytes() -> u64 {
    bytes_of("VmRSS:")
}

/// The most resident memory that this process has had, in bytes; 0 where the kernel does not tell.
pub(super) fn peak_bytes() -> u64 {
    bytes_of("VmHWM:")
}

fn bytes_of(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_memory() {
        assert!(super::resident_bytes() > 100_000);
        assert!(super::peak_bytes() >= super::resident_bytes());
    }
}
