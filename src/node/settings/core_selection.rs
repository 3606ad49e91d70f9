//! Which CPUs a runtime takes, and how that is written.

use crate::base::cpu_list::{CpuList, CpuListError, parse_cpu_list};
use std::fmt;
use std::str::FromStr;

/// Which of the CPUs that the process may run on the runtime takes.
///
/// Written `all`, as a list of CPUs with ranges (`0,2-5`), `count:4` or `numa:1`. A number alone is a CPU, as in
/// `taskset`: `4` is CPU 4, not four CPUs.
///
/// ```
/// use corecast::node::settings::CoreSelection;
///
/// assert_eq!("0,2-4".parse(), Ok(CoreSelection::List(vec![0, 2, 3, 4])));
/// assert_eq!("4".parse(), Ok(CoreSelection::List(vec![4])));
/// assert_eq!("count:4".parse(), Ok(CoreSelection::Count(4)));
/// assert_eq!(CoreSelection::List(vec![0, 2, 3, 4]).to_string(), "0,2-4");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CoreSelection {
    /// Every CPU the process may run on.
    #[default]
    All,
    /// That many CPUs, the lowest numbers first.
    Count(usize),
    /// These CPUs; their order is the order of the cores.
    List(Vec<usize>),
    /// The CPUs of one NUMA node that the process may run on.
    NumaNode(usize),
}

impl FromStr for CoreSelection {
    type Err = CoreSelectionError;

    fn from_str(text: &str) -> Result<CoreSelection, CoreSelectionError> {
        let text = text.trim();
        let number = |digits: &str| {
            digits
                .parse()
                .map_err(|_| CoreSelectionError::Number(text.to_owned()))
        };
        if text.is_empty() {
            Err(CoreSelectionError::Empty)
        } else if text.eq_ignore_ascii_case("all") {
            Ok(CoreSelection::All)
        } else if let Some(count) = text.strip_prefix("count:") {
            number(count).map(CoreSelection::Count)
        } else if let Some(node) = text.strip_prefix("numa:") {
            number(node).map(CoreSelection::NumaNode)
        } else {
            Ok(CoreSelection::List(parse_cpu_list(text)?))
        }
    }
}

impl fmt::Display for CoreSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreSelection::All => f.write_str("all"),
            CoreSelection::Count(count) => write!(f, "count:{count}"),
            CoreSelection::List(cpus) => CpuList(cpus).fmt(f),
            CoreSelection::NumaNode(node) => write!(f, "numa:{node}"),
        }
    }
}

/// Why a text selects no CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreSelectionError {
    /// There is nothing in it.
    #[error("the selection of CPUs is empty; write `all`, or CPUs such as `0,2-5`")]
    Empty,
    /// What follows `count:` or `numa:` is not a number.
    #[error("`{0}` has no number after the colon; write for example `count:4` or `numa:1`")]
    Number(String),
    /// It is neither a keyword nor a list.
    #[error("{0}, or `all`")]
    List(#[from] CpuListError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selections_are_read() {
        for (text, selection) in [
            ("all", CoreSelection::All),
            (" ALL ", CoreSelection::All),
            ("0", CoreSelection::List(vec![0])),
            ("0,2-5", CoreSelection::List(vec![0, 2, 3, 4, 5])),
            ("3,1", CoreSelection::List(vec![3, 1])),
            ("count:4", CoreSelection::Count(4)),
            ("numa:1", CoreSelection::NumaNode(1)),
        ] {
            assert_eq!(text.parse(), Ok(selection), "{text:?}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, expected) in [
            (
                "",
                "the selection of CPUs is empty; write `all`, or CPUs such as `0,2-5`",
            ),
            (
                "count:",
                "`count:` has no number after the colon; write for example `count:4` or `numa:1`",
            ),
            (
                "numa:-1",
                "`numa:-1` has no number after the colon; write for example `count:4` or `numa:1`",
            ),
            (
                "some",
                "`some` is not a CPU number; write CPUs as numbers and ranges, such as `0,2-5`, or `all`",
            ),
            (
                "5-2",
                "`5-2` runs backwards; write CPUs as numbers and ranges, such as `0,2-5`, or `all`",
            ),
        ] {
            let error = text.parse::<CoreSelection>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(
            selection in prop_oneof![
                Just(CoreSelection::All),
                any::<usize>().prop_map(CoreSelection::Count),
                any::<usize>().prop_map(CoreSelection::NumaNode),
                prop::collection::vec(0..500_usize, 1..20).prop_map(CoreSelection::List),
            ]
        ) {
            prop_assert_eq!(selection.to_string().parse(), Ok(selection));
        }
    }
}
