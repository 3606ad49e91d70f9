//! Cells: one for each actor of the core, holding its mailbox and its body.

use super::activation::Ran;
use super::lineage::Links;
use super::local::Local;
use super::mailbox::{Mailbox, Policy, Queue};
use super::model::Fault;
use super::reference::CellRef;
use super::spawn::Seed;
use super::supervision::{Directive, Supervision};
use crate::base::paged::Paged;
use std::any::Any;

const NIL: u32 = u32::MAX;

/// What runs in a cell. One implementation serves actors, one entities.
pub(crate) trait Body: Any {
    /// Handles at most `budget` waiting messages.
    fn run(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran;

    /// Handles the ticks that are due, and then at most `budget` waiting messages.
    fn run_on_ticks(&mut self, local: &mut Local, at: CellRef, budget: u32) -> Ran;

    /// Handles the messages for it that come next in a batch, an [`ActorBatch`](super::batch::ActorBatch) of its message
    /// type: they need not pass through its mailbox.
    fn run_on_arrivals(&mut self, local: &mut Local, at: CellRef, batch: &mut dyn Any) -> Ran;

    /// Continues after the future for which the mailbox was suspended; `then` is a
    /// [`Resume`](super::context::Resume) of the actor's type.
    fn resume(&mut self, local: &mut Local, at: CellRef, then: Box<dyn Any>) -> Ran;

    /// Runs the actor's `post_stop`.
    fn post_stop(&mut self, local: &mut Local, at: CellRef);

    /// Has the actor take its last snapshot, if it takes any.
    fn settle_for_the_end(&mut self, local: &mut Local, at: CellRef);

    /// Asks the actor what to do about a fault of its own.
    fn on_error(&mut self, local: &mut Local, at: CellRef, fault: &Fault) -> Option<Directive>;

    /// Runs the actor's `pre_restart`, if it has begun.
    fn pre_restart(&mut self, local: &mut Local, at: CellRef, fault: &Fault);

    /// How the actor supervises its children.
    fn supervision(&self) -> Supervision;

    /// Marks an actor that was made to take the place of one that has failed.
    fn begin_again(&mut self);

    /// Marks an entity whose children have stopped although it stays: it starts as if it had just come here.
    fn arrive_again(&mut self) {}

    /// Takes out what makes such an actor; without it, this one cannot be restarted.
    fn take_seed(&mut self) -> Option<Seed>;

    /// The entity in here, if it is one.
    fn entity(&self) -> Option<EntityPlace> {
        None
    }
}

/// Where an entity belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntityPlace {
    pub(crate) region: u16,
    pub(crate) shard: u32,
    /// The id's place in the shard's table.
    pub(crate) table_hash: u64,
}

/// One actor: its mailbox, its body, and how it stands with the scheduler.
#[derive(Default)]
pub(crate) struct Cell {
    /// Even when the cell is free, odd when it is taken.
    generation: u32,
    /// The table of its message type.
    pub(crate) class: u16,
    /// Its actor type, for the statistics.
    pub(crate) kind: u16,
    /// Waiting in the ready queue, running, suspended, or waiting for its restart: a new message need not schedule it.
    pub(crate) scheduled: bool,
    /// An asynchronous handler is under way.
    pub(crate) suspended: bool,
    /// Awaited sends wait for room.
    pub(crate) has_waiting: bool,
    pub(crate) intake: Intake,
    pub(crate) capacity: u32,
    pub(crate) waiters: u32,
    pub(crate) queue: Queue,
    pub(super) links: Links,
    pub(crate) body: Option<Box<dyn Body>>,
}

/// What the mailbox does when it is full, and whether a stop lies in it; in one byte, since the cell has no second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Intake(u8);

impl Intake {
    const STOPPING: u8 = 1 << 7;

    fn new(policy: Policy) -> Intake {
        Intake(policy as u8)
    }

