//! The shape of source files: each says what it is, none is long, and `mod.rs` only lists.

use crate::Finding;
use crate::files::SourceFile;
use crate::rust_source::{Token, tokens};

/// A file longer than this is about more than one thing.
const MAX_LINES: usize = 600;

/// Finds what is wrong with the shape of one source file.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    if !file.is_crate_source() {
        return Vec::new();
    }
    let finding = |line, what| Finding {
        path: file.path.clone(),
        line,
        what,
    };
    let mut findings = Vec::new();
    if !file.text.starts_with("//! ") {
        findings.push(finding(
            1,
            "the first line must be `//!` and say what the file is".to_owned(),
        ));
    }
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        let what = format!(
            "{lines} lines are too long for one thing (at most {MAX_LINES}); split it by what it is about"
        );
        findings.push(finding(MAX_LINES + 1, what));
    }
    if file.path.ends_with("/mod.rs")
        && let Some(line) = first_logic(&tokens(&file.text))
    {
        let what = "`mod.rs` only lists: documentation, attributes, `mod x;` and `pub use`; move this into a file named for it";
        findings.push(finding(line, what.to_owned()));
    }
    findings
}

/// The line of the first thing that is not an attribute, a `mod x;` or a `pub use`.
fn first_logic(tokens: &[Token]) -> Option<usize> {
    let mut rest: Vec<&Token> = tokens.iter().rev().collect();
    // The parts come from the end of `rest`.
    while let Some(first) = rest.pop() {
        let mut word = first;
        let mut public = false;
        if word.text == "#" {
            skip_group(&mut rest);
            continue;
        }
        if word.text == "pub" {
            public = true;
            if rest.last().is_some_and(|token| token.text == "(") {
                skip_group(&mut rest);
            }
            word = rest.pop()?;
        }
        let is_listing = match word.text.as_str() {
            "mod" => rest.pop().is_some() && rest.last().is_some_and(|token| token.text == ";"),
            "use" => public,
            _ => false,
        };
        if !is_listing {
            return Some(first.line);
        }
        while rest.pop().is_some_and(|token| token.text != ";") {}
    }
    None
}

/// Skips up to the end of the next bracket.
fn skip_group(rest: &mut Vec<&Token>) {
    let mut depth = 0;
    while let Some(token) = rest.pop() {
        match token.text.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            // The `!` of an inner attribute stands before its bracket.
            _ if depth == 0 => continue,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
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

    #[test]
    fn a_file_says_what_it_is() {
        for path in ["src/engine/a.rs", "loadgen/src/a.rs", "src/lib.rs"] {
            assert_eq!(lines(path, "fn f() {}"), [1], "{path}");
            assert_eq!(lines(path, "\n//! Late."), [1], "{path}");
            assert_eq!(lines(path, "//!\nfn f() {}"), [1], "{path}");
            assert_eq!(lines(path, "//! A."), [], "{path}");
        }
        assert_eq!(lines("tests/a.rs", "fn f() {}"), []);
        assert_eq!(lines("src/readme.md", "text"), []);
    }

    #[test]
    fn a_long_file_is_found() {
        let file = |lines: usize| format!("//! A.\n{}", "// more\n".repeat(lines - 1));
        assert_eq!(lines("src/engine/a.rs", &file(600)), []);
        assert_eq!(lines("src/engine/a.rs", &file(601)), [601]);
    }

    #[test]
    fn mod_files_only_list() {
        let listing = "//! A.\n#![allow(x)]\n\n/// B.\npub mod b;\n#[cfg(target_os = \"linux\")]\nmod c;\npub(crate) mod d;\n\
                       pub use b::{E, f::G};\npub(crate) use c::*;\n#[cfg(test)]\nmod tests { fn f() {} }\n";
        assert_eq!(lines("src/engine/mod.rs", listing), []);
        for logic in [
            "fn f() {}",
            "pub fn f() {}",
            "pub struct S;",
            "use b::E;",
            "const C: u8 = 1;",
            "mod inline { fn f() {} }",
            "macro_rules! m { () => {} }",
            "impl S {}",
            "b::macro_call!();",
        ] {
            assert_eq!(
                lines("src/engine/mod.rs", &format!("{listing}{logic}")),
                [13],
                "{logic}"
            );
            assert_eq!(
                lines("src/engine/a.rs", &format!("{listing}{logic}")),
                [],
                "{logic}"
            );
        }
    }
}
