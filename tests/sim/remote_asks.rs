//! Asks between nodes: each ends once, and as rejected only if no handler has seen it.

use crate::remote_kit::*;
use corecast::rand::RngExt;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{AskError, Mailbox, Rejection, ReplyTo, Uncertainty};
use std::time::Duration;

fn unknown(why: Uncertainty) -> Result<u64, AskError> {
    Err(why.into())
}

fn rejected(why: Rejection) -> Result<u64, AskError> {
    Err(why.into())
}

#[test]
fn an_ask_ends_as_one_inside_a_node_does() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let (one, two) = (id_in(ledgers[0], 1), id_in(ledgers[0], 3));
        let ledger = ledgers[0].entity_ref(one);
        cluster.node(A).tell(
            ledger,
            Entry::Put {
                sender: 0,
                number: 0,
            },
        );
        cluster.run_until_idle();
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(1));
        let dropped = unknown(Uncertainty::DroppedUnanswered);
        assert_eq!(cluster.ask(A, ledger, Entry::Drop), dropped);
        let failed = unknown(Uncertainty::HandlerFailed);
        assert_eq!(cluster.ask(A, ledger, Entry::Fail), failed);
        // Kept, and answered in a later message.
        let handle = cluster.node(A).handle();
        let kept = handle.ask(ledger, Entry::Keep);
        cluster.run_for(Duration::from_millis(20));
        cluster.node(A).tell(ledger, Entry::Answer(17));
        assert_eq!(cluster.run_until(kept).unwrap(), Ok(17));
        // Kept until it is too late: the answer is dropped, and counted.
        let within = Duration::from_millis(50);
        let kept = handle.ask_within(within, ledger, Entry::Keep);
        assert_eq!(
            cluster.run_until(kept).unwrap(),
            unknown(Uncertainty::Timeout)
        );
        cluster.node(A).tell(ledger, Entry::Answer(18));
        assert!(cluster.run_until_idle());
        assert!(dead_letters(&mut cluster, A) > 0);
        // Kept by an entity that stops.
        let kept = handle.ask(ledger, Entry::Keep);
        cluster.run_for(Duration::from_millis(20));
        cluster.node(A).tell(ledger, Entry::Stop);
        let outcome = cluster.run_until(kept).unwrap();
        assert!(matches!(outcome, Err(AskError::Unknown(_))), "{outcome:?}");
        // Passed on by the receiver, to an entity of the first node and to one of its own.
        for to in [id_in(ledgers[0], 0), two] {
            let make = move |reply_to: ReplyTo<u64>| Entry::PassOn(to, reply_to);
            assert_eq!(cluster.ask(A, ledger, make), Ok(0));
        }
        cluster.run_for(Duration::from_secs(10));
        for node in [A, B] {
            assert_eq!(cluster.remote_stats(node).remote_asks, 0);
        }
        cluster
    });
}

/// Also where a third node answers.
#[test]
fn a_reply_address_can_go_round() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B, C], &handled);
        let (at_b, at_c) = (id_in(ledgers[0], 1), id_in(ledgers[0], 2));
        cluster
            .node(A)
            .tell(ledgers[0].entity(&at_c), Entry::Bulk(vec![0; 9]));
        cluster.run_until_idle();
        let make = move |reply_to: ReplyTo<u64>| Entry::PassOn(at_c, reply_to);
        assert_eq!(cluster.ask(A, ledgers[0].entity_ref(at_b), make), Ok(9));
        assert!(cluster.run_until_idle());
        for node in [A, B, C] {
            assert_eq!(cluster.remote_stats(node).remote_asks, 0);
        }
        cluster
    });
}

#[test]
fn a_full_mailbox_rejects_asks_and_counts_tells() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let of_type =
            |ledgers: corecast::EntityType<Ledger, u64>| ledgers.mailbox(Mailbox::bounded(3));
        let [ledgers, _] =
            [A, B].map(|node| start_type(&mut cluster, node, &handled, |it| it.cores(2), of_type));
        spread(&mut cluster, &[A, B]);
        let ledger = ledgers.entity_ref(id_in(ledgers, 1));
        let handle = cluster.node(A).handle();
        handle.tell(ledger, Entry::Slow(500));
        cluster.run_for(Duration::from_millis(5));
        let asks: Vec<_> = (0..10).map(|_| handle.ask(ledger, Entry::Sum)).collect();
        (0..5).for_each(|number| handle.tell(ledger, Entry::Put { sender: 0, number }));
        let sends: Vec<_> = (0..2)
            .map(|number| handle.send(ledger, Entry::Put { sender: 1, number }))
            .collect();
        let outcomes: Vec<_> = asks
            .into_iter()
            .map(|ask| cluster.run_until(ask).unwrap())
            .collect();
        let full = rejected(Rejection::MailboxFull);
        assert_eq!(outcomes[..3], [Ok(0), Ok(0), Ok(0)], "{outcomes:?}");
        assert!(outcomes[3..].iter().all(|it| *it == full), "{outcomes:?}");
        for sent in sends {
            let outcome = cluster.run_until(sent).unwrap();
            assert_eq!(outcome, Err(Rejection::MailboxFull.into()));
        }
        assert!(cluster.run_until_idle());
        assert!(handled.lock().unwrap().is_empty());
        assert_eq!(dead_letters(&mut cluster, B), 7 + 5 + 2);
        cluster
    });
}

