//! The pinning flags, for a service to flatten into its own command line.

use super::settings::units::{parse_bytes, parse_duration};
use super::settings::{CoreSelection, ParkPolicy, Settings};
use clap::Args;
use std::time::Duration;

/// Set on each flag: a heading set for the whole group would also cover what the service declares after it.
const HEADING: &str = "Core pinning";

/// Which CPUs a runtime takes, and how much it may queue: flags that override [`Settings`] where they are given.
///
/// ```
/// use clap::Parser;
/// use corecast::node::pinning_args::PinningArgs;
/// use corecast::node::settings::{CoreSelection, Settings};
///
/// #[derive(Parser)]
/// struct ServiceArgs {
///     /// Where the service listens.
///     #[arg(long, default_value = "localhost:7000")]
///     listen: String,
///     #[command(flatten)]
///     pinning: PinningArgs,
/// }
///
/// let args = ServiceArgs::parse_from(["service", "--cores", "0,2-3", "--budget-bytes", "512M"]);
/// let mut settings = Settings::default();
/// args.pinning.apply(&mut settings);
///
/// assert_eq!(settings.cores, CoreSelection::List(vec![0, 2, 3]));
/// assert_eq!(settings.budget_bytes, 512 << 20);
/// assert_eq!(settings.mailbox, Settings::default().mailbox); // not given
/// ```
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(id = "core_pinning")]
pub struct PinningArgs {
    /// CPUs to run on, as numbers and ranges such as `0,2-5`, or `all` [default: all that this process may run on]
    ///
    /// Each runs one data core; from four CPUs up the last is left to the coordination core.
    #[arg(long, help_heading = HEADING, value_name = "CPUS", conflicts_with_all = ["core_count", "numa_node"])]
    pub cores: Option<CoreSelection>,

    /// How many CPUs to run on, the lowest numbers first
    #[arg(long, help_heading = HEADING, value_name = "N", conflicts_with = "numa_node")]
    pub core_count: Option<usize>,

    /// NUMA node on whose CPUs to run
    #[arg(long, help_heading = HEADING, value_name = "NODE")]
    pub numa_node: Option<usize>,

    /// CPU of the coordination core [default: the last one, to itself from four CPUs up]
    #[arg(long, help_heading = HEADING, value_name = "CPU")]
    pub coordination_core: Option<usize>,

    /// How long an idle core polls before it parks, such as `50us` [default: 50us, 0 where cores share a CPU]
    #[arg(long, help_heading = HEADING, value_name = "DURATION", value_parser = parse_duration)]
    pub spin: Option<Duration>,

    /// Let idle cores sleep in the kernel until something arrives (the default)
    #[arg(long, help_heading = HEADING, conflicts_with = "no_park")]
    pub park: bool,

    /// Let idle cores poll for ever: no message pays a wake, and their CPUs are always busy
    #[arg(long, help_heading = HEADING)]
    pub no_park: bool,

    /// Messages that may be queued on each core [default: 1000000]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    pub budget_messages: Option<usize>,

    /// Bytes of messages that may be queued on each core, such as `512M` [default: 1G]
    #[arg(long, help_heading = HEADING, value_name = "BYTES", value_parser = parse_bytes)]
    pub budget_bytes: Option<usize>,

    /// Messages a mailbox holds, where the actor sets no capacity of its own [default: 1000]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    pub mailbox: Option<usize>,

    /// Batches a lane from core to core holds, for each class of traffic [default: 128]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    pub lane_batches: Option<usize>,

    /// Messages in a batch from core to core, at most [default: 64]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    pub batch_messages: Option<usize>,

    /// Messages that wait on a core for another core whose lane is full [default: 65536]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    pub outbox_messages: Option<usize>,

    /// Registered I/O memory of each core, such as `1M`; it counts as locked memory [default: 64K]
    #[arg(long, help_heading = HEADING, value_name = "BYTES", value_parser = parse_bytes)]
    pub io_memory: Option<usize>,
}

