//! Shards that move between nodes while somebody there or elsewhere knows sooner, or later, than others: whatever was accepted
//! comes in order and is not refused, and no entity has two lives.
//!
//! A long run: `CORECAST_SEEDS=1000 cargo test --test sim remote_moves_order`.

use crate::{moves_kit, remote_kit};
use corecast::actor::link::LinkBounds;
use corecast::base::ids::{CoreId, NodeId, ShardId};
use corecast::sim::{Bounds, check_cluster_seeds};
use corecast::{Actor, Capture, Context, EntityType, Fault, Mailbox, Next, Rejection};
use moves_kit::{History, Line, judge, lines, ms, own, shelves};
use remote_kit::{Entry, Handled, Ledger};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn put(number: u64) -> Line {
    Line::Put { sender: 0, number }
}

fn entry(number: u64) -> Entry {
    Entry::Put { sender: 0, number }
}

/// A core of the target that hears of its shard before the core does on which that is has its messages wait there.
#[test]
fn a_core_that_knows_sooner_than_the_host_does_not_overtake_itself() {
    check_cluster_seeds(60, |mut cluster| {
        let history = History::default();
        let regions: Vec<_> = [A, B]
            .map(|node| moves_kit::start(&mut cluster, node, &history, |it| it.cores(4)))
            .into();
        moves_kit::spread(&mut cluster, &[A]);
        let books = regions[1];
        for shard in 0..moves_kit::SHARDS {
            let id = moves_kit::id_in(books, shard);
            cluster.prepare("book", ShardId(shard), B).unwrap();
            cluster.publish();
            own(&mut cluster, shard);
            let writers: Vec<_> = (0..4_u16)
                .map(|core| cluster.node(B).handle().through(CoreId(core)).unwrap())
                .collect();
            cluster.publish();
            for number in 0..40 {
                for (sender, writer) in (0..).zip(&writers) {
                    writer.tell(books.entity_ref(id), Line::Put { sender, number });
                }
                cluster.run_for(Duration::from_nanos(300));
            }
            assert!(cluster.run_until_idle());
            for sender in 0..4 {
                assert_eq!(lines(&history)[&(id, sender)], 40);
            }
        }
        judge(&history, |id| books.shard_of(&id).shard, true);
        for node in [A, B] {
            assert_eq!(moves_kit::dead_letters(&mut cluster, node), [], "{node}");
        }
        cluster
    });
}

/// The same when the owner has died, and the log has given the shard to another node with the same news.
#[test]
fn what_is_sent_to_the_heir_of_a_dead_node_does_not_go_to_the_dead() {
    check_cluster_seeds(60, |mut cluster| {
        let history = History::default();
        let [_, books] =
            [A, B].map(|node| moves_kit::start(&mut cluster, node, &history, |it| it.cores(4)));
        moves_kit::spread(&mut cluster, &[A]);
        cluster.kill(A);
        cluster.run_for(ms(5));
        cluster.node_down(A);
        for shard in 0..moves_kit::SHARDS {
            cluster.assign("book", ShardId(shard), B);
        }
        let writer = cluster.node(B).handle().through(CoreId(0)).unwrap();
        cluster.publish();
        for number in 0..40 {
            for id in 0..8 {
                writer.tell(books.entity_ref(id), put(number));
            }
            cluster.run_for(Duration::from_nanos(300));
        }
        cluster.run_for(ms(5));
        // What this core has sent before it knew is lost here; what it has sent since is not lost elsewhere.
        let stats = cluster.node(B).stats();
        let elsewhere: u64 = (stats.cores.iter().skip(1))
            .map(|core| core.dead_letters_total())
            .sum();
        assert_eq!(elsewhere, 0);
        assert!(!history.lock().unwrap().is_empty());
        cluster
    });
}

fn small(mailbox: u32) -> impl Fn(EntityType<Ledger, u64>) -> EntityType<Ledger, u64> {
    move |ledgers| ledgers.mailbox(Mailbox::bounded(mailbox))
}

