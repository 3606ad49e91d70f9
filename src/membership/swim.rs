//! SWIM (Das, Gupta and Motivala, 2002) by [foca](https://docs.rs/foca/2), as a state machine of ours.
//!
//! Each node probes another at random each period, directly and through others; who does not answer is suspected, may
//! object, and is dead otherwise. News travels on the probes, and on gossip while there is any. What is added here:
//!
//! - **Lives.** Of a life that the log has ended nothing is taken, neither its datagrams nor rumours about it. The other
//!   way round, a node that SWIM calls dead without reason goes on in the same life: foca's own generation is renewed
//!   silently, and above there is only a `Down` and an `Up`.
//! - **Alone.** foca's `announce` is one shot. Here a node that knows nobody asks seeds and members of the log each period
//!   until somebody answers, one that misses members of the log asks these, and one that is learning asks on. That is
//!   also how a mended partition is found, when the dead have long been forgotten.
//! - **Objections.** foca 2.0.0 tells a node that it is dead at the end of every suspicion, also of one to which the node
//!   has objected; such an end does not reach foca here.
//! - **Datagrams** are checked as a whole before foca sees them; see [`datagram`](crate::membership::datagram).
//! - **Late turns.** A turn that was late moves all timers by as much, since the answers wait in the socket, and has this
//!   node give others more time for a while, as in Lifeguard.

use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    Config, Foca, Member, NoCustomBroadcast, Notification, OwnedNotification, PeriodicParams,
    State, Timer,
};
use rand::{Rng as _, RngExt};

use crate::base::ids::{Incarnation, NodeId};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::membership::datagram::{
    DatagramError, ENVELOPE_BYTES, MAX_DATAGRAM_BYTES, Packet, SwimCodec, seal,
};
use crate::membership::health::LocalHealth;
use crate::membership::identity::SwimId;
use crate::membership::settings::{MembershipSettings, SettingsError};
use crate::membership::swim_counters::SwimCounters;
use crate::membership::swim_filter::Fence;
use crate::membership::view::View;

/// How many contacts a node asks at once that knows nobody.
const ASKED_AT_ONCE: usize = 3;
/// In so many periods a node compares what it knows with another, whatever happens.
const PERIODS_BETWEEN_SYNCS: u32 = 20;
/// For so many periods in which nothing new came a node that was learning asks on.
const QUIET_PERIODS: u32 = 2;

