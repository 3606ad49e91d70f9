//! Lookups of actors by path on other nodes: what one core has asked, and what it says when it is asked.

use super::directory::Listing;
use super::link::Waiting;
use super::local::{Local, TimerEvent};
use super::lookup::{LookupError, Wanted};
use super::reference::{AnyActorRef, CellRef, Home};
use super::signals::Signal;
use crate::base::ids::{CoreId, NodeId};
use crate::base::timer_wheel::TimerKey;
use crate::wire::address::{Address, Life, Target};
use crate::wire::frame::FrameRef;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::lookup::Answer;
use crate::wire::message::TypeTag;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many lookups wait on one core at most.
const MOST_LOOKUPS: usize = 10_000;

/// What becomes of a lookup.
pub(super) type Outcome = Result<Option<AnyActorRef>, LookupError>;

/// What another node has answered.
pub(crate) struct Found {
    number: u64,
    from: Life,
    says: Says,
}

enum Says {
    Nobody,
    Here(CoreId, CellRef),
    Other(String, TypeTag),
    Unlisted,
}

/// One that waits for answers.
struct OpenLookup {
    wanted: Wanted,
    /// Nodes that were asked, each in this life.
    waiting: BTreeMap<NodeId, Life>,
    /// Nodes that could not be asked, or of whose answer nobody knows.
    unanswered: BTreeSet<NodeId>,
    /// The first that had somebody else.
    wrong: Option<LookupError>,
    timer: TimerKey,
    done: Box<dyn FnOnce(Outcome) + Send>,
}

/// The lookups of one core.
#[derive(Default)]
pub(crate) struct Lookups {
    given: u64,
    open: BTreeMap<u64, OpenLookup>,
}

impl Lookups {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Local {
    /// Asks one node, or all members but this one, for a path.
    pub(super) fn look_up(
        &mut self,
        node: Option<NodeId>,
        wanted: Wanted,
        within: Duration,
        done: Box<dyn FnOnce(Outcome) + Send>,
    ) {
        let (me, is_member) = (self.core, self.is_member());
        let life = self.wire_life();
        let header = self.header(Kind::Find, Target::Node);
        let Some(remote) = &mut self.remote else {
            return done(node.map_or(Ok(None), |node| Err(LookupError::NotAMember(node))));
        };
        if node.is_none() && !is_member {
            // Nobody can be asked.
            return done(Err(LookupError::NotAMember(life.node)));
        }
        if remote.lookups.len() >= MOST_LOOKUPS {
            return done(Err(LookupError::TooMany));
        }
        remote.lookups.given += 1;
        let number = remote.lookups.given;
        let header = Header {
            tag: wanted.tag,
            address: Some(Address {
                life,
                core: me,
                table: 0,
                place: number,
            }),
            remaining: Some(within),
            ..header
        };
        let bounds = remote.bounds;
        let (mut waiting, mut unanswered) = (BTreeMap::new(), BTreeSet::new());
        let mut lengths = Vec::new();
        let links = remote.links.iter_mut();
        for (node, link) in links.filter(|it| node.is_none_or(|node| *it.0 == node)) {
            let written = link.has_room(&bounds).then(|| {
                let path = wanted.path.as_bytes();
                link.writer.write_bytes(&header, &[], path)
            });
            match written {
                Some(Ok(length)) => {
                    link.wrote(length, Waiting::Notice);
                    lengths.push(length);
                    waiting.insert(*node, link.life);
                }
                _ => _ = unanswered.insert(*node),
            }
        }
        if let Some(node) = node
            && waiting.is_empty()
            && unanswered.is_empty()
        {
            return done(Err(LookupError::NotAMember(node)));
        }
        let due = self.now + within;
        let timer = self.timers.insert(due, TimerEvent::Lookup(number));
        let open = OpenLookup {
            wanted,
            waiting,
            unanswered,
            wrong: None,
            timer,
            done,
        };
        remote.lookups.open.insert(number, open);
        for length in lengths {
            self.count_written(length);
        }
        self.settle_lookup(number);
    }

    /// Ends a lookup if all have answered that ever will.
    fn settle_lookup(&mut self, number: u64) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        let is_open = |it: &OpenLookup| !it.waiting.is_empty();
        if remote.lookups.open.get(&number).is_none_or(is_open) {
            return;
        }
        if let Some(open) = remote.lookups.open.remove(&number) {
            self.timers.cancel(open.timer);
            (open.done)(match open.wrong {
                Some(wrong) => Err(wrong),
                None if open.unanswered.is_empty() => Ok(None),
                None => Err(LookupError::Unanswered {
                    path: open.wanted.path,
                    nodes: open.unanswered.into_iter().collect(),
                }),
            });
        }
    }

