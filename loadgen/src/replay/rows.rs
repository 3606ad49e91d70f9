//! The rows of a file, one after the other.

use std::borrow::Cow;
use std::io::BufRead;

use super::decimal::{Decimal, Sum};
use super::fields::split;
use super::lines::Lines;
use super::malformed::{Malformed, Reason};
use super::row::{Row, Values};
use super::source::{InputError, Source};

/// The columns of interest, by their names in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The one that names the entity.
    pub key: String,
    /// Those to sum.
    pub sums: Vec<String>,
}

/// One line below the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A row for its entity.
    Row(Row),
    /// A row that cannot be replayed.
    Malformed(Malformed),
}

/// Streams rows. After an error there is nothing more.
///
/// An empty or `NA` value is a missing one; `NA` as a key is a key, an empty key is malformed. A row is also malformed
/// when its value would take the sum of its column's magnitudes beyond 128 bits: no entity's sum can then overflow,
/// whatever the order in which rows are folded.
pub struct Rows {
    source: Source,
    lines: Lines<Box<dyn BufRead>>,
    columns: Columns,
    layout: Layout,
    /// Magnitudes of all rows so far, by summed column.
    magnitudes: Vec<Sum>,
    values: Vec<Option<Decimal>>,
    has_failed: bool,
}

/// Where the columns stand.
struct Layout {
    fields: usize,
    key: usize,
    sums: Vec<usize>,
}

impl Rows {
    /// Opens the input and reads its header.
    ///
    /// # Errors
    /// When the input cannot be read, is empty, or lacks a column.
    pub fn open(source: &Source, columns: &Columns) -> Result<Rows, InputError> {
        let mut lines = Lines::new(source.open()?);
        let layout = Layout::read(source, &mut lines, columns)?;
        Ok(Rows {
            source: source.clone(),
            lines,
            columns: columns.clone(),
            magnitudes: vec![Sum::ZERO; layout.sums.len()],
            values: vec![None; layout.sums.len()],
            layout,
            has_failed: false,
        })
    }
}

impl Iterator for Rows {
    type Item = Result<Line, InputError>;

    fn next(&mut self) -> Option<Result<Line, InputError>> {
        if self.has_failed {
            return None;
        }
        let after_line = self.lines.number();
        match self.lines.next() {
            Ok(None) => None,
            Ok(Some(line)) => {
                let number = line.number;
                let reader = RowReader {
                    columns: &self.columns,
                    layout: &self.layout,
                    magnitudes: &mut self.magnitudes,
                    values: &mut self.values,
                };
                let row = line
                    .bytes
                    .ok_or(Reason::TooLong)
                    .and_then(|bytes| reader.read(bytes));
                Some(Ok(match row {
                    Ok(key) => Line::Row(Row {
                        line: number,
                        key,
                        values: Values::from(&self.values[..]),
                    }),
                    Err(reason) => Line::Malformed(Malformed {
                        line: number,
                        reason,
                    }),
                }))
            }
            Err(error) => {
                self.has_failed = true;
                Some(Err(self.source.failed(error, after_line)))
            }
        }
    }
}

/// The parts of [`Rows`] that reading one line needs, beside the line.
struct RowReader<'a> {
    columns: &'a Columns,
    layout: &'a Layout,
    magnitudes: &'a mut [Sum],
    values: &'a mut [Option<Decimal>],
}

impl RowReader<'_> {
    /// Reads the line's values into `values` and returns its key.
    fn read(self, bytes: &[u8]) -> Result<String, Reason> {
        let line = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8)?;
        let mut fields = Vec::with_capacity(self.layout.fields);
        split(line, &mut fields)?;
        if fields.len() != self.layout.fields {
            return Err(Reason::FieldCount {
                found: fields.len(),
                expected: self.layout.fields,
            });
        }
        let key = &fields[self.layout.key];
        if key.is_empty() {
            return Err(Reason::EmptyKey);
        }
        let columns = || self.columns.sums.iter().zip(&self.layout.sums);
        for ((name, &at), value) in columns().zip(self.values.iter_mut()) {
            *value = match fields[at].as_ref() {
                "" | "NA" => None,
                text => {
                    Some(Decimal::parse(text).map_err(|error| Reason::value(name, text, error))?)
                }
            };
        }
        let grown = |(sum, value): (&Sum, &Option<Decimal>)| match value {
            None => Ok(*sum),
            Some(value) => sum.plus_sum(value.magnitude()),
        };
        for ((name, _), pair) in columns().zip(self.magnitudes.iter().zip(self.values.iter())) {
            grown(pair).map_err(|_| Reason::ColumnOverflow {
                column: name.clone(),
            })?;
        }
        for (sum, value) in self.magnitudes.iter_mut().zip(self.values.iter()) {
            *sum = grown((sum, value)).unwrap_or(*sum);
        }
        Ok(key.to_string())
    }
}

impl Layout {
    fn read(
        source: &Source,
        lines: &mut Lines<Box<dyn BufRead>>,
        columns: &Columns,
    ) -> Result<Layout, InputError> {
        let bad = |reason: Reason| InputError::Header {
            input: source.to_string(),
            reason: match reason {
                Reason::NotUtf8 => "is not valid UTF-8".to_owned(),
                other => format!("is malformed: {other}"),
            },
        };
        let line = lines.next().map_err(|error| source.failed(error, 0))?;
        let line = line.ok_or_else(|| InputError::Empty {
            input: source.to_string(),
        })?;
        let bytes = line.bytes.ok_or_else(|| bad(Reason::TooLong))?;
        let text = std::str::from_utf8(bytes).map_err(|_| bad(Reason::NotUtf8))?;
        let mut names = Vec::new();
        // Spreadsheets begin their files with a byte order mark.
        split(text.strip_prefix('\u{FEFF}').unwrap_or(text), &mut names).map_err(bad)?;
        Ok(Layout {
            fields: names.len(),
            key: position(source, &names, &columns.key)?,
            sums: columns
                .sums
                .iter()
                .map(|name| position(source, &names, name))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn position(source: &Source, names: &[Cow<'_, str>], column: &str) -> Result<usize, InputError> {
    let mut places = names
        .iter()
        .enumerate()
        .filter(|(_, name)| *name == column)
        .map(|(at, _)| at);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(InputError::Header {
            input: source.to_string(),
            reason: format!(
                "names the column '{column}' twice, so it is unclear which one is meant"
            ),
        }),
        (None, _) => Err(InputError::NoColumn {
            input: source.to_string(),
            column: column.to_owned(),
            existing: names.join(", "),
        }),
    }
}
