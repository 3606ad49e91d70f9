//! What a message costs on its way into a frame and out of it, without a network between.
//!
//! `cargo bench --bench wire`; `-- --quick` briefly. Each row is the median of several runs, with minimum and maximum,
//! in nanoseconds for one message; the last column says how many bytes were copied in all.
//!
//! The second table reads the same messages in both ways that an actor may: where they lie in the receive buffer
//! (`receive_archived`), and as values made of them (`receive`). What is copied is counted by where the bytes of each message
//! are when the handler has it: in the buffer into which the network wrote them, or elsewhere.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a program that prints")]

use corecast::wire::address::{Life, Sender, Target};
use corecast::wire::frame::Payload;
use corecast::wire::header::Header;
use corecast::wire::kind::{Kind, Plane};
use corecast::wire::limits::FrameLimits;
use corecast::wire::reader::FrameReader;
use corecast::wire::writer::FrameWriter;
use corecast::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey, WireMessage};
use std::hint::black_box;
use std::time::Instant;

/// As many frames go out with one write here.
const BATCH: usize = 64;

/// Seven words and a tag: 64 bytes archived.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Small {
    Add([u64; 7]),
    Reset,
}

impl WireMessage for Small {
    const NAME: &'static str = "bench.Small";
    const VERSION: u16 = 1;
}

/// Nine texts: about 1 KiB archived.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Texts {
    texts: [String; 9],
    number: u64,
}

impl WireMessage for Texts {
    const NAME: &'static str = "bench.Texts";
    const VERSION: u16 = 1;
}

struct Bench {
    writer: FrameWriter,
    reader: FrameReader,
    header: Header,
}

impl Bench {
    fn new() -> Bench {
        let limits = FrameLimits::default();
        let key = ShardKey {
            entity_type: EntityTypeId(1),
            shard: ShardId(17),
        };
        let sender = Sender {
            life: Life::from_bits(1 << 32 | 1),
            core: CoreId(0),
            stream: 0,
        };
        let target = Target::Shard {
            key,
            epoch: Epoch(3),
        };
        Bench {
            writer: FrameWriter::new(limits),
            reader: FrameReader::new(Plane::Data, limits),
            header: Header::new(Kind::Tell, target, sender),
        }
    }

    fn write<M: WireMessage>(&mut self, message: &M) {
        for _ in 0..BATCH {
            self.writer
                .write_ref(&self.header, b"cart-4711", black_box(message))
                .expect("there is room");
        }
    }

    /// Frames from the writer's buffer to the reader's: what the kernel does with a socket.
    fn deliver(&mut self) {
        let count = self.reader.take_in(self.writer.pending());
        self.writer.sent(count);
    }

    fn read<M: WireMessage>(&mut self, mut seen: impl FnMut(&M::Archived)) {
        while let Some(frame) = self.reader.next().expect("sound frames") {
            seen(frame.payload().access::<M>().expect("a valid message"));
        }
    }

    /// Nanoseconds for one message, encoding and reading in place; and the bytes of payload that were copied.
    fn run<M: WireMessage>(
        &mut self,
        messages: usize,
        message: &M,
        mut seen: impl FnMut(&M::Archived),
    ) -> (f64, f64) {
        let (mut encode, mut read) = (0, 0);
        for _ in 0..messages.div_ceil(BATCH) {
            let start = Instant::now();
            self.write(message);
            encode += start.elapsed().as_nanos();
            while !self.writer.pending().is_empty() {
                self.deliver();
                let start = Instant::now();
                self.read::<M>(&mut seen);
                read += start.elapsed().as_nanos();
            }
        }
        let messages = (messages.div_ceil(BATCH) * BATCH) as f64;
        (encode as f64 / messages, read as f64 / messages)
    }
}

/// As many texts as it takes for a payload of a size.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Lines {
    lines: Vec<String>,
}

impl WireMessage for Lines {
    const NAME: &'static str = "bench.Lines";
    const VERSION: u16 = 1;
}

impl Lines {
    fn of(payload: usize) -> Lines {
        // A text takes its bytes and eight for where they are; one of up to eight bytes lies in these.
        let line = "a line of text, as long as this one, of ninety-two bytes, so that each takes one hundred all told";
        let lines = match payload {
            64 => vec![line[..52].to_owned()],
            _ => vec![line[..92].to_owned(); payload / 100],
        };
        Lines { lines }
    }
}

