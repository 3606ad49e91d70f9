//! The queue through which threads hand work to a core. What lies in it when its core goes is refused, never left there.
//!
//! A bounded channel of crossbeam keeps what lies in it when its receiver is dropped until its last sender is gone too, and
//! whoever waits for that would wait as long. So a core announces its end before it empties the queue for the last time,
//! and whoever has put something in looks for the announcement. With a full fence on both sides one of the two sees the
//! other, and takes out what is left.
//!
//! Jobs are what threads want of a core, and a full queue refuses them. What they owe to it, replies and the ends of asks,
//! has a way of its own that is never full: refused, it would be lost, for whoever lets go of a reply address cannot be told
//! to keep it. It needs no bound of its own: each entry uses up a reply address, of which an ask makes one. A core has at
//! most so many open asks; an address whose ask has ended by its deadline lay in a bounded queue before, or with a user,
//! and leaves that place as it comes here. A stream and each of its consumers owe one job at most.

use super::handle::Gate;
use super::job::CoreJob;
use super::refusal::Rejection;
use crate::mesh::doorbell::Doorbell;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};

/// The way into one core.
pub(crate) struct Ingress {
    jobs: Sender<CoreJob>,
    owed: Sender<CoreJob>,
    /// For what was put in too late; nobody takes from here while the core lives.
    left: Ways,
    gone: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    doorbell: Arc<Doorbell>,
}

/// The core's end of it; dropped, it refuses what is left.
pub(crate) struct JobQueue {
    ways: Ways,
    gone: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

/// Where the jobs come out, and what is owed.
#[derive(Clone)]
struct Ways {
    jobs: Receiver<CoreJob>,
    owed: Receiver<CoreJob>,
    /// Sees to what is refused.
    gate: Weak<Gate>,
}

/// The way into a core with this bell, for at most `depth` jobs at once.
pub(crate) fn ingress(
    doorbell: Arc<Doorbell>,
    depth: usize,
    gate: Weak<Gate>,
) -> (Ingress, JobQueue) {
    let (jobs, jobs_out) = bounded(depth);
    let (owed, owed_out) = unbounded();
    let ways = Ways {
        jobs: jobs_out,
        owed: owed_out,
        gate,
    };
    let (gone, stop) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    let queue = JobQueue {
        ways: ways.clone(),
        gone: gone.clone(),
        stop: stop.clone(),
    };
    let ingress = Ingress {
        jobs,
        owed,
        left: ways,
        gone,
        stop,
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
        self.put(&self.jobs, job, gone)
    }

    /// Whether half of the queue is free.
    pub(crate) fn is_half_free(&self) -> bool {
        let capacity = self.jobs.capacity().unwrap_or(usize::MAX);
        self.jobs.len() < capacity.div_ceil(2)
    }

    /// Gives the core what is owed to it: a job that uses up a reply address of this core.
    ///
    /// # Errors
    /// The job, if the core is gone.
    pub(crate) fn submit_owed(
        &self,
        job: CoreJob,
        gone: Rejection,
    ) -> Result<(), (Rejection, CoreJob)> {
        self.put(&self.owed, job, gone)
    }

    /// Tells the core to stop at the end of its turn. It is no job, since a halted core takes none.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // It begins with the fence.
        self.doorbell.ring();
    }

    fn put(
        &self,
        way: &Sender<CoreJob>,
        job: CoreJob,
        gone: Rejection,
    ) -> Result<(), (Rejection, CoreJob)> {
        if self.gone.load(Ordering::Relaxed) {
            return Err((gone, job));
        }
        if let Err(refused) = way.try_send(job) {
            return Err((Rejection::IngressFull, refused.into_inner()));
        }
        // It begins with the fence.
        self.doorbell.ring();
        if self.gone.load(Ordering::Relaxed) {
            self.left.refuse_all(gone);
        }
        Ok(())
    }
}

impl JobQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.ways.jobs.is_empty() && self.ways.owed.is_empty()
    }

    /// Whether the core has been told to stop.
    pub(crate) fn stop_wanted(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn next_job(&self) -> Option<CoreJob> {
        next(&self.ways.jobs)
    }

    pub(crate) fn next_owed(&self) -> Option<CoreJob> {
        next(&self.ways.owed)
    }

    /// The core is gone: refuses what is left and, from now on, what comes.
    pub(crate) fn close(&self, why: Rejection) {
        self.gone.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.ways.refuse_all(why);
    }
}

impl Drop for JobQueue {
    fn drop(&mut self) {
        self.close(Rejection::ShuttingDown);
    }
}

fn next(way: &Receiver<CoreJob>) -> Option<CoreJob> {
    // The look costs half as much, and mostly there is nothing.
    if way.is_empty() {
        return None;
    }
    way.try_recv().ok()
}

impl Ways {
    #[cold]
    fn refuse_all(&self, why: Rejection) {
        for job in self.owed.try_iter().chain(self.jobs.try_iter()) {
            match self.gate.upgrade() {
                Some(gate) => gate.lose(job, why),
                None => job.reject(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::CoreWork;
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
        let (ingress, queue) = ingress(Arc::default(), 2, Weak::new());
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

    #[test]
    fn what_is_owed_gets_in_where_jobs_do_not() {
        let (ingress, queue) = ingress(Arc::default(), 1, Weak::new());
        let job = || Box::new(Tells(pending(None).0));
        let why = |refused: Result<(), (Rejection, CoreJob)>| refused.map_err(|(why, _)| why);
        let gone = Rejection::CoreDied;
        assert!(queue.is_empty());
        assert_eq!(why(ingress.submit(job(), gone)), Ok(()));
        let full = why(ingress.submit(job(), gone));
        assert_eq!(full, Err(Rejection::IngressFull));
        assert_eq!(why(ingress.submit_owed(job(), gone)), Ok(()));
        assert_eq!(why(ingress.submit_owed(job(), gone)), Ok(()));
        assert!(queue.next_job().is_some() && queue.next_job().is_none());
        assert!(!queue.is_empty());
        assert!(queue.next_owed().is_some() && queue.next_owed().is_some());
        assert!(queue.next_owed().is_none() && queue.is_empty());
        drop(queue);
        assert_eq!(why(ingress.submit_owed(job(), gone)), Err(gone));
    }

    /// However the end of the core and the call meet.
    #[test]
    fn nothing_is_left_lying() {
        for round in 0..500 {
            let (ingress, queue) = ingress(Arc::default(), 1_000, Weak::new());
            let end = thread::spawn(move || drop(queue));
            let mut accepted = Vec::new();
            loop {
                let (completer, told) = pending(None);
                let job = Box::new(Tells(completer));
                let submitted = if round % 2 == 0 {
                    ingress.submit(job, Rejection::ShuttingDown)
                } else {
                    ingress.submit_owed(job, Rejection::ShuttingDown)
                };
                match submitted {
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
