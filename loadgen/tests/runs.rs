//! The built program on real cores: each scenario in a short run, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadgen::report::{REPORT_VERSION, Report, read_json};

/// Short phases with few entities: what is checked is that figures are right, not that they are good.
const SHORT: [&str; 4] = ["--warmup", "100ms", "--duration", "300ms"];

fn loadgen(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a scenario and returns its exit code with its report.
fn run(line: &str, more: &[&str]) -> (Option<i32>, Report, Output) {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("run.json");
    let mut arguments: Vec<&str> = line.split_whitespace().collect();
    arguments.extend(more);
    let path = json.to_string_lossy().into_owned();
    arguments.extend(["--json", &path]);
    let output = loadgen(&arguments, directory.path());
    let report = read_json(&json)
        .unwrap_or_else(|error| panic!("{line}: {error}\n{}", text(&output.stderr)));
    (output.status.code(), report, output)
}

fn setting<'r>(report: &'r Report, name: &str) -> &'r str {
    let found = report.settings.iter().find(|setting| setting.name == name);
    found.map_or_else(
        || panic!("no setting {name}: {:?}", report.settings),
        |setting| setting.value.as_str(),
    )
}

fn file(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("written");
    path
}

#[test]
fn a_closed_loop_measures_a_peak_with_every_entity_active() {
    for (line, entities) in [
        ("tell --entities 2000 --payload 16", "2,000"),
        ("ask --entities 2000 --keys uniform", "2,000"),
        (
            "entities --entities 500 --mix 50% --payload 100 --closed 8",
            "500",
        ),
    ] {
        let (code, report, output) = run(line, &SHORT);
        assert_eq!(code, Some(0), "{line}: {}", text(&output.stderr));
        assert_eq!(report.version, REPORT_VERSION);
        assert_eq!(
            report.scenario,
            line.split_whitespace().next().expect("a word")
        );
        assert!(
            setting(&report, "activated").starts_with(&format!("{entities} entities in ")),
            "{line}"
        );
        let [phase] = &report.phases[..] else {
            panic!("{line}: {} phases", report.phases.len())
        };
        assert_eq!(
            (phase.name.as_str(), phase.failed, phase.offered_rate),
            ("closed", 0, None)
        );
        // A machine with other work has little left for it.
        assert!(phase.completed > 100, "{line}: {}", phase.completed);
        // What was sent was handled, but for what was in flight at the borders of the window.
        assert!(
            phase.sent.abs_diff(phase.completed) < 10_000,
            "{line}: {} sent, {}",
            phase.sent,
            phase.completed
        );
        let timed = phase.uncorrected.as_ref().expect("a sample is timed").count;
        assert!(
            timed > 0 && timed <= phase.sent / 16,
            "{line}: {timed} of {}",
            phase.sent
        );
        assert!(!report.cores.is_empty());
        assert!(text(&output.stdout).contains("Throughput"));
    }
}

/// The machine was listened to for so many seconds on the CPUs of all cores, and the table says what was heard.
fn assert_heard(report: &Report, output: &Output, seconds: f64) {
    let heard = report.hiccups.as_ref().expect("an open loop listens");
    assert_eq!(heard.cpus, report.cores);
    // A gap at the end is heard to its end.
    assert!(heard.duration_s >= seconds, "{heard:?}");
    let arrivals = heard.duration_s * heard.cpus.len() as f64 * 1e6;
    assert!((heard.latency.count as f64 - arrivals).abs() < 2.0);
    assert!(heard.latency.p99_9_ns <= heard.latency.max_ns);
    let table = text(&output.stdout);
    let row = table.lines().find(|line| line.contains(" spinning  "));
    assert!(row.is_some_and(|row| row.starts_with("  machine ")));
    assert!(table.contains("no server on this machine can count on better"));
    assert!(text(&output.stderr).contains("listening to the machine"));
}

#[test]
fn an_open_loop_keeps_its_rate_and_times_every_message() {
    for drivers in ["cores", "threads:2"] {
        let more = [&SHORT[..], &["--drivers", drivers]].concat();
        let (code, report, output) = run(
            "entities --entities 1000 --rate 20k --arrivals fixed",
            &more,
        );
        // A machine that is busy with other things may make the generator lag.
        assert!(
            matches!(code, Some(0 | 5)),
            "{drivers}: {code:?} {}",
            text(&output.stderr)
        );
        let [phase] = &report.phases[..] else {
            panic!("{drivers}: {} phases", report.phases.len())
        };
        assert_eq!((phase.offered_rate, phase.failed), (Some(20e3), 0));
        let corrected = phase.corrected.as_ref().expect("an open loop");
        assert_heard(&report, &output, 0.2);
        // 20,000 a second for 0.3 s: each is sent, counted and timed once, however late.
        assert_eq!(phase.sent + phase.lag.never_attempted, 6_000, "{drivers}");
        assert_eq!(corrected.count, phase.sent, "{drivers}");
        assert!(corrected.p50_ns >= phase.uncorrected.as_ref().expect("timed").min_ns);
        assert_eq!(code == Some(5), !phase.validity.is_valid());
    }
}

