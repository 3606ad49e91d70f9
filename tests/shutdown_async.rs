//! A shutdown that is awaited: nothing is blocked by it, and dropping its report does not stop it.
#![cfg(target_os = "linux")]

use corecast::{
    Actor, AskError, AsyncActor, Awaiting, Context, CoreId, Fault, Next, Rejection, ReplyTo,
    Runtime, Scope,
};
use std::sync::mpsc;
use std::time::Duration;

fn one_core() -> Runtime {
    Runtime::builder()
        .cores("0".parse().unwrap())
        .start()
        .unwrap()
}

/// Has every answer made by a task of tokio.
struct Asking(tokio::runtime::Handle);

impl AsyncActor for Asking {
    type Msg = ReplyTo<u32>;

    async fn receive(&mut self, reply_to: ReplyTo<u32>, scope: &Scope) -> Result<Next, Fault> {
        let answer = self.0.spawn(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            7
        });
        scope.reply(reply_to, answer.await?);
        Ok(Next::Continue)
    }
}

/// The runtime of tokio has one thread; if the shutdown held it, the answer would have to wait for the shutdown, and the
/// shutdown for the answer.
#[test]
fn what_tokio_runs_goes_on_while_the_runtime_ends() {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    tokio.block_on(async {
        let runtime = one_core();
        let handle = runtime.handle();
        let on_tokio = tokio::runtime::Handle::current();
        let asking = handle
            .spawn(move || Awaiting::new(Asking(on_tokio)))
            .await
            .unwrap();
        let accepted = handle.ask(asking, |reply_to| reply_to);
        let ended = runtime.shutdown_async();
        // It begins at the call: the report has not been polled yet.
        let refused = handle.ask(asking, |reply_to| reply_to);
        assert_eq!(
            refused.await,
            Err(AskError::Rejected(Rejection::ShuttingDown))
        );
        let report = ended.await;
        assert!(report.drained && report.dead_cores.is_empty(), "{report:?}");
        assert_eq!(accepted.try_take().unwrap(), Ok(7));
        assert!(handle.core_stats(CoreId(0)).await.is_none());
    });
}

struct Stuck;

impl AsyncActor for Stuck {
    type Msg = ();

    async fn receive(&mut self, (): (), scope: &Scope) -> Result<Next, Fault> {
        scope.sleep(Duration::from_secs(3_600)).await;
        Ok(Next::Continue)
    }
}

#[test]
fn its_time_limit_holds() {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    tokio.block_on(async {
        let runtime = one_core();
        let handle = runtime.handle();
        let stuck = handle.spawn(|| Awaiting::new(Stuck)).await.unwrap();
        handle.send(stuck, ()).await.unwrap();
        let report = runtime
            .shutdown_async_within(Duration::from_millis(20))
            .await;
        assert!(!report.drained);
    });
}

/// Tells when it has stopped.
struct Last(mpsc::Sender<&'static str>);

impl Actor for Last {
    type Msg = ();

    fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        let _ = self.0.send("stopped");
    }
}

#[test]
fn it_goes_on_when_nobody_waits_for_the_report() {
    let runtime = one_core();
    let (tell, told) = mpsc::channel();
    let last = runtime.handle().spawn(move || Last(tell)).wait();
    assert!(last.is_ok());
    drop(runtime.shutdown_async());
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("stopped"));
}

#[test]
fn it_can_begin_on_a_core_of_its_own() {
    let runtime = one_core();
    let handle = runtime.handle();
    let (tell, told) = mpsc::channel();
    let began = handle.run_on(CoreId(0), |_| async move {
        let _ = tell.send(runtime.shutdown_async());
    });
    began.wait().unwrap();
    assert!(told.recv().unwrap().wait().drained);
}
