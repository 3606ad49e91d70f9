#[path = "sim/governed_counts.rs"]
mod governed_counts;
#[path = "sim/governed_faults.rs"]
mod governed_faults;
#[path = "sim/governed_history.rs"]
mod governed_history;
#[path = "sim/governed_judge.rs"]
mod governed_judge;
#[path = "sim/governed_senders.rs"]
mod governed_senders;
#[path = "sim/governed_swarm.rs"]
mod governed_swarm;
#[path = "sim/swarm.rs"]
mod swarm;

#[test]
fn probe() {
    let from: u64 = std::env::var("FROM").map_or(0, |it| it.parse().unwrap());
    let to: u64 = std::env::var("TO").map_or(8, |it| it.parse().unwrap());
    let mut all = governed_counts::Counts::default();
    let mut bad = Vec::new();
    for seed in from..to {
        let begun = std::time::Instant::now();
        let ran = std::panic::catch_unwind(|| {
            let ran = governed_swarm::scenario(
                corecast::sim::ClusterSimulation::new(seed),
                governed_swarm::LENGTH,
                Default::default(),
            );
            let at = ran.cluster.now();
            drop(ran.cluster);
            (ran.counts, at)
        });
        match ran {
            Ok((counts, at)) => {
                eprintln!(
                    "seed {seed}: {:?} {at} ops {} faults {}",
                    begun.elapsed(),
                    counts.operations,
                    counts.faults.values().sum::<u64>()
                );
                all.add(&counts);
            }
            Err(_) => {
                eprintln!("seed {seed}: FAILED {:?}", begun.elapsed());
                bad.push(seed);
            }
        }
    }
    eprintln!("{:?}\n{:?}\n{:?}", all.faults, all.transitions, all.outcomes);
    assert!(bad.is_empty(), "bad: {bad:?}");
}
