//! The end of a node's part in its cluster, which comes in time whatever its disk does.

use super::boot_clock::boot_time;
use super::driver::{ClusterDriver, END_PATIENCE, Phase};
use super::readiness::until;
use super::view::ClusterEnd;
use crate::mesh::doorbell::Doorbell;

impl ClusterDriver {
    /// The runtime ends: connections are closed in good order, everything is written, and the files are closed. Ends when
    /// the runtime is to have ended, or some seconds later, at the latest: a disk that takes longer is left alone with what
    /// it was given, and an error is logged.
    pub(crate) async fn close(mut self, doorbell: &Doorbell) {
        self.is_closing = true;
        // What connections may take, and then the files.
        let least = boot_time() + self.plane.links.close_patience + END_PATIENCE * 2;
        let gives_up_at = self.status.ends_by().unwrap_or(least).max(least);
        loop {
            let more = self.turn(None, None);
            if self.is_over() {
                return;
            }
            let now = boot_time();
            if now >= gives_up_at {
                return self.give_up();
            }
            if !more {
                let limit = until(self.deadline().min(gives_up_at), now);
                self.sleep(doorbell, || false, limit).await;
            } else {
                glommio::executor().yield_now().await;
            }
        }
    }

    /// What its disk does never ends any more.
    #[cfg(test)]
    pub(crate) fn hang(&mut self) {
        let forever = super::in_executor::InExecutor::spawn(std::future::pending());
        let end = super::driver::Next::End(ClusterEnd::ShutDown);
        self.phase = Phase::Closing(forever, end);
    }

    /// What goes on in the executor ends with it, or with the process.
    fn give_up(&mut self) {
        let doing = match self.phase {
            Phase::Opening(_) => "be opened",
            _ => "be closed, over writes that it does not end",
        };
        let data = self.data.display();
        tracing::error!(
            %data,
            "the data directory of this node did not {doing} before the end of the runtime: its disk hangs. What the \
             node has said to others was written before; the directory stays locked until this process ends"
        );
        self.over(ClusterEnd::ShutDown);
        self.publish(None);
    }
}
