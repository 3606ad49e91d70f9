//! Records of a ledger whose bytes nobody vouches for.
#![no_main]

#[path = "../properties/ledger.rs"]
mod ledger;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((sort, bytes)) = data.split_first() {
        ledger::check(*sort, bytes);
    }
});
