//! The entities of a replay over a cluster: each folds the rows of one key, and acknowledges each row. They are captured
//! when their shard moves.

use corecast::{Actor, Capture, Context, Fault, Next, ReplyTo, WireMessage};

use crate::replay::{Decimal, Tally};

/// A message to an entity of a replay.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) enum ToClusterTally {
    /// One row, to be acknowledged.
    Row {
        values: Vec<Option<Decimal>>,
        reply_to: ReplyTo<()>,
    },
    /// For a shard that nobody owns to be given to somebody.
    Nothing,
    /// What do you hold?
    Report(ReplyTo<Tally>),
}

impl WireMessage for ToClusterTally {
    const NAME: &'static str = "loadgen.ToTally";
    const VERSION: u16 = 1;
}

impl WireMessage for Tally {
    const NAME: &'static str = "loadgen.Tally";
    const VERSION: u16 = 1;
}

/// An entity of a replay.
#[derive(Debug)]
pub(super) struct ClusterTally {
    tally: Tally,
}

impl ClusterTally {
    /// An entity that sums so many columns.
    pub(super) fn new(columns: usize) -> ClusterTally {
        ClusterTally {
            tally: Tally::new(columns),
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
            ToClusterTally::Row { values, reply_to } => {
                self.tally.add(&values)?;
                ctx.reply(reply_to, ());
            }
            ToClusterTally::Nothing => {}
            ToClusterTally::Report(reply_to) => ctx.reply(reply_to, self.tally.clone()),
        }
        Ok(Next::Continue)
    }
}

impl Capture for ClusterTally {
    type View = Tally;

    fn capture(&self) -> Tally {
        self.tally.clone()
    }

    fn restore(&mut self, tally: Tally) {
        self.tally = tally;
    }
}
