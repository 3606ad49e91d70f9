//! CPU lists in the notation of the kernel: `0-3,8` are the CPUs 0, 1, 2, 3 and 8.

use std::fmt;

/// The largest CPU number a list may name: Linux is not built for more CPUs than this.
pub const MAX_CPU: usize = 8_191;

/// Reads a list such as `0-3,8`, in the order given; a CPU named twice is there twice. An empty text is an empty list,
/// as the kernel writes it for a NUMA node without CPUs.
///
/// # Errors
///
/// The part of the list that is not a number or an ascending range of numbers up to [`MAX_CPU`].
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    let mut cpus = Vec::new();
    if text.trim().is_empty() {
        return Ok(cpus);
    }
    for part in text.split(',').map(str::trim) {
        let fail = |why| CpuListError {
            part: part.to_owned(),
            why,
        };
        let number = |text: &str| -> Result<usize, CpuListError> {
            let digits = text.trim();
            // `parse` alone would take a sign.
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(fail("is not a CPU number"));
            }
            match digits.parse() {
                Ok(cpu) if cpu <= MAX_CPU => Ok(cpu),
                _ => Err(fail("is above the largest CPU number, 8191")),
            }
        };
        match part.split_once('-') {
            None => cpus.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(fail("runs backwards"));
                }
                cpus.extend(first..=last);
            }
        }
    }
    Ok(cpus)
}

/// Why a text is no CPU list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` {why}; write CPUs as numbers and ranges, such as `0,2-5`")]
pub struct CpuListError {
    part: String,
    why: &'static str,
}

/// Shows CPUs as a list with ranges, `none` when there are none. Neighbours in the slice form a range, so that the order
/// is kept and the text reads back as the same CPUs.
#[derive(Clone, Copy, Debug)]
pub struct CpuList<'a>(pub &'a [usize]);

impl fmt::Display for CpuList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match run {
                [only] => write!(f, "{only}")?,
                [first, .., last] => write!(f, "{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read() {
        for (text, cpus) in [
            ("0", vec![0]),
            ("0-3,8", vec![0, 1, 2, 3, 8]),
            (" 0 , 2 - 3 \n", vec![0, 2, 3]),
            ("5,1,1", vec![5, 1, 1]),
            ("7-7", vec![7]),
            ("", vec![]),
            ("\n", vec![]),
        ] {
            assert_eq!(parse_cpu_list(text), Ok(cpus), "{text:?}");
        }
    }

    #[test]
    fn the_bad_part_is_named() {
        for (text, part, why) in [
            ("0,x,2", "x", "is not a CPU number"),
            ("0,,2", "", "is not a CPU number"),
            ("1,-3", "-3", "is not a CPU number"),
            ("+1", "+1", "is not a CPU number"),
            ("3-", "3-", "is not a CPU number"),
            ("0-3-5", "0-3-5", "is not a CPU number"),
            ("4-2", "4-2", "runs backwards"),
            ("0-8192", "0-8192", "is above the largest CPU number, 8191"),
            (
                "99999999999999999999999",
                "99999999999999999999999",
                "is above the largest CPU number, 8191",
            ),
        ] {
            let error = parse_cpu_list(text).unwrap_err();
            assert_eq!((error.part.as_str(), error.why), (part, why), "{text:?}");
            assert!(error.to_string().contains("such as `0,2-5`"), "{error}");
        }
    }

    #[test]
    fn the_limit_in_the_message_is_the_limit() {
        let error = parse_cpu_list("8192").unwrap_err();
        assert!(error.to_string().contains(&MAX_CPU.to_string()), "{error}");
        assert_eq!(parse_cpu_list("8191"), Ok(vec![MAX_CPU]));
    }

    #[test]
    fn no_cpus_are_shown_as_none() {
        assert_eq!(CpuList(&[]).to_string(), "none");
        assert_eq!(CpuList(&[0, 1, 2, 3, 8, 6]).to_string(), "0-3,8,6");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(cpus in prop::collection::vec(0..=MAX_CPU, 1..40)) {
            prop_assert_eq!(parse_cpu_list(&CpuList(&cpus).to_string()), Ok(cpus));
        }
    }
}
