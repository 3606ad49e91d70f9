//! What the library does without, so that a core stays a deterministic state machine.

use crate::Finding;
use crate::files::SourceFile;
use crate::rust_source::{all_tokens, named_paths, tokens};

/// Neighbouring segments of a path that may stand in `io/` and in binaries only, and what to do instead.
const IO_ONLY: [(&[&str], &str); 13] = [
    (&["Instant", "now"], TIME),
    (&["SystemTime", "now"], TIME),
    // Under another name the calls could not be seen.
    (&["Instant", "as"], TIME),
    (&["SystemTime", "as"], TIME),
    (&["thread_rng"], RANDOMNESS),
    (&["rand", "rng"], RANDOMNESS),
    (&["std", "fs"], SEAM),
    (
        &["std", "net"],
        "use the types of `core::net`, and move sockets behind the seam in `io/`",
    ),
    (&["std", "thread", "sleep"], WAITING),
    (&["thread", "sleep"], WAITING),
    (&["thread", "sleep_until"], WAITING),
    (&["glommio"], SEAM),
    (&["socket2"], SEAM),
];

const TIME: &str = "time is an argument: take a `base::time::Time` from the driver";
const RANDOMNESS: &str = "randomness is an argument: take a generator made by `base::rng::seeded`";
const SEAM: &str = "keep it behind the seam in `io/`";
const WAITING: &str = "nothing waits by sleeping: ask the driver for a timer";

/// Maps of the standard library whose order changes from run to run.
const UNORDERED: [&str; 4] = ["HashMap", "HashSet", "hash_map", "hash_set"];

/// What a file says that has measured its need of `unsafe`, and a line whose map's order cannot leak.
const UNSAFE_REASON: &str = "// UNSAFE: ";
const ORDER_REASON: &str = "// order: ";

/// Finds what the library's rules ban from one file.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = check_unsafe(file);
    if file.is_library_source() && !is_test_file(&file.path) {
        findings.extend(check_paths(file));
    }
    findings
}

fn check_paths(file: &SourceFile) -> Vec<Finding> {
    let does_io = file.path.starts_with("src/io/") || file.path.starts_with("src/bin/");
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for path in named_paths(&tokens(&file.text)) {
        let names = |banned: &[&str]| {
            path.segments
                .windows(banned.len())
                .any(|part| part == banned)
        };
        let mut found = |what| {
            findings.push(Finding {
                path: file.path.clone(),
                line: path.line,
                what,
            })
        };
        // One finding for a path, however many bans it breaks.
        if let Some((banned, instead)) =
            IO_ONLY.iter().find(|(banned, _)| !does_io && names(banned))
        {
            found(format!(
                "`{}` is for `io/` and binaries; {instead}",
                banned.join("::")
            ));
        }
        let unordered = UNORDERED.iter().find(|map| names(&["collections", map]));
        if let Some(map) = unordered
            && !gives_reason(lines.get(path.line - 1).unwrap_or(&""), ORDER_REASON)
        {
            found(format!(
                "the order of `std::collections::{map}` changes from run to run; use one whose order is fixed, or end \
                 the line with `{ORDER_REASON}` and why it cannot leak into behaviour"
            ));
        }
    }
    findings
}

fn check_unsafe(file: &SourceFile) -> Vec<Finding> {
    if !file.is_crate_source()
        || file
            .text
            .lines()
            .any(|line| gives_reason(line, UNSAFE_REASON))
    {
        return Vec::new();
    }
    let uses = all_tokens(&file.text)
        .into_iter()
        .filter(|token| token.text == "unsafe");
    uses.map(|token| Finding {
        path: file.path.clone(),
        line: token.line,
        what: format!(
            "`unsafe` has to be earned: write it without, or add a line `{UNSAFE_REASON}` that names the measurement"
        ),
    })
    .collect()
}

/// Whether a line carries a mark and something after it.
fn gives_reason(line: &str, mark: &str) -> bool {
    line.split_once(mark)
        .is_some_and(|(_, reason)| !reason.trim().is_empty())
}

