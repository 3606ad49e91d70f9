//! Shopping carts that are event-sourced: a reply means that what was asked for is stored, and a cart recovers from its
//! journal after a passivation, a move to another core, a failure, and in another runtime.
//!
//! `cargo run --release --example event_sourced_cart`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use corecast::{
    CoreId, Effect, EntityType, EventSourced, Fault, Handle, InMemoryJournal, Region, ReplyTo,
    Runtime, Snapshots, SourcedContext, WireMessage,
};
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// What a cart is told.
#[derive(Debug)]
enum CartCommand {
    Add {
        article: String,
        pieces: u32,
        reply_to: ReplyTo<Result<u32, Declined>>,
    },
    /// The reply is what it costs.
    CheckOut(ReplyTo<Result<u64, Declined>>),
    Content(ReplyTo<BTreeMap<String, u32>>),
    /// A bug, for the sake of the example.
    Crash(ReplyTo<()>),
}

/// The shop says no: a reply with an error in it, not a failure of the cart.
#[derive(Debug, PartialEq, thiserror::Error)]
enum Declined {
    #[error("it has been checked out")]
    CheckedOut,
    #[error("there is nothing in it")]
    Empty,
}

/// What has happened to a cart. This is what lies in the journal, for ever.
#[derive(Debug, Archive, Serialize, Deserialize)]
enum CartEvent {
    Added { article: String, pieces: u32 },
    CheckedOut { price: u64 },
}

impl WireMessage for CartEvent {
    const NAME: &'static str = "shop.CartEvent";
    const VERSION: u16 = 1;
}

/// What follows from that.
#[derive(Debug, Default, Archive, Serialize, Deserialize)]
struct CartState {
    content: BTreeMap<String, u32>,
    price: Option<u64>,
}

impl WireMessage for CartState {
    const NAME: &'static str = "shop.CartState";
    const VERSION: u16 = 1;
}

struct Cart;

impl EventSourced for Cart {
    type Command = CartCommand;
    type Event = CartEvent;
    type State = CartState;

    fn empty(&self) -> CartState {
        CartState::default()
    }

    fn on_command(
        &mut self,
        cart: &CartState,
        command: CartCommand,
        ctx: &mut SourcedContext<'_, Self>,
    ) -> Result<Effect<Self>, Fault> {
        Ok(match command {
            CartCommand::Add { reply_to, .. } if cart.price.is_some() => {
                Effect::none().then_reply(reply_to, |_| Err(Declined::CheckedOut))
            }
            CartCommand::Add {
                article,
                pieces,
                reply_to,
            } => Effect::persist(CartEvent::Added { article, pieces })
                .then_reply(reply_to, |cart: &CartState| Ok(cart.content.values().sum())),
            CartCommand::CheckOut(reply_to) if cart.price.is_some() => {
                Effect::none().then_reply(reply_to, |_| Err(Declined::CheckedOut))
            }
            CartCommand::CheckOut(reply_to) if cart.content.is_empty() => {
                Effect::none().then_reply(reply_to, |_| Err(Declined::Empty))
            }
            // The price comes from elsewhere; nothing can be added to the cart meanwhile.
            CartCommand::CheckOut(reply_to) => {
                let price = price(cart, ctx);
                Effect::after(price, |_, _, price, _| {
                    Ok(Effect::persist(CartEvent::CheckedOut { price })
                        .then_reply(reply_to, move |_| Ok(price)))
                })
            }
            CartCommand::Content(reply_to) => {
                Effect::none().then_reply(reply_to, |cart: &CartState| cart.content.clone())
            }
            CartCommand::Crash(reply_to) => {
                return Err(Fault::new(format!("a bug, which {reply_to:?} came upon")));
            }
        })
    }

    fn on_event(mut cart: CartState, event: &CartEvent) -> CartState {
        match event {
            CartEvent::Added { article, pieces } => {
                *cart.content.entry(article.clone()).or_default() += pieces;
            }
            CartEvent::CheckedOut { price } => cart.price = Some(*price),
        }
        cart
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Every(50)
    }
}

/// Stands in for a request to another service.
fn price(
    cart: &CartState,
    ctx: &mut SourcedContext<'_, Cart>,
) -> impl Future<Output = u64> + use<> {
    let pieces: u32 = cart.content.values().sum();
    let answer = ctx.sleep(Duration::from_millis(5));
    async move {
        answer.await;
        u64::from(pieces) * 1_999
    }
}

type Carts = Region<String, CartCommand>;

fn start(journal: &InMemoryJournal) -> Result<(Runtime, Carts), Box<dyn Error>> {
    let mut builder = Runtime::builder();
    let carts = builder.entities(
        EntityType::event_sourced("cart", journal.clone(), |_: &String| Cart)
            .num_shards(64)
            .passivate_after(Duration::from_secs(60)),
    );
    Ok((builder.start()?, carts))
}

fn add(
    handle: &Handle,
    carts: Carts,
    cart: &str,
    article: &str,
) -> Result<Result<u32, Declined>, corecast::AskError> {
    let article = article.to_owned();
    handle
        .ask(carts.entity(cart), |reply_to| CartCommand::Add {
            article,
            pieces: 1,
            reply_to,
        })
        .wait()
}

fn main() -> Result<(), Box<dyn Error>> {
    let journal = InMemoryJournal::default();
    let (runtime, carts) = start(&journal)?;
    let handle = runtime.handle();
    println!(
        "pieces in Ada's cart: {:?}",
        add(&handle, carts, "of Ada", "lamp")?
    );
    println!(
        "pieces in Ada's cart: {:?}",
        add(&handle, carts, "of Ada", "table")?
    );

    // It fails, and nothing that was answered is lost.
    let crashed = handle.ask(carts.entity("of Ada"), CartCommand::Crash);
    println!("a command with a bug: {:?}", crashed.wait());
    // It moves, and recovers where it comes to.
    let last = CoreId(handle.cores() as u16 - 1);
    handle.move_shard(carts.shard_of("of Ada"), last).wait()?;
    let content = handle
        .ask(carts.entity("of Ada"), CartCommand::Content)
        .wait()?;
    println!("in Ada's cart after a failure and a move: {content:?}");
    assert_eq!(content.values().sum::<u32>(), 2);
    runtime.shutdown();

    let (runtime, carts) = start(&journal)?;
    let handle = runtime.handle();
    let check_out = |cart| handle.ask(carts.entity(cart), CartCommand::CheckOut).wait();
    let price = check_out("of Ada")?;
    println!("another runtime checks Ada's cart out: {price:?}");
    assert_eq!(price, Ok(3_998));
    assert_eq!(check_out("of Ada")?, Err(Declined::CheckedOut));
    assert_eq!(
        add(&handle, carts, "of Ada", "chair")?,
        Err(Declined::CheckedOut)
    );
    assert_eq!(check_out("of Bob")?, Err(Declined::Empty));
    println!("{journal:?}");
    Ok(())
}
