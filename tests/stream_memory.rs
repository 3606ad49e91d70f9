//! Streams and their consumers come and go by the hundred thousand, and leave no memory behind.
#![expect(unsafe_code, reason = "an allocator that counts")]

use corecast::base::ids::CoreId;
use corecast::{Runtime, Scope, Settings, Source, StreamRef, StreamSettings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Counts the bytes that are in use.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many come and go at once.
const CROWD: usize = 500;

fn open(scope: &Scope, number: usize) -> (Source<String>, StreamRef<String>) {
    let settings = match number % 3 {
        0 => StreamSettings::sharing(),
        1 => StreamSettings::broadcasting(),
        _ => StreamSettings::broadcast(2).cut_off_slow(),
    };
    scope.open_stream(settings).expect("the runtime runs")
}

/// Some have no item, some more than anybody takes; some end well, others are just dropped.
fn fill(number: usize, source: Source<String>) {
    for item in 0..number % 7 {
        // A full buffer is all the same here.
        let _ = source.try_push(format!("{item:100}"));
    }
    if number.is_multiple_of(2) {
        source.complete();
    }
}

/// Some take everything, some go in the middle or at once, and nobody comes for some.
async fn take(scope: Scope, streams: Vec<StreamRef<String>>) {
    for (number, stream) in streams.into_iter().enumerate() {
        if number % 11 == 10 {
            continue;
        }
        let mut first = scope.consume(stream);
        let mut second = scope.consume_ahead(stream, number % 3);
        let most = [0, 2, usize::MAX][number % 3];
        for _ in 0..most {
            if !matches!(first.next().await, Some(Ok(_))) {
                break;
            }
        }
        if number.is_multiple_of(5) {
            second.next().await;
        }
    }
}

#[test]
fn streams_that_come_and_go_leave_nothing_behind() {
    let settings = Settings {
        cores: "count:2".parse().unwrap(),
        stream_linger: Duration::from_millis(1),
        ..Settings::default()
    };
    let runtime = Runtime::builder().settings(settings).start().unwrap();
    let handle = runtime.handle();
    let crowd = |from: u16, to: u16| {
        let streams = handle.run_on(CoreId(from), |scope| async move {
            let open = |number| open(&scope, number);
            let (sources, streams): (Vec<_>, Vec<_>) = (0..CROWD).map(open).unzip();
            scope.spawn(async move {
                for (number, source) in sources.into_iter().enumerate() {
                    fill(number, source);
                }
            });
            streams
        });
        let streams = streams.wait().unwrap();
        let taken = handle.run_on(CoreId(to), move |scope| take(scope, streams));
        taken.wait().unwrap();
    };
    let round = || {
        for (from, to) in [(0, 0), (0, 1), (1, 0)] {
            crowd(from, to);
        }
        // Until the last one has waited long enough for a consumer.
        let left = |of: fn(&corecast::CoreStats) -> usize| {
            let stats = handle.stats().wait();
            stats.cores.iter().map(of).sum::<usize>()
        };
        while left(|core| core.actors) + left(|core| core.open_asks) > 0 {}
        LIVE.load(Ordering::Relaxed)
    };
    // Tables grow to what a crowd needs, and batches and queues to what the cores happen to send each other.
    let before = (0..10).map(|_| round()).max().unwrap();
    for _ in 0..60 {
        round();
    }
    let after = (0..10).map(|_| round()).min().unwrap();
    let grown = after - before;
    assert!(grown < 65_536, "{before} bytes before, {after} after");
    assert!(runtime.shutdown().drained);
}
