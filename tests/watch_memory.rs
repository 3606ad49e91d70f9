//! Watchers and watched come and go a million times, and leave no memory behind.
#![expect(unsafe_code, reason = "an allocator that counts")]

use corecast::base::ids::CoreId;
use corecast::{Actor, ActorRef, Context, Fault, Next, ReplyTo, Runtime, Settings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

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
const CROWD: u64 = 5_000;

/// Spawns a crowd that watches it and that it watches.
struct Host {
    left: u64,
    others: Option<ActorRef<HostMsg>>,
}

#[derive(Debug)]
enum HostMsg {
    Crowd,
    Gone,
    Left(ReplyTo<u64>),
}

struct Guest(ActorRef<HostMsg>);

#[derive(Debug)]
enum GuestMsg {
    Leave,
    HostGone,
}

impl Actor for Guest {
    type Msg = GuestMsg;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        ctx.watch(self.0, |_| GuestMsg::HostGone)?;
        Ok(())
    }

    fn receive(&mut self, _: GuestMsg, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Stop)
    }
}

impl Actor for Host {
    type Msg = HostMsg;

    fn receive(&mut self, msg: HostMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            HostMsg::Crowd => {
                let host = self.others.unwrap_or(ctx.me());
                for _ in 0..CROWD {
                    let guest = ctx.spawn_actor(move || Guest(host))?;
                    ctx.watch(guest, |_| HostMsg::Gone)?;
                    ctx.tell(guest, GuestMsg::Leave);
                }
                self.left += CROWD;
            }
            HostMsg::Gone => self.left -= 1,
            HostMsg::Left(reply_to) => ctx.reply(reply_to, self.left),
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        assert_eq!(self.left, 0, "somebody was never heard of");
    }
}

#[test]
fn a_million_watches_leave_nothing_behind() {
    let settings = Settings {
        cores: "count:2".parse().unwrap(),
        ..Settings::default()
    };
    let runtime = Runtime::builder().settings(settings).start().unwrap();
    let handle = runtime.handle();
    let spawn = |core, others| {
        let host = move || Host { left: 0, others };
        handle.spawn_on(CoreId(core), host).wait().unwrap()
    };
    let far = spawn(1, None);
    // Its guests watch somebody on the other core.
    let near = spawn(0, Some(far));
    let crowd = || {
        for host in [far, near] {
            handle.tell(host, HostMsg::Crowd);
        }
        for host in [far, near] {
            while handle.ask(host, HostMsg::Left).wait() != Ok(0) {}
        }
        LIVE.load(Ordering::Relaxed)
    };
    // Tables grow to what a crowd needs, and batches and queues to what the cores happen to send each other.
    let before = (0..10).map(|_| crowd()).max().unwrap();
    // Each guest watches and is watched.
    for _ in 0..1_000_000 / (2 * CROWD) / 2 {
        crowd();
    }
    let after = (0..10).map(|_| crowd()).min().unwrap();
    let grown = after - before;
    assert!(grown < 65_536, "{before} bytes before, {after} after");
    assert!(runtime.shutdown().drained);
}
