//! A finite state machine whose states are behaviours: a shopping cart is empty, active, or checked out, and each state is a
//! function that says what becomes of the cart with each message. Carts are entities, one for each customer.
//!
//! `cargo run --release --example shopping_cart`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use corecast::behavior::{Lifecycle, receive, same, stopped, unhandled, with_lifecycle};
use corecast::{Behaving, Behavior, EntityType, Handle, Region, ReplyTo, Runtime};
use std::error::Error;
use std::time::Duration;

/// What may be said to a cart.
#[derive(Debug)]
enum Cart {
    Add(Item),
    Remove(&'static str),
    Total(ReplyTo<u32>),
    CheckOut(ReplyTo<Result<Receipt, NothingToBuy>>),
    /// Nothing has been put into it for a while.
    Forgotten,
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    name: &'static str,
    /// In cents.
    price: u32,
}

#[derive(Debug, PartialEq)]
struct Receipt {
    items: Vec<Item>,
    total: u32,
}

#[derive(Debug, PartialEq)]
struct NothingToBuy;

const PATIENCE: Duration = Duration::from_secs(1_800);

fn cart(customer: &str) -> Behavior<Cart> {
    let customer = customer.to_owned();
    let hooks = Lifecycle::new();
    let hooks = hooks.post_stop(move |_ctx| println!("the cart of {customer} is put away"));
    with_lifecycle(empty(), hooks)
}

fn empty() -> Behavior<Cart> {
    receive(|ctx, message| match message {
        Cart::Add(item) => {
            // It is the actor's timer, so it runs on while one behaviour follows the other.
            ctx.start_timer("forgotten", PATIENCE, Cart::Forgotten)?;
            Ok(active(vec![item]))
        }
        Cart::Total(reply_to) => {
            ctx.reply(reply_to, 0);
            Ok(same())
        }
        Cart::CheckOut(reply_to) => {
            ctx.reply(reply_to, Err(NothingToBuy));
            Ok(same())
        }
        Cart::Remove(_) | Cart::Forgotten => Ok(unhandled()),
    })
}

fn active(mut items: Vec<Item>) -> Behavior<Cart> {
    receive(move |ctx, message| match message {
        Cart::Add(item) => {
            items.push(item);
            // In place of the one before.
            ctx.start_timer("forgotten", PATIENCE, Cart::Forgotten)?;
            Ok(same())
        }
        Cart::Remove(name) => {
            items.retain(|item| item.name != name);
            Ok(if items.is_empty() { empty() } else { same() })
        }
        Cart::Total(reply_to) => {
            ctx.reply(reply_to, total(&items));
            Ok(same())
        }
        Cart::CheckOut(reply_to) => {
            let items = std::mem::take(&mut items);
            let total = total(&items);
            ctx.reply(reply_to, Ok(Receipt { items, total }));
            Ok(checked_out(total))
        }
        Cart::Forgotten => Ok(empty()),
    })
}

fn checked_out(total: u32) -> Behavior<Cart> {
    receive(move |ctx, message| match message {
        Cart::Total(reply_to) => {
            ctx.reply(reply_to, total);
            same()
        }
        Cart::Forgotten => stopped(),
        Cart::Add(_) | Cart::Remove(_) | Cart::CheckOut(_) => unhandled(),
    })
}

fn total(items: &[Item]) -> u32 {
    items.iter().map(|item| item.price).sum()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = Runtime::builder();
    let carts = EntityType::ephemeral("cart", |customer: &String| Behaving::new(cart(customer)));
    let carts = builder.entities(carts);
    let runtime = builder.start()?;
    let handle = runtime.handle();

    shop(&handle, carts)?;
    let stats = handle.stats().wait();
    let unhandled: u64 = stats.cores.iter().map(|core| core.unhandled).sum();
    println!("{unhandled} message came too late");
    assert_eq!(unhandled, 1);
    Ok(())
}

fn shop(handle: &Handle, carts: Region<String, Cart>) -> Result<(), Box<dyn Error>> {
    let ada = || carts.entity("ada");
    let item = |name, price| Cart::Add(Item { name, price });
    assert_eq!(handle.ask(ada(), Cart::CheckOut).wait()?, Err(NothingToBuy));
    handle.tell(ada(), item("lamp", 3_900));
    handle.tell(ada(), item("chair", 12_000));
    handle.tell(ada(), item("vase", 800));
    handle.tell(ada(), Cart::Remove("vase"));
    println!(
        "in the cart: {} cents",
        handle.ask(ada(), Cart::Total).wait()?
    );
    let receipt = handle.ask(ada(), Cart::CheckOut).wait()?;
    println!("{receipt:?}");
    assert_eq!(receipt.map(|receipt| receipt.total), Ok(15_900));
    handle.tell(ada(), item("table", 30_000));
    assert_eq!(handle.ask(ada(), Cart::Total).wait(), Ok(15_900));
    Ok(())
}
