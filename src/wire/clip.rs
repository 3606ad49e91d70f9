//! Texts that are cut to a length, for logs and for peers.

/// The longest beginning of a text that has no more than `max` bytes, without control characters.
pub(crate) fn clipped(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_control() { '?' } else { c };
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}
