//! The reader: bytes in any portions, bounded memory, frames where they lie.

use super::address::Target;
use super::error::WireError;
use super::frame::OwnedFrame;
use super::header::{HEADER_BYTES, Header};
use super::kind::{Kind, Plane};
use super::limits::FrameLimits;
use super::reader::FrameReader;
use super::samples::{Note, any_frame, frame_of, frame_with, note, plane_of, sender, tell};
use proptest::prelude::*;

const SMALL: FrameLimits = FrameLimits {
    frame_bytes: 64 << 10,
    write_buffer_bytes: 64 << 10,
    read_buffer_bytes: 4 << 10,
};

fn reader() -> FrameReader {
    FrameReader::new(Plane::Data, SMALL)
}

/// A tell with so many bytes of payload.
fn big(payload: usize) -> Vec<u8> {
    let mut header = tell();
    header.tag.fingerprint = 1;
    frame_of(&header, b"id", &vec![7; payload])
}

#[test]
fn frames_come_out_whole_wherever_the_bytes_are_split() {
    let frames = [
        frame_with(&tell(), b"cart-7", note("one")),
        frame_of(&Header::new(Kind::Ping, Target::Node, sender()), &[], &[]),
        frame_with(&tell(), b"", note("a longer one")),
    ];
    let stream = frames.concat();
    for split in 0..=stream.len() {
        for portion in [1, 7, 16, 95, stream.len()] {
            let mut reader = reader();
            let mut seen = Vec::new();
            let (first, rest) = stream.split_at(split);
            for bytes in [first].into_iter().chain(rest.chunks(portion)) {
                assert_eq!(reader.take_in(bytes), bytes.len());
                while let Some(frame) = reader.next().unwrap() {
                    seen.push(frame.bytes().to_vec());
                }
            }
            assert_eq!(seen, frames, "split at {split}, then by {portion}");
            assert!(!reader.is_in_a_frame());
        }
    }
}

#[test]
fn payloads_of_whole_frames_are_never_copied() {
    let mut reader = FrameReader::new(Plane::Data, FrameLimits::default());
    let frame = frame_with(&tell(), b"cart-7", note("one of many"));
    for _ in 0..1_000 {
        let spare = reader.spare();
        let (from, to) = (spare.as_ptr().addr(), spare.as_ptr().addr() + spare.len());
        for _ in 0..50 {
            let spare = reader.spare();
            spare[..frame.len()].copy_from_slice(&frame);
            reader.filled(frame.len());
        }
        while let Some(frame) = reader.next().unwrap() {
            let payload = frame.payload().bytes().as_ptr().addr();
            assert!(
                (from..to).contains(&payload),
                "it lies where it was received"
            );
        }
    }
    let counts = reader.counts();
    assert_eq!(
        (counts.frames, counts.moved_bytes, counts.blocks),
        (50_000, 0, 1)
    );
}

#[test]
fn a_length_is_checked_before_room_is_made_for_it() {
    for (length, said) in [
        (
            0_u32,
            "a frame claims to have 0 bytes; it is a multiple of 16 and at least 96",
        ),
        (
            80,
            "a frame claims to have 80 bytes; it is a multiple of 16 and at least 96",
        ),
        (
            97,
            "a frame claims to have 97 bytes; it is a multiple of 16 and at least 96",
        ),
        (
            (64 << 10) + 16,
            "a frame claims to have 65552 bytes, and 65536 are allowed here; the limit on frames must be the same on \
             all nodes",
        ),
        (u32::MAX - 15, "a frame claims to have 4294967280 bytes"),
    ] {
        let mut bytes = big(0);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let mut reader = reader();
        reader.take_in(&bytes);
        assert!(!reader.spare().is_empty(), "the error is told by `next`");
        let error = reader.next().unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
        assert_eq!(reader.next().unwrap_err(), error, "it stays failed");
        assert!(reader.spare().is_empty() && reader.take_in(&bytes) == 0);
        assert_eq!(reader.block_bytes(), 4 << 10);
    }
}

#[test]
fn the_block_grows_for_a_large_frame_and_shrinks_again() {
    let mut reader = reader();
    let large = big(60_000);
    let mut rest = &large[..];
    while !rest.is_empty() {
        let count = reader.take_in(rest);
        assert!(count > 0);
        rest = &rest[count..];
        assert!(reader.block_bytes() <= large.len());
    }
    assert_eq!(reader.next().unwrap().unwrap().bytes(), large);
    assert_eq!(reader.block_bytes(), large.len());
    let small = big(10);
    for _ in 0..20 {
        reader.take_in(&small);
        assert_eq!(reader.next().unwrap().unwrap().bytes(), small);
    }
    assert_eq!(reader.block_bytes(), 4 << 10);
}