    pub(crate) fn policy(self) -> Policy {
        match self.0 & !Self::STOPPING {
            n if n == Policy::DropOldest as u8 => Policy::DropOldest,
            n if n == Policy::Reject as u8 => Policy::Reject,
            n if n == Policy::Backpressure as u8 => Policy::Backpressure,
            _ => Policy::DropNew,
        }
    }

    /// Notes that a stop lies in the mailbox. Returns whether one did already: a second one has nothing to do.
    pub(crate) fn note_stop(&mut self) -> bool {
        let noted = self.0 & Self::STOPPING != 0;
        self.0 |= Self::STOPPING;
        noted
    }

    /// Forgets the stop. Returns whether there was one.
    pub(crate) fn forget_stop(&mut self) -> bool {
        let noted = self.0 & Self::STOPPING != 0;
        self.0 &= !Self::STOPPING;
        noted
    }
}

/// All cells of a core.
pub(crate) struct Cells {
    cells: Paged<Cell>,
    free: u32,
    fresh: u32,
    live: usize,
}

impl Default for Cells {
    fn default() -> Self {
        Cells {
            cells: Paged::default(),
            free: NIL,
            fresh: 0,
            live: 0,
        }
    }
}

impl Cells {
    /// Cells that are taken.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// The cell, if its tenant is still the one of the reference.
    #[inline(always)]
    pub(crate) fn get(&mut self, at: CellRef) -> Option<&mut Cell> {
        self.cells
            .get_mut(at.slot())
            .filter(|cell| cell.generation == at.generation())
    }

    /// The reference to the present tenant of a slot.
    pub(crate) fn tenant(&self, slot: u32) -> Option<CellRef> {
        let generation = self.cells.get(slot)?.generation;
        (generation & 1 == 1).then_some(CellRef::new(slot, generation))
    }

    pub(crate) fn allocate(
        &mut self,
        class: u16,
        kind: u16,
        mailbox: Mailbox,
        body: Box<dyn Body>,
    ) -> CellRef {
        let slot = if self.free == NIL {
            if self.fresh == self.cells.capacity() {
                self.cells.grow();
            }
            self.fresh += 1;
            self.fresh - 1
        } else {
            let slot = self.free;
            // A free cell keeps the next free one where its capacity will be.
            self.free = self.cells[slot].capacity;
            slot
        };
        self.live += 1;
        let cell = &mut self.cells[slot];
        let generation = cell.generation.wrapping_add(1);
        *cell = Cell {
            generation,
            class,
            kind,
            intake: Intake::new(mailbox.policy),
            capacity: mailbox.capacity,
            waiters: mailbox.waiters,
            body: Some(body),
            ..Cell::default()
        };
        CellRef::new(slot, generation)
    }

    /// Frees a cell, whose mailbox must have been emptied; references to its tenant lead nowhere from now on.
    pub(crate) fn release(&mut self, at: CellRef) -> Option<Box<dyn Body>> {
        let next_free = self.free;
        let cell = self.get(at)?;
        debug_assert!(
            cell.queue.is_empty(),
            "the mailbox of a cell that is released must be empty"
        );
        cell.generation = cell.generation.wrapping_add(1);
        cell.capacity = next_free;
        let body = cell.body.take();
        self.free = at.slot();
        self.live -= 1;
        body
    }

    /// Gives a cell to the next tenant, with the mailbox as it is; references to the last one lead nowhere from now on.
    pub(crate) fn renew(&mut self, at: CellRef, body: Box<dyn Body>) -> Option<CellRef> {
        let cell = self.get(at)?;
        cell.generation = cell.generation.wrapping_add(2);
        cell.scheduled = false;
        cell.suspended = false;
        cell.body = Some(body);
        Some(CellRef::new(at.slot(), cell.generation))
    }

    /// The links of the cell of a tenant.
    pub(super) fn links_mut(&mut self, slot: u32) -> &mut Links {
        &mut self.cells[slot].links
    }

