//! Lines of JSON between processes: one value a line, of bounded length.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line. The longest that is sent has the figures of a phase: two histograms of some 30,000 buckets each.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// A line that is none of ours.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The stream failed.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// It does not end within [`MAX_LINE_BYTES`].
    #[error("a line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// It ends in the middle of a line.
    #[error("the stream ends in the middle of a line")]
    Torn,
    /// It is no value of the expected kind.
    #[error("a line cannot be understood: {0}; it begins with '{1}'")]
    Unreadable(serde_json::Error, String),
}

/// Writes a value as a line, at once.
///
/// # Errors
/// What the stream fails with.
pub fn write_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Reads a line; `None` at the end of the stream.
///
/// # Errors
/// [`LineError`]; after one the stream is of no use.
pub fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, LineError> {
    let mut line = Vec::new();
    let mut bounded = io::Read::take(&mut *from, MAX_LINE_BYTES as u64 + 1);
    bounded.read_until(b'\n', &mut line)?;
    match line.pop() {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) if line.len() >= MAX_LINE_BYTES => return Err(LineError::TooLong),
        Some(_) => return Err(LineError::Torn),
    }
    let value = serde_json::from_slice(&line);
    value.map(Some).map_err(|error| {
        let begin = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        LineError::Unreadable(error, begin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_as_they_were_written_and_the_rest_is_refused() {
        let mut written = Vec::new();
        for value in [vec![1_u64, 2], vec![]] {
            write_line(&value, &mut written).expect("written");
        }
        let mut from = &written[..];
        let mut next = || read_line::<Vec<u64>>(&mut from).expect("a line");
        assert_eq!(
            [next(), next(), next()],
            [Some(vec![1, 2]), Some(vec![]), None]
        );

        let refused = |text: &[u8]| read_line::<Vec<u64>>(&mut { text }).expect_err("refused");
        assert!(matches!(refused(b"[1"), LineError::Torn));
        let error = refused(b"hello there\n").to_string();
        assert!(error.contains("hello there"), "{error}");
    }

    #[test]
    fn a_line_without_an_end_costs_bounded_memory() {
        let mut endless = io::BufReader::new(io::repeat(b'1'));
        let error = read_line::<u64>(&mut endless).expect_err("refused");
        assert!(matches!(error, LineError::TooLong));
    }
}
