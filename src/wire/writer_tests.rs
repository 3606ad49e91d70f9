//! The writer: messages archived in place, bounds, and what is handed back.

use super::address::Target;
use super::error::WriteError;
use super::flags::Flags;
use super::frame::FrameRef;
use super::header::{HEADER_BYTES, Header};
use super::kind::{Kind, Plane};
use super::limits::FrameLimits;
use super::message::WireMessage;
use super::samples::{Note, any_frame, frame_of, frame_with, note, sender, tell};
use super::writer::FrameWriter;
use proptest::prelude::*;
use rkyv::ser::Writer;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SMALL: FrameLimits = FrameLimits {
    frame_bytes: 16 << 10,
    write_buffer_bytes: 4 << 10,
    read_buffer_bytes: 4 << 10,
};

#[test]
fn a_message_is_archived_in_its_place() {
    let mut writer = FrameWriter::new(FrameLimits::default());
    let mut single = Vec::new();
    for index in 0..100 {
        let (id, message) = (vec![b'i'; index], note(&"text ".repeat(index)));
        let length = writer.write(&tell(), &id, message.clone()).unwrap();
        let alone = frame_with(&tell(), &id, message);
        assert_eq!(length, alone.len());
        single.extend_from_slice(&alone);
    }
    // An archive does not depend on where it was written.
    assert_eq!(writer.pending(), single);
    let counts = writer.counts();
    assert_eq!((counts.frames, counts.copied_bytes), (100, 0));
    assert_eq!(counts.bytes, single.len() as u64);
    assert!(counts.archived_bytes > 100 * 16);
}

/// A connection takes as many bytes as it likes; what is written afterwards still lies at multiples of 16.
#[test]
fn a_message_is_archived_the_same_behind_a_part_of_a_frame() {
    for taken in 0..400 {
        let mut writer = FrameWriter::new(SMALL);
        let mut stream = Vec::new();
        for index in 0..6 {
            let message = note(&"text ".repeat(index));
            writer.write_ref(&tell(), b"id", &message).unwrap();
            stream.extend_from_slice(&frame_with(&tell(), b"id", message));
            let count = taken.min(writer.pending().len());
            assert_eq!(writer.pending(), &stream[..]);
            writer.sent(count);
            stream.drain(..count);
        }
    }
}