/// Messages of another node that have waited for their shard are not refused for want of room in a mailbox, as those of this
/// node are not.
#[test]
fn what_has_waited_in_frames_is_not_refused_when_its_shard_is_there() {
    for cores in [1, 2] {
        check_cluster_seeds(20, |mut cluster| {
            let handled = Handled::default();
            let regions = [A, B].map(|node| {
                let bounds = Bounds {
                    outbox_messages: 20,
                    queued_messages: 50,
                    ..Bounds::default()
                };
                let with = |it: corecast::sim::SimulationBuilder| it.cores(cores).bounds(bounds);
                remote_kit::start_type(&mut cluster, node, &handled, with, small(10))
            });
            cluster.publish();
            cluster.run_for(ms(5));
            for shard in 0..remote_kit::SHARDS {
                cluster.assign("ledger", ShardId(shard), B);
            }
            cluster.publish_to(A);
            cluster.run_for(ms(1));
            // Each comes to the core of the same number.
            let id = remote_kit::id_in(regions[0], 1);
            let writer = cluster.node(A).handle().through(CoreId(0)).unwrap();
            for number in 0..200 {
                writer.tell(regions[0].entity_ref(id), entry(number));
                cluster.run_for(Duration::from_micros(20));
            }
            cluster.run_for(ms(5));
            assert!(handled.lock().unwrap().is_empty());
            cluster.publish_to(B);
            cluster.run_for(ms(50));
            let numbers: Vec<u64> = handled.lock().unwrap().iter().map(|it| it.3).collect();
            assert_eq!(numbers, (0..200).collect::<Vec<u64>>());
            assert_eq!(remote_kit::dead_letters(&mut cluster, B), 0);
            cluster
        });
    }
}

/// A message that comes to a past owner, and is larger than what is left in the link to the present one, waits there.
#[test]
fn a_large_message_finds_its_way_by_a_past_owner() {
    check_cluster_seeds(20, |mut cluster| {
        let handled = Handled::default();
        cluster.set_bounds(LinkBounds {
            buffer_bytes: 4 << 10,
            ..LinkBounds::default()
        });
        let regions = [A, B, C].map(|node| {
            let region = remote_kit::start(&mut cluster, node, &handled, |it| it.cores(1));
            // The others have as much room as they like.
            cluster.set_bounds(LinkBounds::default());
            region
        });
        remote_kit::spread(&mut cluster, &[A]);
        cluster.take_away("ledger", ShardId(5));
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish_to(A);
        cluster.publish_to(B);
        cluster.run_for(ms(5));
        let id = remote_kit::id_in(regions[0], 5);
        let [ledger, _, from_there] = regions.map(|it| it.entity_ref(id));
        let there = cluster.node(C).handle();
        for number in 0..10 {
            there.tell(from_there, entry(2 * number));
            there.tell(from_there, Entry::Bulk(vec![7; 10_000]));
            there.tell(from_there, entry(2 * number + 1));
            cluster.run_for(Duration::from_micros(200));
        }
        assert!(cluster.run_until_idle());
        cluster.run_for(ms(100));
        let refused = [A, B, C].map(|node| remote_kit::dead_letters(&mut cluster, node));
        assert_eq!(refused, [0; 3]);
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(20 + 100_000));
        let numbers: Vec<u64> = handled.lock().unwrap().iter().map(|it| it.3).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
        cluster
    });
}

/// Whoever asks by a past owner hears of it when the link from there breaks before the ask has left.
#[test]
fn an_ask_that_a_past_owner_cannot_pass_on_is_rejected() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let regions =
            [A, B, C].map(|node| remote_kit::start(&mut cluster, node, &handled, |it| it.cores(1)));
        remote_kit::spread(&mut cluster, &[A]);
        let id = remote_kit::id_in(regions[0], 5);
        let [ledger, _, from_there] = regions.map(|it| it.entity_ref(id));
        cluster.take_away("ledger", ShardId(5));
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish_to(A);
        cluster.publish_to(B);
        cluster.run_for(ms(5));
        cluster.network().settings_mut().gives_up_after = ms(20);
        cluster.network().partition(&[A], &[B]);
        // What is in the connection may have arrived; what waits behind it has not.
        cluster.node(A).tell(ledger, Entry::Bulk(vec![7; 900_000]));
        cluster.run_for(ms(5));
        let there = cluster.node(C).handle();
        let ask = there.ask_within(ms(20_000), from_there, Entry::Sum);
        let asked = cluster.now();
        let outcome = cluster.run_until(ask).unwrap();
        assert_eq!(outcome, Err(Rejection::LinkLost.into()));
        assert!(cluster.now() - asked < ms(2_000));
        cluster
    });
}

