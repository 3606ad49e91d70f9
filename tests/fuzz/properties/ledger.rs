//! Records of a ledger: refused with what is wrong and where, or written as they were read.
#![allow(dead_code, reason = "a fuzzer makes samples of its own")]

use corecast::cluster::ledger_any::{reread, samples as samples_of_records};

/// Reads bytes as a record of a sort.
pub fn check(sort: u8, bytes: &[u8]) {
    match reread(usize::from(sort), bytes) {
        Ok(again) => assert_eq!(again, bytes),
        Err(said) => assert!(
            said.contains("version") || said.contains("byte "),
            "it says where: {said}"
        ),
    }
}

/// One record of each sort, with its number.
pub fn samples() -> Vec<(u8, Vec<u8>)> {
    let samples = samples_of_records().into_iter().zip(0..);
    samples.map(|((_, bytes), sort)| (sort, bytes)).collect()
}