    pub(super) fn links(&self, slot: u32) -> &Links {
        &self.cells[slot].links
    }

    /// The slots of all tenants, in order.
    pub(crate) fn tenants(&self) -> Vec<CellRef> {
        (0..self.fresh)
            .filter_map(|slot| self.tenant(slot))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::reply::Envelope;

    struct Nothing;

    impl Body for Nothing {
        fn run(&mut self, _: &mut Local, _: CellRef, _: u32) -> Ran {
            Ran::Idle
        }
        fn run_on_ticks(&mut self, _: &mut Local, _: CellRef, _: u32) -> Ran {
            Ran::Idle
        }
        fn run_on_arrivals(&mut self, _: &mut Local, _: CellRef, _: &mut dyn Any) -> Ran {
            Ran::Idle
        }
        fn on_error(&mut self, _: &mut Local, _: CellRef, _: &Fault) -> Option<Directive> {
            None
        }
        fn pre_restart(&mut self, _: &mut Local, _: CellRef, _: &Fault) {}
        fn settle_for_the_end(&mut self, _: &mut Local, _: CellRef) {}
        fn supervision(&self) -> Supervision {
            Supervision::default()
        }
        fn begin_again(&mut self) {}
        fn take_seed(&mut self) -> Option<Seed> {
            None
        }
        fn resume(&mut self, _: &mut Local, _: CellRef, _: Box<dyn Any>) -> Ran {
            Ran::Idle
        }
        fn post_stop(&mut self, _: &mut Local, _: CellRef) {}
    }

    #[test]
    fn a_reference_ends_with_its_tenant() {
        let mut cells = Cells::default();
        let first = cells.allocate(0, 0, Mailbox::default(), Box::new(Nothing));
        let second = cells.allocate(0, 0, Mailbox::default(), Box::new(Nothing));
        assert!(cells.release(first).is_some());
        assert!(cells.get(first).is_none() && cells.release(first).is_none());
        let third = cells.allocate(0, 0, Mailbox::default(), Box::new(Nothing));
        assert_eq!(third.slot(), first.slot());
        assert!(
            cells.get(first).is_none() && cells.get(second).is_some() && cells.get(third).is_some()
        );
        assert_eq!(cells.tenants(), vec![third, second]);
        for tenant in [first, second, third] {
            for envelope in [Envelope::Plain, Envelope::Ask] {
                assert_eq!(tenant.on(envelope).off(), (tenant, envelope));
            }
        }
        assert_eq!(cells.len(), 2);
    }

    #[test]
    fn a_renewed_cell_has_another_tenant() {
        let mut cells = Cells::default();
        let first = cells.allocate(0, 0, Mailbox::default(), Box::new(Nothing));
        let second = cells.renew(first, Box::new(Nothing)).unwrap();
        assert_eq!(second.slot(), first.slot());
        assert!(cells.get(first).is_none() && cells.get(second).is_some());
        assert!(cells.renew(first, Box::new(Nothing)).is_none() && cells.release(first).is_none());
        assert_eq!((cells.tenants(), cells.len()), (vec![second], 1));
        assert!(cells.release(second).is_some());
        assert_eq!((cells.tenants(), cells.len()), (vec![], 0));
    }

    #[test]
    fn a_stop_is_noted_beside_every_policy() {
        for policy in [
            Policy::DropNew,
            Policy::DropOldest,
            Policy::Reject,
            Policy::Backpressure,
        ] {
            let mut intake = Intake::new(policy);
            assert_eq!((intake.policy(), intake.forget_stop()), (policy, false));
            assert!(!intake.note_stop() && intake.note_stop());
            assert_eq!((intake.policy(), intake.forget_stop()), (policy, true));
            assert!(!intake.forget_stop());
        }
    }

    #[test]
    fn a_cell_is_small() {
        assert!(size_of::<Cell>() <= 64, "{}", size_of::<Cell>());
    }
}
