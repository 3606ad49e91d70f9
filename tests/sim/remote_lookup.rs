//! Lookups by path on other nodes: who is there is found, who is not is `None`, and where nobody knows that is said.

use crate::remote_kit::{A, B, C};
use corecast::base::ids::{CoreId, NodeId};
use corecast::base::rng::seeded;
use corecast::rand::RngExt;
use corecast::sim::network::NetworkSettings;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{
    Actor, ActorRef, Context, Fault, LookupError, Next, ReplyTo, SpawnError, SpawnOptions,
    WireMessage,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Takes messages of one of two types.
struct Clerk<M>(PhantomData<fn(M)>);

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Letter {
    Ping(ReplyTo<u64>),
    Stop,
}

impl WireMessage for Letter {
    const NAME: &'static str = "test.Letter";
    const VERSION: u16 = 3;
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Parcel(u64);

impl WireMessage for Parcel {
    const NAME: &'static str = "test.lookup.Parcel";
    const VERSION: u16 = 1;
}

impl Actor for Clerk<Letter> {
    type Msg = Letter;

    fn receive(&mut self, letter: Letter, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match letter {
            Letter::Ping(reply_to) => ctx.reply(reply_to, u64::from(ctx.me().core().0)),
            Letter::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

impl Actor for Clerk<Parcel> {
    type Msg = Parcel;

    fn receive(&mut self, _: Parcel, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

fn start(cluster: &mut ClusterSimulation, nodes: &[NodeId]) {
    for node in nodes {
        cluster.start(*node, |builder| (builder.cores(2), ()));
    }
    cluster.publish();
    cluster.run_for(ms(50));
}

fn spawn(cluster: &mut ClusterSimulation, node: NodeId, core: u16, name: &str) -> ActorRef<Letter> {
    let options = SpawnOptions::default().named(name).clustered::<Letter>();
    let handle = cluster.node(node).handle();
    let made = handle.spawn_with(CoreId(core), options, || Clerk::<Letter>(PhantomData));
    let made = cluster.run_until(made).unwrap().unwrap();
    cluster.as_known_elsewhere(made)
}

type Found = Result<Option<ActorRef<Letter>>, LookupError>;

fn on(cluster: &mut ClusterSimulation, from: NodeId, node: NodeId, path: &str) -> Found {
    let found = cluster.node(from).handle().lookup_on(node, path);
    let found = cluster.run_until(found).unwrap();
    found.map(|it| it.map(|it| cluster.as_known_elsewhere(it)))
}

fn anywhere(cluster: &mut ClusterSimulation, from: NodeId, path: &str) -> Found {
    let found = cluster.node(from).handle().lookup_anywhere(path);
    let found = cluster.run_until(found).unwrap();
    found.map(|it| it.map(|it| cluster.as_known_elsewhere(it)))
}

#[test]
fn an_actor_is_found_where_it_is_and_works() {
    check_cluster_seeds(15, |mut cluster| {
        start(&mut cluster, &[A, B, C]);
        let here = spawn(&mut cluster, A, 1, "clerk");
        let there = spawn(&mut cluster, B, 1, "clerk");
        let only_there = spawn(&mut cluster, B, 0, "other");
        assert_eq!(on(&mut cluster, A, A, "clerk"), Ok(Some(here)));
        assert_eq!(on(&mut cluster, A, B, "clerk"), Ok(Some(there)));
        assert_eq!(on(&mut cluster, A, B, "/clerk"), Ok(Some(there)));
        assert_eq!(on(&mut cluster, A, C, "clerk"), Ok(None));
        assert_eq!(on(&mut cluster, A, B, "cler"), Ok(None));
        assert_eq!(on(&mut cluster, A, B, ""), Ok(None));
        assert_eq!(anywhere(&mut cluster, A, "clerk"), Ok(Some(here)));
        assert_eq!(anywhere(&mut cluster, A, "other"), Ok(Some(only_there)));
        assert_eq!(anywhere(&mut cluster, C, "nobody"), Ok(None));
        let found = on(&mut cluster, C, B, "clerk").unwrap().unwrap();
        assert_eq!(cluster.ask(C, found, Letter::Ping), Ok(1));
        // Who has stopped is not there.
        cluster.node(C).tell(found, Letter::Stop);
        assert!(cluster.run_until_idle());
        assert_eq!(on(&mut cluster, C, B, "clerk"), Ok(None));
        for node in [A, B, C] {
            let stats = cluster.remote_stats(node);
            assert_eq!((stats.lookups, stats.refused), (0, 0));
        }
        cluster
    });
}

#[test]
fn somebody_else_at_the_path_is_an_error_that_names_both_types() {
    check_cluster_seeds(5, |mut cluster| {
        start(&mut cluster, &[A, B]);
        let parcels = SpawnOptions::default().named("desk").clustered::<Parcel>();
        let handle = cluster.node(B).handle();
        let made = handle.spawn_with(CoreId(0), parcels, || Clerk::<Parcel>(PhantomData));
        cluster.run_until(made).unwrap().unwrap();
        let made = handle.spawn_with(CoreId(1), "hidden", || Clerk::<Letter>(PhantomData));
        cluster.run_until(made).unwrap().unwrap();
        let other = LookupError::OtherType {
            node: B,
            path: "desk".into(),
            takes: "test.lookup.Parcel (version 1)".into(),
            wanted: "test.Letter (version 3)".into(),
        };
        assert_eq!(on(&mut cluster, A, B, "desk"), Err(other.clone()));
        assert_eq!(anywhere(&mut cluster, A, "desk"), Err(other));
        let hidden = LookupError::NotClustered {
            node: B,
            path: "hidden".into(),
        };
        assert_eq!(on(&mut cluster, A, B, "hidden"), Err(hidden));
        // Its own node sees it.
        assert!(matches!(on(&mut cluster, B, B, "hidden"), Ok(Some(_))));
        let own = on(&mut cluster, B, B, "desk");
        assert!(matches!(own, Err(LookupError::OtherType { node: B, .. })));
        // One of the right type counts more.
        let here = spawn(&mut cluster, A, 0, "desk");
        assert_eq!(anywhere(&mut cluster, A, "desk"), Ok(Some(here)));
        // Options that do not fit start nothing.
        let parcels = SpawnOptions::default().named("none").clustered::<Parcel>();
        let made = handle.spawn_with(CoreId(0), parcels, || Clerk::<Letter>(PhantomData));
        let made = cluster.run_until(made).unwrap();
        assert!(
            matches!(made, Err(SpawnError::OtherMessages { .. })),
            "{made:?}"
        );
        assert_eq!(on(&mut cluster, A, B, "none"), Ok(None));
        cluster
    });
}

#[test]
fn where_nobody_knows_that_is_said() {
    check_cluster_seeds(5, |mut cluster| {
        start(&mut cluster, &[A, B, C]);
        spawn(&mut cluster, B, 0, "clerk");
        let nowhere = NodeId(77);
        assert_eq!(
            on(&mut cluster, A, nowhere, "clerk"),
            Err(LookupError::NotAMember(nowhere))
        );
        let long = "x/".repeat(2_049);
        assert_eq!(
            on(&mut cluster, A, B, &long),
            Err(LookupError::TooLong(4_098))
        );
        assert_eq!(on(&mut cluster, A, B, &long[..4_096]), Ok(None));
        // B hears, and A does not hear of it.
        cluster.network().cut(B, A);
        let unanswered = |path: &str, nodes: &[NodeId]| {
            Err(LookupError::Unanswered {
                path: path.into(),
                nodes: nodes.to_vec(),
            })
        };
        let before = cluster.now();
        assert_eq!(on(&mut cluster, A, B, "clerk"), unanswered("clerk", &[B]));
        assert!(cluster.now() <= before + ms(5_100));
        assert_eq!(anywhere(&mut cluster, A, "x"), unanswered("x", &[B]));
        // Whoever can answer does.
        let there = spawn(&mut cluster, C, 0, "y");
        assert_eq!(anywhere(&mut cluster, A, "y"), Ok(Some(there)));
        let now = cluster.now();
        cluster.network().heal(now);
        cluster.run_for(ms(20_000));
        // Its process dies while it is asked.
        let found = cluster.node(A).handle().lookup_on::<Letter>(B, "clerk");
        let every = cluster.node(A).handle().lookup_anywhere::<Letter>("z");
        // They have been asked, and no answer can be back.
        cluster.run_for(Duration::from_micros(50));
        cluster.kill(B);
        cluster.node_down(B);
        cluster.publish();
        assert_eq!(cluster.run_until(found).unwrap(), unanswered("clerk", &[B]));
        let every = cluster.run_until(every).unwrap();
        assert!(
            every == unanswered("z", &[B]) || every == Ok(None),
            "{every:?}"
        );
        assert_eq!(
            on(&mut cluster, A, B, "clerk"),
            Err(LookupError::NotAMember(B))
        );
        for node in [A, C] {
            assert_eq!(cluster.remote_stats(node).lookups, 0);
        }
        cluster
    });
}

#[test]
fn a_runtime_that_is_alone_finds_its_own() {
    let mut sim = corecast::sim::Simulation::builder(1).cores(2).start();
    let options = SpawnOptions::default().named("clerk").clustered::<Letter>();
    let handle = sim.handle();
    let made = handle.spawn_with(CoreId(1), options, || Clerk::<Letter>(PhantomData));
    let clerk = sim.run_until(made).unwrap().unwrap();
    let found = handle.lookup_anywhere::<Letter>("clerk");
    assert_eq!(sim.run_until(found).unwrap(), Ok(Some(clerk)));
    let missing = handle.lookup_anywhere::<Letter>("x");
    assert_eq!(sim.run_until(missing).unwrap(), Ok(None));
    let elsewhere = handle.lookup_on::<Letter>(NodeId(9), "clerk");
    let no_member = Err(LookupError::NotAMember(NodeId(9)));
    assert_eq!(sim.run_until(elsewhere).unwrap(), no_member);
}

/// Names come and go on three nodes while connections break and nodes die. What was found lived there at some time while it
/// was looked for; `None` is not said of a name that was there all the time; and every lookup ends in time.
#[test]
fn through_broken_connections_lookups_say_what_is_true_or_that_nobody_knows() {
    check_cluster_seeds(15, |mut cluster| {
        *cluster.network().settings_mut() = NetworkSettings {
            gives_up_after: ms(40),
            loss: 0.02,
            resend_after: ms(2),
            ..NetworkSettings::default()
        };
        let nodes = [A, B, C];
        start(&mut cluster, &nodes);
        let mut rng = seeded(cluster.seed(), 0x6c6f);
        let mut living: BTreeMap<(NodeId, u32), ActorRef<Letter>> = BTreeMap::new();
        let mut open: Vec<Looking> = Vec::new();
        let mut ended = (0, 0, 0);
        for _ in 0..300 {
            match rng.random_range(0..20) {
                0..5 => {
                    let (node, name) = (nodes[rng.random_range(0..3)], rng.random_range(0..6));
                    if let Entry::Vacant(vacant) = living.entry((node, name)) {
                        let actor = spawn(&mut cluster, node, 0, &format!("clerk-{name}"));
                        vacant.insert(actor);
                        for look in &mut open {
                            look.seen.insert((node, name, actor_key(actor)));
                        }
                    }
                }
                5..8 => {
                    let all: Vec<_> = living.iter().map(|(at, it)| (*at, *it)).collect();
                    if let Some((at, actor)) = all.get(rng.random_range(0..all.len().max(1))) {
                        living.remove(at);
                        cluster.node(at.0).tell(*actor, Letter::Stop);
                        for look in &mut open {
                            look.all_the_time.remove(at);
                        }
                    }
                }
                8..15 => {
                    let (from, name) = (nodes[rng.random_range(0..3)], rng.random_range(0..6));
                    let on = (rng.random_range(0..2) == 0).then(|| nodes[rng.random_range(0..3)]);
                    let handle = cluster.node(from).handle();
                    let path = format!("clerk-{name}");
                    let found = match on {
                        Some(node) => handle.lookup_on(node, &path),
                        None => handle.lookup_anywhere(&path),
                    };
                    open.push(Looking {
                        from,
                        on,
                        name,
                        until: cluster.now() + ms(5_200),
                        seen: (living.iter())
                            .map(|((node, name), it)| (*node, *name, actor_key(*it)))
                            .collect(),
                        all_the_time: living.keys().copied().collect(),
                        found: Some(found),
                    });
                }
                15 | 16 => {
                    let (one, other) = (rng.random_range(0..3), rng.random_range(0..3));
                    if one != other {
                        cluster.network().cut(nodes[one], nodes[other]);
                    }
                }
                17 | 18 => {
                    let now = cluster.now();
                    cluster.network().heal(now);
                }
                _ if rng.random_range(0..3) == 0 => {
                    let node = nodes[rng.random_range(0..3)];
                    cluster.kill(node);
                    cluster.node_down(node);
                    cluster.publish();
                    cluster.start(node, |builder| (builder.cores(2), ()));
                    cluster.publish();
                    living.retain(|(at, _), _| *at != node);
                    for look in &mut open {
                        look.all_the_time.retain(|(at, _)| *at != node);
                    }
                }
                _ => {}
            }
            cluster.run_for(Duration::from_micros(rng.random_range(0..20_000)));
            open.retain_mut(|look| !look.has_ended(&cluster, &mut ended));
        }
        let now = cluster.now();
        cluster.network().heal(now);
        cluster.run_for(ms(10_000));
        open.retain_mut(|look| !look.has_ended(&cluster, &mut ended));
        assert!(open.is_empty());
        for node in nodes {
            assert_eq!(cluster.remote_stats(node).lookups, 0);
        }
        assert!(ended.0 > 5 && ended.1 > 2 && ended.2 > 0, "{ended:?}");
        cluster
    });
}

/// An address as it is shown, which tells lives of nodes apart no more than it has to here.
fn actor_key(actor: ActorRef<Letter>) -> String {
    format!("{actor:?}")
}

/// A lookup that waits, and what has been true meanwhile.
struct Looking {
    from: NodeId,
    on: Option<NodeId>,
    name: u32,
    until: corecast::Time,
    seen: BTreeSet<(NodeId, u32, String)>,
    all_the_time: BTreeSet<(NodeId, u32)>,
    found: Option<corecast::Pending<Found>>,
}

impl Looking {
    /// Looks whether it has ended, and judges how.
    fn has_ended(&mut self, cluster: &ClusterSimulation, ended: &mut (u32, u32, u32)) -> bool {
        let now = cluster.now();
        match self.found.take().unwrap().try_take() {
            Err(pending) => {
                assert!(now <= self.until, "a lookup has not ended in time");
                self.found = Some(pending);
                return false;
            }
            Ok(Ok(Some(actor))) => {
                ended.0 += 1;
                let shown = actor_key(cluster.as_known_elsewhere(actor));
                let is_one = |(node, name, it): &(NodeId, u32, String)| {
                    *name == self.name && *it == shown && self.on.is_none_or(|on| on == *node)
                };
                assert!(self.seen.iter().any(is_one), "{shown} was never there");
            }
            Ok(Ok(None)) => {
                ended.1 += 1;
                let missed = self.all_the_time.iter().find(|(node, name)| {
                    *name == self.name && self.on.is_none_or(|on| on == *node)
                });
                assert_eq!(missed, None, "it was there all the time");
            }
            Ok(Err(error)) => {
                ended.2 += 1;
                let is_fair = matches!(
                    error,
                    LookupError::Unanswered { .. }
                        | LookupError::NotAMember(_)
                        | LookupError::RuntimeGone
                );
                assert!(is_fair, "from {}: {error}", self.from);
            }
        }
        true
    }
}
