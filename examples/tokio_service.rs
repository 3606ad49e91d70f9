//! A service on tokio with its state in corecast: tokio accepts connections and speaks a line protocol, the counters are
//! sharded entities on pinned cores, and every connection awaits its asks like any other future. The runtime's flags are
//! part of the service's own command line.
//!
//! `cargo run --release --example tokio_service --features tokio -- --help`
//!
//! Without flags it serves clients of its own until they are through, and ends. With `--clients 0` it serves until
//! Ctrl-C; try `printf 'add apples 3\nget apples\n' | nc localhost 7000` then.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use clap::Parser;
use corecast::{
    Actor, ActorRef, AskError, Context, CoreId, EntityType, Fault, Handle, Next, PinningArgs,
    Region, ReplyTo, Runtime, TaskError,
};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Parser)]
struct ServiceArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
    /// Clients of its own; 0 serves others until Ctrl-C
    #[arg(long, default_value_t = 4)]
    clients: u32,
    /// Requests that each of its clients makes
    #[arg(long, default_value_t = 2_000)]
    requests: u32,
    // --cores, --spin, --mailbox and the others.
    #[command(flatten)]
    pinning: PinningArgs,
}

#[derive(Debug)]
enum CounterMsg {
    Add(u64, ReplyTo<u64>),
    Get(ReplyTo<u64>),
}

/// A counter, named by whatever the clients call it.
#[derive(Default)]
struct Counter(u64);

impl Actor for Counter {
    type Msg = CounterMsg;

    fn receive(&mut self, msg: CounterMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            CounterMsg::Add(amount, reply_to) => {
                self.0 = self.0.saturating_add(amount);
                ctx.reply(reply_to, self.0);
            }
            CounterMsg::Get(reply_to) => ctx.reply(reply_to, self.0),
        }
        Ok(Next::Continue)
    }
}

#[derive(Debug)]
enum BackendMsg {
    Ping(ReplyTo<bool>),
    Pong {
        outcome: Result<bool, TaskError>,
        reply_to: ReplyTo<bool>,
    },
}

/// An actor whose work needs tokio, for instance for a client of some database: the future runs over there, the result
/// comes back as a message.
struct Backend {
    tokio: tokio::runtime::Handle,
}

impl Actor for Backend {
    type Msg = BackendMsg;

    fn receive(&mut self, msg: BackendMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            BackendMsg::Ping(reply_to) => {
                let query = async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    true
                };
                ctx.spawn_on(&self.tokio, query, |outcome| BackendMsg::Pong {
                    outcome,
                    reply_to,
                });
            }
            BackendMsg::Pong { outcome, reply_to } => ctx.reply(reply_to, outcome.unwrap_or(false)),
        }
        Ok(Next::Continue)
    }
}

/// What a connection needs. Each clone of the handle is a sender of its own, and clones spread over the cores.
#[derive(Clone)]
struct Service {
    handle: Handle,
    counters: Region<String, CounterMsg>,
    backend: ActorRef<BackendMsg>,
}

impl Service {
    /// One request, one answer.
    async fn answer(&self, request: &str) -> Result<String, String> {
        let words: Vec<&str> = request.split_whitespace().collect();
        let asked = |error: AskError| error.to_string();
        match words[..] {
            ["add", name, amount] => {
                let amount = amount
                    .parse()
                    .map_err(|error| format!("{amount:?} is no amount: {error}"))?;
                // By a borrowed name; the entity starts with its first message.
                let counter = self.counters.entity(name);
                let total = self
                    .handle
                    .ask(counter, move |reply_to| CounterMsg::Add(amount, reply_to));
                Ok(total.await.map_err(asked)?.to_string())
            }
            ["get", name] => {
                let total = self.handle.ask(self.counters.entity(name), CounterMsg::Get);
                Ok(total.await.map_err(asked)?.to_string())
            }
            ["ping"] => Ok(self
                .handle
                .ask(self.backend, BackendMsg::Ping)
                .await
                .map_err(asked)?
                .to_string()),
            _ => Err("requests are `add NAME AMOUNT`, `get NAME` and `ping`".to_owned()),
        }
    }

    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut requests = BufReader::new(reader).lines();
        while let Some(request) = requests.next_line().await? {
            let answer = match self.answer(&request).await {
                Ok(answer) => format!("ok {answer}\n"),
                Err(error) => format!("error {error}\n"),
            };
            writer.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = ServiceArgs::parse();
    // One thread of tokio for the sockets; give the cores to corecast.
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;

    let mut builder = Runtime::builder().pinning(&args.pinning);
    let counters = builder.entities(EntityType::send("counter", |_: &String| Counter::default()));
    let runtime = builder.start()?;
    println!("{}", runtime.plan());
    let on_tokio = tokio.handle().clone();
    let backend = runtime
        .handle()
        .spawn_on(CoreId(0), move || Backend { tokio: on_tokio })
        .wait()?;

    let service = Service {
        handle: runtime.handle(),
        counters,
        backend,
    };
    tokio.block_on(async {
        let served = run(&args, service).await;
        // First the connections have ended, now the runtime does: whatever was accepted is still handled. It is awaited,
        // so that tokio goes on meanwhile, and with it what the actors have running there.
        let report = runtime.shutdown_async().await;
        println!("shut down, drained: {}", report.drained);
        served
    })
}

/// Accepts until the clients are through or Ctrl-C, then lets the open connections finish what they are about.
async fn run(args: &ServiceArgs, service: Service) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    let mut clients: JoinSet<std::io::Result<()>> = (0..args.clients)
        .map(|client| be_a_client(client, address, args.requests))
        .collect();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(service.clone().serve(accepted?.0));
            }
            Some(client) = clients.join_next(), if args.clients > 0 => {
                client??;
                if clients.is_empty() {
                    break;
                }
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        }
    }
    drop(listener);
    while let Ok(Some(connection)) =
        tokio::time::timeout(Duration::from_secs(5), connections.join_next()).await
    {
        connection??;
    }
    for name in ["apples", "pears"] {
        println!("{name}: {}", service.answer(&format!("get {name}")).await?);
    }
    Ok(())
}

async fn be_a_client(client: u32, address: SocketAddr, requests: u32) -> std::io::Result<()> {
    let (reader, mut writer) = TcpStream::connect(address).await?.into_split();
    let mut answers = BufReader::new(reader).lines();
    for request in 0..requests {
        let request = match request % 100 {
            0 => "ping\n",
            odd if odd % 2 == 1 => "add apples 1\n",
            _ => "add pears 2\n",
        };
        writer.write_all(request.as_bytes()).await?;
        let answer = answers.next_line().await?.unwrap_or_default();
        if !answer.starts_with("ok ") {
            return Err(std::io::Error::other(format!(
                "client {client} asked {request:?} and got {answer:?}"
            )));
        }
    }
    Ok(())
}