/// What SWIM wants done, and what it has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwimOutput {
    /// Send a datagram. It may be lost.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What; at most [`MAX_DATAGRAM_BYTES`].
        datagram: Vec<u8>,
    },
    /// A node answers, or answers again.
    Up {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A node has not answered anybody, and has not objected; or a newer life of it has come.
    Down {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
}

/// SWIM on one node in one of its lives.
///
/// Hand in datagrams, call [`tick`](Self::tick) at [`next_deadline`](Self::next_deadline), and take
/// [`poll_output`](Self::poll_output) until it is empty: one input sends at most a handful of datagrams.
pub struct Swim {
    foca: Foca<SwimId, SwimCodec, Rng, NoCustomBroadcast>,
    cluster: u64,
    settings: MembershipSettings,
    config: Config,
    seeds: Vec<SocketAddr>,
    fence: Fence,
    /// The lives that were last said to be up or down.
    known: BTreeMap<NodeId, (SwimId, bool)>,
    timers: BTreeMap<(Time, u64), Timer<SwimId>>,
    next_timer: u64,
    /// For the choice of contacts.
    rng: Rng,
    next_search: Time,
    members_before: usize,
    quiet_periods: u32,
    health: LocalHealth,
    /// The newest suspicion of this node that was counted: generation, and incarnation as SWIM means it.
    suspected: Option<(u32, u16)>,
    has_left: bool,
    effects: Effects,
    outputs: VecDeque<SwimOutput>,
    counters: SwimCounters,
}

impl Swim {
    /// A node that knows nobody, and asks at `seeds` for its cluster.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first setting that makes no sense.
    pub fn new(
        me: SwimId,
        cluster: u64,
        settings: &MembershipSettings,
        seeds: Vec<SocketAddr>,
        mut rng: Rng,
        now: Time,
    ) -> Result<Swim, SettingsError> {
        settings.check()?;
        let config = config_of(settings);
        let contacts_rng = seeded(rng.next_u64(), 0x6173_6b73);
        Ok(Swim {
            foca: Foca::new(me, config.clone(), rng, SwimCodec),
            cluster,
            settings: settings.clone(),
            config,
            seeds,
            fence: Fence::default(),
            known: BTreeMap::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            rng: contacts_rng,
            next_search: now,
            members_before: 0,
            quiet_periods: 0,
            health: LocalHealth::new(settings.probe_period, settings.stall_tolerance),
            suspected: None,
            has_left: false,
            effects: Effects::default(),
            outputs: VecDeque::new(),
            counters: SwimCounters::default(),
        })
    }

    /// This node, with the generation it has reached.
    #[must_use]
    pub fn me(&self) -> SwimId {
        *self.foca.identity()
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> SwimCounters {
        self.counters
    }

    /// How many others this node takes for alive.
    #[must_use]
    pub fn others(&self) -> usize {
        self.foca.num_members()
    }

    /// Whether a node is alive in this life, as far as SWIM knows.
    #[must_use]
    pub fn is_up(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.known
            .get(&node)
            .is_some_and(|(id, up)| *up && id.incarnation() == incarnation)
    }

    /// Those who do not answer and may still object.
    pub fn suspects(&self) -> impl Iterator<Item = SwimId> {
        self.foca
            .iter_members()
            .filter(|member| member.state() == State::Suspect)
            .map(|member| *member.id())
    }

    /// When [`tick`](Self::tick) has to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let search = if self.has_left {
            Time::MAX
        } else {
            self.next_search
        };
        timer.map_or(search, |at| at.min(search))
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<SwimOutput> {
        self.outputs.pop_front()
    }

    /// A datagram has come.
    ///
    /// # Errors
    ///
    /// [`DatagramError`]: nothing of it had an effect, and it is counted.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Time) -> Result<(), DatagramError> {
        self.counters.received += 1;
        self.counters.received_bytes += datagram.len() as u64;
        let taken = self.take(datagram, now);
        if let Err(error) = &taken {
            self.counters.refused(error);
        }
        taken
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.retune(now);
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            if self.is_refuted(&timer) {
                continue;
            }
            self.forget_with(&timer);
            let handled = self.foca.handle_timer(timer, &mut self.effects);
            self.absorb(handled, now);
        }
        if now >= self.next_search && !self.has_left {
            self.next_search = now + self.settings.probe_period;
            self.search(now);
        }
    }

    /// This turn is `late`: answers have waited for this node. To be called before anything is handed in.
    pub fn stalled(&mut self, late: Duration, now: Time) {
        if !self.health.stalled(late, now) {
            return;
        }
        self.counters.stalls += 1;
        let timers = std::mem::take(&mut self.timers);
        let moved = timers
            .into_iter()
            .map(|((at, number), timer)| ((at + late, number), timer));
        self.timers = moved.collect();
        self.retune(now);
    }

    /// Takes over what the log says: whose lives are over, and who else is to be found. Older views are ignored.
    pub fn adopt(&mut self, view: &View, now: Time) {
        if !self.fence.adopt(view) {
            return;
        }
        let fence = &self.fence;
        let over: Vec<Member<SwimId>> = self
            .known
            .values()
            .filter(|(id, up)| *up && fence.has_ended(id.node(), id.incarnation()))
            .map(|(id, _)| Member::down(*id))
            .collect();
        if !over.is_empty() {
            let applied = self
                .foca
                .apply_many(over.into_iter(), true, &mut self.effects);
            self.absorb(applied, now);
        }
    }

    /// Tells some others that this node goes. It takes no part afterwards.
    pub fn leave(&mut self, now: Time) {
        if !self.has_left {
            self.has_left = true;
            let left = self.foca.leave_cluster(&mut self.effects);
            self.absorb(left, now);
        }
    }

    fn take(&mut self, datagram: &[u8], now: Time) -> Result<(), DatagramError> {
        let mut packet = Packet::open(datagram, self.cluster)?;
        let me = *self.foca.identity();
        let (dst, updates) = (packet.header.dst, packet.updates.len());
        self.fence.check(&me, &mut packet)?;
        if self.has_left {
            return Ok(());
        }
        packet
            .updates
            .retain(|update| self.fence.admits(&me, update));
        self.counters.stale_updates += (updates - packet.updates.len()) as u64;
        self.leave_out_what_has_no_room(&mut packet)?;
        for update in &packet.updates {
            self.notice_suspicion(&me, update, now);
        }
        let handled = if packet.header.dst == dst && packet.updates.len() == updates {
            let body = &datagram[ENVELOPE_BYTES..];
            self.foca.handle_data(body, &mut self.effects)
        } else {
            let body = packet.to_body();
            self.foca.handle_data(&body, &mut self.effects)
        };
        self.absorb(handled, now);
        Ok(())
    }

    /// A table that is full takes nobody new.
    fn leave_out_what_has_no_room(&mut self, packet: &mut Packet) -> Result<(), DatagramError> {
        let kept = self.foca.iter_membership_state().len();
        let mut room = self.settings.max_members.saturating_sub(kept);
        // Only a cluster that outgrows its settings comes here.
        if room > packet.updates.len() {
            return Ok(());
        }
        let foca = &self.foca;
        let is_known = |node| {
            let mut state = foca.iter_membership_state();
            state.any(|member| member.id().node() == node)
        };
        let sender = packet.header.src.node();
        if !is_known(sender) {
            if room == 0 {
                self.counters.updates_without_room += 1;
                return Err(DatagramError::NoRoom);
            }
            room -= 1;
        }
        let before = packet.updates.len();
        packet.updates.retain(|update| {
            let has_room = is_known(update.id().node()) || room > 0;
            room -= usize::from(has_room && !is_known(update.id().node()));
            has_room
        });
        self.counters.updates_without_room += (before - packet.updates.len()) as u64;
        Ok(())
    }

    /// Others who suspect this node may be right that it is slow.
    fn notice_suspicion(&mut self, me: &SwimId, update: &Member<SwimId>, now: Time) {
        let suspicion = Some((update.id().generation(), update.incarnation()));
        if update.id() == me && update.state() == State::Suspect && suspicion > self.suspected {
            self.suspected = suspicion;
            self.counters.suspected += 1;
            self.health.suspected(now);
        }
    }

    /// Looks for others: for anybody while alone, for members of the log that are missing, for more while there are more,
    /// and for seeds that are missing otherwise.
    fn search(&mut self, now: Time) {
        let members = self.foca.num_members();
        if members != self.members_before {
            self.quiet_periods = 0;
        } else {
            self.quiet_periods = self.quiet_periods.saturating_add(1);
        }
        self.members_before = members;
        let mut contacts = if members == 0 {
            let live = self.fence.live().map(|(_, _, address)| address);
            self.seeds.iter().copied().chain(live).collect()
        } else {
            self.missing()
        };
        let me = self.foca.identity().address();
        contacts.retain(|contact| *contact != me);
        if contacts.is_empty() && members > 0 && self.quiet_periods < QUIET_PERIODS {
            let chosen = self.rng.random_range(0..members);
            let chosen = self.foca.iter_members().nth(chosen).map(|m| *m.id());
            chosen.into_iter().for_each(|chosen| self.ask(chosen, now));
        }
        for _ in 0..ASKED_AT_ONCE.min(contacts.len()) {
            let chosen = self.rng.random_range(0..contacts.len());
            let contact = contacts.swap_remove(chosen);
            self.ask(SwimId::whoever_is_at(contact), now);
        }
    }

    /// The members of the log that SWIM does not reach, or a seed that it does not.
    fn missing(&mut self) -> Vec<SocketAddr> {
        let others = self.foca.num_members();
        let is_up = |node, incarnation| self.is_up(node, incarnation);
        let live = self.fence.live();
        let missing = live.filter(|(node, incarnation, _)| !is_up(*node, *incarnation));
        let missing: Vec<_> = missing.map(|(_, _, address)| address).collect();
        if missing.len() > 1 || self.seeds.is_empty() || others == 0 {
            return missing;
        }
        // This node is not up to itself: nobody else is missing.
        let seed = self.seeds[self.rng.random_range(0..self.seeds.len())];
        let mut members = self.foca.iter_members();
        let is_there = members.any(|member| member.id().address() == seed);
        missing
            .into_iter()
            .chain((!is_there).then_some(seed))
            .collect()
    }

    fn ask(&mut self, whom: SwimId, now: Time) {
        let asked = self.foca.announce(whom, &mut self.effects);
        self.absorb(asked, now);
    }

    /// Gives others as much time as this node's health asks for, and news as many rounds as the cluster's size does.
    fn retune(&mut self, now: Time) {
        let suspicion = self.settings.suspicion * self.health.multiplier(now);
        let transmissions = transmissions_for(self.foca.num_members());
        if self.config.suspect_to_down_after == suspicion
            && self.config.max_transmissions == transmissions
        {
            return;
        }
        self.config.suspect_to_down_after = suspicion;
        self.config.max_transmissions = transmissions;
        let set = self.foca.set_config(self.config.clone());
        self.absorb(set, now);
    }

    /// Whether this is the end of a suspicion to which its node has objected. foca would leave the node alive, and yet
    /// tell it that it is dead, whereupon it would renew itself.
    fn is_refuted(&self, timer: &Timer<SwimId>) -> bool {
        let Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = timer
        else {
            return false;
        };
        let mut members = self.foca.iter_members();
        !members.any(|member| member.id() == member_id && member.incarnation() == *incarnation)
    }

    /// foca is about to forget a dead node.
    fn forget_with(&mut self, timer: &Timer<SwimId>) {
        if let Timer::RemoveDown(gone) = timer
            && self.known.get(&gone.node()) == Some(&(*gone, false))
        {
            self.known.remove(&gone.node());
        }
    }

    /// Makes outputs of what foca wanted.
    fn absorb(&mut self, result: Result<(), foca::Error>, now: Time) {
        self.counters.internal += u64::from(result.is_err());
        for (after, timer) in self.effects.timers.drain(..) {
            self.timers.insert((now + after, self.next_timer), timer);
            self.next_timer += 1;
        }
        for (to, body) in self.effects.sends.drain(..) {
            let datagram = seal(self.cluster, &body);
            self.counters.sent += 1;
            self.counters.sent_bytes += datagram.len() as u64;
            let to = to.address();
            self.outputs.push_back(SwimOutput::Send { to, datagram });
        }
        let mut notes = std::mem::take(&mut self.effects.notes);
        for note in notes.drain(..) {
            match note {
                OwnedNotification::MemberUp(id) => self.note(id, true),
                OwnedNotification::MemberDown(id) => self.note(id, false),
                OwnedNotification::Rename(_, id) => {
                    // If it also changes between up and down, the word for that follows.
                    let up = self.known.get(&id.node()).is_some_and(|(_, up)| *up);
                    self.note(id, up);
                }
                OwnedNotification::Rejoin(_) => self.counters.renewals += 1,
                OwnedNotification::Active
                | OwnedNotification::Idle
                | OwnedNotification::Defunct => {}
            }
        }
        self.effects.notes = notes;
    }

    /// A node is up or down; says so if that is new of this life. That of an older life ends with it.
    fn note(&mut self, id: SwimId, up: bool) {
        let before = self.known.insert(id.node(), (id, up));
        let (node, incarnation) = (id.node(), id.incarnation());
        let was_up = match before {
            Some((old, was_up)) if old.incarnation() == incarnation => was_up,
            Some((old, true)) => {
                let incarnation = old.incarnation();
                self.outputs
                    .push_back(SwimOutput::Down { node, incarnation });
                false
            }
            _ => false,
        };
        if up && !was_up {
            self.outputs.push_back(SwimOutput::Up { node, incarnation });
        } else if was_up && !up {
            self.outputs
                .push_back(SwimOutput::Down { node, incarnation });
        }
    }
}

