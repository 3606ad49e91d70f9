//! The ring: actors on all cores in turn, so that with more than one core every hop leaves its core, and tokens that go
//! round. A message is one hop; one hop in 32 is timed.

use std::time::Duration;

use corecast::{Actor, ActorRef, Context, Fault, Mailbox, Next, Runtime};

use super::error::RunError;
use super::interrupt::Interrupt;
use super::ledger::{DriverId, Ledger, Ticket};
use super::payload::{Payload, WithPayload, with_payload};
use super::session::Results;
use super::spawning::spawn_all;
use super::stage::{LOOK, PATIENCE, PhaseSetup, Show, Stage};
use crate::measure::{PhaseLabel, Stamps};
use crate::options::{Job, Ring};

/// One hop in so many is timed.
const TIMED_EVERY: u32 = 32;
/// Tokens and neighbours are handed out in portions that a core's queue has room for.
const PORTION: usize = 4096;

/// Runs the ring.
pub(super) fn run(
    work: &Ring,
    job: &Job,
    interrupt: Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    with_payload(
        work.payload_bytes,
        Circling {
            work,
            job,
            interrupt,
            results,
        },
    )
}

/// One place of the ring.
struct Node<P> {
    next: Option<ActorRef<ToNode<P>>>,
}

#[derive(Debug)]
enum ToNode<P> {
    /// Who comes next.
    Next(ActorRef<ToNode<P>>),
    /// Pass it on. Its ticket is settled when the phase is over.
    Token {
        ticket: Ticket,
        hop: u32,
        stamps: Option<Stamps>,
        payload: P,
    },
}

impl<P: Payload> Actor for Node<P> {
    type Msg = ToNode<P>;

    fn receive(&mut self, message: ToNode<P>, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (ticket, hop, stamps, payload) = match message {
            ToNode::Next(next) => {
                self.next = Some(next);
                return Ok(Next::Continue);
            }
            ToNode::Token {
                ticket,
                hop,
                stamps,
                payload,
            } => (ticket, hop, stamps, payload),
        };
        let (turn, hop) = (ctx.now(), hop.wrapping_add(1));
        let goes_on = Ledger::with(|ledger| !ledger.is_over()).unwrap_or(false);
        match self.next {
            Some(next) if goes_on => {
                let is_timed = hop.is_multiple_of(TIMED_EVERY);
                let stamps = Ledger::with(|ledger| {
                    ledger.completed(turn, stamps);
                    is_timed.then(|| ledger.stamps())
                });
                ctx.tell(
                    next,
                    ToNode::Token {
                        ticket,
                        hop,
                        stamps: stamps.flatten(),
                        payload,
                    },
                );
            }
            _ => ticket.settle(turn, stamps),
        }
        Ok(Next::Continue)
    }
}

struct Circling<'a> {
    work: &'a Ring,
    job: &'a Job,
    interrupt: Interrupt,
    results: &'a mut Results,
}

impl WithPayload for Circling<'_> {
    type Output = Result<(), RunError>;

    fn run<P: Payload>(self) -> Result<(), RunError> {
        let Circling {
            work,
            job,
            interrupt,
            results,
        } = self;
        let mut stage = results.start(Runtime::builder(), job, interrupt)?;
        let nodes = spawn_all(&stage.handle, work.actors, Mailbox::unbounded(), || Node::<
            P,
        > {
            next: None,
        })?;
        let followers = nodes.iter().skip(1).chain(nodes.first());
        send_all(
            &stage,
            nodes
                .iter()
                .zip(followers)
                .map(|(node, next)| (*node, ToNode::Next(*next))),
        )?;

        let (warm_up, duration) = (work.phase.warm_up, work.phase.duration);
        let mut phase = stage.begin(PhaseSetup {
            drivers: 1,
            threads: 0,
            lead: Duration::ZERO,
            warm_up,
            duration,
        })?;
        let (places, tokens) = (u64::from(work.actors), u64::from(work.tokens));
        let id = phase.id;
        let token = |number: u64| {
            let ticket = Ticket::new(DriverId(0), id);
            // Spread evenly, and timed at different hops.
            let node = nodes[(number * places / tokens % places) as usize];
            (
                node,
                ToNode::Token {
                    ticket,
                    hop: number as u32,
                    stamps: None,
                    payload: P::new(work.payload_bytes),
                },
            )
        };
        send_all(&stage, (0..tokens).map(token))?;
        let show = Show {
            name: work.phase.name,
            total: Some(warm_up + duration),
        };
        let cut = stage.watch(&mut phase, show, |phase| {
            std::thread::sleep(LOOK);
            phase.board.settled(0) >= tokens
        });
        let mut recorder = stage.end(&phase, cut)?;
        // Every hop that was completed was sent.
        recorder.sent_closed(phase.window.start, recorder.completions());
        results.is_interrupted = cut.is_some();
        let pacing = format!("{tokens} tokens, {places} actors");
        results.add(
            PhaseLabel {
                name: work.phase.name.to_owned(),
                pacing,
                offered_rate: None,
            },
            recorder,
        );
        stage.close();
        Ok(())
    }
}

/// Sends each message and waits, a portion at a time, until it lies in its receiver's mailbox.
fn send_all<P: Payload>(
    stage: &Stage,
    messages: impl Iterator<Item = (ActorRef<ToNode<P>>, ToNode<P>)>,
) -> Result<(), RunError> {
    let mut messages = messages.peekable();
    while messages.peek().is_some() {
        let portion: Vec<_> = messages
            .by_ref()
            .take(PORTION)
            .map(|(node, message)| (node, stage.handle.send(node, message)))
            .collect();
        for (node, stored) in portion {
            let outcome = stored
                .wait_for(PATIENCE)
                .map_err(|_| RunError::CoreGone(node.core()))?;
            outcome.map_err(|why| RunError::Lost {
                what: "a message to the ring".to_owned(),
                why,
            })?;
        }
    }
    Ok(())
}
