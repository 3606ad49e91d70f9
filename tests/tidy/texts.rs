//! What must not stand in any text of the repository: it would be true on one machine, or for one way to build.

use crate::Finding;
use crate::files::SourceFile;

/// Starts of paths that exist on somebody's machine only. Each is cut in two here, so that this file passes its own check.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("\\Us", "ers\\"),
];

/// Hosts of package registries, cut in two likewise.
const REGISTRY_HOSTS: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("docker", ".io"),
    concat!("ghcr", ".io"),
    concat!("quay", ".io"),
    concat!("proxy.golang", ".org"),
];

/// Finds the paths and hosts in one file.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut found = |what| {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                what,
            })
        };
        if let Some(path) = MACHINE_PATHS.iter().find(|path| starts_a_path(line, path)) {
            found(format!(
                "`{path}` is a path of one machine; write it relative to the repository, or as an argument"
            ));
        }
        // Cargo writes its registry into the lock file.
        if !is_lock_file(&file.path)
            && let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(*host))
        {
            found(format!(
                "`{host}` is the host of a package registry; builds may use another, so leave it out"
            ));
        }
    }
    findings
}

/// Whether `start` stands in the line as the beginning of a path, not in the middle of a longer one or of an address.
fn starts_a_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        // A Windows path has its drive before it.
        start.starts_with('\\')
            || !before.is_some_and(|c| c.is_alphanumeric() || "._-/{}$<>~*".contains(c))
    })
}

fn is_lock_file(path: &str) -> bool {
    path == "Cargo.lock" || path.ends_with("/Cargo.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&SourceFile::new(path, text))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn every_machine_path_is_found_in_every_text() {
        for start in MACHINE_PATHS {
            for file in [
                "README.md",
                "src/lib.rs",
                "Cargo.toml",
                ".ci/run",
                "Cargo.lock",
            ] {
                for text in [
                    format!("first\nsee `{start}notes`"),
                    format!("\nC:{start}x"),
                    format!("\n{start}"),
                ] {
                    // A drive before a slash is an address or a volume of a container, and as much one machine's.
                    assert_eq!(lines(file, &text), [2], "{file}: {text}");
                }
            }
        }
    }

    #[test]
    fn every_registry_host_is_found_outside_of_lock_files() {
        for host in REGISTRY_HOSTS {
            let text = format!("first\nhttps://{host}/corecast");
            assert_eq!(lines("README.md", &text), [2], "{text}");
            assert_eq!(lines("Cargo.lock", &text), [], "{text}");
            assert_eq!(lines("benches/peers/Cargo.lock", &text), [], "{text}");
        }
    }

    #[test]
    fn other_paths_and_hosts_are_not_found() {
        for text in [
            "/etc/sysctl.d and /proc/self/status and /sys/devices/system/node",
            concat!("https://example.com/wo", "rk/x"),
            concat!("src/ro", "ot/mod.rs"),
            concat!("frame", "work/x"),
            "docs.rs and example.com",
        ] {
            assert_eq!(lines("README.md", text), [], "{text}");
        }
    }
}
