//! The order in which an entity received the rows of each sender, folded to a number: sums do not show a row that overtook
//! another.

use serde::{Deserialize, Serialize};

use super::tally::Tally;

/// What an entity of a replay over several senders holds.
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
pub struct Held {
    /// Its rows, added up.
    pub tally: Tally,
    /// Their order.
    pub orders: Orders,
}

/// The order of the rows of each sender, by their numbers in the file.
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
pub struct Orders(Vec<OrderFold>);

/// The order of the rows of one sender.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct OrderFold {
    /// Who sent them.
    pub sender: u32,
    /// Differs, but for one case in 2^64, when the same rows come in another order.
    pub fold: u64,
}

impl Orders {
    /// The next row of a sender.
    pub fn add(&mut self, sender: u32, row: u64) {
        let at = match self.0.binary_search_by_key(&sender, |order| order.sender) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, OrderFold { sender, fold: 0 });
                at
            }
        };
        let fold = &mut self.0[at].fold;
        // Multiplied before the next is added: no two orders of the same rows amount to the same sum.
        *fold = (fold.rotate_left(23) ^ row.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// The first sender whose rows came in another order, if there is one.
    #[must_use]
    pub fn first_difference(&self, other: &Orders) -> Option<u32> {
        let lacks = |of: &Orders, order: &OrderFold| !of.0.contains(order);
        let mine = self.0.iter().filter(|order| lacks(other, order));
        let others = other.0.iter().filter(|order| lacks(self, order));
        mine.chain(others).map(|order| order.sender).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(rows: &[(u32, u64)]) -> Orders {
        let mut orders = Orders::default();
        rows.iter()
            .for_each(|(sender, row)| orders.add(*sender, *row));
        orders
    }

    #[test]
    fn rows_of_one_sender_have_an_order_and_those_of_two_have_none() {
        let rows = orders(&[(1, 0), (2, 1), (1, 3), (2, 4), (1, 6)]);
        let mixed = orders(&[(2, 1), (2, 4), (1, 0), (1, 3), (1, 6)]);
        assert_eq!((rows.first_difference(&mixed), &rows), (None, &mixed));
        for (other, sender) in [
            ([(1, 3), (2, 1), (1, 0), (2, 4), (1, 6)], 1),
            ([(1, 0), (2, 4), (1, 3), (2, 1), (1, 6)], 2),
            ([(1, 0), (2, 1), (1, 3), (2, 4), (3, 6)], 1),
        ] {
            let other = orders(&other);
            assert_eq!(rows.first_difference(&other), Some(sender));
            assert_eq!(other.first_difference(&rows), Some(sender));
        }
    }
}