#[test]
fn the_main_job_measures_the_peak_and_then_half_of_it_and_writes_every_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = "--entities 5000 --warmup 100ms --duration 300ms --hiccups 100ms --json a.json --html a.html --hgrm a.hgrm \
                     --slo rate>1 --slo max<10ns";
    let output = loadgen(
        &arguments.split_whitespace().collect::<Vec<_>>(),
        directory.path(),
    );
    let report = read_json(&directory.path().join("a.json")).expect("a report");
    assert_heard(&report, &output, 0.1);
    // Only on CPUs that nothing ever interrupts would spinning meet it.
    let heard_ns = report.hiccups.as_ref().map(|heard| heard.latency.max_ns);
    assert_eq!(
        text(&output.stdout).contains("; a thread that only spins missed it too, with"),
        heard_ns >= Some(10)
    );
    let html = std::fs::read_to_string(directory.path().join("a.html")).expect("a page");
    assert!(html.contains("<td>machine</td>"));
    let [peak, open] = &report.phases[..] else {
        panic!("{} phases", report.phases.len())
    };
    assert!((open.offered_rate.expect("open") / peak.rate - 0.5).abs() < 1e-6);
    assert_eq!(
        report
            .slos
            .iter()
            .map(|verdict| verdict.is_met)
            .collect::<Vec<_>>(),
        [true, false]
    );
    assert!(
        matches!(output.status.code(), Some(4 | 5)),
        "an objective was missed: {output:?}"
    );
    for name in ["a.html", "a.hgrm", "a.peak.hgrm", "a.open-uncorrected.hgrm"] {
        assert!(directory.path().join(name).is_file(), "{name}");
    }
    let again = loadgen(
        &[
            "tell",
            "--entities",
            "10",
            "--duration",
            "100ms",
            "--warmup",
            "0",
            "--baseline",
            "a.json",
        ],
        directory.path(),
    );
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stdout).contains("Compared with the baseline"));
}

#[test]
fn tokens_go_round_and_messages_fan_out() {
    let (code, report, output) = run("ring --actors 10 --tokens 4 --payload 64", &SHORT);
    assert_eq!(code, Some(0), "{}", text(&output.stderr));
    assert!(
        report.phases[0].completed > 100,
        "{}",
        report.phases[0].completed
    );
    assert!(report.phases[0].uncorrected.is_some());
    let (code, report, output) = run("fan-out --receivers 50 --rounds 2", &SHORT);
    assert_eq!(code, Some(0), "{}", text(&output.stderr));
    assert!(
        report.phases[0].completed > 100,
        "{}",
        report.phases[0].completed
    );
    assert_eq!(report.phases[0].failed, 0);
}

#[test]
fn nobody_listens_to_the_machine_when_told_not_to_or_in_a_closed_loop() {
    for line in [
        "tell --entities 10 --rate 1k --hiccups 0s",
        "tell --entities 10",
    ] {
        let (_, report, output) = run(line, &SHORT);
        assert_eq!(report.hiccups, None, "{line}");
        assert!(!text(&output.stdout).contains("spinning"), "{line}");
        assert!(!text(&output.stderr).contains("listening"), "{line}");
    }
}

#[test]
fn a_rate_below_one_is_offered_as_it_is() {
    let (_, report, _) = run("tell --entities 10 --rate 0.5", &SHORT);
    assert_eq!(report.phases[0].offered_rate, Some(0.5));
}

#[test]
fn a_rate_beyond_all_measure_ends_in_time() {
    // Asks, as they are sent more slowly than entities handle them: the backlog is the generator's.
    let (code, report, output) = run("ask --entities 10 --rate 1000G", &SHORT);
    assert!(matches!(code, Some(0 | 5)), "{}", text(&output.stderr));
    assert!(report.phases[0].completed > 0);
}

#[test]
fn shards_on_one_core_are_spread_by_the_balancer() {
    let line = "balancer --entities 1000 --before 300ms --steady 1s --min-gain 0.01";
    let (code, report, output) = run(line, &["--settle", "6s"]);
    // Beside other tests the gain may be one that the cores cannot give.
    let are_met = report.slos.iter().all(|slo| slo.is_met);
    assert_eq!(
        code,
        Some(if are_met { 0 } else { 4 }),
        "{}",
        text(&output.stdout)
    );
    if report.cores.len() < 2 {
        assert!(text(&output.stderr).contains("skipped"));
        return;
    }
    let balance = report.balance.as_ref().expect("it was measured");
    assert!(balance.gain.is_some_and(|gain| gain > 0.01), "{balance:?}");
    assert!(!balance.moves.is_empty() && balance.moves[0].to_core != balance.hot_core);
    assert!((0.0..0.2).contains(&balance.hottest_share), "{balance:?}");
    assert!(
        balance.watched_s >= 7.0 && balance.shards == 256,
        "{balance:?}"
    );
    assert_eq!(report.slos.len(), 2);
    let names: Vec<_> = report
        .phases
        .iter()
        .map(|phase| phase.name.as_str())
        .collect();
    assert_eq!(names, ["hot", "spread"]);
    assert_eq!(report.phases[1].failed, 0);
    assert!(text(&output.stdout).contains("times the throughput on core-0 alone"));

    let (code, report, output) = run(&line.replace("0.01", "1000"), &["--settle", "0"]);
    assert_eq!(
        code,
        Some(4),
        "nothing gains that much: {}",
        text(&output.stdout)
    );
    assert!(!report.slos[0].is_met && report.slos[1].is_met);
}

