//! What a data core sends to an entity of another node, as fast as it can, and how long that takes.

use crate::cells::ToCell;
use corecast::{Actor, AskError, Context, CoreId, Fault, Handle, Next, Region};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Tells in one activation, at most.
const BURST: usize = 256;

#[derive(Debug)]
enum Do {
    Ask,
    Answered(Result<u64, AskError>),
    Send,
    Counted(Result<u64, AskError>),
}

struct Traffic {
    cells: Region<u64, ToCell>,
    id: u64,
    left: u64,
    began: Instant,
    asked: Instant,
    pause: Duration,
    times: Vec<Duration>,
    done: Sender<String>,
}

impl Actor for Traffic {
    type Msg = Do;

    fn receive(&mut self, msg: Do, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let cell = self.cells.entity_ref(self.id);
        match msg {
            Do::Ask => {
                self.asked = Instant::now();
                ctx.ask(cell, ToCell::Who, Do::Answered);
            }
            Do::Answered(outcome) => {
                self.times.push(self.asked.elapsed());
                outcome?;
                self.left -= 1;
                if self.left == 0 {
                    let _ = self.done.send(shown(&mut self.times));
                    return Ok(Next::Stop);
                }
                if self.pause.is_zero() {
                    ctx.tell(ctx.me(), Do::Ask);
                } else {
                    let sleep = ctx.sleep(self.pause);
                    ctx.spawn(sleep, |_| Do::Ask);
                }
            }
            Do::Send => {
                for _ in 0..BURST.min(self.left as usize) {
                    let packet = ToCell::Packet([7; 64]);
                    if ctx.try_tell(self.cells.entity(&self.id), packet).is_err() {
                        break;
                    }
                    self.left -= 1;
                }
                match self.left {
                    0 => ctx.ask(cell, ToCell::Packets, Do::Counted),
                    _ => ctx.tell(ctx.me(), Do::Send),
                }
            }
            Do::Counted(outcome) => {
                let (packets, took) = (outcome?, self.began.elapsed());
                let rate = packets as f64 / took.as_secs_f64() / 1e6;
                let _ = self.done.send(format!("{packets} at {rate:.2} M/s"));
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }
}

fn shown(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    format!("median {:.1} us, p99 {:.1} us", at(0.5), at(0.99))
}

fn run(
    handle: &Handle,
    cells: Region<u64, ToCell>,
    (id, count): (u64, u64),
    pause: Duration,
    first: Do,
) -> String {
    let (done, outcome) = channel();
    let make = move || Traffic {
        cells,
        id,
        left: count,
        began: Instant::now(),
        asked: Instant::now(),
        pause,
        times: Vec::new(),
        done: done.clone(),
    };
    let traffic = handle.spawn_on(CoreId(0), make).wait().unwrap();
    handle.tell(traffic, first);
    outcome.recv().unwrap_or_else(|_| "failed".to_owned())
}

/// Asks one after the other, with a pause between each two: `asked median ... us, ...`
pub(crate) fn asks(
    handle: &Handle,
    cells: Region<u64, ToCell>,
    id: u64,
    count: u64,
    pause: u64,
) -> String {
    let pause = Duration::from_micros(pause);
    format!("asked {}", run(handle, cells, (id, count), pause, Do::Ask))
}

/// Tells: `told <count> at <rate>`
pub(crate) fn tells(handle: &Handle, cells: Region<u64, ToCell>, id: u64, count: u64) -> String {
    let none = Duration::ZERO;
    format!("told {}", run(handle, cells, (id, count), none, Do::Send))
}
