//! What a node says: lines on its output. Only threads outside of its cores speak, for whoever reads may be slow.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::lines::write_line;
use crate::cluster::protocol::News;

/// The output of the node, for any of its threads.
#[derive(Clone, Debug)]
pub(super) struct Mouth(Arc<Mutex<io::Stdout>>);

impl Mouth {
    pub(super) fn new() -> Mouth {
        Mouth(Arc::new(Mutex::new(io::stdout())))
    }

    /// Says something. Where nobody listens any more the process ends: whoever started it is gone.
    pub(super) fn say(&self, news: &News) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = write_line(news, &mut *out) {
            let _ = writeln!(
                io::stderr(),
                "loadgen: nobody listens to this node: {error}"
            );
            std::process::exit(1);
        }
    }
}
