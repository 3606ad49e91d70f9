//! Looking up the names of seeds, while the node is not in: a name may stand for nothing yet, or for another address than
//! before.
//!
//! A lookup blocks, for as long as the system's resolver takes. So it is done by a thread of its own, one at a time, that
//! ends by itself; nobody waits for it, not even the end of the runtime.

use super::port::PortError;
use super::status::Status;
use crate::base::ids::NodeId;
use crate::base::time::Time;
use crate::cluster::node::settings::NodeSettings;
use crate::cluster::plane::ControlPlane;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the names are looked up of seeds to which there is no connection.
pub(crate) const EACH: Duration = Duration::from_secs(5);

/// What says for which addresses a name stands; it may block.
pub(crate) type Resolver = fn(&str) -> Result<Vec<SocketAddr>, PortError>;

/// What is known of the names of seeds at the start.
#[derive(Clone, Debug)]
pub(crate) struct SeedNames {
    /// Each other seed whose address is a name, `host:port`.
    pub(crate) names: BTreeMap<NodeId, String>,
    /// Those of them that stand for no address yet, and why.
    pub(crate) unknown: BTreeMap<NodeId, String>,
    /// Who is asked.
    pub(crate) resolver: Resolver,
    /// How often.
    pub(crate) each: Duration,
}

/// What was found for one seed.
type Found = (NodeId, Result<Vec<SocketAddr>, String>);

/// The lookups of a node.
#[derive(Debug)]
pub(super) struct SeedLookups {
    names: BTreeMap<NodeId, String>,
    unknown: BTreeMap<NodeId, String>,
    resolver: Resolver,
    each: Duration,
    /// Whose bell is rung when something was found.
    status: Arc<Status>,
    found: Arc<Mutex<Vec<Found>>>,
    thread: Option<JoinHandle<()>>,
    /// When to look again; never, while nobody looks for a seed.
    next: Time,
}

impl SeedLookups {
    pub(super) fn new(known: SeedNames, status: Arc<Status>) -> SeedLookups {
        for what in known.unknown.values() {
            tracing::warn!("{}", obstacle(what));
        }
        SeedLookups {
            names: known.names,
            unknown: known.unknown,
            resolver: known.resolver,
            each: known.each,
            status,
            found: Arc::default(),
            thread: None,
            next: Time::MAX,
        }
    }

    /// A life begins, which looks for seeds where the last lookups have found them.
    pub(super) fn begin(&mut self, now: Time) {
        if !self.names.is_empty() {
            self.next = now + self.each;
        }
    }

    /// When [`turn`](SeedLookups::turn) has to be called next; when something was found, the bell rings.
    pub(super) fn deadline(&self) -> Time {
        self.next
    }

    /// What stands in the way of finding a seed, if that is so.
    pub(super) fn obstacle(&self) -> Option<Arc<str>> {
        let what = self.unknown.values().next()?;
        Some(obstacle(what).into())
    }

    /// Tells the plane what was found, and the settings of later lives; and looks again, if it is time and the plane misses
    /// a seed. Whether the plane has something to do, or the [`obstacle`](SeedLookups::obstacle) is another.
    pub(super) fn turn(
        &mut self,
        plane: &mut ControlPlane,
        settings: &mut NodeSettings,
        now: Time,
    ) -> bool {
        let Some(found) = self.take_found(settings.address) else {
            return self.look_if_due(plane, now);
        };
        for (seed, addresses) in found {
            if let Some(address) = plane.seed_found(seed, &addresses, now) {
                tracing::info!(%seed, %address, "a seed is looked for at another address");
            }
            let known = settings.seeds.iter_mut().find(|known| known.node == seed);
            if let (Some(known), Some(first)) = (known, addresses.first()) {
                known.address = Some(*first);
            }
        }
        self.look_if_due(plane, now);
        true
    }

    fn look_if_due(&mut self, plane: &ControlPlane, now: Time) -> bool {
        if now < self.next {
            return false;
        }
        if plane.node().incarnation().is_some() {
            // From here on the log says where nodes are.
            self.next = Time::MAX;
            self.unknown.clear();
            return true;
        }
        self.next = now + self.each;
        let missing: Vec<NodeId> = plane.node().missing_seeds().collect();
        let before = self.unknown.len();
        // One that has come by itself is in nobody's way.
        self.unknown.retain(|seed, _| missing.contains(seed));
        self.look(missing);
        self.unknown.len() != before
    }

