//! A bank of sharded accounts: deposits are tells, withdrawals are asks whose replies carry typed errors, a transfer
//! is one account asking another, and accounts that nobody uses leave the memory without losing a cent.
//!
//! `cargo run --release --example bank_account`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use corecast::{
    Actor, AskError, Context, EntityRef, EntityType, Fault, Handle, Mailbox, Next, Region, ReplyTo,
    Runtime,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Amounts in cents.
type Cents = u64;

/// What an account understands. Messages are plain enums; whoever asks puts the address for the reply into them.
#[derive(Debug)]
enum AccountMsg {
    Deposit(Cents),
    /// The reply is the new balance, or why not.
    Withdraw(Cents, ReplyTo<Result<Cents, Declined>>),
    Balance(ReplyTo<Cents>),
    /// Takes the money out here and asks `to` to take it in.
    Transfer {
        to: EntityRef<u64, AccountMsg>,
        amount: Cents,
        reply_to: ReplyTo<Result<(), TransferError>>,
    },
    /// Sent from account to account.
    TakeIn(Cents, ReplyTo<()>),
    /// How the question to the other account ended.
    TakenIn {
        amount: Cents,
        outcome: Result<(), AskError>,
        reply_to: ReplyTo<Result<(), TransferError>>,
    },
}

/// The bank says no: an ordinary reply with an error in it, not a failure of the actor.
#[derive(Debug, PartialEq, thiserror::Error)]
enum Declined {
    #[error("{wanted} cents are wanted, and {balance} are there")]
    Insufficient { wanted: Cents, balance: Cents },
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum TransferError {
    #[error(transparent)]
    Declined(#[from] Declined),
    #[error("the money is back, for the other account was not reached ({0})")]
    Undone(AskError),
    #[error("somebody has to look: nobody knows whether the other account took the money in ({0})")]
    InDoubt(AskError),
}

/// One account. It is created on its core by the entity type's factory, when the first message for its number arrives.
struct Account {
    number: u64,
    balance: Cents,
    ledger: Ledger,
}

impl Actor for Account {
    type Msg = AccountMsg;

    fn receive(&mut self, msg: AccountMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            AccountMsg::Deposit(amount) => self.balance += amount,
            AccountMsg::Withdraw(amount, reply_to) => {
                let outcome = self.take_out(amount);
                ctx.reply(reply_to, outcome);
            }
            AccountMsg::Balance(reply_to) => ctx.reply(reply_to, self.balance),
            AccountMsg::Transfer {
                to,
                amount,
                reply_to,
            } => match self.take_out(amount) {
                Err(declined) => ctx.reply(reply_to, Err(declined.into())),
                // The outcome comes back as a message; until then this account goes on with others.
                Ok(_) => ctx.ask(
                    to,
                    |taken_in| AccountMsg::TakeIn(amount, taken_in),
                    move |outcome| AccountMsg::TakenIn {
                        amount,
                        outcome,
                        reply_to,
                    },
                ),
            },
            AccountMsg::TakeIn(amount, reply_to) => {
                self.balance += amount;
                ctx.reply(reply_to, ());
            }
            AccountMsg::TakenIn {
                amount,
                outcome,
                reply_to,
            } => {
                let outcome = outcome.map_err(|error| match error {
                    // Rejected is certain: no handler has seen the question, so it can be undone.
                    AskError::Rejected(_) => {
                        self.balance += amount;
                        TransferError::Undone(error)
                    }
                    // Unknown is not: undoing it might make money.
                    AskError::Unknown(_) => TransferError::InDoubt(error),
                });
                ctx.reply(reply_to, outcome);
            }
        }
        Ok(Next::Continue)
    }

    /// Runs before the account leaves the memory.
    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.ledger.write(self.number, self.balance);
    }
}

impl Account {
    fn take_out(&mut self, amount: Cents) -> Result<Cents, Declined> {
        match self.balance.checked_sub(amount) {
            Some(rest) => {
                self.balance = rest;
                Ok(rest)
            }
            None => Err(Declined::Insufficient {
                wanted: amount,
                balance: self.balance,
            }),
        }
    }
}