/// What is allocated grows with what has come, not with what a header says will come.
#[test]
fn a_header_alone_gets_no_room() {
    let limits = FrameLimits::default();
    let frame = big(limits.frame_bytes - 1_024);
    let mut readers: Vec<FrameReader> = (0..1_000)
        .map(|_| FrameReader::new(Plane::Data, limits))
        .collect();
    let mut held = 0;
    for reader in &mut readers {
        reader.take_in(&frame[..HEADER_BYTES]);
        assert!(!reader.spare().is_empty() && reader.next().unwrap().is_none());
        held += reader.block_bytes();
    }
    assert_eq!(held, readers.len() * limits.read_buffer_bytes);

    let reader = &mut readers[0];
    let mut came = HEADER_BYTES;
    while came < frame.len() {
        // As a socket has it: sometimes little, sometimes all that finds room.
        let most = [1_000, 60_000, frame.len()][came / 16 % 3].min(frame.len() - came);
        let count = reader.take_in(&frame[came..came + most]);
        assert!(count > 0, "it stands still");
        came += count;
        let most = limits.read_buffer_bytes.max(3 * came);
        assert!(reader.block_bytes() <= most, "{came} have come");
        assert!(reader.block_bytes() <= frame.len());
    }
    let bytes = reader.next().unwrap().unwrap().bytes();
    assert!(bytes == frame && bytes.as_ptr().addr().is_multiple_of(16));
    // However often the block grew, that took no more than moving each byte twice.
    assert!(reader.counts().moved_bytes < 2 * frame.len() as u64);
    assert!(reader.counts().blocks <= 9, "{:?}", reader.counts());
}

/// Even if each fills the block exactly, so that none is ever seen to have begun.
#[test]
fn a_block_stays_as_large_as_frames_that_keep_coming() {
    let mut reader = reader();
    let large = big(60_000);
    let blocks = |reader: &mut FrameReader, frames: usize| {
        for _ in 0..frames {
            let mut rest = &large[..];
            while !rest.is_empty() {
                rest = &rest[reader.take_in(rest)..];
            }
            assert_eq!(reader.next().unwrap().unwrap().bytes(), large);
        }
        reader.counts().blocks
    };
    let first = blocks(&mut reader, 1);
    assert_eq!(blocks(&mut reader, 200), first);
}

#[test]
fn a_large_block_is_kept_while_more_lies_in_it_than_a_small_one_holds() {
    let mut reader = reader();
    let (large, small) = (big(60_000), big(10));
    let mut rest = &large[..];
    while !rest.is_empty() {
        rest = &rest[reader.take_in(rest)..];
    }
    assert!(reader.next().unwrap().is_some());
    let many = small.repeat(60);
    assert_eq!(reader.take_in(&many), many.len());
    for _ in 0..40 {
        assert!(!reader.spare().is_empty());
    }
    for _ in 0..60 {
        assert_eq!(reader.next().unwrap().unwrap().bytes(), small);
    }
    assert!(reader.next().unwrap().is_none() && !reader.is_in_a_frame());
}

/// Others hold on to the block, so what lies in it has to go elsewhere; all of it, however small blocks usually are.
#[test]
fn nothing_is_lost_when_a_large_block_is_given_away() {
    let mut reader = reader();
    let (large, medium, small) = (big(60_000), big(20_000), big(10));
    let mut rest = &large[..];
    while !rest.is_empty() {
        rest = &rest[reader.take_in(rest)..];
    }
    assert!(reader.next().unwrap().is_some());
    let many = [medium.clone(), small.repeat(60)].concat();
    assert_eq!(reader.take_in(&many), many.len());
    let kept = reader.next().unwrap().unwrap().detach();
    assert_eq!(kept.copied_bytes(), 0);
    assert!(reader.spare().is_empty());
    for _ in 0..60 {
        assert_eq!(reader.next().unwrap().unwrap().bytes(), small);
    }
    assert!(!reader.is_in_a_frame() && !reader.spare().is_empty());
    assert_eq!(kept.as_ref().bytes(), medium);
}

#[test]
fn a_full_block_takes_no_more_until_frames_are_taken() {
    let frame = big(100);
    let mut reader = reader();
    let stream = frame.repeat(100);
    let taken = reader.take_in(&stream);
    assert_eq!(taken, 4 << 10);
    assert!(reader.spare().is_empty());
    assert_eq!(reader.take_in(&stream[taken..]), 0);
    let mut frames = 0;
    while reader.next().unwrap().is_some() {
        frames += 1;
    }
    assert_eq!(frames, taken / frame.len());
    assert!(reader.is_in_a_frame());
    assert!(reader.take_in(&stream[taken..]) > 3_000);
    assert_eq!(reader.next().unwrap().unwrap().bytes(), frame);
    assert_eq!(reader.counts().moved_bytes as usize, taken % frame.len());
}

