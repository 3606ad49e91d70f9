//! What an entity holds of its rows.

use serde::{Deserialize, Serialize};

use super::decimal::{Decimal, Sum, SumOverflow};

/// The fold of an entity's rows. Its fields are plain, so that it can be captured and moved.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Tally {
    /// Rows received, those with missing values too.
    pub rows: u64,
    /// One for each summed column, in their order.
    pub columns: Vec<ColumnTally>,
}

/// The fold of one column.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct ColumnTally {
    /// The exact sum of the values that are there.
    pub sum: Sum,
    /// How many are missing.
    pub missing: u64,
}

impl Tally {
    /// An entity without rows that sums so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Tally {
        Tally {
            rows: 0,
            columns: vec![ColumnTally::default(); columns],
        }
    }

    /// Adds one row: as many values as there are columns.
    ///
    /// # Errors
    /// When a sum does not fit; nothing of the row is added then. It cannot happen with rows read by
    /// [`Rows`](super::Rows), which refuses a row as soon as the magnitudes of a whole column no longer fit.
    pub fn add(&mut self, values: &[Option<Decimal>]) -> Result<(), SumOverflow> {
        debug_assert_eq!(values.len(), self.columns.len(), "values of other columns");
        for (column, value) in self.columns.iter().zip(values) {
            if let Some(value) = value {
                column.sum.plus(*value)?;
            }
        }
        self.rows += 1;
        for (column, value) in self.columns.iter_mut().zip(values) {
            match value {
                Some(value) => column.sum = column.sum.plus(*value)?,
                None => column.missing += 1,
            }
        }
        Ok(())
    }

    /// Adds another entity's fold, for totals.
    ///
    /// # Errors
    /// When a sum does not fit; this fold is then of no use.
    pub fn merge(&mut self, other: &Tally) -> Result<(), SumOverflow> {
        self.rows += other.rows;
        for (column, other) in self.columns.iter_mut().zip(&other.columns) {
            column.sum = column.sum.plus_sum(other.sum)?;
            column.missing += other.missing;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<Decimal> {
        Decimal::parse(text).ok()
    }

    #[test]
    fn missing_values_count_the_row_and_add_nothing() {
        let mut tally = Tally::new(2);
        tally.add(&[value("1.5"), None]).expect("fits");
        tally.add(&[value("-0.25"), value("7")]).expect("fits");
        assert_eq!(tally.rows, 2);
        assert_eq!(
            tally
                .columns
                .iter()
                .map(|c| c.sum.to_string())
                .collect::<Vec<_>>(),
            ["1.25", "7"]
        );
        assert_eq!(
            tally.columns.iter().map(|c| c.missing).collect::<Vec<_>>(),
            [0, 1]
        );
    }

    #[test]
    fn a_row_that_does_not_fit_changes_nothing() {
        let mut tally = Tally::new(2);
        tally.columns[1].sum = Sum {
            mantissa: i128::MAX,
            scale: 0,
        };
        let before = tally.clone();
        assert_eq!(tally.add(&[value("1"), value("1")]), Err(SumOverflow));
        assert_eq!(tally, before);
    }
}
