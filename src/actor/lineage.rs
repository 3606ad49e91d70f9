//! Parents and children: the links between the cells of one core.
//!
//! They lie in the cells, so that a child costs no allocation. The children of an actor form a list, the youngest first.

use super::cell::Cells;
use super::reference::CellRef;

const NIL: u32 = u32::MAX;

/// Where an actor stands among its kin, as slots of cells.
pub(super) struct Links {
    parent: u32,
    youngest_child: u32,
    older: u32,
    younger: u32,
}

impl Default for Links {
    fn default() -> Self {
        Links {
            parent: NIL,
            youngest_child: NIL,
            older: NIL,
            younger: NIL,
        }
    }
}

impl Cells {
    /// Makes an actor that has no parent the youngest child of another.
    pub(super) fn adopt(&mut self, parent: CellRef, child: CellRef) {
        let (parent, child) = (parent.slot(), child.slot());
        let older = std::mem::replace(&mut self.links_mut(parent).youngest_child, child);
        if older != NIL {
            self.links_mut(older).younger = child;
        }
        let links = self.links_mut(child);
        (links.parent, links.older) = (parent, older);
    }

    /// Takes a childless actor out of its parent's list.
    #[inline]
    pub(super) fn disown(&mut self, child: CellRef) {
        let Links {
            parent,
            older,
            younger,
            ..
        } = *self.links(child.slot());
        if parent == NIL {
            return;
        }
        if older != NIL {
            self.links_mut(older).younger = younger;
        }
        if younger == NIL {
            self.links_mut(parent).youngest_child = older;
        } else {
            self.links_mut(younger).older = older;
        }
        *self.links_mut(child.slot()) = Links::default();
    }

    pub(super) fn parent(&self, of: CellRef) -> Option<CellRef> {
        self.relative(self.links(of.slot()).parent)
    }

    #[inline]
    pub(super) fn youngest_child(&self, of: CellRef) -> Option<CellRef> {
        self.relative(self.links(of.slot()).youngest_child)
    }

    /// The children of an actor, the youngest first.
    pub(super) fn children(&self, of: CellRef) -> impl Iterator<Item = CellRef> {
        std::iter::successors(self.youngest_child(of), |child| {
            self.relative(self.links(child.slot()).older)
        })
    }

    #[inline]
    fn relative(&self, slot: u32) -> Option<CellRef> {
        if slot == NIL { None } else { self.tenant(slot) }
    }
}
