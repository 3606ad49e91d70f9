//! Messages of the log from a peer that says anything, to a voter.
#![no_main]

#[path = "../properties/consensus.rs"]
mod consensus;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As they are, and behind a header that is right, so that what is found is not its lengths alone.
    consensus::check(data);
    let mut message = b"CCRF\x01\0\0\0".to_vec();
    message.extend_from_slice(&(data.len() as u64).to_le_bytes());
    message.extend_from_slice(data);
    consensus::check(&message);
});
