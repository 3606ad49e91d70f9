//! Ctrl-C, the end of the terminal, or a polite kill: the first one ends the run with what was measured so far, the second one ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Outcome;

/// Whether the run was told to end.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub(super) fn listen() -> io::Result<Interrupt> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag down and raises it.
            flag::register_conditional_shutdown(
                signal,
                Outcome::Interrupted.code().into(),
                told.clone(),
            )?;
            flag::register(signal, told.clone())?;
        }
        Ok(Interrupt(told))
    }

    /// Of a process that is told by other means.
    pub(super) fn never() -> Interrupt {
        Interrupt(Arc::default())
    }

    pub(super) fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
