//! Enough of Rust's grammar to see which paths a file names, leaving out comments, strings and test code.

/// A word or a sign of Rust source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its text; `::` is one sign, every other sign is one character, and literals are `""`.
    pub text: String,
    /// The line it stands on, from 1.
    pub line: usize,
}

/// A path as written or imported, with the groups of a `use` taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its segments; a renaming import ends in `as` and the new name, a glob in `*`.
    pub segments: Vec<String>,
    /// The line its last segment stands on.
    pub line: usize,
    /// The modules within the file that it stands in.
    pub inside: Vec<String>,
    /// Whether it is the name of a macro that is called.
    pub calls_macro: bool,
}

/// The tokens of a file, without its test code.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    without_tests(all_tokens(text))
}

/// The tokens of a file, its test code included.
pub(crate) fn all_tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let rest = &chars[at..];
        let token = match rest {
            ['/', '/', ..] => {
                at += rest.iter().take_while(|c| **c != '\n').count();
                None
            }
            ['/', '*', ..] => {
                at += block_comment_length(rest);
                None
            }
            ['"', ..] | ['b' | 'c', '"', ..] => {
                at += string_length(rest);
                Some("\"\"".to_owned())
            }
            _ if raw_string_length(rest).is_some() => {
                at += raw_string_length(rest).unwrap_or(1);
                Some("\"\"".to_owned())
            }
            ['\'', ..] | ['b', '\'', ..] => {
                let (length, is_literal) = quote_length(rest);
                at += length;
                is_literal.then(|| "\"\"".to_owned())
            }
            [':', ':', ..] => {
                at += 2;
                Some("::".to_owned())
            }
            [first, ..] if first.is_alphanumeric() || *first == '_' => {
                // A raw identifier is its name.
                let skipped = if let ['r', '#', ..] = rest { 2 } else { 0 };
                let word: String = rest[skipped..]
                    .iter()
                    .take_while(|c| c.is_alphanumeric() || **c == '_')
                    .collect();
                at += skipped + word.chars().count();
                Some(word)
            }
            [first, ..] => {
                at += 1;
                (!first.is_whitespace()).then(|| first.to_string())
            }
            [] => None,
        };
        tokens.extend(token.map(|text| Token { text, line }));
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Every path of two segments or more, and every import.
pub(crate) fn named_paths(tokens: &[Token]) -> Vec<NamedPath> {
    let mut paths = Vec::new();
    // The modules the walk is inside of, with the depth of braces at which each ends.
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inside.last().is_some_and(|(_, end)| *end == depth) {
                    inside.pop();
                }
            }
            "mod" if text_at(tokens, at + 2) == "{" => {
                inside.push((tokens[at + 1].text.clone(), depth))
            }
            _ => {}
        }
        let after = |skip: usize| Some(at + skip);
        let start = match (
            tokens[at].text.as_str(),
            text_at(tokens, at + 1),
            text_at(tokens, at + 2),
        ) {
            // A `use<..>` is a bound, not an import.
            ("use", "::", _) => after(2),
            ("use", next, _) if next != "<" => after(1),
            ("extern", "crate", _) => after(2),
            (word, "::", _)
                if is_word(word)
                    && (at == 0 || tokens[at - 1].text != "::" || !continues(tokens, at - 1)) =>
            {
                after(0)
            }
            _ => None,
        };
        at = match start {
            Some(start) => {
                let modules: Vec<String> = inside.iter().map(|(name, _)| name.clone()).collect();
                read_tree(tokens, start, &[], &modules, &mut paths).max(at + 1)
            }
            None => at + 1,
        };
    }
    paths
}

/// Reads one path or use-tree from `at`, adds what it names, and says where it ends.
fn read_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    inside: &[String],
    paths: &mut Vec<NamedPath>,
) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match text_at(tokens, at) {
            "{" => {
                at += 1;
                while !["}", ""].contains(&text_at(tokens, at)) {
                    let next = read_tree(tokens, at, &segments, inside, paths);
                    at = if text_at(tokens, next) == "," {
                        next + 1
                    } else {
                        next.max(at + 1)
                    };
                }
                return at + 1;
            }
            word if is_word(word) || word == "*" => {
                segments.push(word.to_owned());
                line = tokens[at].line;
                at += 1;
            }
            _ => break,
        }
        match text_at(tokens, at) {
            "::" => at += 1,
            "as" => {
                segments.extend(["as".to_owned(), text_at(tokens, at + 1).to_owned()]);
                at += 2;
                break;
            }
            _ => break,
        }
    }
    // `a::{self}` names `a`.
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    let calls_macro = text_at(tokens, at) == "!";
    paths.push(NamedPath {
        segments,
        line,
        inside: inside.to_vec(),
        calls_macro,
    });
    at
}

