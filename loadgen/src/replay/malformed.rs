//! Rows that cannot be replayed: each with its line and the reason. They do not stop the rest.

use std::fmt;

use super::decimal::DecimalError;
use super::lines::MAX_LINE_BYTES;

/// A malformed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line in the file, the header being 1.
    pub line: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// Why a row is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The line is too long.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The line is not text.
    #[error("the line is not valid UTF-8")]
    NotUtf8,
    /// A quoted field does not end on its line.
    #[error("a quote is not closed")]
    UnclosedQuote,
    /// A quoted field is followed by something that is no comma.
    #[error("there is text behind a closing quote")]
    TextAfterQuote,
    /// The line has more or fewer fields than the header.
    #[error("{found} fields where the header has {expected}")]
    FieldCount {
        /// Fields of the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// The key is empty.
    #[error("the key is empty")]
    EmptyKey,
    /// A value to be summed is no number, or does not fit.
    #[error("column '{column}': '{text}' {error}")]
    Value {
        /// The column.
        column: String,
        /// The value, shortened.
        text: String,
        /// What is wrong with it.
        error: DecimalError,
    },
    /// The column's values no longer fit together.
    #[error("column '{column}': with this value the magnitudes of the column overflow 128 bits")]
    ColumnOverflow {
        /// The column.
        column: String,
    },
}

impl Reason {
    /// A bad value, with as much of it as fits on a line.
    pub(super) fn value(column: &str, text: &str, error: DecimalError) -> Reason {
        const SHOWN: usize = 40;
        let mut shown: String = text
            .chars()
            .take(SHOWN)
            .flat_map(char::escape_debug)
            .collect();
        if text.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Reason::Value {
            column: column.to_owned(),
            text: shown,
            error,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Counts malformed rows and keeps the first of them.
#[derive(Clone, Debug, Default)]
pub struct MalformedLog {
    limit: usize,
    first: Vec<Malformed>,
    count: u64,
}

impl MalformedLog {
    /// A log that keeps at most `limit` rows.
    #[must_use]
    pub fn new(limit: usize) -> MalformedLog {
        MalformedLog {
            limit,
            first: Vec::new(),
            count: 0,
        }
    }

    /// Takes a row in.
    pub fn push(&mut self, malformed: Malformed) {
        self.count += 1;
        if self.first.len() < self.limit {
            self.first.push(malformed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> &[Malformed] {
        &self.first
    }
}

/// One line for each row that was kept, and one for the rest.
impl fmt::Display for MalformedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first
            .iter()
            .try_for_each(|malformed| writeln!(f, "{malformed}"))?;
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            rest => writeln!(f, "and {rest} more malformed rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let mut log = MalformedLog::new(2);
        (2..7).for_each(|line| {
            log.push(Malformed {
                line,
                reason: Reason::EmptyKey,
            })
        });
        assert_eq!(log.count(), 5);
        assert_eq!(
            log.to_string(),
            "line 2: the key is empty\nline 3: the key is empty\nand 3 more malformed rows\n"
        );
    }

    #[test]
    fn long_and_unprintable_values_are_shown_shortened() {
        let reason = Reason::value("a", &"\u{7}".repeat(100), DecimalError::NotANumber).to_string();
        assert!(
            reason.contains("…' is not a whole") && reason.len() < 300,
            "{reason}"
        );
        assert!(!reason.contains('\u{7}'));
    }
}
