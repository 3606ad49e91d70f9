//! The limits: what one or two bare pinned threads do without an actor system.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, OwnedFd};

use crate::bare;
use crate::measure::{Cpus, RoundTrips, RunError, Sample, on_pinned_thread, panicked, pin};
use crate::workload::{PARK_PAUSE_US, PAYLOAD_WORDS, Payload, RAW_BATCH, Size, Workload};

/// Batches in flight between the two threads. Which depth is fastest changes from one moment to the next, as the two
/// sides fall in or out of step, so a run tries each and the limit is its best.
const LANE_BATCHES: [usize; 3] = [4, 16, 64];

/// What the baseline of a row is.
pub(crate) fn setting(workload: Workload) -> &'static str {
    match workload {
        Workload::TellCores => {
            "crossbeam bounded(4, 16 or 64, the best) of recycled Vec batches of 64, both polling"
        }
        Workload::AskHot => "two crossbeam bounded(1) channels, both polling",
        Workload::AskParked => "two eventfds, blocking reads",
        Workload::Tell | Workload::Actors | Workload::Ring | Workload::Spawn => {
            "boxed actors in a slab, unbounded mailboxes, a ready queue, catch_unwind, and nothing else"
        }
    }
}

/// Runs the baseline of `workload` once.
pub(crate) fn run(workload: Workload, size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    match workload {
        Workload::TellCores => best_batched_channel(size, cpus),
        Workload::AskHot => polled_round_trips(size, cpus),
        Workload::AskParked => blocking_round_trips(size, cpus),
        Workload::Tell | Workload::Actors | Workload::Ring | Workload::Spawn => {
            bare::run(workload, size, cpus)
        }
    }
}

fn best_batched_channel(size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    let mut best = batched_channel(size, cpus, LANE_BATCHES[0])?;
    for depth in &LANE_BATCHES[1..] {
        let sample = batched_channel(size, cpus, *depth)?;
        if sample.value > best.value {
            best = sample;
        }
    }
    Ok(best)
}

fn batched_channel(size: Size, cpus: Cpus, depth: usize) -> Result<Sample, RunError> {
    let (full_in, full_out) = bounded::<Vec<Payload>>(depth);
    // Room for every buffer there is, so that giving one back never waits.
    let (empty_in, empty_out) = bounded::<Vec<Payload>>(depth);
    for _ in 0..depth {
        empty_in
            .send(Vec::with_capacity(RAW_BATCH))
            .map_err(RunError::lost)?;
    }
    let receive = move || {
        let (mut counted, mut sum) = (0u64, 0u64);
        while let Some(mut batch) = poll(&full_out) {
            for message in batch.drain(..) {
                counted += 1;
                sum = sum.wrapping_add(message[0]);
            }
            // The sender may have left with its last batch.
            let _ = empty_in.send(batch);
        }
        Ok((counted, sum))
    };
    let send = move || {
        let started = Instant::now();
        let mut left = size.messages;
        while left > 0 {
            let mut batch = poll(&empty_out).ok_or_else(|| RunError::lost("the receiver left"))?;
            let length = left.min(RAW_BATCH as u64);
            batch.extend((0..length).map(|_| [1; PAYLOAD_WORDS]));
            left -= length;
            full_in.send(batch).map_err(RunError::lost)?;
        }
        Ok(started)
    };
    let (started, (counted, sum), ended) = on_both(cpus, send, receive)?;
    if counted != sum {
        return Err(RunError::WrongCount {
            expected: counted,
            counted: sum,
        });
    }
    Sample::rate(size.messages, counted, ended - started)
}

fn polled_round_trips(size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    let (ask_in, ask_out) = bounded::<u64>(1);
    let (reply_in, reply_out) = bounded::<u64>(1);
    let answer = move || {
        while let Some(number) = poll(&ask_out) {
            reply_in.send(number + 1).map_err(RunError::lost)?;
        }
        Ok(())
    };
    let ask = move || {
        round_trips(size, None, |number| {
            send_polling(&ask_in, number)?;
            poll(&reply_out).ok_or_else(|| RunError::lost("the answering thread left"))
        })
    };
    let (trips, (), _) = on_both(cpus, ask, answer)?;
    trips.sample(size.messages)
}

fn blocking_round_trips(size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    let (asks, replies) = (event()?, event()?);
    let total = size.warm_up + size.messages;
    let answer = || (0..total).try_for_each(|_| signal(&replies, wait(&asks)? + 1));
    let ask = || {
        // An eventfd cannot carry 0.
        round_trips(size, Some(Duration::from_micros(PARK_PAUSE_US)), |number| {
            signal(&asks, number + 1)?;
            Ok(wait(&replies)? - 1)
        })
    };
    let (trips, (), _) = on_both(cpus, ask, answer)?;
    trips.sample(size.messages)
}

/// Calls `ask` for every number in turn and times it; each must come back one larger.
fn round_trips(
    size: Size,
    pause: Option<Duration>,
    mut ask: impl FnMut(u64) -> Result<u64, RunError>,
) -> Result<RoundTrips, RunError> {
    let mut trips = RoundTrips::new(size.messages, size.warm_up);
    for number in 0..size.warm_up + size.messages {
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        let sent = Instant::now();
        let reply = ask(number)?;
        trips.record(sent);
        if reply != number + 1 {
            return Err(RunError::WrongCount {
                expected: number + 1,
                counted: reply,
            });
        }
    }
    Ok(trips)
}

/// Runs the two sides pinned to the two CPUs; also when the second, receiving side was done.
fn on_both<A: Send, B: Send>(
    cpus: Cpus,
    first: impl FnOnce() -> Result<A, RunError> + Send,
    second: impl FnOnce() -> Result<B, RunError> + Send,
) -> Result<(A, B, Instant), RunError> {
    std::thread::scope(|scope| {
        let second = scope.spawn(move || {
            pin(cpus.second)?;
            Ok((second()?, Instant::now()))
        });
        let first = on_pinned_thread(cpus.first, first);
        let (second, ended) = second
            .join()
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
        Ok((first?, second, ended))
    })
}

/// The next one, or `None` when the other side has left.
fn poll<T>(receiver: &Receiver<T>) -> Option<T> {
    loop {
        match receiver.try_recv() {
            Ok(value) => return Some(value),
            Err(TryRecvError::Empty) => spin_loop(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

fn send_polling(sender: &Sender<u64>, number: u64) -> Result<(), RunError> {
    // One at a time in a channel of one: there is always room.
    sender.try_send(number).map_err(RunError::lost)
}

fn event() -> Result<OwnedFd, RunError> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?)
}

fn signal(event: impl AsFd, number: u64) -> Result<(), RunError> {
    rustix::io::write(event, &number.to_ne_bytes()).map_err(std::io::Error::from)?;
    Ok(())
}

fn wait(event: impl AsFd) -> Result<u64, RunError> {
    let mut bytes = [0; 8];
    rustix::io::read(event, &mut bytes).map_err(std::io::Error::from)?;
    Ok(u64::from_ne_bytes(bytes))
}
