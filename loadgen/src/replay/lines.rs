//! Lines of a stream, counted from 1, each at most a megabyte.

use std::io::{self, BufRead};

/// A longer line is malformed; the bound keeps a file without line ends from filling the memory.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// Reads a stream line by line into one buffer.
pub(super) struct Lines<R> {
    stream: R,
    number: u64,
    line: Vec<u8>,
}

/// One line, without its line end (LF or CRLF).
pub(super) struct Line<'a> {
    pub(super) number: u64,
    /// `None` when the line is too long.
    pub(super) bytes: Option<&'a [u8]>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(stream: R) -> Lines<R> {
        Lines {
            stream,
            number: 0,
            line: Vec::new(),
        }
    }

    /// The number of the last line that was read.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end. A line that a failed read cuts off is not given.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut is_too_long = false;
        let mut has_begun = false;
        loop {
            let available = match self.stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if available.is_empty() {
                break;
            }
            has_begun = true;
            let end = available.iter().position(|&byte| byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.line.len() + part.len() <= MAX_LINE_BYTES {
                self.line.extend_from_slice(part);
            } else {
                is_too_long = true;
            }
            let used = part.len() + usize::from(end.is_some());
            self.stream.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !has_begun {
            return Ok(None);
        }
        self.number += 1;
        let bytes = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        Ok(Some(Line {
            number: self.number,
            bytes: (!is_too_long).then_some(bytes),
        }))
    }
}