#[test]
fn one_core_has_nothing_to_balance() {
    let (code, report, output) = run("balancer --cores 0", &[]);
    assert_eq!(code, Some(0));
    assert!(report.phases.is_empty() && report.balance.is_none());
    assert!(text(&output.stderr).contains("skipped: with one core there is nothing to balance"));
}

#[test]
fn saturation_is_searched_for() {
    let (code, report, output) = run(
        "tell --entities 100 --find-saturation --warmup 0 --duration 400ms",
        &[],
    );
    assert!(
        matches!(code, Some(0 | 5)),
        "{code:?} {}",
        text(&output.stderr)
    );
    assert_eq!(report.phases[0].name, "saturation");
    assert_heard(&report, &output, 0.2);
    // Beside other tests on few CPUs no rate may be sustained.
    if let Some(rate) = report.saturation_rate {
        assert_eq!(report.phases[0].offered_rate, Some(rate));
    }
}

#[test]
fn the_built_in_flights_are_replayed_exactly_from_any_directory_while_shards_move() {
    let (code, report, output) = run("replay", &[]);
    assert_eq!(code, Some(0), "{}", text(&output.stderr));
    let replay = report.replay.as_ref().expect("a replay");
    assert_eq!(
        (
            replay.rows,
            replay.entities,
            replay.malformed,
            replay.mismatches
        ),
        (336_776, 4_044, 0, 0)
    );
    assert_eq!(
        (
            replay.columns[0].name.as_str(),
            replay.columns[0].sum.as_str()
        ),
        ("distance", "350217607")
    );
    let moves = setting(&report, "moves");
    assert_eq!(
        moves.starts_with("0 shards"),
        report.cores.len() == 1,
        "{moves}"
    );
    assert!(report.phases[0].rate > 1_000.0);
}

#[test]
fn malformed_rows_are_reported_and_do_not_stop_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows: String = (0..5_000)
        .map(|n| format!("k{},{}.5\n", n % 7, n))
        .collect();
    let input = file(
        directory.path(),
        "rows.csv",
        &format!("key,value\n{rows}\"open,1\n,2\nNA,NA\nk1,x\n"),
    );
    let line = format!("replay --input {} --key key --sum value", input.display());
    let (code, report, output) = run(&line, &["--cores", "0"]);
    assert_eq!(code, Some(2), "{}", text(&output.stderr));
    let replay = report.replay.as_ref().expect("a replay");
    assert_eq!(
        (
            replay.rows,
            replay.entities,
            replay.malformed,
            replay.mismatches
        ),
        (5_001, 8, 3, 0)
    );
    assert_eq!(
        (replay.columns[0].sum.as_str(), replay.columns[0].missing),
        ("12500000", 1)
    );
    let complaints = text(&output.stderr);
    for line in [
        "line 5002: a quote is not closed",
        "line 5003: the key is empty",
        "line 5005: column 'value': 'x'",
    ] {
        assert!(complaints.contains(line), "{line}: {complaints}");
    }
}

#[test]
fn rows_that_do_not_arrive_are_a_mismatch() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = file(
        directory.path(),
        "rows.csv",
        "key,value\na,1\nb,2\na,3\nbad\n",
    );
    let line = format!(
        "replay --input {} --key key --sum value --lose 2",
        input.display()
    );
    let (code, report, output) = run(&line, &[]);
    assert_eq!(code, Some(3), "a mismatch outranks a malformed row");
    assert_eq!(report.replay.expect("a replay").mismatches, 2);
    assert!(
        text(&output.stderr).contains("entity 'a' rows: it holds 1, the file gives 2"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_cannot_be_run_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    for (arguments, code, reason) in [
        (&["tell", "--cores", "8000"][..], 1, "did not start"),
        (
            &["replay", "--input", "nowhere.csv"],
            1,
            "cannot open 'nowhere.csv'",
        ),
        (&["replay", "--key", "nothing"], 1, "no column 'nothing'"),
        (
            &["tell", "--baseline", "nowhere.json"],
            1,
            "cannot read 'nowhere.json'",
        ),
        (
            &["tell", "--rate", "1k", "--cores", "8000"],
            1,
            "did not start",
        ),
        (&["tell", "--cores", "0,x"], 64, "`0,2-5`"),
        (
            &["tell", "--json", "nowhere/run.json"],
            1,
            "cannot write 'nowhere/run.json'",
        ),
        (
            &["balancer", "--hot-core", "1000"],
            1,
            "core-1000, which is not one of the data cores",
        ),
    ] {
        let output = loadgen(arguments, directory.path());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(reason),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stdout), "", "{arguments:?} measured first");
    }
}
