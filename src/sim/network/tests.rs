//! What the virtual network promises, for many seeds.

use std::time::Duration;

use super::{Arrival, ClosedWhy, LinkId, Network, NetworkSettings, NotSent};
use crate::base::ids::NodeId;
use crate::base::time::Time;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const SEEDS: u64 = 50;

fn millis(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn lossy() -> NetworkSettings {
    NetworkSettings {
        loss: 0.2,
        duplication: 0.1,
        max_latency: Duration::from_millis(20),
        ..NetworkSettings::default()
    }
}

/// Everything that arrives until `until`, with its time.
fn arrivals(network: &mut Network<u32>, until: Time) -> Vec<(Time, Arrival<u32>)> {
    let mut seen = Vec::new();
    while let Some(at) = network.next_arrival().filter(|at| *at <= until) {
        while let Some(arrival) = network.pop(at) {
            seen.push((at, arrival));
        }
    }
    seen
}

fn received(seen: &[(Time, Arrival<u32>)], at: NodeId) -> Vec<u32> {
    let payload = |arrival: &Arrival<u32>| match arrival {
        Arrival::Received { to, payload, .. } | Arrival::Datagram { to, payload, .. }
            if *to == at =>
        {
            Some(*payload)
        }
        _ => None,
    };
    seen.iter()
        .filter_map(|(_, arrival)| payload(arrival))
        .collect()
}

fn closed(seen: &[(Time, Arrival<u32>)], node: NodeId) -> Option<ClosedWhy> {
    seen.iter().find_map(|(_, arrival)| match arrival {
        Arrival::Closed { at, why, .. } if *at == node => Some(*why),
        _ => None,
    })
}

/// A network with a connection from A to B that stands.
fn connected(seed: u64, settings: NetworkSettings) -> (Network<u32>, LinkId, Time) {
    let mut network = Network::new(seed, settings);
    let link = network.connect(Time::ZERO, A, B);
    let seen = arrivals(&mut network, millis(100));
    let ends: Vec<NodeId> = seen
        .iter()
        .filter(|(_, arrival)| matches!(arrival, Arrival::Opened { .. }))
        .map(|(_, arrival)| arrival.at())
        .collect();
    assert_eq!(ends, [B, A], "the end that is connected to opens first");
    (network, link, millis(100))
}

#[test]
fn datagrams_get_lost_doubled_and_overtaken() {
    let (mut lost, mut doubled, mut overtaken) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut network = Network::new(seed, lossy());
        (0..100).for_each(|n| network.send_datagram(Time::ZERO, A, B, n));
        let got = received(&arrivals(&mut network, millis(100)), B);
        lost += (0..100).filter(|n| !got.contains(n)).count();
        doubled += (0..100)
            .filter(|n| got.iter().filter(|m| *m == n).count() == 2)
            .count();
        overtaken += got.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let mut again = Network::new(seed, lossy());
        (0..100).for_each(|n| again.send_datagram(Time::ZERO, A, B, n));
        assert_eq!(
            got,
            received(&arrivals(&mut again, millis(100)), B),
            "seed {seed}"
        );
    }
    assert!((700..1_300).contains(&lost), "{lost} of 5000 at 20 %");
    assert!((200..600).contains(&doubled), "{doubled} of 5000 at 10 %");
    assert!(overtaken > 1_000, "{overtaken}");
}

#[test]
fn connections_keep_order_and_lose_nothing() {
    for seed in 0..SEEDS {
        let (mut network, link, now) = connected(seed, lossy());
        for n in 0..100 {
            network.send(now, link, A, n, 10).unwrap();
            network.send(now, link, B, 1_000 + n, 10).unwrap();
        }
        let seen = arrivals(&mut network, millis(100_000));
        assert_eq!(
            received(&seen, B),
            (0..100).collect::<Vec<_>>(),
            "seed {seed}"
        );
        assert_eq!(
            received(&seen, A),
            (1_000..1_100).collect::<Vec<_>>(),
            "seed {seed}"
        );
        assert!(network.counters().resent > 0);
    }
}

#[test]
fn a_cut_holds_what_is_sent_and_its_end_lets_it_go_on() {
    for seed in 0..SEEDS {
        let (mut network, link, now) = connected(seed, NetworkSettings::default());
        network.send(now, link, A, 1, 10).unwrap();
        network.cut(A, B);
        network.send(now, link, A, 2, 10).unwrap();
        network.send(now, link, B, 3, 10).unwrap();
        let seen = arrivals(&mut network, now + Duration::from_secs(10));
        assert!(
            received(&seen, B).is_empty(),
            "not even what was on its way"
        );
        assert_eq!(received(&seen, A), [3], "the way back is another");
        let healed = now + Duration::from_secs(10);
        network.heal(healed);
        let seen = arrivals(&mut network, healed + Duration::from_secs(60));
        assert_eq!(received(&seen, B), [1, 2], "seed {seed}");
        assert_eq!((closed(&seen, A), closed(&seen, B)), (None, None));
    }
}