/// Whether the file holds the tests of the module above it.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&SourceFile::new(path, text))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    /// Each with the ban it breaks, spread over the ways to write it.
    const PLANTED: [&str; 22] = [
        "fn f() { let t = Instant::now(); }",
        "fn f() { let t = std::time::Instant::now(); }",
        "fn f() -> fn() -> Instant { Instant::now }",
        "fn f() { let t = SystemTime::now(); }",
        "use std::time::{Duration, Instant as Clock};",
        "use std::time::SystemTime as Wall;",
        "use rand::thread_rng;",
        "fn f() { rand::thread_rng(); }",
        "fn f() { let x: u8 = rand::rng().random(); }",
        "use rand::{Rng, rng};",
        "use std::fs;",
        "use std::{fs::File, io};",
        "fn f() { std::fs::read(p); }",
        "use std::net::SocketAddr;",
        "use std::{fmt, net};",
        "fn f() { std::thread::sleep(d); }",
        "use std::thread; fn f() { thread::sleep(d); }",
        "use std::thread::{sleep, spawn};",
        "use glommio::LocalExecutor;",
        "fn f() { glommio::executor(); }",
        "use socket2::Socket;",
        "extern crate socket2;",
    ];

    #[test]
    fn each_ban_is_found_in_the_library() {
        for text in PLANTED {
            assert_eq!(
                lines("src/engine/a.rs", &format!("//! A.\n{text}")),
                [2],
                "{text}"
            );
        }
    }

    #[test]
    fn each_ban_is_planted() {
        for (index, (banned, _)) in IO_ONLY.iter().enumerate() {
            let others: Vec<_> = IO_ONLY
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .collect();
            // `std::thread::sleep` is the one that another covers; and nobody sleeps until.
            let covered = others
                .iter()
                .any(|(_, (other, _))| banned.windows(other.len()).any(|part| part == *other));
            let planted = PLANTED.iter().any(|text| {
                named_paths(&tokens(text)).iter().any(|path| {
                    path.segments
                        .windows(banned.len())
                        .any(|part| part == *banned)
                })
            });
            assert!(
                planted || covered || banned == &["thread", "sleep_until"],
                "{banned:?} is never tried"
            );
        }
    }

    #[test]
    fn io_and_binaries_and_tests_may() {
        for text in PLANTED {
            for path in [
                "src/io/a.rs",
                "src/bin/a.rs",
                "src/engine/tests.rs",
                "loadgen/src/a.rs",
                "tests/a.rs",
                "benches/a.rs",
            ] {
                assert_eq!(lines(path, text), [], "{path}: {text}");
            }
            let in_test = format!("#[cfg(test)]\nmod tests {{ {text} }}");
            assert_eq!(lines("src/engine/a.rs", &in_test), [], "{in_test}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_not_found() {
        for text in [
            "//! Instant::now() and std::fs are banned.",
            "const A: &str = \"glommio::executor()\";",
            "use crate::io::glommio_driver;",
            "use std::time::{Duration, Instant};",
            "use std::fmt;",
            "use rand::rngs::SmallRng;",
            "use crate::base::rng::seeded;",
            "use core::net::SocketAddr;",
            "fn f(net: u8, fs: u8) {}",
        ] {
            assert_eq!(lines("src/engine/a.rs", text), [], "{text}");
        }
    }

    #[test]
    fn unordered_maps_need_a_reason_on_their_line() {
        for text in [
            "use std::collections::HashMap;",
            "use std::collections::{BTreeMap, HashSet};",
            "use std::collections::hash_map::Entry;",
            "use std::collections; type M = collections::HashMap<u8, u8>;",
            "use std::collections::HashMap; // order: ",
            "// order: on another line\nuse std::collections::HashMap;",
        ] {
            for path in ["src/engine/a.rs", "src/io/a.rs"] {
                assert_eq!(lines(path, text).len(), 1, "{path}: {text}");
            }
        }
        for text in [
            "use std::collections::HashMap; // order: looked up only, never walked",
            "use std::collections::BTreeMap;",
            "use hashbrown::HashMap;",
        ] {
            assert_eq!(lines("src/engine/a.rs", text), [], "{text}");
        }
        assert_eq!(
            lines("loadgen/src/a.rs", "use std::collections::HashMap;"),
            []
        );
    }

    #[test]
    fn unsafe_needs_a_measurement() {
        for path in ["src/engine/a.rs", "src/io/a.rs", "loadgen/src/a.rs"] {
            assert_eq!(
                lines(
                    path,
                    "//! A.\nfn f() { unsafe { g() } }\nunsafe impl Send for A {}"
                ),
                [2, 3],
                "{path}"
            );
            assert_eq!(lines(path, "// UNSAFE: \nunsafe fn f() {}"), [2], "{path}");
            // Test code is no exception.
            assert_eq!(
                lines(path, "#[cfg(test)]\nmod tests { unsafe fn f() {} }"),
                [2],
                "{path}"
            );
            assert_eq!(
                lines(
                    path,
                    "// UNSAFE: 3 ns of 8 a message, benches/tell.rs\nunsafe fn f() {}"
                ),
                [],
                "{path}"
            );
            assert_eq!(
                lines(path, "#![forbid(unsafe_code)] // no unsafe"),
                [],
                "{path}"
            );
        }
    }
}
