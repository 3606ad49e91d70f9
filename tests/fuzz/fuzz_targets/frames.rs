//! Bytes in portions through the reader of frames.
#![no_main]

use corecast::wire::error::WireError;
use corecast::wire::header::HEADER_BYTES;
use corecast::wire::kind::Plane;
use corecast::wire::limits::FrameLimits;
use corecast::wire::reader::FrameReader;
use corecast::wire::writer::FrameWriter;
use libfuzzer_sys::fuzz_target;

const LIMITS: FrameLimits = FrameLimits {
    frame_bytes: 64 << 10,
    write_buffer_bytes: 64 << 10,
    read_buffer_bytes: 4 << 10,
};

fuzz_target!(|data: &[u8]| {
    let Some((&[plane, portion], stream)) = data.split_first_chunk() else {
        return;
    };
    let plane = [Plane::Handshake, Plane::Control, Plane::Data][usize::from(plane) % 3];
    let mut stream = stream.to_vec();
    read(plane, portion, &stream);
    seal(&mut stream);
    read(plane, portion, &stream);
});

/// Makes the beginning of the bytes a row of frames whose format, lengths and checksums are right.
fn seal(stream: &mut [u8]) {
    let mut rest = stream;
    while rest.len() >= HEADER_BYTES {
        let claimed = usize::from(u16::from_le_bytes([rest[4], rest[5]])) / 16 * 16;
        let length = claimed.clamp(HEADER_BYTES, rest.len() / 16 * 16);
        let (frame, behind) = rest.split_at_mut(length);
        frame[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        frame[8] = 1;
        let sum = crc32fast::hash(&frame[4..]).to_le_bytes();
        frame[..4].copy_from_slice(&sum);
        rest = behind;
    }
}

fn read(plane: Plane, portion: u8, mut stream: &[u8]) {
    let mut reader = FrameReader::new(plane, LIMITS);
    let mut failed: Option<WireError> = None;
    while !stream.is_empty() && failed.is_none() {
        let most = stream.len().min(usize::from(portion) * 8 + 1);
        let count = reader.take_in(&stream[..most]);
        stream = &stream[count..];
        let mut taken = 0;
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    taken += 1;
                    assert!(frame.payload().bytes().as_ptr().addr().is_multiple_of(16));
                    let mut writer = FrameWriter::new(LIMITS);
                    let (id, payload) = (frame.entity_id(), frame.payload().bytes());
                    writer
                        .write_bytes(frame.header(), id, payload)
                        .expect("what was read can be written");
                    assert_eq!(writer.pending(), frame.bytes(), "and gives the same bytes");
                    assert_eq!(frame.detach().as_ref().bytes(), frame.bytes());
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(error.is_fatal());
                    failed = Some(error);
                    break;
                }
            }
        }
        assert!(
            count > 0 || taken > 0 || failed.is_some(),
            "it stands still"
        );
        assert!(reader.block_bytes() <= LIMITS.frame_bytes);
    }
    if let Some(error) = failed {
        assert_eq!(reader.next().expect_err("it stays failed"), error);
    }
}
