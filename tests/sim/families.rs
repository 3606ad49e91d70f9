//! Random families: trees of actors that fail, stop, spawn, wait, tick and watch as chance has it, with every hook in a log
//! that is judged by [what is promised](crate::family_rules).
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --release --test sim families`.

use crate::family_rules::{Birth, Entry, Id, Judge, Rule, What};
use corecast::base::ids::CoreId;
use corecast::base::rng::{Rng, seeded};
use corecast::sim::{Bounds, Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, AnyActorRef, AskError, Backoff, Context, Directive, Fault, Handle, Next,
    Pending, ReplyTo, SpawnError, SpawnOptions, StopCause, Strategy, Supervision,
};
use rand::RngExt;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many watches a core may have.
const WATCHES: usize = 60;
/// How many actors a family has at most.
const MEMBERS: u32 = 120;

/// What all actors share: the log, chance, and who is who.
struct World {
    log: Vec<Entry>,
    rng: Rng,
    handle: Handle,
    addresses: BTreeMap<Id, ActorRef<Msg>>,
    born: Id,
    number: u64,
    /// Nothing goes wrong any more.
    is_calm: bool,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn say(&mut self, who: Id, what: What) {
        let at = self.handle.clock();
        self.log.push(Entry { at, who, what });
    }

    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability) && !self.is_calm
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.rng.random_range(0..choices.len())].clone()
    }

    fn anybody(&mut self) -> Option<(Id, ActorRef<Msg>)> {
        let known = self.addresses.len();
        let chosen = (known > 0).then(|| self.rng.random_range(0..known))?;
        let (id, address) = self.addresses.iter().nth(chosen)?;
        Some((*id, *address))
    }

    fn rule(&mut self) -> Rule {
        let (restart, other) = (Some(Directive::Restart), self.directive());
        let millis = Duration::from_millis;
        let slow = Backoff {
            initial: millis(self.rng.random_range(1..50)),
            max: millis(400),
            factor: self.one_of(&[1.0, 2.0, 3.0]),
            jitter: self.one_of(&[0.0, 0.3]),
        };
        Rule {
            label: self.number() as u32,
            always: self.one_of(&[restart, restart, restart, restart, Some(other), None, None]),
            strategy: self.one_of(&[
                Strategy::OneForOne,
                Strategy::AllForOne,
                Strategy::RestForOne,
            ]),
            max: self.rng.random_range(0..6),
            within: self.one_of(&[millis(23), millis(517), millis(60_000)]),
            backoff: self.one_of(&[Backoff::NONE, slow, slow]),
        }
    }

    fn directive(&mut self) -> Directive {
        self.one_of(&[
            Directive::Resume,
            Directive::Restart,
            Directive::Restart,
            Directive::Stop,
            Directive::Escalate,
        ])
    }

    /// An actor to be born, with those that it will bear.
    fn plan(&mut self, depth: u32) -> Plan {
        let brood = self.rng.random_range(0..=if depth < 3 { 3 } else { 0 });
        let name = self.rng.random_range(0..4);
        let is_named = self.rng.random_bool(0.6);
        Plan {
            name: is_named.then(|| format!("n{name}")),
            own: self.rng.random_bool(0.5).then(|| self.rule()),
            of_children: self.rule(),
            brood: (0..brood).map(|_| self.plan(depth + 1)).collect(),
            ticks: self.rng.random_bool(0.3),
        }
    }
}

#[derive(Clone, Debug)]
struct Plan {
    name: Option<String>,
    own: Option<Rule>,
    of_children: Rule,
    brood: Vec<Plan>,
    ticks: bool,
}

fn supervision(rule: &Rule, world: &Shared) -> Supervision {
    let supervision = match rule.always {
        Some(directive) => Supervision::always(directive),
        None => {
            let (world, rule) = (world.clone(), rule.label);
            Supervision::decide(move |fault| {
                let mut world = world.lock().unwrap();
                let panics = world.chance(0.1);
                let directive = match world.directive() {
                    // Who panics has decided nothing.
                    _ if panics => Directive::Stop,
                    directive => directive,
                };
                let fault = fault.to_string();
                let word = What::Decided {
                    rule,
                    fault,
                    directive,
                };
                world.say(0, word);
                drop(world);
                assert!(!panics, "undecided");
                directive
            })
        }
    };
    supervision
        .strategy(rule.strategy)
        .restarts(rule.max, rule.within)
        .backoff(rule.backoff)
}

/// One of a family.
struct Member {
    id: Id,
    life: u32,
    plan: Plan,
    world: Shared,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.say(What::Dropped);
    }
}

#[derive(Debug)]
enum Msg {
    Do {
        number: u64,
        sender: usize,
        order: Order,
    },
    Tick {
        life: u32,
    },
    Word {
        from: Id,
    },
    Heard {
        of: Id,
        watch: u64,
        cause: Option<StopCause>,
    },
}

#[derive(Debug)]
enum Order {
    Nothing,
    Fail,
    Stop,
    Spawn(Box<Plan>),
    Watch(Id, AnyActorRef),
    Unwatch(Id, AnyActorRef),
    Timer(&'static str, Duration, bool),
    Suspend(Duration),
    /// To wait for a future, and to fail before it has finished.
    SuspendAndFail(Duration),
    StopChild,
    StopOther(Id, ActorRef<Msg>),
    Say(ActorRef<Msg>),
}

/// Makes an actor whenever it is to be made.
fn factory(
    world: &Shared,
    id: Id,
    core: CoreId,
    parent: Option<Id>,
    plan: Plan,
) -> impl FnMut() -> Member + Send + 'static {
    let world = world.clone();
    let made = Cell::new(0);
    move || {
        let life = made.get();
        let mut known = world.lock().unwrap();
        if known.chance(if life == 0 { 0.03 } else { 0.15 }) {
            let fault = known.number().to_string();
            if life > 0 {
                let fault = fault.clone();
                known.say(id, What::NotMadeAgain { fault });
            }
            drop(known);
            panic!("{fault}");
        }
        let birth = Birth {
            core: core.0,
            parent,
            name: plan.name.clone(),
            own: plan.own.clone(),
            of_children: plan.of_children.clone(),
        };
        known.say(
            id,
            match life {
                0 => What::Born(Box::new(birth)),
                _ => What::MadeAgain,
            },
        );
        made.set(life + 1);
        drop(known);
        Member {
            id,
            life,
            plan: plan.clone(),
            world: world.clone(),
        }
    }
}

fn options(plan: &Plan, world: &Shared) -> SpawnOptions {
    let mut options = SpawnOptions::default();
    if let Some(name) = &plan.name {
        options = options.named(name.clone());
    }
    if let Some(own) = &plan.own {
        options = options.supervised(supervision(own, world));
    }
    options
}

impl Member {
    fn say(&self, what: What) {
        self.world.lock().unwrap().say(self.id, what);
    }

    fn chance(&self, probability: f64) -> bool {
        self.world.lock().unwrap().chance(probability)
    }

    /// Perhaps it fails here, one way or the other.
    fn trouble(&self, probability: f64) -> Result<(), Fault> {
        if self.chance(probability) {
            return Err(self.fails());
        }
        Ok(())
    }

    fn fails(&self) -> Fault {
        let mut world = self.world.lock().unwrap();
        let fault = world.number().to_string();
        let panics = world.chance(0.5);
        let word = What::Failed {
            fault: fault.clone(),
            panics,
        };
        world.say(self.id, word);
        drop(world);
        assert!(!panics, "{fault}");
        Fault::new(fault)
    }

    fn spawn(&self, plan: Plan, ctx: &mut Context<'_, Self>) {
        let id = {
            let mut world = self.world.lock().unwrap();
            if world.born >= MEMBERS {
                return;
            }
            world.born += 1;
            world.born
        };
        let name = plan.name.clone();
        let options = options(&plan, &self.world);
        let factory = factory(&self.world, id, ctx.core(), Some(self.id), plan);
        match ctx.spawn_actor_with(options, factory) {
            Ok(child) => _ = self.world.lock().unwrap().addresses.insert(id, child),
            Err(SpawnError::NameTaken { .. }) => self.say(What::NameTaken {
                name: name.unwrap(),
            }),
            Err(_) => {}
        }
    }

    fn watch(&self, of: Id, target: AnyActorRef, ctx: &mut Context<'_, Self>) {
        let watch = self.world.lock().unwrap().number();
        let watched = ctx.watch(target, move |ended| Msg::Heard {
            of,
            watch,
            cause: ended.cause,
        });
        if watched.is_ok() {
            self.say(What::Watched { of, watch });
        }
    }

    fn suspend(&self, time: Duration, by_message: bool, ctx: &mut Context<'_, Self>) {
        let number = self.world.lock().unwrap().number();
        let nap = ctx.sleep(time);
        ctx.suspend(nap, move |member, (), ctx| {
            member.say(What::Woke { number });
            member.trouble(0.2)?;
            if member.chance(0.2) {
                member.suspend(time, by_message, ctx);
                return Ok(Next::Continue);
            }
            if member.chance(0.05) {
                member.say(What::Stops);
                return Ok(Next::Stop);
            }
            if by_message {
                member.say(What::Handled);
            }
            Ok(Next::Continue)
        });
        self.say(What::Suspended { number });
    }

    fn start_timer(&self, name: &'static str, time: Duration, ctx: &mut Context<'_, Self>) {
        let life = self.life;
        // Without room for it there is none.
        let _ = ctx.start_periodic(name, time, move || Msg::Tick { life });
    }

    fn obey(&self, order: Order, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match order {
            Order::Nothing => {}
            Order::Fail => return Err(self.fails()),
            Order::Stop => {
                self.say(What::Stops);
                return Ok(Next::Stop);
            }
            Order::Spawn(plan) => self.spawn(*plan, ctx),
            Order::Watch(of, target) => self.watch(of, target, ctx),
            Order::Unwatch(of, target) => {
                let was_watched = ctx.unwatch(target);
                self.say(What::Unwatched { of, was_watched });
            }
            Order::Timer(name, time, true) => self.start_timer(name, time, ctx),
            Order::Timer(name, time, false) => {
                let life = self.life;
                let _ = ctx.start_timer(name, time, Msg::Tick { life });
            }
            Order::Suspend(time) => {
                self.suspend(time, true, ctx);
                return Ok(Next::Continue);
            }
            Order::SuspendAndFail(time) => {
                self.suspend(time, true, ctx);
                return Err(self.fails());
            }
            Order::StopChild => {
                let children = ctx.children();
                if !children.is_empty() {
                    let mut world = self.world.lock().unwrap();
                    let child = world.one_of(&children).actor;
                    let mut known = world.addresses.iter();
                    let id = known.find(|(_, address)| AnyActorRef::from(**address) == child);
                    let id = *id.expect("it was spawned here").0;
                    world.say(id, What::ToldToStop);
                    drop(world);
                    assert!(ctx.stop_child(child));
                }
            }
            Order::StopOther(id, actor) => {
                self.world.lock().unwrap().say(id, What::ToldToStop);
                ctx.stop(actor);
            }
            Order::Say(to) => ctx.tell(to, Msg::Word { from: self.id }),
        }
        self.say(What::Handled);
        Ok(Next::Continue)
    }

    fn last_words(&self, ctx: &mut Context<'_, Self>) {
        for _ in 0..2 {
            let somebody = self.world.lock().unwrap().anybody();
            if let Some((_, somebody)) = somebody {
                ctx.tell(somebody, Msg::Word { from: self.id });
            }
        }
        assert!(!self.chance(0.1), "at the end");
    }
}

impl Actor for Member {
    type Msg = Msg;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.say(What::PreStart);
        for plan in self.plan.brood.clone() {
            self.spawn(plan, ctx);
        }
        let (somebody, time) = {
            let mut world = self.world.lock().unwrap();
            let time = Duration::from_micros(world.rng.random_range(100..30_000));
            (world.anybody(), time)
        };
        if let Some((of, target)) = somebody {
            self.watch(of, target.into(), ctx);
        }
        if self.plan.ticks {
            self.start_timer("own", Duration::from_millis(40) + time, ctx);
        }
        if self.chance(0.1) {
            self.suspend(time, false, ctx);
        }
        self.trouble(0.08)
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Do {
                number,
                sender,
                order,
            } => {
                self.say(What::Message { number, sender });
                return self.obey(order, ctx);
            }
            Msg::Tick { life } => self.say(What::Tick { life }),
            Msg::Word { from } => self.say(What::Word { from }),
            Msg::Heard { of, watch, cause } => self.say(What::Heard { of, watch, cause }),
        }
        self.trouble(0.08)?;
        self.say(What::Handled);
        Ok(Next::Continue)
    }

    fn on_error(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) -> Option<Directive> {
        let mut world = self.world.lock().unwrap();
        let panics = world.chance(0.05);
        let answers = world.chance(0.2) && !panics;
        let answer = answers.then(|| world.directive());
        let word = What::OnError {
            fault: fault.to_string(),
            panics: fault.is_panic(),
            answer,
        };
        // The time by which the runtime goes.
        let at = ctx.now();
        let who = self.id;
        world.log.push(Entry {
            at,
            who,
            what: word,
        });
        drop(world);
        assert!(!panics, "in on_error");
        answer
    }

    fn supervision(&self) -> Supervision {
        supervision(&self.plan.of_children, &self.world)
    }

    fn pre_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) {
        let fault = fault.to_string();
        self.say(What::PreRestart { fault });
        self.last_words(ctx);
    }

    fn post_restart(&mut self, fault: &Fault, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let fault = fault.to_string();
        self.say(What::PostRestart { fault });
        if self.chance(0.15) {
            self.suspend(Duration::from_millis(3), false, ctx);
        }
        self.trouble(0.08)
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        self.say(What::PostStop);
        self.last_words(ctx);
    }
}

/// Says how many watches it can begin.
struct Counter;

impl Actor for Counter {
    type Msg = Option<ReplyTo<usize>>;

    fn receive(
        &mut self,
        asked: Option<ReplyTo<usize>>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        let Some(reply_to) = asked else {
            return Ok(Next::Continue);
        };
        let mut begun = 0;
        for _ in 0..=WATCHES {
            let child = ctx.spawn_actor(|| Counter)?;
            begun += usize::from(ctx.watch(child, |_| None).is_ok());
        }
        ctx.reply(reply_to, begun);
        Ok(Next::Stop)
    }
}

/// A message that was sent from outside.
struct Sent {
    number: u64,
    to: Id,
    receipt: Pending<Result<(), AskError>>,
}

struct Scenario {
    sim: Simulation,
    world: Shared,
    senders: Vec<Handle>,
    judge: Judge,
    sent: Vec<Sent>,
}

impl Scenario {
    fn new(builder: SimulationBuilder) -> Scenario {
        let seed = builder.seed();
        let bounds = Bounds {
            watches: WATCHES,
            ..Bounds::default()
        };
        let mut builder = builder.cores(2 + (seed % 2) as usize).bounds(bounds);
        if seed.is_multiple_of(3) {
            builder = builder.swarm();
        }
        let sim = builder.start();
        let handle = sim.handle();
        let through = |core| handle.through(CoreId(core as u16)).unwrap();
        let senders = (0..handle.cores()).map(through).collect();
        let world = World {
            log: vec![],
            rng: seeded(seed, 8_128),
            handle: handle.clone(),
            addresses: BTreeMap::new(),
            born: 0,
            number: 0,
            is_calm: false,
        };
        Scenario {
            sim,
            world: Arc::new(Mutex::new(world)),
            senders,
            judge: Judge::default(),
            sent: vec![],
        }
    }

    fn judge(&mut self) {
        let log = std::mem::take(&mut self.world.lock().unwrap().log);
        self.judge.hear(log);
    }

    fn root(&mut self) {
        let (id, plan, core) = {
            let mut world = self.world.lock().unwrap();
            if world.born >= MEMBERS {
                return;
            }
            world.born += 1;
            let id = world.born;
            let mut plan = world.plan(0);
            plan.name = plan.name.map(|name| format!("{name}-{id}"));
            plan.own = Some(world.rule());
            let core = CoreId(world.rng.random_range(0..self.senders.len()) as u16);
            (id, plan, core)
        };
        let options = options(&plan, &self.world);
        let factory = factory(&self.world, id, core, None, plan);
        if let Ok(address) = self.sim.spawn_supervised(core, options, factory) {
            self.world.lock().unwrap().addresses.insert(id, address);
        }
    }

    fn order(&mut self) -> Order {
        let mut world = self.world.lock().unwrap();
        let Some((id, address)) = world.anybody() else {
            return Order::Nothing;
        };
        let time = Duration::from_micros(world.rng.random_range(1..80_000));
        match world.rng.random_range(0..100) {
            0..30 => Order::Fail,
            30..36 => Order::Stop,
            36..46 => Order::Spawn(Box::new(world.plan(2))),
            46..58 => Order::Watch(id, address.into()),
            58..61 => Order::Unwatch(id, address.into()),
            61..68 => {
                let (name, again) = (world.one_of(&["a", "b"]), world.rng.random_bool(0.5));
                Order::Timer(name, time, again)
            }
            68..76 => Order::Suspend(time),
            76..81 => Order::SuspendAndFail(time),
            81..83 => Order::StopChild,
            83..85 => Order::StopOther(id, address),
            85..92 => Order::Say(address),
            _ => Order::Nothing,
        }
    }

    fn send(&mut self) {
        let order = self.order();
        let mut world = self.world.lock().unwrap();
        let Some((to, address)) = world.anybody() else {
            return;
        };
        let sender = world.rng.random_range(0..self.senders.len());
        let number = world.number();
        drop(world);
        let message = Msg::Do {
            number,
            sender,
            order,
        };
        let receipt = self.senders[sender].send(address, message);
        self.sent.push(Sent {
            number,
            to,
            receipt,
        });
    }

    fn stop(&mut self, id: Id) {
        let Some(address) = self.world.lock().unwrap().addresses.get(&id).copied() else {
            return;
        };
        if self.sim.handle().stop(address).is_ok() {
            self.world.lock().unwrap().say(id, What::ToldToStop);
        }
    }

    fn act(&mut self) {
        let (what, micros) = {
            let mut world = self.world.lock().unwrap();
            let micros = world.one_of(&[10, 100, 1_000, 20_000, 300_000]);
            let micros = world.rng.random_range(0..micros);
            (world.rng.random_range(0..100), micros)
        };
        match what {
            0..3 => self.root(),
            3..5 => {
                let anybody = self.world.lock().unwrap().anybody();
                anybody.into_iter().for_each(|(id, _)| self.stop(id));
            }
            5..80 => self.send(),
            80..97 => self.sim.run_for(Duration::from_micros(micros)),
            _ => {
                self.judge();
                self.names_are_right();
            }
        }
    }

    /// Whoever lives is found by its name, and nobody else.
    fn names_are_right(&self) {
        let world = self.world.lock().unwrap();
        for (path, wanted) in self.judge.names() {
            let found = self.sim.handle().lookup::<Msg>(&path).unwrap();
            let wanted = wanted.map(|id| world.addresses.get(&id).copied());
            match wanted {
                // A root whose address is still on its way.
                Some(None) => {}
                wanted => assert_eq!(found, wanted.flatten(), "{path}"),
            }
        }
    }

    /// Lets everything come to rest.
    fn calm_down(&mut self) {
        self.world.lock().unwrap().is_calm = true;
        self.sim.run_for(Duration::from_secs(3));
        assert!(self.sim.run_until_idle());
        self.judge();
        self.judge.is_at_rest();
        self.names_are_right();
        for Sent {
            number,
            to,
            receipt,
        } in std::mem::take(&mut self.sent)
        {
            let was_handled = self.judge.was_handled(number);
            match self.sim.run_until(receipt).unwrap() {
                Ok(()) => assert!(
                    was_handled || !self.judge.lives(to),
                    "{number} was accepted by {to}, and lost"
                ),
                Err(AskError::Rejected(why)) => assert!(!was_handled, "{number}: {why}"),
                Err(AskError::Unknown(_)) => {}
            }
        }
    }

    fn end(mut self) -> (Simulation, Judge) {
        self.calm_down();
        if self.sim.seed().is_multiple_of(2) {
            for id in self.judge.living() {
                self.stop(id);
                self.sim.run_until_idle();
            }
            self.sim.run_for(Duration::from_secs(1));
            self.judge();
            assert_eq!(self.judge.living(), [] as [Id; 0]);
            self.names_are_right();
            self.nothing_is_left();
        }
        self.world.lock().unwrap().say(0, What::Shutdown);
        let closing = self.sim.shutdown(Duration::from_secs(1));
        self.judge();
        assert!(closing.drained);
        assert_eq!(self.judge.living(), [] as [Id; 0]);
        for core in &closing.stats.cores {
            let left = [core.actors, core.tasks, core.open_asks];
            assert_eq!(left, [0; 3], "{}", core.core);
        }
        self.names_are_right();
        (self.sim, self.judge)
    }

    /// Of all that have ended, no core knows anything any more.
    fn nothing_is_left(&mut self) {
        for core in 0..self.senders.len() {
            let stats = self.sim.stats();
            let stats = &stats.cores[core];
            let left = [stats.actors, stats.tasks, stats.timers];
            assert_eq!(left, [0; 3], "core {core}");
            let counter = self.sim.spawn(CoreId(core as u16), || Counter).unwrap();
            let watches = self.sim.ask(counter, Some);
            assert_eq!(watches, Ok(WATCHES), "core {core}");
        }
    }
}

#[test]
fn families_keep_what_is_promised() {
    let (runs, restarts, news) = (Cell::new(0), Cell::new(0), Cell::new(0));
    check_seeds(150, |builder| {
        let mut scenario = Scenario::new(builder);
        for _ in 0..3 {
            scenario.root();
        }
        for _ in 0..250 {
            scenario.act();
        }
        let (sim, judge) = scenario.end();
        runs.set(runs.get() + 1);
        restarts.set(restarts.get() + judge.restarts);
        news.set(news.get() + judge.news);
        sim
    });
    // Something has happened.
    let (restarts, news) = (restarts.get(), news.get());
    assert!(
        restarts > runs.get() && news > runs.get() || runs.get() < 10,
        "{restarts} restarts, {news} ends"
    );
}
