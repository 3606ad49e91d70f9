//! A feeder: the actor on each core that sends rows to their entities, as many at once as may be unsettled.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;

use corecast::{Actor, Context, Fault, Next, Region, ReplyTo};

use super::board::{Board, Order};
use super::ledger::{DriverId, PhaseId, Ticket};
use super::tally_entity::ToTally;
use crate::replay::Row;

/// Rows sent in one turn: entities are to have their turn, and shards their moves.
const BURST: usize = 256;

/// A message to a feeder.
#[derive(Debug)]
pub(super) enum ToFeeder {
    /// Rows to be sent; answered when all of them have been accepted.
    Portion {
        rows: Vec<Row>,
        reply_to: ReplyTo<()>,
    },
    /// Send the next burst.
    Go,
}

/// A feeder.
pub(super) struct Feeder {
    region: Region<String, ToTally>,
    id: DriverId,
    phase: PhaseId,
    board: Arc<Board>,
    in_flight: u64,
    sent: u64,
    waiting: VecDeque<Portion>,
    /// Whether the word to go on is under way.
    is_going: bool,
}

struct Portion {
    rows: std::vec::IntoIter<Row>,
    /// A row that was refused.
    refused: Option<Row>,
    reply_to: ReplyTo<()>,
}

impl Feeder {
    pub(super) fn new(
        region: Region<String, ToTally>,
        id: DriverId,
        phase: PhaseId,
        board: Arc<Board>,
        in_flight: u64,
    ) -> Feeder {
        Feeder {
            region,
            id,
            phase,
            board,
            in_flight,
            sent: 0,
            waiting: VecDeque::new(),
            is_going: false,
        }
    }

    /// Sends as much as fits; `false` when there is no room, or enough for this turn.
    fn send(&mut self, ctx: &mut Context<'_, Self>) {
        let mut room = (self.in_flight
            - self
                .in_flight
                .min(self.sent - self.board.settled(usize::from(self.id.0))))
        .min(BURST as u64);
        while room > 0
            && let Some(mut portion) = self.waiting.pop_front()
        {
            while room > 0
                && let Some(row) = portion.refused.take().or_else(|| portion.rows.next())
            {
                let message = ToTally::Row {
                    ticket: Ticket::new(self.id, self.phase),
                    values: row.values,
                };
                match ctx.try_tell(self.region.entity(&row.key), message) {
                    Ok(()) => {
                        self.sent += 1;
                        room -= 1;
                    }
                    Err(refused) => {
                        if let ToTally::Row { ticket, values } = refused.message {
                            ticket.recall();
                            portion.refused = Some(Row { values, ..row });
                        }
                        room = 0;
                    }
                }
            }
            if portion.refused.is_none() && portion.rows.len() == 0 {
                ctx.reply(portion.reply_to, ());
            } else {
                self.waiting.push_front(portion);
            }
        }
    }
}

impl Actor for Feeder {
    type Msg = ToFeeder;

    fn receive(&mut self, message: ToFeeder, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            ToFeeder::Portion { rows, reply_to } => {
                self.waiting.push_back(Portion {
                    rows: rows.into_iter(),
                    refused: None,
                    reply_to,
                });
            }
            ToFeeder::Go => {
                self.is_going = false;
                self.send(ctx);
            }
        }
        if self.board.order() == Order::Abandon {
            return Ok(Next::Stop);
        }
        if !self.is_going && !self.waiting.is_empty() {
            self.is_going = true;
            ctx.spawn(ready(()), |_| ToFeeder::Go);
        }
        Ok(Next::Continue)
    }
}