fn main() {
    let quick = std::env::args().any(|word| word == "--quick" || word == "--test");
    let (runs, messages) = if quick { (1, 20_000) } else { (7, 2_000_000) };
    println!(
        "{:<34} {:>10} {:>10} {:>10}  copied",
        "row", "median", "min", "max"
    );
    let small = Small::Add([7; 7]);
    measure("64 B", runs, messages, &small, |small| {
        black_box(matches!(small, ArchivedSmall::Add(words) if words[0] == 7));
    });
    black_box(Small::Reset);
    let texts = Texts {
        texts: std::array::from_fn(|index| "corecast ".repeat(11) + &index.to_string()),
        number: 1,
    };
    measure("1 KiB, nine texts", runs, messages / 8, &texts, |texts| {
        black_box(texts.texts[8].len() + texts.number.to_native() as usize);
    });
    println!();
    for (name, payload) in [("64 B", 64), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10)] {
        let messages = (messages / (payload / 64)).max(64);
        compare(name, runs, messages, &Lines::of(payload));
    }
}

/// Reads a message in place, and as a value; the handler does the same with either.
fn compare(name: &str, runs: usize, messages: usize, message: &Lines) {
    let (mut in_place, mut as_value) = (Vec::new(), Vec::new());
    let (mut copied_in_place, mut copied_as_value, mut of) = (0, 0, 0);
    let (mut moved, mut blocks) = (0, 0);
    // One run before those that count, in turns, so that both find the machine alike.
    for run in 0..=runs {
        for is_in_place in [true, false] {
            let mut bench = Bench::new();
            let (mut copied, mut bytes) = (0, 0);
            let nanos = bench.read_payloads(messages, message, |payload| {
                bytes += payload.bytes().len();
                let buffer = payload.bytes().as_ptr_range();
                if is_in_place {
                    let lines = payload.access::<Lines>().expect("a valid message");
                    let sum: usize = lines.lines.iter().map(|line| line.len()).sum();
                    let last = lines
                        .lines
                        .last()
                        .map_or(buffer.start, |line| line.as_ptr());
                    copied += usize::from(!buffer.contains(&last)) * payload.bytes().len();
                    black_box(sum);
                } else {
                    let lines: Lines = payload.deserialize().expect("a valid message");
                    let sum: usize = lines.lines.iter().map(String::len).sum();
                    let last = lines
                        .lines
                        .last()
                        .map_or(buffer.start, |line| line.as_ptr());
                    copied += usize::from(!buffer.contains(&last)) * payload.bytes().len();
                    black_box(sum);
                }
            });
            if run == 0 {
                continue;
            }
            of += bytes / 2;
            let counts = bench.reader.counts();
            (moved, blocks) = (moved + counts.moved_bytes, counts.blocks);
            match is_in_place {
                true => {
                    in_place.push(nanos);
                    copied_in_place += copied;
                }
                false => {
                    as_value.push(nanos);
                    copied_as_value += copied;
                }
            }
        }
    }
    assert_eq!(
        copied_in_place, 0,
        "what is read in place lies in the buffer"
    );
    row(
        &format!("received in place, {name}"),
        in_place,
        &format!(
            "{copied_in_place} B of {of} B; unfinished frames in both: {} B moved, {blocks} block(s)",
            moved / 2
        ),
    );
    row(
        &format!("received as a value, {name}"),
        as_value,
        &format!("{copied_as_value} B of {of} B"),
    );
}

impl Bench {
    /// Nanoseconds for one message, of whatever is done with its payload.
    fn read_payloads<M: WireMessage>(
        &mut self,
        messages: usize,
        message: &M,
        mut seen: impl FnMut(Payload<'_>),
    ) -> f64 {
        let (mut took, mut read, mut written) = (0, 0, 0);
        while read < messages {
            while written - read < BATCH
                && self
                    .writer
                    .write_ref(&self.header, b"cart-4711", black_box(message))
                    .is_ok()
            {
                written += 1;
            }
            while !self.writer.pending().is_empty() {
                self.deliver();
                let start = Instant::now();
                while let Some(frame) = self.reader.next().expect("sound frames") {
                    seen(frame.payload());
                    read += 1;
                }
                took += start.elapsed().as_nanos();
            }
        }
        took as f64 / read as f64
    }
}

fn measure<M: WireMessage>(
    name: &str,
    runs: usize,
    messages: usize,
    message: &M,
    mut seen: impl FnMut(&M::Archived),
) {
    let mut bench = Bench::new();
    bench.run(BATCH, message, &mut seen);
    let results: Vec<(f64, f64)> = (0..runs)
        .map(|_| bench.run(messages, message, &mut seen))
        .collect();
    let written = bench.writer.counts();
    let moved = bench.reader.counts().moved_bytes;
    row(
        &format!("encode, {name}"),
        results.iter().map(|(encode, _)| *encode).collect(),
        &format!(
            "{} B of {} B archived in place",
            written.copied_bytes, written.archived_bytes
        ),
    );
    row(
        &format!("read in place, {name}"),
        results.iter().map(|(_, read)| *read).collect(),
        &format!("{moved} B of unfinished frames moved"),
    );
}

fn row(name: &str, mut values: Vec<f64>, copied: &str) {
    values.sort_by(f64::total_cmp);
    println!(
        "{name:<34} {:>10.1} {:>10.1} {:>10.1}  {copied}",
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    );
}