/// Where accounts are while they are not in memory. A map stands in for a store that answers at once; one that does not
/// is awaited in `pre_start`, with `Context::suspend`.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<u64, Cents>>>);

impl Ledger {
    fn read(&self, number: u64) -> Cents {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .copied()
            .unwrap_or(0)
    }

    fn write(&self, number: u64, balance: Cents) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, balance);
    }

    fn total(&self) -> Cents {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }
}

const ACCOUNTS: u64 = 10_000;
/// 100.00.
const OPENING: Cents = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let ledger = Ledger::default();
    let mut builder = Runtime::builder();
    let accounts = builder.entities(
        EntityType::send("account", {
            let ledger = ledger.clone();
            move |number: &u64| Account {
                number: *number,
                balance: ledger.read(*number),
                ledger: ledger.clone(),
            }
        })
        .num_shards(64)
        .mailbox(Mailbox::bounded(100))
        // Few, so that it is seen at work here.
        .max_active_per_core(500)
        .passivate_after(Duration::from_secs(60)),
    );
    let runtime = builder.start()?;
    println!("{}", runtime.plan());
    let handle = runtime.handle();

    // A tell is fire and forget: the account is started by it, on the core that owns its shard.
    for number in 0..ACCOUNTS {
        handle.tell(accounts.entity(&number), AccountMsg::Deposit(OPENING));
    }
    single_account(&handle, accounts)?;
    transfers(&handle, accounts)?;
    report_passivation(&handle);

    // Everything that was accepted is handled, every account runs its hook, then the threads are joined.
    let report = runtime.shutdown();
    println!(
        "shut down, drained: {}; the ledger holds {} cents",
        report.drained,
        ledger.total()
    );
    assert!(report.drained);
    assert_eq!(
        ledger.total(),
        ACCOUNTS * OPENING - 3_000,
        "all the deposits, less what was withdrawn"
    );
    Ok(())
}

/// An ask has two layers: whether it was answered at all, and what the answer is.
fn single_account(handle: &Handle, accounts: Region<u64, AccountMsg>) -> Result<(), AskError> {
    let account = accounts.entity(&7);
    let granted = handle
        .ask(account, |reply_to| AccountMsg::Withdraw(3_000, reply_to))
        .wait()?;
    println!("withdraw 30.00 from account 7: {granted:?}");
    assert_eq!(granted, Ok(7_000));
    match handle
        .ask(account, |reply_to| AccountMsg::Withdraw(50_000, reply_to))
        .wait()?
    {
        Ok(balance) => unreachable!("there is no credit, but {balance} are left"),
        Err(declined) => println!("withdraw 500.00 from account 7: declined, {declined}"),
    }
    println!(
        "balance of account 7: {}",
        handle.ask(account, AccountMsg::Balance).wait()?
    );
    Ok(())
}

/// Many asks at a time: each is a pending result, taken when it is needed.
fn transfers(handle: &Handle, accounts: Region<u64, AccountMsg>) -> Result<(), AskError> {
    let pending: Vec<_> = (0..1_000)
        .map(|from| {
            let to = accounts.entity_ref(ACCOUNTS - 1 - from);
            handle.ask(accounts.entity(&from), move |reply_to| {
                AccountMsg::Transfer {
                    to,
                    amount: 8_000,
                    reply_to,
                }
            })
        })
        .collect();
    let mut done = 0;
    for (from, transfer) in pending.into_iter().enumerate() {
        match transfer.wait()? {
            Ok(()) => done += 1,
            Err(error) => println!("transfer from account {from}: {error}"),
        }
    }
    println!("{done} of 1000 transfers of 80.00 done");
    assert_eq!(done, 999, "account 7 had 70.00 left");
    Ok(())
}

/// A core passivates some accounts in each of its turns until it is within the limit; this is how far it is by now.
fn report_passivation(handle: &Handle) {
    for core in handle.stats().wait().cores {
        for region in core.regions.iter().filter(|_| core.handled > 0) {
            println!(
                "{}: {} messages handled, {} accounts in memory by now, {} passivated",
                core.core, core.handled, region.active, core.passivations
            );
        }
    }
}