/// Whether the `::` at `at` follows a path, rather than starting one.
fn continues(tokens: &[Token], at: usize) -> bool {
    at > 0 && (is_word(&tokens[at - 1].text) || tokens[at - 1].text == ">")
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn text_at(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

/// Leaves out what is compiled for tests only.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if starts_with(
            &tokens[at..],
            &["#", "!", "[", "cfg", "(", "test", ")", "]"],
        ) {
            return Vec::new();
        }
        let is_test = [
            &["#", "[", "cfg", "(", "test", ")", "]"][..],
            &["#", "[", "test", "]"],
        ]
        .iter()
        .any(|attribute| starts_with(&tokens[at..], attribute));
        if is_test {
            at = end_of_item(&tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn starts_with(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len()
        && tokens
            .iter()
            .zip(texts)
            .all(|(token, text)| token.text == *text)
}

/// Where the item ends whose first attribute is at `at`.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while text_at(tokens, at) == "#" {
        at = end_of_group(tokens, at + 1);
    }
    // An import ends after its groups; a field or variant ends at a comma.
    let first = text_at(tokens, at);
    let is_import = first == "use" || first == "pub" && text_at(tokens, at + 1) == "use";
    let items = [
        "fn", "mod", "impl", "struct", "enum", "const", "static", "type", "trait", "pub", "unsafe",
        "async",
    ];
    let is_field = !is_import && !items.contains(&first) && text_at(tokens, at + 1) == ":";
    while at < tokens.len() {
        match text_at(tokens, at) {
            ";" => return at + 1,
            "," if is_field => return at + 1,
            "}" => return at,
            "{" if !is_import => return end_of_group(tokens, at),
            "{" | "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Where the bracket closes that opens at `at`.
fn end_of_group(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match text_at(tokens, at) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a block comment; they nest.
fn block_comment_length(chars: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string with escapes, its prefix included.
fn string_length(chars: &[char]) -> usize {
    let mut at = if chars[0] == '"' { 1 } else { 2 };
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The length of a raw string such as `r#".."#`, if one starts here.
fn raw_string_length(chars: &[char]) -> Option<usize> {
    let prefix = match chars {
        ['r', ..] => 1,
        ['b' | 'c', 'r', ..] => 2,
        _ => return None,
    };
    let hashes = chars[prefix..].iter().take_while(|c| **c == '#').count();
    let open = prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |at: &usize| {
        chars[*at] == '"'
            && chars.len() > at + hashes
            && chars[at + 1..=at + hashes].iter().all(|c| *c == '#')
    };
    let close = (open + 1..chars.len()).find(closes);
    Some(close.map_or(chars.len(), |close| close + 1 + hashes))
}

/// The length of a character literal or of a lifetime, and whether it is the literal.
fn quote_length(chars: &[char]) -> (usize, bool) {
    let open = if chars[0] == 'b' { 2 } else { 1 };
    match &chars[open..] {
        ['\\', _, rest @ ..] => (
            open + 2 + rest.iter().take_while(|c| **c != '\'').count() + 1,
            true,
        ),
        [_, '\'', ..] => (open + 2, true),
        rest => (
            open + rest
                .iter()
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .count(),
            false,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    fn paths(text: &str) -> Vec<String> {
        named_paths(&tokens(text))
            .into_iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        let source = r##"
            //! a::b
            /* c::d /* e::f */ g */ let x = "h::i \" j"; let y = b"k"; let z = r#"l " m"#;
            let w = '"'; let v = '\''; let u = '\u{1F600}'; fn f<'a>(s: &'a str) {} let r#type = b'n';
        "##;
        let words = words(source);
        for gone in ["a", "c", "e", "g", "h", "j", "k", "l", "m", "n"] {
            assert!(
                !words.iter().any(|word| word == gone),
                "{gone} in {words:?}"
            );
        }
        for kept in ["x", "y", "z", "w", "v", "u", "str", "type"] {
            assert!(
                words.iter().any(|word| word == kept),
                "{kept} not in {words:?}"
            );
        }
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let source = "/* 1\n2 */ a\n\"3\n4\"\nb r\"5\n6\" c\n// 7\nd";
        let lines: Vec<(String, usize)> = tokens(source)
            .into_iter()
            .map(|token| (token.text, token.line))
            .collect();
        let of = |word: &str| {
            lines
                .iter()
                .find(|(text, _)| text == word)
                .map(|(_, line)| *line)
        };
        assert_eq!(
            (of("a"), of("b"), of("c"), of("d")),
            (Some(2), Some(5), Some(6), Some(8))
        );
    }

    #[test]
    fn imports_are_taken_apart() {
        assert_eq!(
            paths(
                "use crate::{a, b::{self, c as d}, e::*};\npub use ::std::fs;\nuse solo;\nextern crate old;"
            ),
            [
                "crate::a",
                "crate::b",
                "crate::b::c::as::d",
                "crate::e::*",
                "std::fs",
                "solo",
                "old"
            ]
        );
    }

    #[test]
    fn paths_in_code_are_seen() {
        assert_eq!(
            paths(
                "fn f(x: super::g::H) -> Vec<crate::i::J> { ::std::fs::read(k::l::<m::N>()); x.o(); p!(q::r) }"
            ),
            [
                "super::g::H",
                "crate::i::J",
                "std::fs::read",
                "k::l",
                "m::N",
                "q::r"
            ]
        );
    }

    #[test]
    fn the_modules_around_a_path_are_known() {
        let source = "mod a { fn f() { super::x::y(); } mod b { use super::z; } } use super::w;";
        let inside: Vec<Vec<String>> = named_paths(&tokens(source))
            .into_iter()
            .map(|path| path.inside)
            .collect();
        assert_eq!(
            inside,
            [vec!["a".to_owned()], vec!["a".into(), "b".into()], vec![]]
        );
    }

    #[test]
    fn test_code_is_left_out_and_nothing_else() {
        let source = "
            use a::b;
            #[cfg(test)] use c::{d, e};
            struct S { #[cfg(test)] f: g::H<i::J>, k: l::M }
            #[cfg(test)] #[allow(dead_code)] fn n() -> [u8; 3] { o::p() }
            #[cfg(test)] mod tests { use super::*; mod inner { use q::r; } }
            #[cfg(target_os = \"linux\")] mod s { use t::u; }
            #[cfg(not(test))] use v::w;
            #[cfg(test)] mod elsewhere;
            use x::y;
        ";
        assert_eq!(paths(source), ["a::b", "l::M", "t::u", "v::w", "x::y"]);
        assert!(tokens("#![cfg(test)]\nuse a::b;").is_empty());
    }
}