#[test]
fn large_frames_are_taken_out_as_a_pointer_and_small_ones_as_a_copy() {
    let mut reader = reader();
    let (large, small) = (big(2_000), frame_with(&tell(), b"x", note("small")));
    reader.take_in(&large);
    reader.take_in(&small);
    reader.take_in(&large[..50]);
    let frame = reader.next().unwrap().unwrap();
    let at = frame.payload().bytes().as_ptr();
    let kept = frame.detach();
    assert_eq!(kept.copied_bytes(), 0);
    assert_eq!(kept.as_ref().payload().bytes().as_ptr(), at);
    let copied = reader.next().unwrap().unwrap().detach();
    assert_eq!(copied.copied_bytes(), small.len());
    assert_eq!(size_of::<OwnedFrame>(), size_of::<usize>());

    // The reader goes on elsewhere, and the frame stays what it was, also on another thread.
    reader.take_in(&large[50..]);
    assert_eq!(reader.next().unwrap().unwrap().bytes(), large);
    assert_eq!(reader.counts().moved_bytes, 50);
    let copied = std::thread::spawn(move || {
        assert_eq!(kept.as_ref().bytes(), large);
        let again = kept.as_ref().detach();
        assert_eq!(again.copied_bytes(), 0);
        copied.as_ref().payload().deserialize::<Note>()
    });
    assert_eq!(copied.join().unwrap().unwrap(), note("small"));
}

#[test]
fn a_block_is_used_again_when_the_frame_that_kept_it_is_gone() {
    let mut reader = reader();
    let large = big(2_000);
    for _ in 0..10 {
        reader.take_in(&large);
        drop(reader.next().unwrap().unwrap().detach());
    }
    assert_eq!(reader.counts().blocks, 1);
}

#[test]
fn limits_that_nobody_has_checked_do_not_hold_it_up() {
    let mut reader = FrameReader::new(
        Plane::Data,
        FrameLimits {
            read_buffer_bytes: 0,
            ..SMALL
        },
    );
    let frame = big(10);
    assert_eq!(reader.take_in(&frame), frame.len());
    assert_eq!(reader.next().unwrap().unwrap().bytes(), frame);
}

#[test]
fn damage_stops_the_connection_and_what_was_before_it_is_read() {
    let mut stream = big(10).repeat(3);
    let at = stream.len() - 20;
    stream[at] ^= 1;
    let mut reader = reader();
    reader.take_in(&stream);
    assert!(reader.next().unwrap().is_some());
    assert!(reader.next().unwrap().is_some());
    for _ in 0..2 {
        assert!(matches!(reader.next(), Err(WireError::Checksum { .. })));
    }
}

#[test]
#[should_panic(expected = "more bytes were received than there was room for")]
fn more_than_the_spare_room_cannot_have_been_received() {
    let mut reader = reader();
    let spare = reader.spare().len();
    reader.filled(spare + 1);
}

proptest! {
    /// Frames of all kinds and sizes, in portions of all sizes, some of them taken out and kept.
    #[test]
    fn any_stream_in_any_portions(
        frames in prop::collection::vec(any_frame(6_000), 1..12),
        portions in prop::collection::vec(1..5_000_usize, 1..40),
        kept in prop::collection::vec(any::<bool>(), 12),
    ) {
        let plane = plane_of(frames[0].0.kind);
        let frames: Vec<Vec<u8>> = frames
            .iter()
            .filter(|(header, _, _)| header.kind.travels_on(plane))
            .map(|(header, id, payload)| frame_of(header, id, payload))
            .collect();
        let stream = frames.concat();
        let mut reader = FrameReader::new(plane, SMALL);
        let (mut rest, mut portions, mut seen) = (&stream[..], portions.iter().cycle(), 0);
        let mut taken_out: Vec<(usize, OwnedFrame)> = Vec::new();
        while !rest.is_empty() {
            let portion = (*portions.next().unwrap()).min(rest.len());
            let count = reader.take_in(&rest[..portion]);
            rest = &rest[count..];
            let before = seen;
            while let Some(frame) = reader.next().unwrap() {
                prop_assert_eq!(frame.bytes(), &frames[seen][..]);
                prop_assert!(frame.payload().bytes().as_ptr().addr().is_multiple_of(16));
                if kept[seen % kept.len()] {
                    taken_out.push((seen, frame.detach()));
                }
                seen += 1;
            }
            prop_assert!(count > 0 || seen > before, "it stands still");
            prop_assert!(reader.block_bytes() <= 6_000 + 200 + HEADER_BYTES);
        }
        prop_assert_eq!(seen, frames.len());
        for (index, frame) in taken_out {
            prop_assert_eq!(frame.as_ref().bytes(), &frames[index][..]);
        }
    }
}
