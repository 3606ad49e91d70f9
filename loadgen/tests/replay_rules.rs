//! The rules of replay, each with the line it is about; the reader and the independent pass must agree on all of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use loadgen::replay::{
    Check, Checked, Columns, InputError, Line, MalformedLog, Oracle, Orders, Rows, Source, Tally,
    What,
};
use tempfile::TempDir;

fn columns(key: &str, sums: &[&str]) -> Columns {
    Columns {
        key: key.to_owned(),
        sums: sums.iter().map(|&sum| sum.to_owned()).collect(),
    }
}

fn file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, bytes).expect("written");
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

/// A replay without a runtime: the entities are a map.
struct Replayed {
    entities: BTreeMap<String, Tally>,
    malformed: MalformedLog,
}

fn fold(source: &Source, columns: &Columns) -> Result<Replayed, InputError> {
    let mut replayed = Replayed {
        entities: BTreeMap::new(),
        malformed: MalformedLog::new(100),
    };
    for line in Rows::open(source, columns)? {
        match line? {
            Line::Row(row) => {
                let entity = replayed
                    .entities
                    .entry(row.key)
                    .or_insert_with(|| Tally::new(columns.sums.len()));
                entity
                    .add(row.values.as_slice())
                    .expect("the reader refuses what does not fit");
            }
            Line::Malformed(malformed) => replayed.malformed.push(malformed),
        }
    }
    Ok(replayed)
}

fn check(source: &Source, columns: &Columns, replayed: &Replayed) -> Checked {
    let mut check = Check::new(
        Oracle::read(source, columns).expect("the oracle reads it"),
        columns,
        100,
    );
    replayed.entities.iter().for_each(|(key, tally)| {
        check.entity(key, tally);
    });
    check.finish(&replayed.malformed)
}

/// Replays a text, plain and packed, checks it, and gives the malformed rows and `key rows sum/missing…` per entity.
fn replay(text: &[u8], columns: &Columns) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut results = Vec::new();
    for (name, bytes) in [("plain.csv", text.to_vec()), ("packed", gzip(text))] {
        let source = Source::File(file(&directory, name, &bytes));
        let replayed = fold(&source, columns).expect("it can be read");
        let checked = check(&source, columns, &replayed);
        assert_eq!(checked.to_string(), "", "the independent pass differs");
        assert_eq!(checked.report.mismatches, 0);
        let malformed: Vec<String> = replayed
            .malformed
            .first()
            .iter()
            .map(ToString::to_string)
            .collect();
        let entities = replayed.entities.iter().map(|(key, tally)| {
            let sums: Vec<String> = tally
                .columns
                .iter()
                .map(|column| format!(" {}/{}", column.sum, column.missing))
                .collect();
            format!("{key} {}{}", tally.rows, sums.concat())
        });
        results.push((malformed, entities.collect()));
    }
    let packed = results.pop().expect("two results");
    assert_eq!(
        results.pop().as_ref(),
        Some(&packed),
        "plain and packed differ"
    );
    packed
}

/// Replays lines under the header `k,a,b` with sums of `a` and `b`.
fn replay_lines(lines: &str) -> (Vec<String>, Vec<String>) {
    replay(
        format!("k,a,b\n{lines}").as_bytes(),
        &columns("k", &["a", "b"]),
    )
}

#[test]
fn rows_are_folded_exactly_by_key() {
    let (malformed, entities) = replay_lines("x,1,0.1\ny,2,-0.5\nx,3,0.20\n");
    assert_eq!(malformed, Vec::<String>::new());
    assert_eq!(entities, ["x 2 4/0 0.3/0", "y 1 2/0 -0.5/0"]);
}

#[test]
fn the_header_is_line_one_and_malformed_rows_do_not_stop_the_rest() {
    let (malformed, entities) = replay_lines("x,1,1\nx,1\nx,1,1\nx,1,1,1\n\nx,1,1\n");
    assert_eq!(
        malformed,
        [
            "line 3: 2 fields where the header has 3",
            "line 5: 4 fields where the header has 3",
            "line 6: 1 fields where the header has 3"
        ]
    );
    assert_eq!(entities, ["x 3 3/0 3/0"]);
}