#[test]
fn whoever_sends_into_a_long_cut_gives_up_and_the_other_end_learns_it_late() {
    let (mut network, link, now) = connected(1, NetworkSettings::default());
    network.partition(&[A], &[B]);
    network.send(now, link, A, 1, 10).unwrap();
    let seen = arrivals(&mut network, now + Duration::from_secs(60));
    assert_eq!(closed(&seen, A), Some(ClosedWhy::GaveUp));
    assert_eq!(closed(&seen, B), None);
    let (why, back) = network.send(now, link, A, 2, 10).unwrap_err();
    assert_eq!((why, back), (NotSent::Closed, 2));
    let healed = now + Duration::from_secs(60);
    network.heal(healed);
    network.send(healed, link, B, 3, 10).unwrap();
    let seen = arrivals(&mut network, healed + Duration::from_secs(1));
    assert!(received(&seen, A).is_empty());
    assert_eq!(closed(&seen, B), Some(ClosedWhy::Reset));
}

#[test]
fn a_killed_process_resets_and_a_dead_machine_is_silent() {
    for machine in [false, true] {
        let (mut network, link, now) = connected(2, NetworkSettings::default());
        if machine {
            network.power_off(now, B);
        } else {
            network.kill(now, B);
        }
        let seen = arrivals(&mut network, now + Duration::from_secs(5));
        let reset = (!machine).then_some(ClosedWhy::Reset);
        assert_eq!(closed(&seen, A), reset);

        // Nobody answers, or the machine refuses.
        let again = now + Duration::from_secs(5);
        network.connect(again, A, B);
        let seen = arrivals(&mut network, again + Duration::from_secs(5));
        let refused = if machine {
            ClosedWhy::NobodyAnswers
        } else {
            ClosedWhy::Reset
        };
        assert_eq!(closed(&seen, A), Some(refused));

        // It comes back and knows nothing of the old connection.
        network.start(B);
        let back = again + Duration::from_secs(5);
        if machine {
            network.send(back, link, A, 1, 10).unwrap();
            let seen = arrivals(&mut network, back + Duration::from_secs(1));
            assert_eq!(
                (received(&seen, B), closed(&seen, A)),
                (vec![], Some(ClosedWhy::Reset))
            );
        }
        network.connect(back, A, B);
        let seen = arrivals(&mut network, back + Duration::from_secs(5));
        assert_eq!(closed(&seen, A), None);
        assert_eq!(seen.len(), 2, "both ends open: {seen:?}");
    }
}

#[test]
fn a_full_window_refuses_and_says_when_there_is_room() {
    let settings = NetworkSettings {
        window: 100,
        ..NetworkSettings::default()
    };
    let (mut network, link, now) = connected(3, settings);
    network.send(now, link, A, 0, 500).unwrap();
    let (why, back) = network.send(now, link, A, 1, 10).unwrap_err();
    assert_eq!((why, back), (NotSent::Full, 1));
    let seen = arrivals(&mut network, now + Duration::from_secs(1));
    assert_eq!(received(&seen, B), [0]);
    assert_eq!(
        seen.last().map(|(_, arrival)| arrival.clone()),
        Some(Arrival::Writable { link, at: A })
    );
    network.send(now, link, A, 1, 10).unwrap();
}

#[test]
fn what_was_sent_before_an_end_closes_arrives_before_it_closes() {
    for seed in 0..SEEDS {
        let (mut network, link, now) = connected(seed, lossy());
        (0..20).for_each(|n| network.send(now, link, A, n, 10).unwrap());
        network.close(now, link, A);
        let seen = arrivals(&mut network, now + Duration::from_secs(60));
        assert_eq!(
            received(&seen, B),
            (0..20).collect::<Vec<_>>(),
            "seed {seed}"
        );
        let last = seen.last().map(|(_, arrival)| arrival.clone());
        let why = ClosedWhy::ByPeer;
        assert_eq!(last, Some(Arrival::Closed { link, at: B, why }));
        network.close(now + Duration::from_secs(60), link, B);
        assert_eq!(arrivals(&mut network, Time::MAX), []);
    }
}

#[test]
fn a_slow_link_is_slow_in_one_direction() {
    let (mut network, link, now) = connected(4, NetworkSettings::default());
    network.slow(A, B, 1_000);
    network.send(now, link, A, 1, 10).unwrap();
    network.send(now, link, B, 2, 10).unwrap();
    let seen = arrivals(&mut network, now + Duration::from_secs(5));
    assert_eq!(received(&seen, A), [2]);
    assert_eq!(received(&seen, B), [1]);
    let (first, last) = (seen[0].0, seen[1].0);
    assert!(first - now <= Duration::from_millis(1), "{seen:?}");
    assert!(last - now >= Duration::from_millis(100), "{seen:?}");
}
