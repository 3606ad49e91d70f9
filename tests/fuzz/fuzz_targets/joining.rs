//! Requests to join from a node that says anything, to a leader.
#![no_main]

#[path = "../properties/control.rs"]
mod control;
#[path = "../properties/joining.rs"]
mod joining;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| joining::check(data));
