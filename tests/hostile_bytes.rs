//! Samples of what is read from peers and from a ledger, damaged in all sorts of ways from a seed: nothing panics, nothing
//! takes memory that its bytes do not account for, and what is refused is refused with a reason. The same properties as those
//! of the fuzz targets in `tests/fuzz`, in a few seconds.
#![expect(unsafe_code, reason = "an allocator that counts")]
#![allow(missing_docs, reason = "tests")]

#[path = "fuzz/properties/consensus.rs"]
mod consensus;
#[path = "fuzz/properties/control.rs"]
mod control;
#[path = "fuzz/properties/joining.rs"]
mod joining;
#[path = "fuzz/properties/ledger.rs"]
mod ledger;

use corecast::base::rng::{Rng, seeded};
use corecast::cluster::ledger_any::reread;
use corecast::cluster::message::ControlMessage;
use corecast::consensus::message::Message;
use corecast::rand::RngExt;
use corecast::wire::kind::Kind;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Counts the bytes that a thread has in use, and the most that it had.
struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.get() + layout.size() as i64;
        LIVE.set(live);
        MOST.set(MOST.get().max(live));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were in use above what was before.
fn most_memory<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = LIVE.get();
    MOST.set(before);
    let result = work();
    (result, MOST.get() - before)
}

/// Reading may take so much for each byte, and so much in any case: for what is read, and for what is said of it.
const PER_BYTE: i64 = 64;
const AT_LEAST: i64 = 16 << 10;

#[track_caller]
fn assert_bounded<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> T) {
    let (result, most) = most_memory(|| read(bytes));
    drop(result);
    let bound = AT_LEAST + PER_BYTE * bytes.len() as i64;
    assert!(most <= bound, "{most} bytes for {}", bytes.len());
}

/// Damages bytes: a few times one of the things that happen to them, or that somebody does who knows how they are made.
fn damaged(rng: &mut Rng, sample: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let length = bytes.len();
        if length == 0 {
            bytes = other.to_vec();
            continue;
        }
        let at = rng.random_range(0..length);
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => {
                bytes[at] = *[0, 1, 0x7F, 0x80, 0xFF]
                    .get(rng.random_range(0..5))
                    .unwrap_or(&0)
            }
            2 => bytes[at] = rng.random(),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, rng.random()),
            5 => {
                // A number, as large as numbers are or nearly so.
                let number: u64 = [
                    u64::MAX,
                    1 << 60,
                    (1 << 60) - 1,
                    u64::from(u32::MAX),
                    1 << 31,
                    0,
                ][rng.random_range(0..6)];
                let wide = [2, 4, 8][rng.random_range(0..3)].min(length - at);
                bytes[at..at + wide].copy_from_slice(&number.to_le_bytes()[..wide]);
            }
            6 => {
                let end = rng.random_range(at..length) + 1;
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            7 => {
                let end = rng.random_range(at..length) + 1;
                bytes.drain(at..end);
            }
            _ => {
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Checks so many damaged samples of each, or the one that `CORECAST_SEED` says.
#[track_caller]
fn check_damaged<T: Copy>(times: u64, samples: &[(T, Vec<u8>)], check: impl Fn(T, &[u8])) {
    let only = std::env::var("CORECAST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for (which, (of, sample)) in samples.iter().enumerate() {
        check(*of, sample);
        for length in 0..sample.len() {
            check(*of, &sample[..length]);
        }
        let seeds = only.map_or(0..times, |seed: u64| seed..seed + 1);
        for seed in seeds {
            let mut rng = seeded(seed, which as u64);
            let other = &samples[rng.random_range(0..samples.len())].1;
            let bytes = damaged(&mut rng, sample, other);
            if catch_unwind(AssertUnwindSafe(|| check(*of, &bytes))).is_err() {
                let thread = std::thread::current();
                panic!(
                    "seed {seed} of sample {which} failed with {bytes:02x?}\nreplay it with: CORECAST_SEED={seed} cargo \
                     test --test hostile_bytes -- --exact {}",
                    thread.name().unwrap_or_default()
                );
            }
        }
    }
}

#[test]
fn damaged_control_messages_do_no_harm() {
    let mut samples = control::samples();
    // Whatever it is, in a frame of another kind.
    let others = samples
        .iter()
        .map(|(kind, bytes)| (kind + 1, bytes.clone()));
    let others: Vec<(u8, Vec<u8>)> = others.collect();
    samples.extend(others);
    check_damaged(2_000, &samples, |kind, bytes| {
        control::check(kind, bytes);
        for kind in [Kind::Membership, Kind::Report, Kind::Heartbeat] {
            assert_bounded(bytes, |bytes| ControlMessage::decode(kind, bytes));
        }
    });
}

#[test]
fn damaged_requests_to_join_do_no_harm() {
    let samples: Vec<((), Vec<u8>)> = joining::samples().into_iter().map(|it| ((), it)).collect();
    check_damaged(1_500, &samples, |(), bytes| {
        joining::check(bytes);
        assert_bounded(bytes, |bytes| {
            ControlMessage::decode(Kind::Membership, bytes)
        });
    });
}

#[test]
fn damaged_messages_of_the_log_do_no_harm() {
    let samples: Vec<((), Vec<u8>)> = consensus::samples()
        .into_iter()
        .map(|it| ((), it))
        .collect();
    check_damaged(1_500, &samples, |(), bytes| {
        // What is damaged behind the header should not be found by its length alone.
        let mut whole = bytes.to_vec();
        if let Some(behind) = whole.len().checked_sub(16) {
            whole[8..16].copy_from_slice(&(behind as u64).to_le_bytes());
        }
        consensus::check(&whole);
        assert_bounded(&whole, Message::decode);
    });
}

#[test]
fn damaged_records_of_a_ledger_do_no_harm() {
    check_damaged(5_000, &ledger::samples(), |sort, bytes| {
        ledger::check(sort, bytes);
        assert_bounded(bytes, |bytes| reread(usize::from(sort), bytes));
    });
}
