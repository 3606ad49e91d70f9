//! Replay of a real file: its rows for the entities to fold, and an independent pass to check the result against.

mod compare;
mod decimal;
mod fields;
mod lines;
mod malformed;
mod oracle;
mod order;
mod row;
mod rows;
mod source;
mod tally;

pub use compare::{Check, Checked, Difference, What};
pub use decimal::{Decimal, DecimalError, MAX_SCALE, Sum, SumOverflow};
pub use malformed::{Malformed, MalformedLog, Reason};
pub use oracle::{Expected, ExpectedSum, Oracle};
pub use order::{Held, OrderFold, Orders};
pub use row::{Row, Values};
pub use rows::{Columns, Line, Rows};
pub use source::{InputError, Source};
pub use tally::{ColumnTally, Tally};
