//! Whatever a file holds, the reader never panics and agrees with the independent pass, row by row.

use std::collections::BTreeMap;

use loadgen::replay::{Check, Columns, Line, MalformedLog, Oracle, Rows, Source, Tally};
use proptest::prelude::*;

/// Pieces that meet the rules at their edges far more often than random bytes do.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![",", "\"", "\"\"", "\n", "\r\n", "\r", "NA", "k", "-", "+", ".", "0", " ", "é"])
            .prop_map(|text| text.as_bytes().to_vec()),
        3 => "[+-]?[0-9]{1,21}(\\.[0-9]{1,20})?".prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["9223372036854775807", "-9223372036854775808", "0.000000000000000001"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

/// Lines that are nearly or wholly rows.
fn row() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        4 => "[+-]?[0-9]{1,20}(\\.[0-9]{1,19}0{0,3})?",
        1 => Just("NA".to_owned()),
        1 => Just(String::new()),
    ];
    let key = prop_oneof![
        "[a-d]",
        "\"[a-c,]{0,2}(\"\")?\"",
        Just("NA".to_owned()),
        "[a-d\"]{0,2}"
    ];
    (key, number.clone(), number).prop_map(|(key, a, b)| format!("{key},{a},{b}\n").into_bytes())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop_oneof![3 => row(), 1 => prop::collection::vec(piece(), 0..12).prop_map(|parts| parts.concat())];
    prop::collection::vec(lines, 0..40)
        .prop_map(|lines| [b"k,a,b\n".to_vec(), lines.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_and_the_independent_pass_agree(text in text()) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("input.csv");
        std::fs::write(&path, &text).expect("written");
        let source = Source::File(path);
        let columns = Columns { key: "k".into(), sums: vec!["a".into(), "b".into()] };

        let mut entities: BTreeMap<String, Tally> = BTreeMap::new();
        let mut malformed = MalformedLog::new(usize::MAX);
        let mut last_line = 1;
        for line in Rows::open(&source, &columns).expect("the header is fine") {
            let number = match line.expect("a file can be read") {
                Line::Row(row) => {
                    let tally = entities.entry(row.key).or_insert_with(|| Tally::new(2));
                    tally.add(row.values.as_slice()).expect("the reader refuses what does not fit");
                    row.line
                }
                Line::Malformed(row) => {
                    let number = row.line;
                    malformed.push(row);
                    number
                }
            };
            prop_assert_eq!(number, last_line + 1);
            last_line = number;
        }
        let ends = text.iter().filter(|&&byte| byte == b'\n').count() + usize::from(!text.ends_with(b"\n"));
        prop_assert_eq!(last_line, ends as u64);

        let mut check = Check::new(Oracle::read(&source, &columns).expect("read"), &columns, 10);
        entities.iter().for_each(|(key, tally)| {
            check.entity(key, tally);
        });
        let checked = check.finish(&malformed);
        prop_assert_eq!(checked.to_string(), "", "malformed by the reader: {}", malformed);
        prop_assert_eq!(checked.report.mismatches, 0);
    }
}
