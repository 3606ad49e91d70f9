//! The entities of a replay over a cluster: each folds the rows of one key, and acknowledges each row. They are captured
//! when their shard moves.

use corecast::{Actor, Capture, Context, Fault, Next, ReplyTo, WireMessage};

use crate::replay::{Decimal, Held, Orders, Tally};

/// A message to an entity of a replay.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) enum ToClusterTally {
    /// One row, to be acknowledged.
    Row {
        values: Vec<Option<Decimal>>,
        /// The node that sends it, and its number in the file.
        sender: u32,
        number: u64,
        reply_to: ReplyTo<()>,
    },
    /// For a shard that nobody owns to be given to somebody.
    Nothing,
    /// What do you hold?
    Report(ReplyTo<Held>),
}

impl WireMessage for ToClusterTally {
    const NAME: &'static str = "loadgen.ToTally";
    const VERSION: u16 = 1;
}

impl WireMessage for Held {
    const NAME: &'static str = "loadgen.Held";
    const VERSION: u16 = 1;
}

/// An entity of a replay.
#[derive(Debug)]
pub(super) struct ClusterTally {
    held: Held,
}

impl ClusterTally {
    /// An entity that sums so many columns.
    pub(super) fn new(columns: usize) -> ClusterTally {
        ClusterTally {
            held: Held {
                tally: Tally::new(columns),
                orders: Orders::default(),
            },
        }
    }
}

impl Actor for ClusterTally {
    type Msg = ToClusterTally;

    fn receive(
        &mut self,
        message: ToClusterTally,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            ToClusterTally::Row {
                values,
                sender,
                number,
                reply_to,
            } => {
                self.held.tally.add(&values)?;
                self.held.orders.add(sender, number);
                ctx.reply(reply_to, ());
            }
            ToClusterTally::Nothing => {}
            ToClusterTally::Report(reply_to) => ctx.reply(reply_to, self.held.clone()),
        }
        Ok(Next::Continue)
    }
}

impl Capture for ClusterTally {
    type View = Held;

    fn capture(&self) -> Held {
        self.held.clone()
    }

    fn restore(&mut self, held: Held) {
        self.held = held;
    }
}
