//! The consumer's side as a state machine: what it may ask for, what it has asked for, and what has come.

use super::error::End;
use super::protocol::Item;
use std::collections::VecDeque;

/// What a consumer has asked for and received.
pub(crate) struct Inlet<T> {
    /// It asks for so many items before somebody wants them.
    ahead: usize,
    /// Items that may be asked for.
    credit: usize,
    /// Items that have been asked for; one demand is open at a time.
    asked: usize,
    items: VecDeque<Item<T>>,
    end: Option<End>,
    left: bool,
}

impl<T> Inlet<T> {
    pub(crate) fn new() -> Self {
        Inlet {
            ahead: 0,
            credit: 0,
            asked: 0,
            items: VecDeque::new(),
            end: None,
            left: false,
        }
    }

    /// Has it ask for `ahead` items without being told to. For its beginning.
    pub(crate) fn ask_ahead(&mut self, ahead: usize) {
        self.ahead = ahead;
        self.credit = self.credit.max(ahead);
    }

    /// Lets it ask for more.
    pub(crate) fn allow(&mut self, items: usize) {
        self.credit = self.credit.saturating_add(items);
    }

    /// Somebody waits for an item: one at least must be on its way.
    pub(crate) fn wait(&mut self) {
        if self.credit == 0 && self.asked == 0 {
            self.credit = 1;
        }
    }

    /// How many items to ask for now; nothing, while that is not worth a demand.
    pub(crate) fn wants(&self) -> usize {
        let is_worth_it = self.items.is_empty() || self.credit.saturating_mul(2) >= self.ahead;
        if self.is_over() || self.asked > 0 || !is_worth_it {
            return 0;
        }
        self.credit
    }

    /// Asks for what it [wants](Inlet::wants).
    pub(crate) fn ask(&mut self) -> usize {
        let wanted = self.wants();
        self.asked += wanted;
        self.credit -= wanted;
        wanted
    }

    /// The demand has been answered; what the answer did not bring may be asked for again. `false` if nobody wants the
    /// items any more.
    pub(crate) fn answered(&mut self, items: usize) -> bool {
        debug_assert!(items <= self.asked, "more has come than was asked for");
        self.credit = self.credit.saturating_add(self.asked.saturating_sub(items));
        self.asked = 0;
        !self.left
    }

    /// Keeps items until they are taken out.
    pub(crate) fn keep(&mut self, items: Vec<Item<T>>) {
        self.items.extend(items);
    }

    /// Takes out an item; another may be asked for.
    pub(crate) fn take(&mut self) -> Option<T> {
        let (_, item) = self.items.pop_front()?;
        if self.ahead > 0 {
            self.credit += 1;
        }
        Some(item)
    }

    /// Whether nothing will be asked for any more.
    pub(crate) fn is_over(&self) -> bool {
        self.left || self.end.is_some()
    }

    /// The stream has ended; the first end counts. Returns whether this is it.
    pub(crate) fn finish(&mut self, end: End) -> bool {
        let first = !self.is_over();
        if first {
            self.end = Some(end);
        }
        first
    }

    /// The end, once everything has been taken out.
    pub(crate) fn take_end(&mut self) -> Option<End> {
        if self.items.is_empty() && !self.left {
            let end = self.end.take()?;
            self.left = true;
            return Some(end);
        }
        None
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// The consumer goes; what it has not taken out.
    pub(crate) fn leave(&mut self) -> Vec<Item<T>> {
        self.left = true;
        std::mem::take(&mut self.items).into()
    }
}