#[test]
fn quoted_fields_do_not_span_lines() {
    let (malformed, entities) =
        replay_lines("\"x,1,1\n\"x,y\",1,\"2\"\n\"x\ny\",1,1\n\"a\"\"b\",1,1\n\"a\"b,1,1\n");
    assert_eq!(
        malformed,
        [
            "line 2: a quote is not closed",
            "line 4: a quote is not closed",
            "line 7: there is text behind a closing quote"
        ],
        "line 5 has a quote in the middle of a field, which is an ordinary character"
    );
    assert_eq!(
        entities,
        ["a\"b 1 1/0 1/0", "x,y 1 1/0 2/0", "y\" 1 1/0 1/0"]
    );
}

#[test]
fn na_is_a_key_and_an_empty_key_is_malformed() {
    let (malformed, entities) = replay_lines("NA,1,1\n,1,1\n\"\",1,1\n");
    assert_eq!(
        malformed,
        ["line 3: the key is empty", "line 4: the key is empty"]
    );
    assert_eq!(entities, ["NA 1 1/0 1/0"]);
}

#[test]
fn missing_values_count_the_row_and_are_counted_per_column() {
    let (malformed, entities) = replay_lines("x,,NA\nx,5,NA\nx,\"\",\"NA\"\n");
    assert_eq!(malformed, Vec::<String>::new());
    assert_eq!(entities, ["x 3 5/2 0/3"]);
}

#[test]
fn what_is_no_number_is_malformed_and_nothing_of_its_row_counts() {
    let (malformed, entities) = replay_lines("x,1,1e5\nx,na,1\nx, 1,1\nx,+1,-.5\nx,+1,-1.50\n");
    assert_eq!(
        malformed,
        [
            "line 2: column 'b': '1e5' is not a whole or decimal number",
            "line 3: column 'a': 'na' is not a whole or decimal number",
            "line 4: column 'a': ' 1' is not a whole or decimal number",
            "line 5: column 'b': '-.5' is not a whole or decimal number",
        ]
    );
    assert_eq!(entities, ["x 1 1/0 -1.5/0"]);
}

#[test]
fn overflow_is_an_error_of_its_line() {
    let (malformed, entities) = replay_lines(
        "x,9223372036854775807,1\nx,9223372036854775808,1\nx,1,0.1234567890123456789\nx,9223372036854775807,1\n",
    );
    assert_eq!(malformed.len(), 2, "{malformed:?}");
    assert!(
        malformed[0].starts_with("line 3: column 'a': '9223372036854775808' overflows"),
        "{malformed:?}"
    );
    assert!(
        malformed[1].starts_with("line 4: column 'b'"),
        "{malformed:?}"
    );
    assert_eq!(entities, ["x 2 18446744073709551614/0 2/0"]);
}

#[test]
fn a_column_that_no_longer_fits_is_an_error_of_the_line_that_fills_it() {
    // At 18 decimals 128 bits hold 18 times the greatest value; signs do not help, as each entity might see one side.
    let mut text = String::from("x,0.000000000000000001,1\n");
    (0..20).for_each(|row| {
        text.push_str(&format!(
            "k{row},{}9223372036854775807,1\n",
            ["", "-"][row % 2]
        ))
    });
    text.push_str("k0,5,1\n");
    let (malformed, entities) = replay_lines(&text);
    let overflow = |line| {
        format!(
            "line {line}: column 'a': with this value the magnitudes of the column overflow 128 bits"
        )
    };
    assert_eq!(malformed, [overflow(21), overflow(22)]);
    assert_eq!(entities.len(), 19);
    assert!(
        entities.contains(&"k0 2 9223372036854775812/0 2/0".to_owned()),
        "{entities:?}"
    );
}

#[test]
fn bad_utf8_is_malformed() {
    let text = b"k,a,b\nx,1,1\nx\xFF,1,1\nx,1,1\n".as_slice();
    let (malformed, entities) = replay(text, &columns("k", &["a"]));
    assert_eq!(malformed, ["line 3: the line is not valid UTF-8"]);
    assert_eq!(entities, ["x 2 2/0"]);
}

#[test]
fn crlf_a_byte_order_mark_and_a_missing_last_line_end_are_accepted() {
    let text = "\u{FEFF}k,a\r\nx,1\r\n\"y\",2\r\nx,3".as_bytes();
    let (malformed, entities) = replay(text, &columns("k", &["a"]));
    assert_eq!(malformed, Vec::<String>::new());
    assert_eq!(entities, ["x 2 4/0", "y 1 2/0"]);
}

