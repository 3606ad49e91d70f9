//! The queue through which threads hand work to a core. What lies in it when its core goes is refused, never left there.
//!
//! A bounded channel of crossbeam keeps what lies in it when its receiver is dropped until its last sender is gone too, and
//! whoever waits for that would wait as long. So a core announces its end before it empties the queue for the last time,
//! and whoever has put something in looks for the announcement. With a full fence on both sides one of the two sees the
//! other, and takes out what is left.

use super::handle::CoreJob;
use super::refusal::Rejection;
use crate::mesh::doorbell::Doorbell;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The way into one core.
pub(crate) struct Ingress {
    jobs: Sender<CoreJob>,
    /// For what was put in too late; nobody takes from here while the core lives.
    left: Receiver<CoreJob>,
    gone: Arc<AtomicBool>,
    doorbell: Arc<Doorbell>,
}

/// The core's end of it; dropped, it refuses what is left.
pub(crate) struct JobQueue {
    jobs: Receiver<CoreJob>,
    gone: Arc<AtomicBool>,
}

/// The way into a core with this bell, for at most `depth` jobs at once.
pub(crate) fn ingress(doorbell: Arc<Doorbell>, depth: usize) -> (Ingress, JobQueue) {
    let (jobs, receiver) = bounded(depth);
    let gone = Arc::new(AtomicBool::new(false));
    let queue = JobQueue {
        jobs: receiver.clone(),
        gone: gone.clone(),
    };
    let ingress = Ingress {
        jobs,
        left: receiver,
        gone,
        doorbell,
    };
    (ingress, queue)
}

impl Ingress {
    /// Gives a job to the core; `gone` is why one whose core is gone is refused.
    ///
    /// # Errors
    /// The job, if the queue is full or the core is gone.
    pub(crate) fn submit(&self, job: CoreJob, gone: Rejection) -> Result<(), (Rejection, CoreJob)> {
        if self.gone.load(Ordering::Relaxed) {
            return Err((gone, job));
        }
        if let Err(refused) = self.jobs.try_send(job) {
            return Err((Rejection::IngressFull, refused.into_inner()));
        }
        // It begins with the fence.
        self.doorbell.ring();
        if self.gone.load(Ordering::Relaxed) {
            refuse_all(&self.left, gone);
        }
        Ok(())
    }
}

impl JobQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn next(&self) -> Option<CoreJob> {
        // The look costs half as much, and mostly there is nothing.
        if self.jobs.is_empty() {
            return None;
        }
        self.jobs.try_recv().ok()
    }

    /// The core is gone: refuses what is left and, from now on, what comes.
    pub(crate) fn close(&self, why: Rejection) {
        self.gone.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        refuse_all(&self.jobs, why);
    }
}

impl Drop for JobQueue {
    fn drop(&mut self) {
        self.close(Rejection::ShuttingDown);
    }
}

#[cold]
fn refuse_all(jobs: &Receiver<CoreJob>, why: Rejection) {
    for job in jobs.try_iter() {
        job.reject(why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::handle::CoreWork;
    use super::super::local::Local;
    use super::super::pending::{Completer, pending};
    use super::*;
    use std::thread;
    use std::time::Duration;

    struct Tells(Completer<Option<Rejection>>);

    impl CoreWork for Tells {
        fn run(self: Box<Self>, _: &mut Local) {
            unreachable!("there is no core")
        }

        fn reject(self: Box<Self>, why: Rejection) {
            self.0.complete(Some(why));
        }
    }

    #[test]
    fn what_is_left_and_what_comes_is_refused() {
        let (ingress, queue) = ingress(Arc::default(), 2);
        let (completer, told) = pending(None);
        let submit = |job| {
            ingress
                .submit(job, Rejection::CoreDied)
                .map_err(|(why, _)| why)
        };
        assert_eq!(submit(Box::new(Tells(completer))), Ok(()));
        queue.close(Rejection::CoreDied);
        drop(queue);
        assert_eq!(told.try_take().unwrap(), Some(Rejection::CoreDied));
        let (completer, told) = pending(None);
        let job = Box::new(Tells(completer));
        assert_eq!(submit(job), Err(Rejection::CoreDied));
        assert_eq!(
            told.try_take().unwrap(),
            None,
            "it came back, and was dropped"
        );
    }

    /// However the end of the core and the call meet.
    #[test]
    fn nothing_is_left_lying() {
        for _ in 0..500 {
            let (ingress, queue) = ingress(Arc::default(), 1_000);
            let end = thread::spawn(move || drop(queue));
            let mut accepted = Vec::new();
            loop {
                let (completer, told) = pending(None);
                let job = Box::new(Tells(completer));
                match ingress.submit(job, Rejection::ShuttingDown) {
                    Ok(()) => accepted.push(told),
                    Err((Rejection::IngressFull, _)) => thread::yield_now(),
                    Err(_) => break,
                }
            }
            end.join().unwrap();
            for told in accepted {
                let outcome = told.wait_for(Duration::from_secs(60));
                assert_eq!(outcome.expect("it hangs"), Some(Rejection::ShuttingDown));
            }
        }
    }
}
