//! The entities of a replay: each folds the rows of one key. They are of the captured kind, so an archived view of the
//! tally is what moves when their shard does.

use corecast::{Actor, Capture, Context, Fault, Next, ReplyTo};

use super::ledger::Ticket;
use crate::replay::{Tally, Values};

/// A message to an entity of a replay.
#[derive(Debug)]
pub(super) enum ToTally {
    /// One row.
    Row { ticket: Ticket, values: Values },
    /// What do you hold?
    Report(ReplyTo<Tally>),
}

/// An entity of a replay.
#[derive(Debug)]
pub(super) struct TallyEntity {
    tally: Tally,
}

impl TallyEntity {
    /// An entity that sums so many columns.
    pub(super) fn new(columns: usize) -> TallyEntity {
        TallyEntity {
            tally: Tally::new(columns),
        }
    }
}

impl Actor for TallyEntity {
    type Msg = ToTally;

    fn receive(&mut self, message: ToTally, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            ToTally::Row { ticket, values } => {
                self.tally.add(values.as_slice())?;
                ticket.settle(ctx.now(), None);
            }
            ToTally::Report(reply_to) => ctx.reply(reply_to, self.tally.clone()),
        }
        Ok(Next::Continue)
    }
}

impl Capture for TallyEntity {
    type View = Tally;

    fn capture(&self) -> Tally {
        self.tally.clone()
    }

    fn restore(&mut self, tally: Tally) {
        self.tally = tally;
    }
}