#[test]
fn lines_of_more_than_a_megabyte_are_malformed_and_skipped() {
    let line = |key: usize| format!("{},1,1\n", "k".repeat(key));
    let limit = (1 << 20) - ",1,1".len();
    let text = [
        line(1),
        line(limit),
        line(limit + 1),
        line(limit + 2),
        line(limit * 3),
        line(1),
    ]
    .concat();
    let (malformed, entities) = replay_lines(&text);
    let too_long = |line| format!("line {line}: the line is longer than 1048576 bytes");
    assert_eq!(malformed, [too_long(4), too_long(5), too_long(6)]);
    assert_eq!(entities.len(), 2);
}

#[test]
fn a_header_without_rows_is_clean() {
    assert_eq!(replay_lines(""), (Vec::new(), Vec::new()));
}

fn error(path: &Path, columns: &Columns) -> String {
    let source = Source::File(path.to_owned());
    let reader = fold(&source, columns)
        .map(|_| ())
        .expect_err("the reader refuses it")
        .to_string();
    let oracle = Oracle::read(&source, columns)
        .map(|_| ())
        .expect_err("the oracle refuses it");
    assert!(!oracle.to_string().is_empty());
    reader
}

#[test]
fn inputs_that_cannot_be_read_are_clear_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    let ka = columns("k", &["a"]);
    let missing = error(&directory.path().join("nowhere.csv"), &ka);
    assert!(
        missing.contains("cannot open") && missing.contains("nowhere.csv"),
        "{missing}"
    );
    let folder = error(directory.path(), &ka);
    assert!(folder.contains("not a regular file"), "{folder}");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty.csv", Vec::new(), "is empty: it needs a header"),
        ("empty.gz", gzip(b""), "is empty: it needs a header"),
        (
            "no-column.csv",
            b"k,b\n1,2\n".to_vec(),
            "has no column 'a'; it has k, b",
        ),
        (
            "no-key.csv",
            b"a,b\n1,2\n".to_vec(),
            "has no column 'k'; it has a, b",
        ),
        (
            "twice.csv",
            b"k,a,a\n1,2,3\n".to_vec(),
            "names the column 'a' twice",
        ),
        (
            "quote.csv",
            b"k,\"a\n1,2\n".to_vec(),
            "is malformed: a quote is not closed",
        ),
        (
            "bytes.csv",
            b"k,a\xFF\n1,2\n".to_vec(),
            "is not valid UTF-8",
        ),
        (
            "header.gz",
            gzip(b"k,a\n1,2\n")[..5].to_vec(),
            "is a truncated gzip file",
        ),
    ];
    for (name, bytes, reason) in cases {
        let error = error(&file(&directory, name, &bytes), &ka);
        assert!(
            error.contains(reason) && error.contains(name),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_truncated_gzip_file_ends_after_its_last_whole_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let text: String = (0..50_000)
        .map(|row| format!("key-{},{row}\n", row * 7919 % 1000))
        .collect();
    let packed = gzip(format!("k,a\n{text}").as_bytes());
    let path = file(&directory, "cut.gz", &packed[..packed.len() / 2]);
    let mut rows = 0_u64;
    let mut failure = None;
    for line in Rows::open(&Source::File(path), &columns("k", &["a"])).expect("the header is whole")
    {
        match line {
            Ok(Line::Row(row)) => rows = row.line - 1,
            Ok(Line::Malformed(malformed)) => panic!("a cut line was taken for a row: {malformed}"),
            Err(error) => failure = Some(error),
        }
    }
    match failure.expect("the cut is noticed") {
        InputError::Truncated { after_line, .. } => {
            assert!(rows > 1000 && after_line == rows + 1, "{after_line} {rows}")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_damaged_gzip_file_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut packed = gzip("k,a\nx,1\n".repeat(1000).as_bytes());
    let at = packed.len() - 6;
    packed[at] ^= 0x55;
    let message = error(
        &file(&directory, "damaged.gz", &packed),
        &columns("k", &["a"]),
    );
    assert!(
        message.contains("cannot read") && message.contains("after line"),
        "{message}"
    );
}

#[test]
fn the_flights_that_ship_replay_cleanly() {
    let columns = columns("tailnum", &["distance", "air_time"]);
    let replayed = fold(&Source::Flights, &columns).expect("the file ships");
    let checked = check(&Source::Flights, &columns, &replayed);
    assert_eq!(checked.to_string(), "");
    let report = &checked.report;
    assert_eq!(
        (
            report.rows,
            report.entities,
            report.malformed,
            report.mismatches
        ),
        (336_776, 4_044, 0, 0)
    );
    assert_eq!(
        (report.columns[0].sum.as_str(), report.columns[0].missing),
        ("350217607", 0)
    );
    assert_eq!(
        (report.columns[1].sum.as_str(), report.columns[1].missing),
        ("49326610", 9_430)
    );
    assert_eq!(replayed.entities["NA"].rows, 2_512);
}

#[test]
fn every_kind_of_difference_is_found_listed_up_to_the_bound_and_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = Source::File(file(
        &directory,
        "x.csv",
        b"k,a\nw,1\nx,1\ny,1.5\nz,NA\nv,1\n,1\n",
    ));
    let columns = columns("k", &["a"]);
    let whole = fold(&source, &columns).expect("read");
    let damaged = |damage: &dyn Fn(&mut Replayed)| {
        let mut replayed = Replayed {
            entities: whole.entities.clone(),
            malformed: whole.malformed.clone(),
        };
        damage(&mut replayed);
        check(&source, &columns, &replayed)
    };
    let tally = |replayed: &mut Replayed, key: &str, change: &dyn Fn(&mut Tally)| {
        change(replayed.entities.get_mut(key).expect("it has rows"));
    };
    assert_eq!(damaged(&|_| ()).report.mismatches, 0);
    let checked = damaged(&|replayed| {
        replayed.entities.remove("w");
        replayed.entities.insert("new".into(), Tally::new(1));
        tally(replayed, "x", &|tally| tally.rows = 2);
        tally(replayed, "y", &|tally| tally.columns[0].sum.mantissa += 1);
        tally(replayed, "z", &|tally| tally.columns[0].missing = 0);
        replayed.malformed = MalformedLog::new(0);
    });
    let lines: Vec<String> = checked.to_string().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "entity 'new' holds 0 rows, but the file has none for it",
            "entity 'x' rows: it holds 2, the file gives 1",
            "entity 'y' sum of a: it holds 1.6, the file gives 1.5",
            "entity 'z' missing values of a: it holds 0, the file gives 1",
            "entity 'w' has no state, but the file has 1 rows for it",
            "malformed rows: it holds 0, the file gives 1",
        ]
    );
    assert_eq!(checked.report.mismatches, 6);

    let oracle = Oracle::read(&source, &columns).expect("read");
    let bounded = Check::new(oracle, &columns, 2).finish(&whole.malformed);
    assert_eq!(
        (bounded.report.mismatches, bounded.differences.len()),
        (5, 2)
    );
    assert!(
        bounded
            .differences
            .iter()
            .all(|difference| matches!(difference.what, What::Absent { expected: 1 }))
    );
    assert!(bounded.to_string().ends_with("and 3 more differences\n"));
}

#[test]
fn rows_that_overtook_each_other_are_told_though_their_sums_agree() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, "rows.csv", b"k,a\nx,1\nx,2\n");
    let (source, columns) = (Source::new(Some(path)), columns("k", &["a"]));
    let orders = |rows: [u64; 2]| {
        let mut orders = Orders::default();
        rows.into_iter().for_each(|row| orders.add(3, row));
        orders
    };
    let replayed = fold(&source, &columns).expect("read");
    for (rows, lines) in [
        ([0, 1], ""),
        (
            [1, 0],
            "entity 'x' received the rows of node 3 in another order than they have in the file\n",
        ),
    ] {
        let oracle = Oracle::read(&source, &columns).expect("read");
        let mut check = Check::new(oracle, &columns, 10);
        assert!(check.entity("x", &replayed.entities["x"]));
        check.order("x", &orders(rows), &orders([0, 1]));
        let checked = check.finish(&replayed.malformed);
        assert_eq!(checked.to_string(), lines);
        assert_eq!(checked.report.mismatches > 0, !lines.is_empty());
    }
}
