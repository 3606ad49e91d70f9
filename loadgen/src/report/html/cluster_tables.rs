//! The nodes of a run, its faults, and the comparison with bare TCP, as tables of the page.

use std::fmt::Write as _;

use super::markup::Escaped;
use crate::report::cluster::ClusterReport;
use crate::report::wire::WireReport;

/// What there is to say of a cluster.
pub(super) fn cluster_tables(cluster: &ClusterReport) -> String {
    let mut notes = cluster.verdicts();
    notes.extend(cluster.node_notes());
    // The comparison with bare TCP has no figures of nodes.
    let rows = match cluster.nodes.is_empty() {
        true => Vec::new(),
        false => cluster.node_rows(),
    };
    let mut html = table("Nodes", &rows, &notes);
    let faults = cluster.fault_rows();
    if !faults.is_empty() {
        html += &table("Faults", &faults, &[]);
    }
    html
}

/// The comparison with bare TCP.
pub(super) fn wire_table(wire: &WireReport) -> String {
    let notes = [format!("Medians of {} rounds.", wire.rounds.len())];
    table("Two processes on loopback", &wire.rows(), &notes)
}

/// A table whose first row has its headings, with lines below.
fn table<const N: usize>(title: &str, rows: &[[String; N]], notes: &[String]) -> String {
    let mut html = format!("<section class=\"card\">\n<h2>{title}</h2>\n<table>\n");
    for (at, row) in rows.iter().enumerate() {
        let cell = if at == 0 { "th" } else { "td" };
        html += "<tr>";
        for text in row {
            let _ = write!(html, "<{cell}>{}</{cell}>", Escaped(text));
        }
        html += "</tr>\n";
    }
    html += "</table>\n";
    for note in notes {
        let _ = writeln!(html, "<p>{}</p>", Escaped(note));
    }
    html + "</section>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::faults::FaultReport;

    #[test]
    fn what_nodes_said_is_escaped_and_every_element_ends() {
        let cluster = ClusterReport {
            faults: vec![FaultReport {
                kind: "<kill>".to_owned(),
                ..FaultReport::default()
            }],
            ..ClusterReport::default()
        };
        let html = cluster_tables(&cluster) + &wire_table(&WireReport::default());
        assert!(html.contains("&lt;kill&gt;") && !html.contains("<kill>"));
        for element in ["section", "table", "tr", "td", "th", "p", "h2"] {
            let count = |text: String| html.matches(&text).count();
            let opened = count(format!("<{element}>")) + count(format!("<{element} "));
            assert_eq!(opened, count(format!("</{element}>")), "{element}");
        }
    }
}