/// Whose marker is still awaited may die with the same news that bring the shard here.
#[test]
fn a_shard_that_comes_as_its_past_owner_dies_has_one_life() {
    check_cluster_seeds(20, |mut cluster| {
        let history = History::default();
        let regions = shelves(&mut cluster, &[A, B, C], &history);
        let books = regions[&A];
        let id = moves_kit::id_in(books, 1);
        let writer = cluster.node(A).handle().through(CoreId(0)).unwrap();
        for number in 0..5 {
            writer.tell(books.entity_ref(id), put(number));
        }
        assert!(cluster.run_until_idle());
        cluster.prepare("book", ShardId(1), C).unwrap();
        cluster.publish();
        own(&mut cluster, 1);
        // The marker of A stays on its way.
        cluster.network().cut(A, B);
        cluster.publish();
        cluster.run_for(ms(5));
        for number in 5..10 {
            writer.tell(books.entity_ref(id), put(number));
        }
        cluster.run_for(ms(5));
        assert_eq!(lines(&history)[&(id, 0)], 5, "they are held");
        cluster.prepare("book", ShardId(1), A).unwrap();
        cluster.publish();
        own(&mut cluster, 1);
        cluster.kill(B);
        cluster.node_down(B);
        cluster.publish();
        cluster.run_for(ms(50));
        assert_eq!(cluster.ask(A, books.entity_ref(id), Line::Count), Ok(10));
        assert_eq!(
            cluster.ask(C, regions[&C].entity_ref(id), Line::Count),
            Ok(10)
        );
        judge(&history, |id| books.shard_of(&id).shard, true);
        cluster
    });
}

/// However long its shard takes, and whichever part of it a timer is in.
#[test]
fn timers_that_move_do_not_tick_too_early() {
    check_cluster_seeds(5, |mut cluster| {
        let history = History::default();
        cluster.set_bounds(LinkBounds {
            buffer_bytes: 4 << 10,
            ..LinkBounds::default()
        });
        let regions = shelves(&mut cluster, &[A, B], &history);
        let books = regions[&A];
        let ids = (0..).filter(|id| books.shard_of(id).shard == ShardId(0));
        let ids: Vec<u64> = ids.take(300).collect();
        for id in &ids {
            let remind = Line::Remind {
                sender: 7,
                after: 3_000,
            };
            cluster.node(A).tell(books.entity_ref(*id), remind);
        }
        cluster.run_for(ms(10));
        let due = cluster.now() + ms(2_900);
        let begun = cluster.now();
        cluster.network().settings_mut().max_latency = ms(20);
        cluster.commit_moves(true);
        assert!(moves_kit::moved(&mut cluster, 0, B));
        let took = cluster.now() - begun;
        assert!(took > ms(50), "{took:?}");
        cluster.run_for(ms(6_000));
        let history = history.lock().unwrap().clone();
        assert_eq!(history.len(), ids.len());
        let early = history.iter().filter(|it| it.at < due).count();
        assert_eq!(early, 0, "they were early");
        cluster
    });
}

/// Who hears late of its shards twice, within the time after which what it cannot place is refused, has that time each time.
#[test]
fn what_waits_for_news_has_its_time_whatever_has_waited_before() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let regions = remote_kit::nodes(&mut cluster, &[A, B, C], &handled);
        let id = remote_kit::id_in(regions[0], 1);
        let writer = cluster.node(A).handle().through(CoreId(0)).unwrap();
        let shard = ShardId(1);
        for number in 0..2 {
            cluster.take_away("ledger", shard);
            cluster.assign("ledger", shard, C);
            cluster.publish_to(A);
            cluster.run_for(ms(5));
            writer.tell(regions[0].entity_ref(id), entry(number));
            cluster.run_for(ms(500));
            cluster.publish_to(C);
            cluster.run_for(ms(5));
            assert_eq!(handled.lock().unwrap().len() as u64, number + 1);
            cluster.take_away("ledger", shard);
            cluster.assign("ledger", shard, B);
            cluster.publish();
            cluster.run_for(ms(4_200));
        }
        assert_eq!(remote_kit::dead_letters(&mut cluster, C), 0);
        cluster
    });
}

