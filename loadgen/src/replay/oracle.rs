//! The independent pass over the file: what every entity must hold afterwards.
//!
//! It shares no code with the reader and the fold of the entities, and is written in another manner on purpose (a state
//! machine over characters, numbers by text surgery, sums kept apart by scale), so that one mistake is not made twice.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use super::rows::Columns;
use super::source::{InputError, Source};

const LONGEST_LINE: u64 = 1_048_576;
const MOST_DECIMALS: usize = 18;

/// The result of the independent pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oracle {
    /// What each entity must hold.
    pub entities: BTreeMap<String, Expected>,
    /// Rows that belong to an entity.
    pub rows: u64,
    /// The lines of malformed rows.
    pub malformed: u64,
}

/// What an entity must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its rows.
    pub rows: u64,
    /// One for each summed column: the sum and the number of missing values.
    pub columns: Vec<(ExpectedSum, u64)>,
}

/// A sum kept as one whole number for each number of decimals among its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedSum {
    by_decimals: BTreeMap<usize, i128>,
}

impl ExpectedSum {
    fn add(&mut self, units: i64, decimals: usize) -> Option<()> {
        let sum = self.by_decimals.entry(decimals).or_default();
        *sum = sum.checked_add(i128::from(units))?;
        Some(())
    }

    /// The sum and its number of decimals; `None` when it needs more than 128 bits.
    #[must_use]
    pub fn total(&self) -> Option<(i128, usize)> {
        let most = self.by_decimals.keys().next_back().copied().unwrap_or(0);
        let mut total = 0_i128;
        for decimals in 0..=most {
            let here = self.by_decimals.get(&decimals).copied().unwrap_or(0);
            total = total.checked_mul(10)?.checked_add(here)?;
        }
        Some((total, most))
    }
}

/// One field while it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    AtStart,
    Plain,
    Quoted,
    /// Behind a quote inside a quoted field: it closed the field, or a second one doubles it.
    Behind,
}

impl Oracle {
    /// Reads the whole input.
    ///
    /// # Errors
    /// When the input cannot be read, is empty, or lacks a column.
    pub fn read(source: &Source, columns: &Columns) -> Result<Oracle, InputError> {
        let mut input = source.open()?;
        let bad_header = |reason: &str| InputError::Header {
            input: source.to_string(),
            reason: reason.to_owned(),
        };
        let header = next_line(&mut input).map_err(|error| source.failed(error, 0))?;
        let header = header.ok_or_else(|| InputError::Empty {
            input: source.to_string(),
        })?;
        let header = header.and_then(|line| cut(line.strip_prefix('\u{FEFF}').unwrap_or(&line)));
        let header = header.ok_or_else(|| bad_header("is malformed"))?;
        let place = |name: &String| {
            let found: Vec<usize> = (0..header.len())
                .filter(|&at| header[at] == *name)
                .collect();
            match found[..] {
                [at] => Ok(at),
                [] => Err(InputError::NoColumn {
                    input: source.to_string(),
                    column: name.clone(),
                    existing: header.join(", "),
                }),
                _ => Err(bad_header(&format!("names the column '{name}' twice"))),
            }
        };
        let key = place(&columns.key)?;
        let sums: Vec<usize> = columns.sums.iter().map(place).collect::<Result<_, _>>()?;

        let mut oracle = Oracle::default();
        let mut magnitudes = vec![ExpectedSum::default(); sums.len()];
        let mut number = 1;
        while let Some(line) =
            next_line(&mut input).map_err(|error| source.failed(error, number))?
        {
            number += 1;
            let row = line
                .and_then(|line| cut(&line))
                .filter(|fields| fields.len() == header.len());
            if row
                .and_then(|fields| oracle.fold(&fields, key, &sums, &mut magnitudes))
                .is_none()
            {
                oracle.malformed += 1;
            }
        }
        Ok(oracle)
    }

    /// Adds a row, or returns `None` when it is malformed.
    fn fold(
        &mut self,
        fields: &[String],
        key: usize,
        sums: &[usize],
        all: &mut [ExpectedSum],
    ) -> Option<()> {
        if fields[key].is_empty() {
            return None;
        }
        let mut values = Vec::new();
        for &at in sums {
            let text = fields[at].as_str();
            let is_missing = text.is_empty() || text == "NA";
            values.push(if is_missing {
                None
            } else {
                Some(number(text)?)
            });
        }
        let mut widened = all.to_vec();
        for (sum, value) in widened.iter_mut().zip(&values) {
            if let Some((units, decimals)) = value {
                // The magnitude of the smallest number has no positive twin in 64 bits: add it in two halves.
                let half = units / 2;
                sum.add(half.abs(), *decimals)?;
                sum.add((units - half).abs(), *decimals)?;
                sum.total()?;
            }
        }
        all.clone_from_slice(&widened);
        self.rows += 1;
        let entity = self
            .entities
            .entry(fields[key].clone())
            .or_insert_with(|| Expected {
                rows: 0,
                columns: vec![(ExpectedSum::default(), 0); sums.len()],
            });
        entity.rows += 1;
        for ((sum, missing), value) in entity.columns.iter_mut().zip(values) {
            match value {
                Some((units, decimals)) => sum.add(units, decimals)?,
                None => *missing += 1,
            }
        }
        Some(())
    }
}

/// The next line without its end. The inner `None` is a line that is too long or no text.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Option<String>>> {
    let mut bytes = Vec::new();
    // Two bytes more for the line end.
    input.take(LONGEST_LINE + 2).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut is_whole = bytes.ends_with(b"\n");
    if is_whole {
        bytes.pop();
    }
    // Skip the rest of a line that is too long.
    while !is_whole && bytes.len() as u64 == LONGEST_LINE + 2 {
        let mut rest = Vec::new();
        let count = input.take(LONGEST_LINE).read_until(b'\n', &mut rest)?;
        is_whole = count == 0 || rest.ends_with(b"\n");
    }
    if bytes.len() as u64 > LONGEST_LINE {
        return Ok(Some(None));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Some(String::from_utf8(bytes).ok()))
}

/// The fields of a line, or `None` when its quotes are wrong.
fn cut(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut state = State::AtStart;
    for c in line.chars() {
        let field = fields.last_mut()?;
        state = match (state, c) {
            (State::Quoted, '"') => State::Behind,
            (State::Behind, '"') => {
                field.push('"');
                State::Quoted
            }
            (State::Quoted, _) => {
                field.push(c);
                State::Quoted
            }
            (State::AtStart, '"') => State::Quoted,
            (_, ',') => {
                fields.push(String::new());
                State::AtStart
            }
            (State::Behind, _) => return None,
            (State::AtStart | State::Plain, _) => {
                field.push(c);
                State::Plain
            }
        };
    }
    (state != State::Quoted).then_some(fields)
}

/// A number as whole units and how many decimals they have.
fn number(text: &str) -> Option<(i64, usize)> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = unsigned.split('.');
    let whole = parts.next()?;
    let decimals = parts.next();
    if parts.next().is_some()
        || [Some(whole), decimals]
            .into_iter()
            .flatten()
            .any(str::is_empty)
    {
        return None;
    }
    if unsigned.chars().any(|c| c != '.' && !c.is_ascii_digit()) {
        return None;
    }
    let decimals = decimals.unwrap_or("").trim_end_matches('0');
    if decimals.len() > MOST_DECIMALS {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    format!("{sign}{whole}{decimals}")
        .parse()
        .ok()
        .map(|units| (units, decimals.len()))
}