    /// Nobody has answered in time.
    pub(crate) fn lookup_overdue(&mut self, number: u64) {
        if let Some(remote) = &mut self.remote
            && let Some(open) = remote.lookups.open.get_mut(&number)
        {
            let waiting = std::mem::take(&mut open.waiting);
            open.unanswered.extend(waiting.into_keys());
            self.settle_lookup(number);
        }
    }

    /// The connection to a node has gone, and perhaps what was asked of it.
    pub(super) fn lookups_unanswered(&mut self, node: NodeId) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        let mut concerned = Vec::new();
        for (number, open) in &mut remote.lookups.open {
            if open.waiting.remove(&node).is_some() {
                open.unanswered.insert(node);
                concerned.push(*number);
            }
        }
        for number in concerned {
            self.settle_lookup(number);
        }
    }

    /// Takes the question of another node.
    pub(super) fn take_find(&mut self, frame: &FrameRef<'_>) {
        let header = frame.header();
        let path = std::str::from_utf8(frame.payload().bytes());
        let (Ok(path), Some(address)) = (path, header.address) else {
            return self.senseless(frame, "a path that is no text");
        };
        if address.life != header.sender.life {
            return self.senseless(frame, "a lookup for somebody else");
        }
        let listing = self.handle.gate().directory.find_for(path, header.tag);
        let (answer, tag) = match listing {
            Listing::Nobody => (Answer::Nobody, TypeTag::NONE),
            Listing::Unlisted => (Answer::Unlisted, TypeTag::NONE),
            Listing::Other(name, tag) => (Answer::Other(name), tag),
            Listing::Here(actor) => {
                let (core, cell) = (actor.core, actor.cell.to_bits());
                (Answer::Here { core, cell }, header.tag)
            }
        };
        let header = Header {
            tag,
            address: Some(address),
            ..self.header(Kind::Found, Target::Node)
        };
        let (node, life) = (address.life.node, address.life);
        let link = (self.remote.as_mut()).and_then(|it| it.link(node, Some(life)));
        if let Some(link) = link
            && let Ok(length) = link.writer.write_bytes(&header, &[], &answer.encode())
        {
            link.wrote(length, Waiting::Notice);
            self.count_written(length);
        }
    }

    /// Takes the answer of another node.
    pub(super) fn take_found(&mut self, frame: &FrameRef<'_>) {
        let header = frame.header();
        let answer = Answer::decode(frame.payload().bytes());
        let (Ok(answer), Some(address)) = (answer, header.address) else {
            return self.senseless(frame, "an answer to a lookup that cannot be read");
        };
        if address.life != self.wire_life() || address.core.index() >= self.port.cores() {
            return self.senseless(frame, "an answer to a lookup of somebody else");
        }
        let found = Found {
            number: address.place,
            from: header.sender.life,
            says: match answer {
                Answer::Nobody => Says::Nobody,
                Answer::Here { core, cell } => Says::Here(core, CellRef::from_bits(cell)),
                Answer::Other(name) => Says::Other(name.to_owned(), header.tag),
                Answer::Unlisted => Says::Unlisted,
            },
        };
        if address.core == self.core {
            self.found(found);
        } else if self.room_towards(address.core).is_ok() {
            self.signal(address.core, Signal::Found(Box::new(found)));
        } else {
            // Its asker takes it for unanswered in the end.
            self.count_refused_frame();
        }
    }

    /// A node has answered a lookup of this core, which may have ended before.
    pub(super) fn found(&mut self, found: Found) {
        let Found { number, from, says } = found;
        let Some(remote) = &mut self.remote else {
            return;
        };
        let Some(open) = remote.lookups.open.get_mut(&number) else {
            return;
        };
        if open.waiting.get(&from.node) != Some(&from) {
            return;
        }
        open.waiting.remove(&from.node);
        match says {
            Says::Nobody => {}
            Says::Here(core, cell) => {
                let home = Home::new(from.node, from.incarnation);
                if let Some(open) = remote.lookups.open.remove(&number) {
                    self.timers.cancel(open.timer);
                    (open.done)(Ok(Some(AnyActorRef { home, core, cell })));
                }
                return;
            }
            Says::Other(name, tag) => {
                let wrong = open.wanted.other(from.node, &name, tag.version);
                open.wrong.get_or_insert(wrong);
            }
            Says::Unlisted => {
                let path = open.wanted.path.clone();
                let wrong = LookupError::NotClustered {
                    node: from.node,
                    path,
                };
                open.wrong.get_or_insert(wrong);
            }
        }
        self.settle_lookup(number);
    }
}
