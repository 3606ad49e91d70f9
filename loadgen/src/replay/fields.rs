//! One line into fields, by the rules of replay:
//!
//! * fields are separated by commas; a field that begins with `"` ends at the next `"` that is not doubled, and `""`
//!   inside of it stands for one `"`;
//! * quoted fields do not span lines, so a quote that is still open at the end is an error of the line;
//! * after a closing quote comes a comma or the end of the line;
//! * a `"` inside a field that does not begin with one is an ordinary character.

use std::borrow::Cow;

use super::malformed::Reason;

/// Splits a line into `fields`, which is cleared first.
pub(super) fn split<'a>(line: &'a str, fields: &mut Vec<Cow<'a, str>>) -> Result<(), Reason> {
    fields.clear();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..end]), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(()),
            None => return Err(Reason::TextAfterQuote),
        }
    }
}

/// The field up to its closing quote, and what comes after it.
fn take_quoted(text: &str) -> Result<(Cow<'_, str>, &str), Reason> {
    let mut field = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or(Reason::UnclosedQuote)?;
        let (part, after) = (&rest[..end], &rest[end + 1..]);
        if field.is_empty() {
            field = Cow::Borrowed(part);
        } else {
            field.to_mut().push_str(part);
        }
        match after.strip_prefix('"') {
            None => return Ok((field, after)),
            Some(doubled) => {
                field.to_mut().push('"');
                rest = doubled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Result<Vec<String>, Reason> {
        let mut fields = Vec::new();
        split(line, &mut fields)?;
        Ok(fields.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn commas_separate_and_quotes_protect() {
        // Written with ' for " to be readable.
        let cases: [(&str, &[&str]); 8] = [
            ("", &[""]),
            ("a,,c,", &["a", "", "c", ""]),
            ("'a,b',c", &["a,b", "c"]),
            ("'',x,''", &["", "x", ""]),
            ("'say ''hi''',x", &["say 'hi'", "x"]),
            ("'''',x", &["'", "x"]),
            ("5' pipe,x", &["5' pipe", "x"]),
            (" 'a',x", &[" 'a'", "x"]),
        ];
        for (line, expected) in cases {
            let expected: Vec<String> = expected
                .iter()
                .map(|field| field.replace('\'', "\""))
                .collect();
            assert_eq!(fields(&line.replace('\'', "\"")), Ok(expected), "{line}");
        }
    }

    #[test]
    fn errors_are_named() {
        for line in ["a,'b", "'", "a,'b'',c", "'''"] {
            assert_eq!(
                fields(&line.replace('\'', "\"")),
                Err(Reason::UnclosedQuote),
                "{line}"
            );
        }
        for line in ["'a'b,c", "'a' ,c"] {
            assert_eq!(
                fields(&line.replace('\'', "\"")),
                Err(Reason::TextAfterQuote),
                "{line}"
            );
        }
    }
}
