//! How an actor of your own is tested: in the simulator, with probes, virtual time, and faults on purpose.
//!
//! An order charges a bank, and charges again when it cannot know that it has; the bank charges each order once. The
//! checks below stand in `main`, so that this program shows them; in your project each is a `#[test]`.
//!
//! `cargo run --example testing`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use corecast::rand::RngExt;
use corecast::sim::{FaultPlan, Injection, check_seeds};
use corecast::{Actor, ActorRef, AskError, Context, CoreId, Fault, Next, ReplyTo};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
struct Charge {
    order: u64,
    cents: u64,
    /// Gets what the order has been charged with.
    reply_to: ReplyTo<u64>,
}

/// Charges every order once, however often it is asked to.
#[derive(Default)]
struct Bank(BTreeMap<u64, u64>);

impl Actor for Bank {
    type Msg = Charge;

    fn receive(&mut self, charge: Charge, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let charged = *self.0.entry(charge.order).or_insert(charge.cents);
        ctx.reply(charge.reply_to, charged);
        Ok(Next::Continue)
    }
}

/// Says how an order ended.
#[derive(Debug, PartialEq)]
enum Receipt {
    Paid { order: u64, cents: u64 },
    GivenUp(u64),
}

/// Pays, and ends.
struct Order {
    number: u64,
    bank: ActorRef<Charge>,
    customer: ActorRef<Receipt>,
    attempts: u32,
}

#[derive(Debug)]
enum OrderMsg {
    Pay,
    Charged(Result<u64, AskError>),
}

impl Order {
    const PRICE: u64 = 1_999;
    const ATTEMPTS: u32 = 20;

    fn end(&self, receipt: Receipt, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        ctx.tell(self.customer, receipt);
        Ok(Next::Stop)
    }
}

impl Actor for Order {
    type Msg = OrderMsg;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        ctx.start_timer("pay", Duration::ZERO, OrderMsg::Pay)?;
        Ok(())
    }

    fn receive(&mut self, msg: OrderMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let order = self.number;
        match msg {
            OrderMsg::Pay => {
                self.attempts += 1;
                let charge = move |reply_to| Charge {
                    order,
                    cents: Self::PRICE,
                    reply_to,
                };
                ctx.ask_within(
                    Duration::from_millis(100),
                    self.bank,
                    charge,
                    OrderMsg::Charged,
                );
            }
            OrderMsg::Charged(Ok(cents)) => return self.end(Receipt::Paid { order, cents }, ctx),
            OrderMsg::Charged(Err(_)) if self.attempts < Self::ATTEMPTS => {
                // Rejected or unknown: the bank charges once, so asking again does no harm. Not all at the same time.
                let pause = Duration::from_millis(ctx.rng().random_range(50..150));
                ctx.start_timer("pay", pause, OrderMsg::Pay)?;
            }
            OrderMsg::Charged(Err(_)) => return self.end(Receipt::GivenUp(order), ctx),
        }
        Ok(Next::Continue)
    }
}

fn order(
    number: u64,
    bank: ActorRef<Charge>,
    customer: ActorRef<Receipt>,
) -> impl FnOnce() -> Order {
    move || Order {
        number,
        bank,
        customer,
        attempts: 0,
    }
}

/// The bank is a probe, and what it answers says the test.
fn an_order_charges_again_when_it_got_no_answer() {
    check_seeds(100, |builder| {
        let mut sim = builder.cores(2).start();
        let bank = sim.probe::<Charge>();
        let customer = sim.probe::<Receipt>();
        let order = order(7, bank.address(), customer.address());
        sim.spawn(CoreId(1), order).unwrap();

        // The first one gets no answer, not even late.
        let ignored = bank.expect(&mut sim, |charge| charge.order == 7);
        customer.expect_none_for(&mut sim, Duration::from_millis(140));
        let charge = bank.expect_within(&mut sim, Duration::from_millis(150), |charge| {
            charge.cents == 1_999
        });
        drop(ignored);
        sim.handle().reply(charge.reply_to, 1_999);
        let paid = Receipt::Paid {
            order: 7,
            cents: 1_999,
        };
        customer.expect(&mut sim, |receipt| *receipt == paid);
        bank.expect_none_for(&mut sim, Duration::from_secs(60));
        sim
    });
}

/// The bank is the real one, and fails with the second charge.
fn an_order_gives_up_when_there_is_no_bank_any_more() {
    check_seeds(100, |builder| {
        let mut sim = builder.cores(2).start();
        let bank = sim.spawn(CoreId(0), Bank::default).unwrap();
        let customer = sim.probe::<Receipt>();
        let failed = sim.inject(Injection::fail().nth(2).to_actor(bank));
        let answer = sim.ask(bank, |reply_to| Charge {
            order: 1,
            cents: 5,
            reply_to,
        });
        assert_eq!(answer, Ok(5));
        let order = order(2, bank, customer.address());
        sim.spawn(CoreId(1), order).unwrap();
        customer.expect(&mut sim, |receipt| *receipt == Receipt::GivenUp(2));
        assert_eq!(failed.struck(), 1);
        sim
    });
}

/// Whatever is lost or late, every order ends, and is charged once.
fn every_order_ends_while_messages_are_lost_and_late() {
    check_seeds(100, |builder| {
        let mut sim = builder
            .cores(3)
            .stalls(100, Duration::from_millis(2))
            .start();
        let bank = sim.spawn(CoreId(0), Bank::default).unwrap();
        let customer = sim.probe::<Receipt>();
        sim.faults(FaultPlan {
            drop: 0.1,
            delay: 0.2,
            longest_delay: Duration::from_millis(50),
            ..FaultPlan::default()
        });
        for number in 0..20 {
            let order = order(number, bank, customer.address());
            sim.spawn(CoreId(1 + number as u16 % 2), order).unwrap();
        }
        sim.run_for(Duration::from_secs(60));
        assert_eq!(customer.received().len(), 20);

        // Now that nothing is lost any more, the bank tells what it has charged the first order with.
        sim.faults(FaultPlan::default());
        let charged = sim.ask(bank, |reply_to| Charge {
            order: 0,
            cents: 0,
            reply_to,
        });
        assert_eq!(charged, Ok(Order::PRICE));
        sim
    });
}

fn main() {
    let checks: [(&str, fn()); 3] = [
        (
            "an order charges again when it got no answer",
            an_order_charges_again_when_it_got_no_answer,
        ),
        (
            "an order gives up when there is no bank any more",
            an_order_gives_up_when_there_is_no_bank_any_more,
        ),
        (
            "every order ends while messages are lost and late",
            every_order_ends_while_messages_are_lost_and_late,
        ),
    ];
    for (what, check) in checks {
        check();
        println!("{what}: holds for 100 seeds, each run twice");
    }
}
