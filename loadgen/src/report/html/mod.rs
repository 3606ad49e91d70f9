//! The report as one self-contained page: inline style, inline SVG, no script, nothing fetched.

mod cluster_tables;
mod latency_plot;
mod markup;
mod page;
mod plot;
mod scale;
mod throughput_plot;

pub use page::page;
