//! Messages of other nodes that are read where they lie.

use crate::remote_kit::{A, B, dead};
use corecast::sim::{Bounds, ClusterSimulation, check_cluster_seeds};
use corecast::{
    Actor, ActorRef, AskError, Context, EntityType, Fault, Next, Region, Rejection, ReplyTo,
    ShardId, Uncertainty, WireMessage,
};
use std::cell::Cell;
use std::time::Duration;

/// What readers are told.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Text {
    Keep(String),
    /// With what it is about.
    Length(String, ReplyTo<u64>),
    /// The reader leaves the reply address in the message.
    Ignore(ReplyTo<u64>),
    Fail(ReplyTo<u64>),
    Many(Vec<ReplyTo<u64>>),
    /// The reader tells this one how many bytes it has seen, now and each time that it is asked to.
    Introduce(ActorRef<u64>),
    Tell,
    Nap,
}

impl WireMessage for Text {
    const NAME: &'static str = "test.Text";
    const VERSION: u16 = 1;
}

/// Counts bytes, without making a value of any text if it can.
#[derive(Default)]
struct Reader {
    bytes: u64,
    kept: Vec<ReplyTo<u64>>,
    listener: Option<ActorRef<u64>>,
}

impl Actor for Reader {
    type Msg = Text;

    fn receive(&mut self, text: Text, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match text {
            Text::Keep(text) => self.bytes += text.len() as u64,
            Text::Length(text, reply_to) => ctx.reply(reply_to, self.bytes + text.len() as u64),
            Text::Ignore(_) => {}
            Text::Fail(_reply_to) => return Err(Fault::new("as it was told")),
            Text::Many(all) => self.kept.extend(all),
            Text::Introduce(listener) => {
                self.listener = Some(listener);
                ctx.tell(listener, self.bytes);
            }
            Text::Tell => {
                if let Some(listener) = self.listener {
                    ctx.tell(listener, self.bytes);
                }
            }
            Text::Nap => {
                let nap = ctx.sleep(Duration::from_millis(30));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
        }
        Ok(Next::Continue)
    }

    fn receive_archived(
        &mut self,
        text: &ArchivedText,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match text {
            ArchivedText::Keep(text) => self.bytes += text.len() as u64,
            ArchivedText::Length(text, reply_to) => {
                let length = self.bytes + text.len() as u64;
                let reply_to = ctx.read::<ReplyTo<u64>>(reply_to)?;
                ctx.reply(reply_to, length);
            }
            ArchivedText::Ignore(_) => {}
            ArchivedText::Fail(_) => return Err(Fault::new("as it was told")),
            ArchivedText::Many(_)
            | ArchivedText::Introduce(_)
            | ArchivedText::Tell
            | ArchivedText::Nap => {
                // Whoever sent one that cannot be read is to blame.
                if let Ok(text) = ctx.read::<Text>(text) {
                    return self.receive(text, ctx);
                }
            }
        }
        Ok(Next::Continue)
    }
}

fn readers(cluster: &mut ClusterSimulation, bounds: &Bounds) -> Region<String, Text> {
    let [readers, _] = [A, B].map(|node| {
        cluster.start(node, |mut builder| {
            let readers = EntityType::ephemeral("reader", |_: &String| Reader::default());
            let readers = builder.entities(readers.num_shards(1).clustered());
            (builder.cores(1).bounds(bounds.clone()), readers)
        })
    });
    cluster.assign("reader", ShardId(0), B);
    cluster.publish();
    cluster.run_for(Duration::from_millis(5));
    readers
}

/// And behind one that has to wait as a value, in order.
#[test]
fn what_is_read_in_place_and_what_waits_as_a_value_are_the_same() {
    let in_place = Cell::new(0);
    check_cluster_seeds(10, |mut cluster| {
        let readers = readers(&mut cluster, &Bounds::default());
        let reader = readers.entity_ref("anna".to_owned());
        let handle = cluster.node(A).handle();
        for round in 1..=3 {
            handle.tell(&reader, Text::Keep("x".repeat(5_000)));
            handle.tell(&reader, Text::Nap);
            handle.tell(&reader, Text::Keep("x".repeat(5_000)));
            let text = "a few".to_owned();
            let length = handle.ask(&reader, move |to| Text::Length(text, to));
            assert_eq!(cluster.run_until(length).unwrap(), Ok(round * 10_000 + 5));
        }
        let dropped = |why: Uncertainty| Err::<u64, AskError>(why.into());
        let unanswered = dropped(Uncertainty::DroppedUnanswered);
        assert_eq!(cluster.ask(A, &reader, Text::Ignore), unanswered);
        let failed = dropped(Uncertainty::HandlerFailed);
        assert_eq!(cluster.ask(A, &reader, Text::Fail), failed);
        cluster.run_for(Duration::from_secs(10));
        let stats = cluster.remote_stats(B);
        assert!(stats.read_to_wait >= 6, "{stats:?}");
        in_place.set(in_place.get() + stats.read_in_place);
        assert_eq!((stats.remote_asks, stats.refused), (0, 0));
        cluster
    });
    assert!(in_place.get() > 0);
}

/// A message may bring as many reply addresses as there is room for; one with more cannot be read.
#[test]
fn a_message_with_too_many_reply_addresses_is_refused() {
    check_cluster_seeds(5, |mut cluster| {
        cluster.set_bounds(corecast::actor::link::LinkBounds {
            remote_asks: 10,
            ..Default::default()
        });
        let readers = readers(&mut cluster, &Bounds::default());
        let reader = readers.entity_ref("anna".to_owned());
        let gather = |cluster: &mut ClusterSimulation, count: usize| {
            let handle = cluster.node(A).handle();
            // Each is passed on by somebody who was asked, here the core itself.
            let (addresses, asks): (Vec<_>, Vec<_>) = (0..count)
                .map(|_| {
                    let probe = cluster.node(A).probe::<ReplyTo<u64>>();
                    let ask = handle.ask(probe.address(), |to| to);
                    let to = probe.expect(cluster.node(A), |_| true);
                    (to, ask)
                })
                .unzip();
            handle.tell(&reader, Text::Many(addresses));
            asks
        };
        let some = gather(&mut cluster, 8);
        cluster.run_for(Duration::from_millis(10));
        assert_eq!(cluster.remote_stats(B).remote_asks, 8);
        for ask in gather(&mut cluster, 8) {
            let outcome = cluster.run_until(ask).unwrap();
            assert!(outcome.is_err(), "{outcome:?}");
        }
        assert_eq!(cluster.remote_stats(B).remote_asks, 8);
        for ask in some {
            // The reader keeps them.
            let outcome = cluster.run_until(ask).unwrap();
            assert_eq!(outcome, Err(Uncertainty::Timeout.into()));
        }
        cluster
    });
}

/// In order with all else, and never to another life of its node.
#[test]
fn an_actor_of_another_node_is_told_by_its_address() {
    check_cluster_seeds(5, |mut cluster| {
        let readers = readers(&mut cluster, &Bounds::default());
        let reader = readers.entity_ref("anna".to_owned());
        let probe = cluster.node(A).probe::<u64>();
        let handle = cluster.node(A).handle();
        handle.tell(&reader, Text::Introduce(probe.address()));
        for _ in 0..5 {
            handle.tell(&reader, Text::Keep("four".to_owned()));
            handle.tell(&reader, Text::Tell);
        }
        assert!(cluster.run_until_idle());
        assert_eq!(probe.received(), [0, 4, 8, 12, 16, 20]);
        // Nobody is at that address any more.
        cluster.node(A).handle().stop(probe.address()).unwrap();
        cluster.run_until_idle();
        handle.tell(&reader, Text::Tell);
        assert!(cluster.run_until_idle());
        assert_eq!(dead(&mut cluster, A, Rejection::NoSuchActor), 1);
        // And the next life of the node is another one.
        cluster.kill(A);
        cluster.run_for(Duration::from_millis(10));
        let readers_at_a = cluster.start(A, |mut builder| {
            let readers = EntityType::ephemeral("reader", |_: &String| Reader::default());
            let readers = builder.entities(readers.num_shards(1).clustered());
            (builder.cores(1), readers)
        });
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        cluster
            .node(A)
            .tell(readers_at_a.entity_ref("anna".to_owned()), Text::Tell);
        assert!(cluster.run_until_idle());
        assert_eq!(dead(&mut cluster, B, Rejection::OldIncarnation), 1);
        cluster
    });
}
