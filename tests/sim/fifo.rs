//! Order: what one sender sends to one receiver arrives once and in order, and what is refused comes back.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim fifo`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Simulation, SimulationBuilder, check_seeds};
use corecast::{Actor, ActorRef, Context, Fault, Mailbox, Next, Policy, Scope};
use rand::RngExt;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Sender, receiver and number of a message, in the order in which they were accepted or handled.
type Log = Arc<Mutex<BTreeMap<(u32, usize), Vec<u64>>>>;

#[derive(Debug)]
struct Numbered {
    from: u32,
    number: u64,
}

struct Receiver {
    me: usize,
    got: Log,
}

impl Actor for Receiver {
    type Msg = Numbered;

    fn receive(&mut self, msg: Numbered, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.got
            .lock()
            .unwrap()
            .entry((msg.from, self.me))
            .or_default()
            .push(msg.number);
        Ok(Next::Continue)
    }
}

/// What all senders know.
#[derive(Clone)]
struct Plan {
    seed: u64,
    receivers: Vec<ActorRef<Numbered>>,
    accepted: Log,
    refused: Arc<Mutex<u64>>,
}

impl Plan {
    fn took(&self, from: u32, to: usize, number: u64) {
        self.accepted
            .lock()
            .unwrap()
            .entry((from, to))
            .or_default()
            .push(number);
    }

    fn gave_back(&self, sent: &Numbered, back: &Numbered) {
        assert_eq!((sent.from, sent.number), (back.from, back.number));
        *self.refused.lock().unwrap() += 1;
    }
}

struct Sending {
    from: u32,
    next: u64,
    left: u32,
    plan: Plan,
}

impl Actor for Sending {
    type Msg = ();

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let me = ctx.me();
        ctx.tell(me, ());
        Ok(())
    }

    fn receive(&mut self, (): (), ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let mut rng = seeded(self.plan.seed, u64::from(self.from) << 32 | self.next);
        for _ in 0..rng.random_range(1..8) {
            let to = rng.random_range(0..self.plan.receivers.len());
            self.next += 1;
            let msg = Numbered {
                from: self.from,
                number: self.next,
            };
            match ctx.try_tell(self.plan.receivers[to], msg) {
                Ok(()) => self.plan.took(self.from, to, self.next),
                Err(refused) => {
                    self.plan.gave_back(
                        &Numbered {
                            from: self.from,
                            number: self.next,
                        },
                        &refused.message,
                    );
                }
            }
        }
        self.left -= 1;
        if self.left == 0 {
            return Ok(Next::Stop);
        }
        let nap = ctx.sleep(Duration::from_micros(rng.random_range(0..200)));
        ctx.spawn(nap, |_| ());
        Ok(Next::Continue)
    }
}

async fn sending(scope: Scope, from: u32, plan: Plan) {
    let mut rng = seeded(plan.seed, u64::from(from));
    for number in 1..60 {
        let to = rng.random_range(0..plan.receivers.len());
        let msg = Numbered { from, number };
        if rng.random_ratio(1, 2) {
            match scope.try_tell(plan.receivers[to], msg) {
                Ok(()) => plan.took(from, to, number),
                Err(refused) => plan.gave_back(&Numbered { from, number }, &refused.message),
            }
        } else if scope.send(plan.receivers[to], msg).await.is_ok() {
            plan.took(from, to, number);
        }
        if rng.random_ratio(1, 5) {
            scope
                .sleep(Duration::from_micros(rng.random_range(0..300)))
                .await;
        }
    }
}

fn scenario(builder: SimulationBuilder) -> (Simulation, u64) {
    let seed = builder.seed();
    let cores = 1 + (seed % 4) as u16;
    let mailbox = Mailbox::unbounded().policy(Policy::Backpressure);
    let mut sim = builder
        .cores(usize::from(cores))
        .mailbox(mailbox)
        .swarm()
        .start();
    let got = Log::default();
    let mut receivers = Vec::new();
    for me in 0..usize::from(cores) * 2 {
        let got = got.clone();
        receivers.push(
            sim.spawn(CoreId(me as u16 % cores), move || Receiver { me, got })
                .unwrap(),
        );
    }
    let plan = Plan {
        seed,
        receivers,
        accepted: Log::default(),
        refused: Arc::default(),
    };
    let handle = sim.handle();
    let mut outside = Vec::new();
    for core in 0..cores {
        let actor_plan = plan.clone();
        let from = u32::from(core);
        drop(handle.spawn_on(CoreId(core), move || Sending {
            from,
            next: 0,
            left: 20,
            plan: actor_plan,
        }));
        let future_plan = plan.clone();
        drop(handle.run_on(CoreId(core), move |scope| {
            sending(scope, 100 + from, future_plan)
        }));
        outside.push((
            200 + from,
            handle.through(CoreId(core)).unwrap(),
            0_u64,
            Vec::new(),
        ));
    }
    let mut rng = seeded(seed, 7);
    for _ in 0..30 {
        for (from, handle, next, sends) in &mut outside {
            let to = rng.random_range(0..plan.receivers.len());
            *next += 1;
            sends.push((
                to,
                *next,
                handle.send(
                    plan.receivers[to],
                    Numbered {
                        from: *from,
                        number: *next,
                    },
                ),
            ));
        }
        sim.run_for(Duration::from_micros(rng.random_range(0..300)));
    }
    for _ in 0..100 {
        assert!(sim.run_until_idle());
        sim.run_for(Duration::from_millis(2));
    }
    for (from, _, _, sends) in outside {
        for (to, number, stored) in sends {
            if stored.try_take().expect("every send ends").is_ok() {
                plan.took(from, to, number);
            }
        }
    }
    let (accepted, got) = (
        plan.accepted.lock().unwrap().clone(),
        got.lock().unwrap().clone(),
    );
    assert!(accepted.values().map(Vec::len).sum::<usize>() > 20);
    for (pair, numbers) in &accepted {
        assert!(numbers.is_sorted(), "{pair:?}");
    }
    assert_eq!(accepted, got, "accepted and handled differ");
    let refused = *plan.refused.lock().unwrap();
    (sim, refused)
}

#[test]
fn what_is_accepted_arrives_once_and_in_order() {
    let refused = Cell::new(0);
    check_seeds(200, |builder| {
        let (sim, back) = scenario(builder);
        refused.set(refused.get() + back);
        sim
    });
    if std::env::var_os("CORECAST_SEED").is_none() {
        assert!(
            refused.get() > 100,
            "only {} sends were refused: no outbox was full",
            refused.get()
        );
    }
}
