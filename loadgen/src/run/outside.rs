//! A driver outside of the cores: a thread that sends through a handle, as a service does whose own threads use a runtime.
//!
//! Answers are collected by looking at the open asks between bursts, a bounded number each time, so their latency
//! includes the wait for that look. The thread is not pinned and yields its CPU when it has nothing to send.

use std::collections::VecDeque;

use corecast::{AskError, Handle, Pending};

use super::board::{Board, Order};
use super::driver::{Post, recall, tell};
use super::entity::ToEntity;
use super::generator::{Generator, Shot, Step};
use super::payload::Payload;
use super::targets::Targets;
use crate::measure::{Recorder, Stamps, Window};

/// Open asks that are looked at between two bursts.
const LOOKS: usize = 256;

/// A driver on a thread of its own.
pub(super) struct Outside<T> {
    pub(super) post: Post,
    pub(super) handle: Handle,
    pub(super) targets: T,
    pub(super) generator: Generator,
    /// Where among the threads' live figures this one stands: behind the cores.
    pub(super) row: usize,
}

/// An ask under way.
struct Open {
    answer: Pending<Result<u64, AskError>>,
    stamps: Option<Stamps>,
    is_measured: bool,
}

impl<T> Outside<T> {
    /// Sends until the phase is over, and returns what this thread recorded.
    pub(super) fn run<P: Payload>(mut self, window: Window) -> Recorder
    where
        T: Targets<P>,
    {
        let mut recorder = Recorder::new(window);
        let mut open = VecDeque::new();
        let mut answered = 0;
        loop {
            let Outside {
                post,
                handle,
                targets,
                generator,
                row,
            } = &mut self;
            let order = post.board.order();
            if order >= Order::Stop {
                generator.end();
            }
            let settled = post.board.settled(usize::from(post.id.0)) + answered;
            let step = generator.burst(post.clock, settled, |shot| {
                fire(shot, post, targets, handle, &mut open)
            });
            generator.record_sends(&mut recorder, post.clock.now());
            let ended = collect(&mut open, post, &mut recorder, *row);
            answered += ended;
            match step {
                Step::Finished => break,
                Step::Idle if ended == 0 => std::thread::yield_now(),
                Step::Idle | Step::Sent => {}
            }
            if order == Order::Abandon {
                break;
            }
        }
        let _ = self.post.finished.try_send(self.post.id);
        recorder
    }
}

fn fire<P: Payload, T: Targets<P>>(
    shot: &Shot,
    post: &Post,
    targets: &T,
    handle: &Handle,
    open: &mut VecDeque<Open>,
) -> bool {
    let payload = P::new(post.payload_bytes);
    let to = targets.at(&shot.key);
    if shot.is_ask {
        let answer = handle.ask(to, |reply_to| ToEntity::Ask { reply_to, payload });
        open.push_back(Open {
            answer,
            stamps: shot.stamps,
            is_measured: shot.is_measured,
        });
        return true;
    }
    match handle.try_tell(to, tell(shot, post, payload)) {
        Ok(()) => true,
        Err(refused) => {
            recall(refused.message);
            false
        }
    }
}

/// Takes the answers that are there; returns how many asks have ended.
fn collect(open: &mut VecDeque<Open>, post: &Post, recorder: &mut Recorder, row: usize) -> u64 {
    let (mut ended, mut completed) = (0, 0);
    for _ in 0..open.len().min(LOOKS) {
        let Some(one) = open.pop_front() else {
            break;
        };
        let (stamps, is_measured) = (one.stamps, one.is_measured);
        match one.answer.try_take() {
            Err(answer) => open.push_back(Open { answer, ..one }),
            Ok(outcome) => {
                ended += 1;
                match outcome {
                    Ok(_) => {
                        completed += 1;
                        if let Some(stamps) = stamps {
                            timed(stamps, post, recorder, row);
                        }
                    }
                    Err(_) => recorder.failed(u64::from(is_measured)),
                }
            }
        }
    }
    if completed > 0 {
        recorder.completed_untimed(post.clock.now(), completed);
        post.board.show_completed(row, completed);
    }
    ended
}

fn timed(stamps: Stamps, post: &Post, recorder: &mut Recorder, row: usize) {
    let now = post.clock.now();
    recorder.latency(stamps, now);
    let board: &Board = &post.board;
    board.show_latency(
        row,
        u64::try_from((now - stamps.intended).as_nanos()).unwrap_or(u64::MAX),
    );
}