impl PinningArgs {
    /// Overrides the settings for which a flag was given, and leaves the others as they are.
    pub fn apply(&self, settings: &mut Settings) {
        // The parser refuses more than one of the three; a caller that fills the fields gets the most specific one.
        if let Some(node) = self.numa_node {
            settings.cores = CoreSelection::NumaNode(node);
        }
        if let Some(count) = self.core_count {
            settings.cores = CoreSelection::Count(count);
        }
        if let Some(cores) = &self.cores {
            settings.cores = cores.clone();
        }
        if self.park {
            settings.park = ParkPolicy::Park;
        }
        if self.no_park {
            settings.park = ParkPolicy::Never;
        }
        settings.coordination = self.coordination_core.or(settings.coordination);
        settings.spin = self.spin.or(settings.spin);
        for (given, setting) in [
            (self.budget_messages, &mut settings.budget_messages),
            (self.budget_bytes, &mut settings.budget_bytes),
            (self.mailbox, &mut settings.mailbox),
            (self.lane_batches, &mut settings.lane_batches),
            (self.batch_messages, &mut settings.batch_messages),
            (self.outbox_messages, &mut settings.outbox_messages),
            (self.io_memory, &mut settings.io_memory_bytes),
        ] {
            *setting = given.unwrap_or(*setting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    /// A service's command line around ours.
    #[derive(Debug, Parser)]
    struct Service {
        /// Comes before.
        #[arg(long)]
        before: bool,
        #[command(flatten)]
        pinning: PinningArgs,
        /// Comes after.
        #[arg(long)]
        after: bool,
    }

    fn parse(flags: &[&str]) -> Result<Settings, clap::Error> {
        let service = Service::try_parse_from([&["service"], flags].concat())?;
        let mut settings = Settings::default();
        service.pinning.apply(&mut settings);
        Ok(settings)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Service::command().debug_assert();
    }

    #[test]
    fn without_flags_nothing_changes() {
        assert_eq!(parse(&[]).unwrap(), Settings::default());
        // Not only the defaults survive: whatever was set before does.
        let set = Settings {
            cores: CoreSelection::Count(2),
            coordination: Some(1),
            spin: Some(Duration::from_micros(7)),
            park: ParkPolicy::Never,
            mailbox: 17,
            ..Settings::default()
        };
        let mut settings = set.clone();
        PinningArgs::default().apply(&mut settings);
        assert_eq!(settings, set);
    }

    #[test]
    fn each_flag_sets_its_setting_and_nothing_else() {
        type Change = fn(&mut Settings);
        let cases: [(&[&str], Change); 18] = [
            (&["--cores", "0,2-5"], |s| {
                s.cores = CoreSelection::List(vec![0, 2, 3, 4, 5])
            }),
            (&["--cores", "4"], |s| {
                s.cores = CoreSelection::List(vec![4])
            }),
            (&["--cores", "all"], |s| s.cores = CoreSelection::All),
            (&["--core-count", "4"], |s| {
                s.cores = CoreSelection::Count(4)
            }),
            (&["--numa-node", "1"], |s| {
                s.cores = CoreSelection::NumaNode(1)
            }),
            (&["--coordination-core", "3"], |s| s.coordination = Some(3)),
            (&["--spin", "20us"], |s| {
                s.spin = Some(Duration::from_micros(20))
            }),
            (&["--spin", "0"], |s| s.spin = Some(Duration::ZERO)),
            (&["--park"], |s| s.park = ParkPolicy::Park),
            (&["--no-park"], |s| s.park = ParkPolicy::Never),
            (&["--budget-messages", "5"], |s| s.budget_messages = 5),
            (&["--budget-bytes", "512M"], |s| s.budget_bytes = 512 << 20),
            (&["--mailbox", "5"], |s| s.mailbox = 5),
            (&["--lane-batches", "5"], |s| s.lane_batches = 5),
            (&["--batch-messages", "5"], |s| s.batch_messages = 5),
            (&["--outbox-messages", "5"], |s| s.outbox_messages = 5),
            (&["--io-memory", "1M"], |s| s.io_memory_bytes = 1 << 20),
            (&["--before", "--mailbox=6", "--after"], |s| s.mailbox = 6),
        ];
        for (flags, change) in cases {
            let mut expected = Settings::default();
            change(&mut expected);
            assert_eq!(parse(flags).unwrap(), expected, "{flags:?}");
        }
    }

    #[test]
    fn park_undoes_an_earlier_setting() {
        let mut settings = Settings {
            park: ParkPolicy::Never,
            ..Settings::default()
        };
        PinningArgs {
            park: true,
            ..PinningArgs::default()
        }
        .apply(&mut settings);
        assert_eq!(settings.park, ParkPolicy::Park);
    }

    #[test]
    fn contradicting_flags_are_refused() {
        for flags in [
            &["--cores", "0", "--core-count", "1"][..],
            &["--cores", "0", "--numa-node", "0"],
            &["--core-count", "1", "--numa-node", "0"],
            &["--park", "--no-park"],
            &["--no-park", "--park"],
        ] {
            assert_eq!(
                parse(flags).unwrap_err().kind(),
                ErrorKind::ArgumentConflict,
                "{flags:?}"
            );
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_the_way_to_write_it() {
        for (flags, advice) in [
            (["--cores", "0,x"], "`0,2-5`"),
            (["--spin", "50"], "`50us`"),
            (["--budget-bytes", "much"], "`512M`"),
        ] {
            let error = parse(&flags).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{flags:?}");
            assert!(error.to_string().contains(advice), "{error}");
        }
    }

    /// The flags stand under their heading, and the service's own flags, also those declared after, do not.
    #[test]
    fn the_heading_covers_these_flags_only() {
        let command = Service::command();
        let (ours, theirs): (Vec<_>, Vec<_>) = command
            .get_arguments()
            .partition(|arg| arg.get_help_heading() == Some(HEADING));
        let names = |args: &[&clap::Arg]| -> Vec<String> {
            args.iter().map(|arg| arg.get_id().to_string()).collect()
        };
        assert_eq!(names(&theirs), ["before", "after"]);
        assert_eq!(ours.len(), 14, "{:?}", names(&ours));
        assert!(ours.iter().all(|arg| arg.get_help().is_some()));
    }

    /// The help repeats the defaults in prose; they must be the real ones.
    #[test]
    fn the_help_tells_the_real_defaults() {
        let settings = Settings::default();
        let help = Service::command().render_help().to_string();
        for (flag, default) in [
            ("--budget-messages", settings.budget_messages.to_string()),
            (
                "--budget-bytes",
                format!("{}G", settings.budget_bytes >> 30),
            ),
            ("--mailbox", settings.mailbox.to_string()),
            ("--lane-batches", settings.lane_batches.to_string()),
            ("--batch-messages", settings.batch_messages.to_string()),
            ("--outbox-messages", settings.outbox_messages.to_string()),
            (
                "--io-memory",
                format!("{}K", settings.io_memory_bytes >> 10),
            ),
            (
                "--spin",
                format!(
                    "{}us, 0 where cores share a CPU",
                    super::super::settings::DEFAULT_SPIN.as_micros()
                ),
            ),
        ] {
            let from_flag = &help[help
                .find(&format!("{flag} "))
                .expect("the flag is in the help")..];
            let told = from_flag
                .split_once("[default: ")
                .expect("a default")
                .1
                .split_once(']')
                .expect("its end")
                .0;
            assert_eq!(
                told.split_whitespace().collect::<Vec<_>>().join(" "),
                default,
                "{flag}"
            );
        }
    }
}
