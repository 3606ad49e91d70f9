//! Control messages from a peer that says anything.
#![no_main]

#[path = "../properties/control.rs"]
mod control;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((kind, bytes)) = data.split_first() {
        control::check(*kind, bytes);
    }
});
