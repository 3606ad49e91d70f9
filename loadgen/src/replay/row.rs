//! One row on its way to its entity.

use super::decimal::Decimal;

/// Columns that are kept without an allocation.
const INLINE: usize = 4;

/// A row: the entity it belongs to and what to add there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line in the file, the header being 1.
    pub line: u64,
    /// The entity.
    pub key: String,
    /// One value for each summed column.
    pub values: Values,
}

/// The values of a row in the order of the summed columns; `None` is a missing one. Up to four are kept in place, so
/// that a message made of them costs no allocation.
#[derive(Clone, Debug)]
pub struct Values(Store);

#[derive(Clone, Debug)]
enum Store {
    Inline {
        len: u8,
        values: [Option<Decimal>; INLINE],
    },
    Boxed(Box<[Option<Decimal>]>),
}

impl Values {
    /// The values as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[Option<Decimal>] {
        match &self.0 {
            Store::Inline { len, values } => &values[..usize::from(*len)],
            Store::Boxed(values) => values,
        }
    }
}

impl From<&[Option<Decimal>]> for Values {
    fn from(values: &[Option<Decimal>]) -> Values {
        if values.len() > INLINE {
            return Values(Store::Boxed(values.into()));
        }
        let mut inline = [None; INLINE];
        inline[..values.len()].copy_from_slice(values);
        Values(Store::Inline {
            len: values.len() as u8,
            values: inline,
        })
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Values) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Values {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_columns_is_kept_in_order() {
        let all: Vec<Option<Decimal>> = (0..10)
            .map(|n| Decimal::parse(&n.to_string()).ok().filter(|_| n % 3 > 0))
            .collect();
        for count in 0..=all.len() {
            assert_eq!(Values::from(&all[..count]).as_slice(), &all[..count]);
        }
    }
}