#[test]
fn an_awaited_send_resolves_when_the_message_is_stored() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        let handle = cluster.node(A).handle();
        for number in 0..10 {
            if number == 5 {
                handle.tell(ledger, Entry::Slow(100));
            }
            let sent = handle.send(ledger, Entry::Put { sender: 0, number });
            assert_eq!(cluster.run_until(sent).unwrap(), Ok(()));
        }
        assert!(cluster.run_until_idle());
        cluster.run_for(Duration::from_millis(200));
        assert_eq!(handled.lock().unwrap().len(), 10);
        cluster
    });
}

/// What has left is unknown, what has not is rejected; and nothing that is rejected was handled.
#[test]
fn asks_end_when_their_node_dies() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        let handle = cluster.node(A).handle();
        let kept = handle.ask(ledger, Entry::Keep);
        cluster.run_for(Duration::from_millis(20));
        cluster.kill(B);
        let before = cluster.now();
        let lost = unknown(Uncertainty::LinkLost);
        assert_eq!(cluster.run_until(kept).unwrap(), lost);
        assert!(cluster.now() - before < Duration::from_millis(100));
        // Until the other core's connection is known to be gone, too.
        cluster.run_for(Duration::from_millis(5));
        // Nobody answers: certainly nobody has handled it.
        let outcome = cluster.ask(A, ledger, Entry::Sum);
        assert_eq!(outcome, rejected(Rejection::LinkLost));
        // It is dead for the cluster as well; nobody owns the shard, until somebody does.
        cluster.node_down(B);
        cluster.publish();
        cluster.run_for(Duration::from_millis(1));
        let waits = handle.ask(ledger, Entry::Sum);
        cluster.run_for(Duration::from_millis(10));
        assert_eq!(cluster.wanted(A).len(), 1);
        cluster.assign("ledger", corecast::ShardId(1), A);
        cluster.publish();
        assert_eq!(cluster.run_until(waits).unwrap(), Ok(0));
        // And the next life of the node is another one.
        start(&mut cluster, B, &handled, |builder| builder.cores(2));
        spread(&mut cluster, &[B]);
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        cluster
    });
}

/// Asks, breaks, and resets: every ask ends once, and the rejected ones have certainly not been handled.
#[test]
fn nothing_that_is_rejected_was_handled() {
    check_cluster_seeds(15, |mut cluster| {
        let handled = Handled::default();
        cluster.network().settings_mut().gives_up_after = Duration::from_millis(10);
        cluster.network().settings_mut().window = 2_000;
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 5);
        let handle = cluster.node(A).handle();
        let mut sends = Vec::new();
        for number in 0..300 {
            let ledger = ledgers[0].entity_ref(rng.random_range(0..20));
            sends.push((
                number,
                handle.send(ledger, Entry::Put { sender: 0, number }),
            ));
            if rng.random_ratio(1, 30) {
                cluster.network().cut(A, B);
            }
            if rng.random_ratio(1, 60) {
                cluster.network().cut(B, A);
            }
            if rng.random_ratio(1, 15) {
                let now = cluster.now();
                cluster.network().heal(now);
            }
            cluster.run_for(Duration::from_micros(rng.random_range(0..3_000)));
        }
        let now = cluster.now();
        cluster.network().heal(now);
        cluster.run_for(Duration::from_secs(6));
        assert!(cluster.run_until_idle());
        assert_ends(&mut cluster, sends, &handled);
        cluster
    });
}

type Sent = Vec<(u64, corecast::Pending<Result<(), AskError>>)>;

fn assert_ends(cluster: &mut ClusterSimulation, sends: Sent, handled: &Handled) {
    for (number, sent) in sends {
        let outcome = cluster.run_until(sent).unwrap();
        let handled = handled.lock().unwrap();
        let count = handled.iter().filter(|it| it.3 == number).count();
        match outcome {
            Ok(()) => assert_eq!(count, 1, "{number}"),
            Err(AskError::Rejected(why)) => assert_eq!(count, 0, "{number}: {why}"),
            Err(AskError::Unknown(_)) => assert!(count <= 1, "{number}"),
        }
    }
}