/// Nobody stops entities of a shard that is on its way, as not needed: it may stay.
#[test]
fn what_is_on_its_way_is_not_passivated() {
    check_cluster_seeds(10, |mut cluster| {
        let history = History::default();
        let regions: Vec<_> = [A, B]
            .map(|node| {
                cluster.start(node, |builder| {
                    let mut builder = builder.cores(2);
                    let of_type = moves_kit::books(node, &history);
                    let region = builder.entities(of_type.passivate_after(ms(100)));
                    (builder, region)
                })
            })
            .into();
        moves_kit::spread(&mut cluster, &[A]);
        let books = regions[0];
        let id = moves_kit::id_in(books, 1);
        cluster.node(A).tell(books.entity_ref(id), put(0));
        cluster.run_for(ms(5));
        cluster.network().cut(A, B);
        let prepared = cluster.prepare("book", ShardId(1), B).unwrap();
        cluster.publish();
        cluster.run_for(ms(1_050));
        let (shard, moving) = cluster.moves()[0];
        assert_eq!(moving.prepared, prepared);
        cluster.end_move(shard, prepared, false);
        cluster.publish();
        cluster.run_for(ms(5));
        assert_eq!(cluster.ask(A, books.entity_ref(id), Line::Count), Ok(1));
        cluster
    });
}

/// Counts lines; what is to be captured of one of them cannot be, once.
struct Fragile {
    lines: u64,
    captured: Arc<AtomicU32>,
}

/// The first attempt captures as many.
const FRAGILE: u32 = 100;

impl Actor for Fragile {
    type Msg = Line;

    fn receive(&mut self, line: Line, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match line {
            Line::Count(reply_to) => ctx.reply(reply_to, self.lines),
            _ => self.lines += 1,
        }
        Ok(Next::Continue)
    }
}

impl Capture for Fragile {
    type View = u64;

    fn capture(&self) -> u64 {
        let captured = self.captured.fetch_add(1, Ordering::Relaxed);
        assert_ne!(captured, FRAGILE + FRAGILE / 2, "as it was planted");
        self.lines
    }

    fn restore(&mut self, lines: u64) {
        self.lines = lines;
    }
}

/// When the target may have everything the move is not called off for something that cannot be captured: it is tried again,
/// and nothing is left out.
#[test]
fn what_cannot_be_written_in_a_later_attempt_is_written_when_it_can_be() {
    check_cluster_seeds(5, |mut cluster| {
        cluster.set_bounds(LinkBounds {
            buffer_bytes: 4 << 10,
            ..LinkBounds::default()
        });
        let captured = Arc::<AtomicU32>::default();
        let [here, there] = [A, B].map(|node| {
            let captured = captured.clone();
            cluster.start(node, |builder| {
                let mut builder = builder.cores(1);
                let of_type = EntityType::captured("book", move |_: &u64| Fragile {
                    lines: 0,
                    captured: captured.clone(),
                });
                let region = builder.entities(of_type.num_shards(moves_kit::SHARDS).clustered());
                (builder, region)
            })
        });
        moves_kit::spread(&mut cluster, &[A]);
        let ids = (0..).filter(|id| here.shard_of(id).shard == ShardId(0));
        let ids: Vec<u64> = ids.take(FRAGILE as usize).collect();
        for id in &ids {
            cluster.node(A).tell(here.entity_ref(*id), put(0));
        }
        assert!(cluster.run_until_idle());
        cluster.network().settings_mut().gives_up_after = ms(50);
        cluster.network().partition(&[A], &[B]);
        cluster.prepare("book", ShardId(0), B).unwrap();
        cluster.publish();
        cluster.run_for(ms(40));
        assert_eq!(
            captured.load(Ordering::Relaxed),
            FRAGILE,
            "all of it is sent"
        );
        cluster.run_for(ms(40));
        let now = cluster.now();
        cluster.network().heal(now);
        own(&mut cluster, 0);
        cluster.publish();
        cluster.run_for(ms(5));
        assert!(captured.load(Ordering::Relaxed) > FRAGILE + FRAGILE / 2);
        for id in ids {
            let count = cluster.ask(B, there.entity_ref(id), Line::Count);
            assert_eq!(count, Ok(1), "{id}");
        }
        cluster
    });
}
