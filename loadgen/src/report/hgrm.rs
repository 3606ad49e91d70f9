//! Latencies in HdrHistogram's percentile text format, which its plotters read. Values are in microseconds.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::measure::Latencies;

/// Reported points per halving of the distance to 100 %.
const TICKS: u32 = 5;
/// Nanoseconds to a unit of the file.
const UNIT_NS: f64 = 1000.0;

/// Writes the distribution.
///
/// # Errors
/// What the writer fails with.
pub fn write_hgrm(latencies: &Latencies, out: &mut impl Write) -> io::Result<()> {
    let histogram = latencies.histogram();
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0_u64;
    for step in histogram.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to().min(histogram.max()) as f64 / UNIT_NS;
        let quantile = step.quantile_iterated_to();
        if quantile < 1.0 {
            writeln!(
                out,
                "{value:12.3} {quantile:2.12} {total:10} {:14.2}",
                1.0 / (1.0 - quantile)
            )?;
        } else {
            writeln!(out, "{value:12.3} {quantile:2.12} {total:10}")?;
        }
    }
    let (mean, stdev) = (histogram.mean() / UNIT_NS, histogram.stdev() / UNIT_NS);
    writeln!(
        out,
        "#[Mean    = {mean:12.3}, StdDeviation   = {stdev:12.3}]"
    )?;
    let max = histogram.max() as f64 / UNIT_NS;
    writeln!(
        out,
        "#[Max     = {max:12.3}, Total count    = {:12}]",
        histogram.len()
    )?;
    let (buckets, sub_buckets) = buckets(histogram.sigfig(), histogram.high());
    writeln!(
        out,
        "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]"
    )
}

/// The file beside `path` for another distribution of the same run: `run.hgrm` and `peak` give `run.peak.hgrm`.
#[must_use]
pub fn hgrm_path(path: &Path, what: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path
        .extension()
        .map_or("hgrm".into(), |extension| extension.to_string_lossy());
    path.with_file_name(format!("{stem}.{what}.{extension}"))
}

/// The shape of the histogram as the format's last line gives it.
fn buckets(digits: u8, highest: u64) -> (u32, u64) {
    let sub_buckets = (2 * 10_u64.pow(u32::from(digits))).next_power_of_two();
    let mut buckets = 1;
    let mut covered = sub_buckets;
    while covered <= highest {
        covered *= 2;
        buckets += 1;
    }
    (buckets, sub_buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn text(latencies: &Latencies) -> String {
        let mut out = Vec::new();
        write_hgrm(latencies, &mut out).expect("written to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_format_is_the_plotters_own() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|us| latencies.record(Duration::from_micros(us)));
        let text = text(&latencies);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(lines[1], "");
        assert_eq!(
            lines[2],
            "       1.000 0.000000000000          1           1.00"
        );
        let (rows, footer) = lines[2..].split_at(lines.len() - 5);
        assert!(
            footer[0].starts_with("#[Mean    =      500."),
            "{}",
            footer[0]
        );
        assert!(
            footer[1].ends_with("Total count    =         1000]"),
            "{}",
            footer[1]
        );
        assert_eq!(
            footer[2],
            "#[Buckets =           26, SubBuckets     =         2048]"
        );
        let last: Vec<&str> = rows.last().expect("rows").split_whitespace().collect();
        assert_eq!(
            last[1..],
            ["1.000000000000", "1000"],
            "the last row has no fourth column"
        );
        let mut previous = (0.0, 0.0, 0);
        for row in rows {
            let fields: Vec<f64> = row
                .split_whitespace()
                .map(|field| field.parse().expect("a number"))
                .collect();
            let next = (fields[0], fields[1], fields[2] as u64);
            assert!(next >= previous && next.2 >= previous.2, "{row}");
            previous = next;
        }
    }

    #[test]
    fn nothing_recorded_is_a_file_without_rows() {
        assert!(text(&Latencies::new()).contains("Total count    =            0"));
    }

    #[test]
    fn files_beside_keep_the_extension() {
        assert_eq!(
            hgrm_path(Path::new("/a/run.hgrm"), "peak"),
            Path::new("/a/run.peak.hgrm")
        );
        assert_eq!(
            hgrm_path(Path::new("run"), "peak"),
            Path::new("run.peak.hgrm")
        );
    }
}