#[test]
fn when_it_is_full_the_message_comes_back() {
    let mut writer = FrameWriter::new(SMALL);
    let message = note(&"x".repeat(20));
    let length = frame_with(&tell(), b"id", message.clone()).len();
    let mut written = 0;
    let refused = loop {
        match writer.write(&tell(), b"id", message.clone()) {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(written, (4 << 10) / length);
    assert_eq!(refused.message, message);
    let pending = written * length;
    assert_eq!(refused.why, WriteError::Full { pending, max: 4096 });
    assert_eq!(writer.pending().len(), pending);
    // Every frame in it is whole.
    for frame in writer.pending().chunks(length) {
        FrameRef::parse(frame, Plane::Data, SMALL.frame_bytes).unwrap();
    }
    writer.sent(length);
    writer.write(&tell(), b"id", message).unwrap();
}

#[test]
fn a_large_frame_waits_alone_and_one_that_is_too_large_never_fits() {
    let mut writer = FrameWriter::new(SMALL);
    let large = note(&"x".repeat(1_500));
    let length = writer.write_ref(&tell(), b"id", &large).unwrap();
    assert!(length > SMALL.write_buffer_bytes);
    let why = writer
        .write_ref(&tell(), b"id", &Note::Nothing)
        .unwrap_err();
    assert!(matches!(why, WriteError::Full { .. }), "{why}");
    writer.sent(length);
    assert_eq!(writer.buffer_bytes(), 0, "the large buffer was given back");

    // The text makes the buffer grow, and the numbers behind it do not fit.
    let too_large = note(&"x".repeat(9_000));
    let refused = writer.write(&tell(), b"id", too_large.clone()).unwrap_err();
    assert_eq!(refused.why, WriteError::TooLarge { max: 16 << 10 });
    assert_eq!(refused.message, too_large);
    assert_eq!(writer.buffer_bytes(), 0, "what it grew for did not fit");
    // Behind another it does not fit now, which is all that is known.
    writer.write_ref(&tell(), b"id", &Note::Nothing).unwrap();
    let why = writer.write_ref(&tell(), b"id", &too_large).unwrap_err();
    assert!(matches!(why, WriteError::Full { .. }), "{why}");
}

#[test]
fn a_frame_may_be_exactly_as_large_as_frames_may_be() {
    let mut header = tell();
    header.tag.fingerprint = 1;
    for (payload, fits) in [
        ((16 << 10) - HEADER_BYTES, true),
        ((16 << 10) - HEADER_BYTES + 1, false),
    ] {
        let mut writer = FrameWriter::new(SMALL);
        let result = writer.write_bytes(&header, &[], &vec![1; payload]);
        assert_eq!(result.is_ok(), fits, "{payload}");
        assert_eq!(writer.pending().len(), if fits { 16 << 10 } else { 0 });
    }
}

#[test]
fn a_frame_is_no_larger_because_more_may_wait() {
    let mut writer = FrameWriter::new(FrameLimits {
        write_buffer_bytes: 64 << 10,
        ..SMALL
    });
    let large = note(&"x".repeat(3_000));
    for _ in 0..2 {
        let why = writer.write_ref(&tell(), b"id", &large).unwrap_err();
        assert_eq!(why, WriteError::TooLarge { max: 16 << 10 });
        writer.write_ref(&tell(), b"id", &Note::Nothing).unwrap();
    }
}

#[test]
fn what_is_malformed_is_not_written() {
    let mut writer = FrameWriter::new(SMALL);
    writer.write_ref(&tell(), b"id", &Note::Nothing).unwrap();
    let before = writer.pending().to_vec();
    let ping = Header::new(Kind::Ping, Target::Node, sender());
    assert!(writer.write_bytes(&ping, &[], &[0; 65]).is_err());
    assert!(writer.write_bytes(&ping, b"id", &[]).is_err());
    assert!(writer.write_bytes(&tell(), b"id", b"untyped").is_err());
    let id = vec![0; 70_000];
    let why = writer.write_ref(&tell(), &id, &Note::Nothing).unwrap_err();
    assert_eq!(
        why.to_string(),
        "a frame of kind `tell` is malformed: its entity id is longer than 65535 bytes"
    );
    assert_eq!(writer.pending(), before);
}

#[test]
fn a_frame_is_forwarded_under_a_new_header() {
    let bytes = frame_with(&tell(), b"cart-7", note("on its way"));
    let frame = FrameRef::parse(&bytes, Plane::Data, 1 << 20).unwrap();
    let mut header = *frame.header();
    header.flags = header.flags | Flags::FORWARDED;
    let mut writer = FrameWriter::new(SMALL);
    writer.forward(&header, &frame).unwrap();
    let forwarded = FrameRef::parse(writer.pending(), Plane::Data, 1 << 20).unwrap();
    assert_eq!(*forwarded.header(), header);
    assert_eq!(forwarded.entity_id(), b"cart-7");
    assert_eq!(forwarded.payload().bytes(), frame.payload().bytes());
    assert_eq!(
        forwarded.header().sender,
        sender(),
        "the sender stays who it was"
    );
    assert_eq!(
        writer.counts().copied_bytes as usize,
        frame.payload().bytes().len()
    );
}

/// A message whose code panics while it is archived.
#[derive(Debug)]
struct Bomb;

impl rkyv::Archive for Bomb {
    type Archived = ();
    type Resolver = ();
    fn resolve(&self, (): (), _: rkyv::Place<()>) {}
}

impl<S: rkyv::rancor::Fallible + Writer + ?Sized> rkyv::Serialize<S> for Bomb {
    fn serialize(&self, serializer: &mut S) -> Result<(), S::Error> {
        serializer.write(&[1, 2, 3])?;
        panic!("planted")
    }
}

impl<D: rkyv::rancor::Fallible + ?Sized> rkyv::Deserialize<Bomb, D> for () {
    fn deserialize(&self, _: &mut D) -> Result<Bomb, D::Error> {
        Ok(Bomb)
    }
}

impl WireMessage for Bomb {
    const NAME: &'static str = "test.Bomb";
    const VERSION: u16 = 1;
}

#[test]
fn a_panic_in_a_message_leaves_no_part_of_its_frame() {
    let mut writer = FrameWriter::new(SMALL);
    writer.write(&tell(), b"id", note("before")).unwrap();
    let before = writer.pending().to_vec();
    let panicked = catch_unwind(AssertUnwindSafe(|| writer.write_ref(&tell(), b"id", &Bomb)));
    assert!(panicked.is_err());
    assert_eq!(writer.pending(), before);
    writer.write(&tell(), b"another", note("after")).unwrap();
    let after = frame_with(&tell(), b"another", note("after"));
    assert_eq!(writer.pending(), [before, after].concat());
}

proptest! {
    /// Whatever is written and however little the connection takes at a time, the bytes are those of the frames in
    /// order, and the memory stays within its bound.
    #[test]
    fn the_stream_is_its_frames_in_order(
        frames in prop::collection::vec(any_frame(3_000), 1..40),
        takes in prop::collection::vec(0..2_000_usize, 1..20),
    ) {
        let mut writer = FrameWriter::new(SMALL);
        let (mut expected, mut stream) = (Vec::new(), Vec::new());
        let mut takes = takes.iter().chain(&[1]).cycle();
        for (header, id, payload) in &frames {
            while let Err(why) = writer.write_bytes(header, id, payload) {
                prop_assert!(matches!(why, WriteError::Full { .. }), "{}", why);
                let count = takes.next().unwrap().min(&writer.pending().len()).to_owned();
                stream.extend_from_slice(&writer.pending()[..count]);
                writer.sent(count);
            }
            expected.extend_from_slice(&frame_of(header, id, payload));
            prop_assert!(writer.pending().len() <= SMALL.write_buffer_bytes);
            prop_assert!(writer.buffer_bytes() <= 2 * SMALL.write_buffer_bytes.max(4_096));
        }
        stream.extend_from_slice(writer.pending());
        prop_assert_eq!(stream, expected);
        let counts = writer.counts();
        prop_assert!(counts.moved_bytes <= counts.bytes, "{:?}", counts);
    }
}

/// Also behind a part of a frame that has left.
#[test]
fn what_has_not_left_can_be_taken_back() {
    let first = frame_with(&tell(), b"id", note("first"));
    let second = frame_with(&tell(), b"id", note("second"));
    for taken in 0..=first.len() {
        let mut writer = FrameWriter::new(SMALL);
        writer.write(&tell(), b"id", note("first")).unwrap();
        writer.sent(taken);
        let kept = writer.pending().len();
        writer.write(&tell(), b"id", note("taken back")).unwrap();
        writer.truncate(kept);
        writer.write(&tell(), b"id", note("second")).unwrap();
        assert_eq!(
            writer.pending(),
            [&first[taken..], &second].concat(),
            "{taken}"
        );
    }
}

/// It says what turned out to be in the message.
#[test]
fn a_header_can_be_adapted_once_the_message_is_archived() {
    let mut writer = FrameWriter::new(SMALL);
    let reason = super::kind::Reason::Rejected(3);
    let adapt = |header: &mut Header| header.flags = Flags::EPOCH_FENCE;
    let message = note("it");
    writer
        .write_adapted(&tell(), b"id", &message, adapt)
        .unwrap();
    let adapted = Header {
        flags: Flags::EPOCH_FENCE,
        ..tell()
    };
    assert_eq!(writer.pending(), frame_with(&adapted, b"id", note("it")));
    // One that does not go with its kind is refused, and leaves nothing behind.
    let before = writer.pending().to_vec();
    let adapt = |header: &mut Header| header.reason = Some(reason);
    let refused = writer.write_adapted(&tell(), b"id", &message, adapt);
    assert!(matches!(refused, Err(WriteError::Malformed(_))));
    assert_eq!(writer.pending(), before);
}

/// Frames that another writer has put together: whole ones only, and only what is wanted and has room.
#[test]
fn whole_frames_are_appended_as_they_are() {
    let mut other = FrameWriter::new(FrameLimits::default());
    let mut lengths = Vec::new();
    for index in 0..50 {
        let message = note(&"text ".repeat(index));
        lengths.push(other.write(&tell(), b"id", message).unwrap());
    }
    let frames = other.pending();
    let first: usize = lengths[..3].iter().sum();
    let mut writer = FrameWriter::new(SMALL);
    // A half is not begun.
    assert_eq!(
        writer.append(&frames[..first + 17], usize::MAX, |_| true),
        first
    );
    assert_eq!(writer.pending(), &frames[..first]);
    // Unwanted from one on.
    let mut left = 2;
    let mut two = |_| {
        left -= 1;
        left >= 0
    };
    let more: usize = lengths[3..5].iter().sum();
    assert_eq!(writer.append(&frames[first..], usize::MAX, &mut two), more);
    // No more than the mark and one frame, nor than the buffer may hold.
    let behind = &frames[first + more..];
    assert_eq!(writer.append(behind, writer.pending().len(), |_| true), 0);
    let last = writer.append(behind, writer.pending().len() + 1, |_| true);
    assert_eq!(last, lengths[5]);
    writer.append(&behind[last..], usize::MAX, |_| true);
    assert!(writer.pending().len() <= SMALL.write_buffer_bytes);
    assert!(writer.pending().len() > SMALL.write_buffer_bytes / 2);
    assert!(frames.starts_with(writer.pending()));
    assert_eq!(writer.counts().copied_bytes, writer.pending().len() as u64);
    // One that is larger than the buffer goes alone; one that is larger than any may be does not go.
    let large = frame_with(&tell(), b"id", note(&"x".repeat(1_000)));
    assert_eq!(writer.append(&large, usize::MAX, |_| true), 0);
    writer.sent(writer.pending().len());
    assert_eq!(writer.append(&large, usize::MAX, |_| true), large.len());
    writer.sent(large.len());
    let too_large = frame_with(&tell(), b"id", note(&"x".repeat(4_000)));
    assert_eq!(writer.append(&too_large, usize::MAX, |_| true), 0);
    // What is written behind lies where it belongs.
    writer.append(frames, 1, |_| true);
    writer.sent(7);
    writer.write(&tell(), b"id", note("own")).unwrap();
    let own = frame_with(&tell(), b"id", note("own"));
    assert!(writer.pending().ends_with(&own));
}