    /// Begins to look up the names of these seeds, as far as they have any.
    fn look(&mut self, missing: Vec<NodeId>) {
        let name = |seed: NodeId| Some((seed, self.names.get(&seed)?.clone()));
        let names: Vec<(NodeId, String)> = missing.into_iter().filter_map(name).collect();
        if names.is_empty() || self.thread.is_some() {
            return;
        }
        let (resolver, found, status) = (self.resolver, self.found.clone(), self.status.clone());
        let looks = move || {
            for (seed, name) in names {
                let result = resolver(&name).map_err(|error| error.to_string());
                lock(&found).push((seed, result));
                status.stir();
            }
        };
        let thread = thread::Builder::new().name("corecast-seeds".to_owned());
        match thread.spawn(looks) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread can be started to look up the names of seeds; it is tried again");
            }
        }
    }

    /// What was found since this was called last, if anything was: addresses, or none. What is unknown is told once.
    fn take_found(&mut self, me: SocketAddr) -> Option<Vec<(NodeId, Vec<SocketAddr>)>> {
        // Looked at first: what it has found before it was finished is taken now.
        let is_finished = self.thread.as_ref()?.is_finished();
        let results = std::mem::take(&mut *lock(&self.found));
        if is_finished {
            self.thread = None;
        }
        let of_result = |(seed, result): Found| (seed, self.addresses(seed, result, me));
        let found: Vec<_> = results.into_iter().map(of_result).collect();
        (!found.is_empty()).then_some(found)
    }

    fn addresses(
        &mut self,
        seed: NodeId,
        result: Result<Vec<SocketAddr>, String>,
        me: SocketAddr,
    ) -> Vec<SocketAddr> {
        let what = match result {
            Ok(mut addresses) => {
                addresses.retain(|address| *address != me);
                if !addresses.is_empty() {
                    if self.unknown.remove(&seed).is_some() {
                        tracing::info!(%seed, ?addresses, "the name of a seed is known now");
                    }
                    return addresses;
                }
                let name = self.names.get(&seed).map_or("", String::as_str);
                format!("`{name}` of {seed} stands for {me}, which is this node's own address")
            }
            Err(what) => what,
        };
        let text = obstacle(&what);
        if self.unknown.insert(seed, what).is_none() {
            tracing::warn!("{text}");
        }
        Vec::new()
    }
}

fn obstacle(what: &str) -> String {
    format!(
        "a seed is not known yet: {what}; it is looked up again every {} s",
        EACH.as_secs()
    )
}

fn lock(found: &Mutex<Vec<Found>>) -> MutexGuard<'_, Vec<Found>> {
    // Nothing is left half done under it.
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::cluster::view::ClusterView;
    use std::sync::atomic::{AtomicBool, Ordering};

    const ME: &str = "127.0.0.1:7000";
    static IS_KNOWN: AtomicBool = AtomicBool::new(false);

    fn resolve(name: &str) -> Result<Vec<SocketAddr>, PortError> {
        match name {
            "late:1" if IS_KNOWN.load(Ordering::SeqCst) => Ok(vec!["10.0.0.2:1".parse().unwrap()]),
            "this:7000" => Ok(vec![ME.parse().unwrap()]),
            _ => Err(PortError::Unknown {
                address: name.to_owned(),
                what: "nobody knows it".to_owned(),
            }),
        }
    }

    /// What the next lookup of all names finds.
    fn found(lookups: &mut SeedLookups) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        lookups.look([1, 2, 3].map(NodeId).to_vec());
        let mut found = BTreeMap::new();
        while let Some(thread) = &lookups.thread {
            if thread.is_finished() {
                assert!(lookups.status.take_asked(), "the bell did not ring");
            }
            let results = lookups.take_found(ME.parse().unwrap());
            found.extend(results.into_iter().flatten());
            thread::yield_now();
        }
        found
    }

    #[test]
    fn a_name_is_an_obstacle_until_it_is_known() {
        let view = ClusterView::new("test", NodeId(1), ME.parse().unwrap());
        let status = Arc::new(Status::new(view, Arc::default()));
        let names = [(2, "late:1"), (3, "this:7000")];
        let known = SeedNames {
            names: names.map(|(seed, name)| (NodeId(seed), name.into())).into(),
            unknown: BTreeMap::new(),
            resolver: resolve,
            each: EACH,
        };
        let mut lookups = SeedLookups::new(known, status);
        assert_eq!(lookups.obstacle(), None);
        assert_eq!(lookups.deadline(), Time::MAX);
        lookups.begin(Time::ZERO);
        assert_eq!(lookups.deadline(), Time::ZERO + EACH);
        let nothing = [(NodeId(2), Vec::new()), (NodeId(3), Vec::new())];
        assert_eq!(found(&mut lookups), nothing.into());
        let obstacle = lookups.obstacle().unwrap();
        for part in [
            "late:1",
            "nobody knows it",
            "getent hosts",
            "again every 5 s",
        ] {
            assert!(obstacle.contains(part), "{obstacle}");
        }
        IS_KNOWN.store(true, Ordering::SeqCst);
        let address = "10.0.0.2:1".parse().unwrap();
        let one = [(NodeId(2), vec![address]), (NodeId(3), Vec::new())];
        assert_eq!(found(&mut lookups), one.into());
        let obstacle = lookups.obstacle().unwrap();
        assert!(obstacle.contains("this node's own address"), "{obstacle}");
    }
}
