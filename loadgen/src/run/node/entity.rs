//! The entities of a cluster under load, and the messages they take. What comes from another node is read where it lies.

use corecast::{Actor, Capture, Context, Fault, Next, ReplyTo, Time, WireMessage};

use super::handled::{Handled, Origin};
use crate::measure::Stamps;
use crate::run::ledger::Ledger;

/// A message to an entity.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) enum ToMember {
    /// Fire and forget.
    Tell {
        origin: u16,
        run: u32,
        payload: Vec<u8>,
    },
    /// The same, with its latency to be recorded.
    TimedTell {
        origin: u16,
        run: u32,
        intended_ns: u64,
        sent_ns: u64,
        payload: Vec<u8>,
    },
    /// To be answered with the number of messages handled.
    Ask {
        reply_to: ReplyTo<u64>,
        payload: Vec<u8>,
    },
    /// How many tells of a driver has your node handled?
    Handled {
        origin: u16,
        run: u32,
        reply_to: ReplyTo<u128>,
    },
}

impl WireMessage for ToMember {
    const NAME: &'static str = "loadgen.ToMember";
    const VERSION: u16 = 1;
}

/// An entity: a few words of state that every message changes.
#[derive(Debug, Default)]
pub(super) struct MemberEntity {
    handled: u64,
    digest: u64,
}

impl MemberEntity {
    #[inline]
    fn take(&mut self, payload: &[u8]) {
        self.handled += 1;
        // One byte of each cache line: to have read it is the point.
        let sum: u64 = payload
            .iter()
            .step_by(64)
            .map(|byte| u64::from(*byte))
            .sum();
        self.digest = self.digest.rotate_left(5) ^ sum;
    }

    #[inline]
    fn told(&mut self, origin: u16, run: u32, payload: &[u8], now: Time, stamps: Option<Stamps>) {
        self.take(payload);
        Handled::note(Origin(origin), run);
        Ledger::with(|ledger| ledger.completed(now, stamps));
    }
}

fn stamps(intended_ns: u64, sent_ns: u64) -> Option<Stamps> {
    Some(Stamps {
        intended: Time::from_nanos(intended_ns),
        sent: Time::from_nanos(sent_ns),
    })
}

impl Actor for MemberEntity {
    type Msg = ToMember;

    #[inline]
    fn receive(&mut self, message: ToMember, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            ToMember::Tell {
                origin,
                run,
                payload,
            } => self.told(origin, run, &payload, ctx.now(), None),
            ToMember::TimedTell {
                origin,
                run,
                intended_ns,
                sent_ns,
                payload,
            } => {
                let stamps = stamps(intended_ns, sent_ns);
                self.told(origin, run, &payload, ctx.now(), stamps);
            }
            ToMember::Ask { reply_to, payload } => {
                self.take(&payload);
                ctx.reply(reply_to, self.handled);
            }
            ToMember::Handled {
                origin,
                run,
                reply_to,
            } => answer(origin, run, reply_to, ctx),
        }
        Ok(Next::Continue)
    }

    #[inline]
    fn receive_archived(
        &mut self,
        message: &ArchivedToMember,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            ArchivedToMember::Tell {
                origin,
                run,
                payload,
            } => self.told(
                origin.to_native(),
                run.to_native(),
                payload,
                ctx.now(),
                None,
            ),
            ArchivedToMember::TimedTell {
                origin,
                run,
                intended_ns,
                sent_ns,
                payload,
            } => {
                let stamps = stamps(intended_ns.to_native(), sent_ns.to_native());
                let (origin, run) = (origin.to_native(), run.to_native());
                self.told(origin, run, payload, ctx.now(), stamps);
            }
            ArchivedToMember::Ask { reply_to, payload } => {
                self.take(payload);
                let reply_to = ctx.read::<ReplyTo<u64>>(reply_to)?;
                ctx.reply(reply_to, self.handled);
            }
            ArchivedToMember::Handled {
                origin,
                run,
                reply_to,
            } => {
                let reply_to = ctx.read::<ReplyTo<u128>>(reply_to)?;
                answer(origin.to_native(), run.to_native(), reply_to, ctx);
            }
        }
        Ok(Next::Continue)
    }
}

fn answer(origin: u16, run: u32, reply_to: ReplyTo<u128>, ctx: &mut Context<'_, MemberEntity>) {
    // Without a count the ask ends unanswered.
    if let Some(count) = Handled::count_here(Origin(origin), run) {
        ctx.reply(reply_to, count.into());
    }
}

impl Capture for MemberEntity {
    type View = (u64, u64);

    fn capture(&self) -> (u64, u64) {
        (self.handled, self.digest)
    }

    fn restore(&mut self, (handled, digest): (u64, u64)) {
        (self.handled, self.digest) = (handled, digest);
    }
}
