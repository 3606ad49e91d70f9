//! The command line as users meet it: what flags amount to, and what is refused with which words.

use std::time::Duration;

use clap::CommandFactory as _;
use corecast::node::cluster::expert::Profile;
use loadgen::arrivals::Arrivals;
use loadgen::keys::KeyDistribution;
use loadgen::options::{Cli, Drivers, FaultKind, Job, Pacing, PhaseSpec, Rate, Traffic, Who, Work};

fn job(line: &str) -> Result<Job, String> {
    let words = std::iter::once("loadgen").chain(line.split_whitespace());
    Cli::job(words).map_err(|error| error.to_string())
}

fn work(line: &str) -> Work {
    job(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .work
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn no_arguments_are_the_main_job_of_twenty_seconds() {
    let Work::Load(load) = work("") else {
        panic!("not a load")
    };
    assert_eq!(
        (load.name, load.entities, load.traffic.ask_percent),
        ("main", 1_000_000, 20)
    );
    assert_eq!(load.keys, KeyDistribution::Zipf { theta: 0.99 });
    let pacings: Vec<_> = load.phases.iter().map(|phase| phase.pacing).collect();
    let open = Pacing::Open {
        rate: Rate::OfPeak(0.5),
        arrivals: Arrivals::Poisson,
    };
    assert_eq!(pacings, [Pacing::Closed { in_flight: 256 }, open]);
    let phases = load
        .phases
        .iter()
        .map(|phase| phase.warm_up + phase.duration);
    let total = load.hiccups + phases.sum::<Duration>();
    assert_eq!(
        (load.hiccups, total),
        (Duration::from_secs(2), Duration::from_secs(20))
    );
}

#[test]
fn flags_reach_the_job() {
    let Work::Load(load) = work(
        "entities --entities 10 --keys uniform --mix 50% --payload 64 --rate 1.5M --arrivals fixed --drivers \
         threads:3 --warmup 500ms --duration 3 --seed 9",
    ) else {
        panic!("not a load")
    };
    assert_eq!(
        (load.name, load.entities, load.keys),
        ("entities", 10, KeyDistribution::Uniform)
    );
    assert_eq!(
        load.traffic,
        Traffic {
            payload_bytes: 64,
            ask_percent: 50
        }
    );
    assert_eq!(load.drivers, Drivers::Threads(3));
    let pacing = Pacing::Open {
        rate: Rate::PerSecond(1.5e6),
        arrivals: Arrivals::Fixed,
    };
    let (warm_up, duration) = (Duration::from_millis(500), Duration::from_secs(3));
    assert_eq!(
        load.phases,
        [PhaseSpec {
            name: "open",
            pacing,
            warm_up,
            duration
        }]
    );
    assert_eq!(job("tell --seed 9").map(|job| job.seed), Ok(9));
}

#[test]
fn pacing_flags_choose_the_phases() {
    let names = |line: &str| match work(line) {
        Work::Load(load) => load
            .phases
            .iter()
            .map(|phase| phase.name)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names("tell"), ["closed"]);
    assert_eq!(names("--closed 8"), ["closed"]);
    assert_eq!(names("ask --rate 10k"), ["open"]);
    assert_eq!(names("ask --rate 80%"), ["peak", "open"]);
    assert_eq!(
        names("tell --find-saturation --arrivals fixed"),
        ["saturation"]
    );
}

#[test]
fn open_loops_listen_to_the_machine_in_proportion() {
    for (line, expected) in [
        ("--rate 10k --duration 1s", 2_000),
        ("--find-saturation --hiccups 300ms", 300),
        ("--hiccups 0", 0),
        ("--hiccups 0s", 0),
        ("--closed 8", 0),
        ("tell", 0),
        ("tell --rate 10k", 1_600),
        ("ask --rate 50% --duration 300ms", 200),
        ("entities --rate 10k --duration 1m", 2_000),
        ("tell --find-saturation --duration 5s", 1_000),
        ("tell --rate 10k --hiccups 1m", 60_000),
    ] {
        let Work::Load(load) = work(line) else {
            panic!("not a load")
        };
        assert_eq!(load.hiccups, Duration::from_millis(expected), "{line}");
        let settings = job(line).expect("fine").settings();
        let is_told = settings
            .iter()
            .any(|setting| setting.name == "phase machine");
        assert_eq!(is_told, expected > 0, "{line}");
    }
}

#[test]
fn other_scenarios_have_their_own_flags() {
    let Work::Ring(ring) = work("ring --actors 7 --tokens 3") else {
        panic!("not a ring")
    };
    assert_eq!((ring.actors, ring.tokens), (7, 3));
    let Work::FanOut(fan_out) = work("fan-out --receivers 5") else {
        panic!("not a fan-out")
    };
    assert_eq!(fan_out.receivers, 5);
    let Work::Balancing(balancing) = work("balancer --settle 5s --steady 1m --before 1s") else {
        panic!("not a balancing")
    };
    assert_eq!((balancing.hot_core, balancing.min_gain), (0, 1.6));
    assert_eq!(balancing.hot().duration, Duration::from_secs(1));
    let spread = balancing.spread();
    assert_eq!(
        (spread.warm_up, spread.duration),
        (Duration::from_secs(5), Duration::from_secs(60))
    );
    let Work::Replay(replay) = work("replay") else {
        panic!("not a replay")
    };
    assert_eq!((replay.key.as_str(), replay.input), ("tailnum", None));
    assert_eq!(replay.sums, ["distance", "air_time"]);
    let Work::Replay(replay) = work("replay --input x.csv --key a --sum b") else {
        panic!("not a replay")
    };
    assert_eq!(
        (replay.sums, replay.key.as_str()),
        (vec!["b".to_owned()], "a")
    );
}

#[test]
fn contradictions_and_bad_values_are_refused_with_the_reason() {
    for (line, reason) in [
        ("--rate 1k --closed 5", "cannot be used with"),
        ("--closed 5 --find-saturation", "cannot be used with"),
        ("--rate 1k --find-saturation", "cannot be used with"),
        ("--closed 5 --arrivals fixed", "cannot be used with"),
        (
            "tell --arrivals fixed",
            "--arrivals belongs to an open loop",
        ),
        ("--closed 5 --hiccups 1s", "cannot be used with"),
        ("tell --hiccups 1s", "--hiccups belongs to an open loop"),
        ("--hiccups 1ms", "from 10ms to 60s"),
        ("--hiccups 2m", "from 10ms to 60s"),
        ("--hiccups soon", "is not a duration"),
        ("ring --hiccups 1s", "unexpected argument"),
        ("--duration 3s tell", "cannot be used with"),
        ("tell --mix 20", "unexpected argument"),
        ("--mix 101", "from 0 to 100"),
        ("--rate 0", "above zero"),
        ("--rate 300%", "at or below 200%"),
        ("--entities 0", "not in 1.."),
        ("--keys zipf:0", "θ above 0"),
        ("--drivers threads:0", "threads:N"),
        ("--duration 1ms", "at least 100ms"),
        ("--duration soon", "is not a duration"),
        ("--slo p99>1ms", "p99"),
        ("ring --actors 1", "not in 2.."),
        ("replay --sum a --sum a", "'a' twice"),
        ("--json x --html x", "same file 'x'"),
        ("--json x --baseline x", "same file 'x'"),
        ("--json x --html ./x", "same file './x'"),
        ("replay --slo p99<1s", "measures no latency"),
        ("balancer --work 1s", "between 100 ns and 10.0 ms"),
        ("balancer --work 0", "between 100 ns and 10.0 ms"),
        ("balancer --min-gain 0", "above 0"),
        ("balancer --min-gain NaN", "above 0"),
        ("balancer --steady 0", "at least 100ms"),
        ("balancer --hot-core -1", "unexpected argument"),
        ("nonsense", "nonsense"),
    ] {
        let error = job(line).expect_err(line);
        assert!(error.contains(reason), "{line}: {error}");
    }
}

#[test]
fn help_names_defaults_and_exit_codes() {
    let help = job("--help").expect_err("help is an error to clap");
    for part in [
        "zipf:0.99",
        "1000000",
        "Exit codes",
        "replay",
        "--find-saturation",
        "--hiccups",
        "[default: 8s]",
    ] {
        assert!(help.contains(part), "{part} is not in:\n{help}");
    }
}

#[test]
fn settings_tell_what_was_run() {
    let settings = job("--entities 5000").expect("fine").settings();
    let value = |name: &str| {
        settings
            .iter()
            .find(|setting| setting.name == name)
            .map(|s| s.value.as_str())
    };
    assert_eq!(value("entities"), Some("5,000"));
    assert_eq!(value("mix"), Some("80 % tells, 20 % asks"));
    assert_eq!(
        value("phase open"),
        Some("open loop, 50 % of the peak, poisson, 8 s after 1 s of warm-up")
    );
}

#[test]
fn a_cluster_is_asked_for_with_its_faults() {
    let asked = job(
        "entities --nodes 3 --local-ratio 0.25 --fault restart@3s:all --fault kill@1s+2s:leader --repeat 5 \
         --cluster-profile fast --node-cores 2 --cluster-dir /somewhere --closed 8",
    )
    .expect("it makes sense");
    let nodes = asked.nodes.expect("a cluster");
    assert_eq!(
        (nodes.count, nodes.repeat, nodes.cores_each),
        (3, 5, Some(2))
    );
    assert_eq!(nodes.local_ratio, Some(0.25));
    assert_eq!(nodes.profile, Profile::Fast);
    let faults: Vec<_> = nodes
        .faults
        .iter()
        .map(|fault| (fault.kind, fault.who))
        .collect();
    assert_eq!(
        faults,
        [
            (FaultKind::Kill, Who::Leader),
            (FaultKind::Restart, Who::All)
        ],
        "in the order of their times"
    );
    assert!(job("").expect("the main job").nodes.is_none());
    let replay = job("replay --nodes 3 --fault restart@0:all").expect("it makes sense");
    assert_eq!(replay.nodes.map(|nodes| nodes.count), Some(3));
    assert_eq!(job("wire").expect("it makes sense").scenario(), "wire");
}

#[test]
fn what_makes_no_sense_of_a_cluster_is_refused_with_what_to_do() {
    for (line, words) in [
        ("--nodes 0", "1..=9"),
        ("--nodes 10", "1..=9"),
        ("--local-ratio 0.5", "--nodes"),
        ("--fault kill@1s", "--nodes"),
        ("--nodes 3 --repeat 2", "--fault"),
        ("--nodes 3 --local-ratio 1.5", "between 0 and 1"),
        ("--nodes 3 --local-ratio x", "between 0 and 1"),
        ("--nodes 3 --fault kill@1s:4", "1 to 3"),
        ("--nodes 3 --fault kil@1s", "'kil' is no kind of fault"),
        ("--nodes 3 --fault kill@8s", "--duration 8 s"),
        ("--nodes 2 --fault kill@1s", "--nodes 3 at least"),
        ("--nodes 2 --fault partition@1s", "--nodes 3 at least"),
        ("--nodes 1 --fault restart@1s", "--nodes 2 or more"),
        ("--nodes 3 --drivers threads:2", "--drivers threads"),
        ("tell --nodes 3 --find-saturation", "--rate or --closed"),
        ("--nodes 3 --core-count 1", "--node-cores"),
        ("replay --nodes 3 --fault kill@1s", "restart is what fits"),
        ("replay --nodes 3 --local-ratio 1", "goes to the entity"),
        (
            "replay --nodes 1 --fault restart@0:all",
            "--nodes 2 at least",
        ),
        ("wire --core-count 1", "--cores"),
        ("wire --spin 1ms", "wire itself sets"),
        ("ring --nodes 3", "--nodes"),
        ("wire --nodes 3", "--nodes"),
    ] {
        let error = job(line).expect_err(line);
        assert!(error.contains(words), "{line}: {error}");
    }
    // A cluster of two may have a node that leaves and comes back.
    assert!(job("--nodes 2 --fault restart@1s").is_ok());
}