/// What foca wants done, until it has returned.
#[derive(Default)]
struct Effects {
    sends: Vec<(SwimId, Vec<u8>)>,
    timers: Vec<(Duration, Timer<SwimId>)>,
    notes: Vec<OwnedNotification<SwimId>>,
}

impl foca::Runtime<SwimId> for Effects {
    fn notify(&mut self, notification: Notification<'_, SwimId>) {
        self.notes.push(notification.to_owned());
    }

    fn send_to(&mut self, to: SwimId, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<SwimId>, after: Duration) {
        self.timers.push((after, event));
    }
}

fn config_of(settings: &MembershipSettings) -> Config {
    let one = NonZeroUsize::MIN;
    let nonzero = |n: usize| NonZeroUsize::new(n).unwrap_or(one);
    Config {
        probe_period: settings.probe_period,
        probe_rtt: settings.probe_timeout,
        num_indirect_probes: nonzero(settings.indirect_probes),
        max_transmissions: transmissions_for(0),
        suspect_to_down_after: settings.suspicion,
        remove_down_after: Some(settings.forget_dead_after),
        max_packet_size: nonzero(MAX_DATAGRAM_BYTES - ENVELOPE_BYTES),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: settings.probe_period * PERIODS_BETWEEN_SYNCS,
            num_members: one,
        }),
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: settings.gossip_period,
            num_members: nonzero(settings.gossip_fanout),
        }),
    }
}

/// How often each node tells a piece of news: a little more than the logarithm of the cluster's size, so that nobody is
/// left out but with a chance that falls with the size.
fn transmissions_for(others: usize) -> NonZeroU8 {
    let rounds = 5 + (others + 1).ilog2() as u8;
    NonZeroU8::new(rounds).unwrap_or(NonZeroU8::MIN)
}
