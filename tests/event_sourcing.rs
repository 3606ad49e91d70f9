//! Event-sourced entities on real cores, and what the log says of those that fail.

use corecast::persistence::journal::Journal;
use corecast::sim::{FaultyJournal, ReadFault, Simulation, WriteFault};
use corecast::{
    AskError, CoreId, CoreStats, Effect, EntityRef, EntityType, EventSourced, Fault,
    InMemoryJournal, Region, ReplyTo, Runtime, Sequence, Snapshots, Sourced, SourcedContext,
    WireMessage,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Account;

#[derive(Debug)]
enum Command {
    Deposit(u64, ReplyTo<u64>),
    Balance(ReplyTo<u64>),
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Deposited(u64);

impl WireMessage for Deposited {
    const NAME: &'static str = "test.Deposited";
    const VERSION: u16 = 1;
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Balance(u64);

impl WireMessage for Balance {
    const NAME: &'static str = "test.Balance";
    const VERSION: u16 = 1;
}

impl EventSourced for Account {
    type Command = Command;
    type Event = Deposited;
    type State = Balance;

    fn empty(&self) -> Balance {
        Balance(0)
    }

    fn on_command(
        &mut self,
        _: &Balance,
        command: Command,
        _: &mut SourcedContext<'_, Self>,
    ) -> Result<Effect<Self>, Fault> {
        let balance = |balance: &Balance| balance.0;
        Ok(match command {
            Command::Deposit(amount, reply_to) => {
                Effect::persist(Deposited(amount)).then_reply(reply_to, balance)
            }
            Command::Balance(reply_to) => Effect::none().then_reply(reply_to, balance),
        })
    }

    fn on_event(balance: Balance, event: &Deposited) -> Balance {
        Balance(balance.0 + event.0)
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Every(7)
    }
}

fn start(journal: &InMemoryJournal) -> (Runtime, Region<u64, Command>) {
    let mut builder = Runtime::builder()
        .cores("0-1".parse().unwrap())
        .balancer(None);
    let accounts = EntityType::event_sourced("account", journal.clone(), |_: &u64| Account);
    let accounts = builder.entities(accounts.num_shards(8).max_active_per_core(20));
    (builder.start().unwrap(), accounts)
}

/// Under load, moves and passivation, and then in another runtime.
#[test]
fn every_answer_is_true_and_another_runtime_recovers_it_all() {
    const ACCOUNTS: u64 = 100;
    let journal = InMemoryJournal::default();
    let (runtime, accounts) = start(&journal);
    let handle = runtime.handle();
    for round in 1..=20 {
        let deposits: Vec<_> = (0..ACCOUNTS)
            .map(|id| {
                handle.ask(accounts.entity(&id), move |reply| {
                    Command::Deposit(id + 1, reply)
                })
            })
            .collect();
        for to in [0, 1] {
            let shard = accounts.shard_of(&round);
            handle.move_shard(shard, CoreId(to)).wait().unwrap();
        }
        for (id, balance) in (0..).zip(deposits) {
            assert_eq!(balance.wait(), Ok(round * (id + 1)), "account {id}");
        }
    }
    let stats = handle.stats().wait();
    let sum = |of: fn(&CoreStats) -> u64| stats.cores.iter().map(of).sum::<u64>();
    assert_eq!(sum(|core| core.faults + core.failed_snapshots), 0);
    assert!(sum(|core| core.passivations) > 0);
    assert!(runtime.shutdown_within(Duration::from_secs(20)).drained);

    let (runtime, accounts) = start(&journal);
    let handle = runtime.handle();
    let mut snapshots = 0;
    for id in 0..ACCOUNTS {
        let balance = handle.ask(accounts.entity(&id), Command::Balance).wait();
        assert_eq!(balance, Ok(20 * (id + 1)), "account {id}");
        let persistence_id = format!("account/{id}");
        assert_eq!(journal.records(&persistence_id.as_str().into()).len(), 20);
        snapshots += usize::from(journal.snapshot(&persistence_id.as_str().into()).is_some());
    }
    assert!(snapshots > 0);
}

/// Collects what the log says of faults. It is the subscriber of the whole process: what a thread of its own would hear
/// depends on which thread logs first.
#[derive(Clone, Default)]
struct FaultLog(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for FaultLog {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut FaultField(self));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct FaultField<'a>(&'a FaultLog);

impl tracing::field::Visit for FaultField<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "fault" {
            self.0.0.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

#[test]
fn a_fault_says_of_whom_and_at_which_event() {
    let log = FaultLog::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let assert_said = |what: &str| {
        let said = std::mem::take(&mut *log.0.lock().unwrap());
        assert_eq!(said.first().map(String::as_str), Some(what), "{said:?}");
    };
    let memory = InMemoryJournal::default();
    let start = || {
        let journal = FaultyJournal::new(1, memory.clone());
        let accounts = EntityType::event_sourced("account", journal.clone(), |_: &u64| Account);
        let mut builder = Simulation::builder(1);
        let account = builder.entities(accounts).entity_ref(1);
        (builder.start(), journal, account)
    };
    type Ref = EntityRef<u64, Command>;
    let deposit = |sim: &mut Simulation, to: Ref| sim.ask(to, |reply| Command::Deposit(5, reply));
    let unknown = |outcome| matches!(outcome, Err(AskError::Unknown(_)));

    let (mut sim, journal, account) = start();
    assert_eq!(deposit(&mut sim, account), Ok(5));
    journal.fail_nth_write(1, WriteFault::Refused);
    assert!(unknown(deposit(&mut sim, account)));
    assert_said("account/1 could not store the events 2 to 2: the storage failed: made to fail");
    assert_eq!(deposit(&mut sim, account), Ok(10));
    journal.fail_nth_write(1, WriteFault::Silent);
    assert!(unknown(deposit(&mut sim, account)));
    sim.run_for(Duration::from_secs(6));
    assert_said("account/1 could not store the events 3 to 3: the journal did not answer in time");
    drop(sim);

    let (mut sim, journal, account) = start();
    let id = "account/1".into();
    // The snapshots of the lives before spare this one all but the last event.
    assert_eq!(memory.snapshot(&id).unwrap().sequence, Sequence(2));
    journal.fail_read(&id, Sequence(3), ReadFault::Damaged);
    assert!(deposit(&mut sim, account).is_err());
    assert_said(
        "account/1 could not be recovered, at event 3: the record is damaged: the checksum of record 3 is wrong",
    );

    let lease = memory.leases().take(&"alone".into()).unwrap();
    let second = sim.spawn(CoreId(0), move || {
        Sourced::new("alone".into(), memory, Account)
    });
    assert!(sim.ask(second.unwrap(), Command::Balance).is_err());
    assert_said(
        "the persistence id alone is held by another live actor; there can be one at a time",
    );
    drop(lease);
}
