//! The entities held against the independent pass.

use std::fmt;

use super::malformed::MalformedLog;
use super::oracle::{Expected, Oracle};
use super::order::Orders;
use super::rows::Columns;
use super::tally::Tally;
use crate::report::{ReplayColumn, ReplayReport};

/// The check of a replay: give it every entity that was sent a row, then finish it.
#[derive(Clone, Debug)]
pub struct Check {
    /// What has not been seen yet.
    oracle: Oracle,
    columns: Columns,
    limit: usize,
    entities: u64,
    actual: Tally,
    totals_overflowed: bool,
    mismatches: u64,
    differences: Vec<Difference>,
}

/// An entity that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The entity; empty for a difference of the whole run.
    pub key: String,
    /// What differs first.
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// The file has rows for it, and it has none.
    #[error("has no state, but the file has {expected} rows for it")]
    Absent {
        /// Rows in the file.
        expected: u64,
    },
    /// It exists without a row in the file, or was given to the check twice.
    #[error("holds {actual} rows, but the file has none for it")]
    Unexpected {
        /// Rows that it holds.
        actual: u64,
    },
    /// It received the rows of a sender in another order than they were sent.
    #[error("received the rows of node {sender} in another order than they have in the file")]
    Order {
        /// Who sent them.
        sender: u32,
    },
    /// Its number of rows, of missing values, or a sum.
    #[error("{figure}: it holds {actual}, the file gives {expected}")]
    Figure {
        /// The figure.
        figure: String,
        /// What the entity holds.
        actual: String,
        /// What the independent pass found.
        expected: String,
    },
}

/// The finished check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The figures.
    pub report: ReplayReport,
    /// The first differences.
    pub differences: Vec<Difference>,
}

impl Check {
    /// A check against `oracle` that lists at most `limit` differences and counts all.
    #[must_use]
    pub fn new(oracle: Oracle, columns: &Columns, limit: usize) -> Check {
        Check {
            actual: Tally::new(columns.sums.len()),
            oracle,
            columns: columns.clone(),
            limit,
            entities: 0,
            totals_overflowed: false,
            mismatches: 0,
            differences: Vec::new(),
        }
    }

    /// Checks one entity by what it holds; returns whether it agrees.
    pub fn entity(&mut self, key: &str, actual: &Tally) -> bool {
        self.entities += 1;
        self.totals_overflowed |= self.actual.merge(actual).is_err();
        let what = match self.oracle.entities.remove(key) {
            Some(expected) => first_difference(&self.columns, actual, &expected),
            None => Some(What::Unexpected {
                actual: actual.rows,
            }),
        };
        let agrees = what.is_none();
        if let Some(what) = what {
            self.differs(key, what);
        }
        agrees
    }

    /// Checks the order in which an entity received its rows, once its sums are known to agree.
    pub fn order(&mut self, key: &str, actual: &Orders, expected: &Orders) {
        if let Some(sender) = actual.first_difference(expected) {
            self.differs(key, What::Order { sender });
        }
    }

    /// Ends the check: entities that were not given are absent, and the reader must have found as many malformed rows
    /// as the independent pass.
    #[must_use]
    pub fn finish(mut self, malformed: &MalformedLog) -> Checked {
        for (key, expected) in std::mem::take(&mut self.oracle.entities) {
            self.differs(
                &key,
                What::Absent {
                    expected: expected.rows,
                },
            );
        }
        let totals = [
            ("rows in all", self.actual.rows, self.oracle.rows),
            ("malformed rows", malformed.count(), self.oracle.malformed),
        ];
        for (name, actual, expected) in totals {
            // An entity that differs already explains a difference of the total.
            if actual != expected && (self.mismatches == 0 || name == "malformed rows") {
                self.differs("", figure(name.to_owned(), actual, expected));
            }
        }
        let sums = self.columns.sums.iter().zip(&self.actual.columns);
        let columns = sums.map(|(name, column)| ReplayColumn {
            name: name.clone(),
            sum: if self.totals_overflowed {
                "overflow".to_owned()
            } else {
                column.sum.to_string()
            },
            missing: column.missing,
        });
        let report = ReplayReport {
            rows: self.actual.rows,
            entities: self.entities,
            malformed: malformed.count(),
            mismatches: self.mismatches,
            columns: columns.collect(),
            is_order_checked: None,
        };
        Checked {
            report,
            differences: self.differences,
        }
    }

    fn differs(&mut self, key: &str, what: What) {
        self.mismatches += 1;
        if self.differences.len() < self.limit {
            self.differences.push(Difference {
                key: key.to_owned(),
                what,
            });
        }
    }
}

fn figure(figure: String, actual: impl ToString, expected: impl ToString) -> What {
    What::Figure {
        figure,
        actual: actual.to_string(),
        expected: expected.to_string(),
    }
}

fn first_difference(columns: &Columns, actual: &Tally, expected: &Expected) -> Option<What> {
    if actual.rows != expected.rows {
        return Some(figure("rows".to_owned(), actual.rows, expected.rows));
    }
    if actual.columns.len() != expected.columns.len() {
        return Some(figure(
            "summed columns".to_owned(),
            actual.columns.len(),
            expected.columns.len(),
        ));
    }
    let pairs = columns
        .sums
        .iter()
        .zip(&actual.columns)
        .zip(&expected.columns);
    for ((name, column), (sum, missing)) in pairs {
        if column.missing != *missing {
            return Some(figure(
                format!("missing values of {name}"),
                column.missing,
                missing,
            ));
        }
        let (found, wanted) = (
            plain(column.sum.mantissa, usize::from(column.sum.scale)),
            sum.total(),
        );
        let wanted = wanted.map_or("overflow".to_owned(), |(units, decimals)| {
            plain(units, decimals)
        });
        if found != wanted {
            return Some(figure(format!("sum of {name}"), found, wanted));
        }
    }
    None
}

/// A number of units of `10^-decimals` in plain notation without trailing zeros: both sides are compared as text.
fn plain(units: i128, decimals: usize) -> String {
    let mut digits = units.unsigned_abs().to_string();
    while digits.len() <= decimals {
        digits.insert(0, '0');
    }
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let fraction = fraction.trim_end_matches('0');
    let sign = if units < 0 { "-" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}", self.what)
        } else {
            write!(f, "entity '{}' {}", self.key, self.what)
        }
    }
}

/// One line for each difference that was kept, and one for the rest.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.differences
            .iter()
            .try_for_each(|difference| writeln!(f, "{difference}"))?;
        match self.report.mismatches - self.differences.len() as u64 {
            0 => Ok(()),
            rest => writeln!(f, "and {rest} more differences"),
        }
    }
}
