//! Calls into a user's code from outside of its activations: a panic there ends here.
//!
//! An activation catches what its handler does. Everything else of a user's is called by the core itself: destructors of
//! messages, actors, ids and replies, `Display` of a fault, `Hash` of an id, factories, wakers. Whoever calls such code
//! goes through one of these functions, around as much as one panic may take down: never a single message of a batch,
//! since the check costs nothing but a call that cannot be inlined.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `call`; an error is what its panic said.
#[inline]
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(panic_text)
}

/// Drops a user's value; a panic in its destructor ends here.
#[inline]
pub(crate) fn drop_guarded<T>(value: T) {
    if std::mem::needs_drop::<T>()
        && let Err(panic) = guarded(|| drop(value))
    {
        destructor_panicked(std::any::type_name::<T>(), &panic);
    }
}

/// Apart from its caller, of which there is one for each type.
#[cold]
fn destructor_panicked(of: &'static str, panic: &str) {
    tracing::error!(of, panic, "a destructor panicked");
}

/// Drops users' values one by one, so that one panic does not meet another.
pub(crate) fn drop_all_guarded<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_guarded);
}

/// A user's value as a text; if rendering it panics, what that said.
#[cold]
pub(crate) fn shown(value: fmt::Arguments<'_>) -> String {
    guarded(|| value.to_string()).unwrap_or_else(|panic| format!("(it cannot be shown: {panic})"))
}

/// The beginning of a user's value as a text, of which no more than `bytes`; rendering it ends there.
#[cold]
pub(crate) fn beginning(value: fmt::Arguments<'_>, bytes: usize) -> String {
    let mut text = Beginning {
        text: String::new(),
        left: bytes,
    };
    match guarded(|| text.write_fmt(value)) {
        // An error says that it is long enough, or is the user's own.
        Ok(_) => {
            text.text.shrink_to_fit();
            text.text
        }
        Err(panic) => {
            let mut said = format!("(it cannot be shown: {panic})");
            said.truncate(said.floor_char_boundary(bytes));
            said
        }
    }
}

/// A text that refuses what is beyond its length.
struct Beginning {
    text: String,
    left: usize,
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let taken = &more[..more.floor_char_boundary(self.left)];
        self.text.push_str(taken);
        if taken.len() < more.len() {
            // What might fit after it would not be the beginning.
            self.left = 0;
            return Err(fmt::Error);
        }
        self.left -= taken.len();
        Ok(())
    }
}

thread_local! {
    /// What panics on this thread have said, while somebody listens.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs `work`, and tells what panics in it have said, wherever they were caught. For the simulator, which has to know who
/// called for a runtime that it does not have.
pub(crate) fn listening<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let before = HEARD.replace(Some(Vec::new()));
    let result = work();
    let heard = HEARD.replace(before).unwrap_or_default();
    (result, heard)
}

/// What a panic said, for errors and the log.
#[cold]
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(a panic that carries no text)".to_owned());
    // A thread that ends may have no list any more.
    let _ = HEARD.try_with(|heard| {
        if let Some(heard) = &mut *heard.borrow_mut() {
            heard.push(text.clone());
        }
    });
    // What was thrown may be a value of the user's, with a destructor of its own.
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // Leaked: it might throw for ever.
        std::mem::forget(next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hydra;

    impl Drop for Hydra {
        fn drop(&mut self) {
            std::panic::panic_any(Hydra);
        }
    }

    impl fmt::Display for Hydra {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            std::panic::panic_any(Hydra)
        }
    }

    #[test]
    fn a_panic_ends_here_even_if_what_it_throws_panics_when_dropped() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(
            guarded(|| panic!("of {}", "two parts")),
            Err::<(), _>("of two parts".into())
        );
        let hydra = std::mem::ManuallyDrop::new(Hydra);
        let no_text = "(a panic that carries no text)";
        assert_eq!(
            shown(format_args!("{}", *hydra)),
            format!("(it cannot be shown: {no_text})")
        );
        assert_eq!(
            guarded(|| std::panic::panic_any(Hydra)),
            Err::<(), _>(no_text.into())
        );
        let beginning = beginning(format_args!("{}", *hydra), 10);
        assert_eq!(beginning, "(it cannot");
        drop_guarded(Hydra);
        drop_all_guarded([Hydra, Hydra]);
    }
}
