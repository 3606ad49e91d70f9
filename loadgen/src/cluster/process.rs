//! A process that is a node, or any other child that speaks in lines: started, told, heard, stopped, and gone in any case.
//!
//! A child is in a process group of its own, so that Ctrl-C reaches this process alone, which ends the run in order. A
//! child whose parent is gone ends by two ways: its input ends, and the kernel kills it ([`die_with_parent`]), which also
//! reaches one that stands still.

use std::io::{self, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lines::{read_line, write_line};

/// How long a process that was killed is waited for. It is a matter of milliseconds, if the machine is not on its knees.
const REAPED_WITHIN: Duration = Duration::from_secs(10);

/// How long one may take to stand still that was told to.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// A child, killed and reaped when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

/// Something that a child said, or the end of what it says.
#[derive(Debug)]
pub enum Said<T> {
    /// A line.
    News(T),
    /// It says nothing more. With a reason, if what it said last cannot be understood.
    Silent(Option<String>),
}

/// Has the kernel kill this process when the one that started it, `parent`, ends. For a child to call when it begins.
///
/// # Errors
/// When the kernel refuses, or the parent is gone already.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Somebody else has become its parent by now, if that is gone.
    let present = rustix::process::getppid().map(Pid::as_raw_nonzero);
    match present.is_some_and(|present| i64::from(present.get()) == i64::from(parent)) {
        true => Ok(()),
        false => Err(io::Error::other("the process that started it is gone")),
    }
}

impl Process {
    /// Starts a command; what it says comes out of `heard` through `wrap`, in order, with a `Silent` at the end. A
    /// channel that is full makes the child wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<T, W>(
        mut command: Command,
        heard: SyncSender<W>,
        wrap: impl Fn(Said<T>) -> W + Send + 'static,
    ) -> io::Result<Process>
    where
        T: DeserializeOwned,
        W: Send + 'static,
    {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let process = Process { child, input };
        let Some(output) = output else {
            return Err(io::Error::other("a child without an output"));
        };
        std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || {
                let mut output = BufReader::new(output);
                loop {
                    let (said, is_last) = match read_line(&mut output) {
                        Ok(Some(news)) => (Said::News(news), false),
                        Ok(None) => (Said::Silent(None), true),
                        Err(error) => (Said::Silent(Some(error.to_string())), true),
                    };
                    if heard.send(wrap(said)).is_err() || is_last {
                        return;
                    }
                }
            })?;
        Ok(process)
    }

    /// Tells it something.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub fn tell(&mut self, order: &impl Serialize) -> io::Result<()> {
        match &mut self.input {
            Some(input) => write_line(order, input),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until none of its threads runs, once it was sent `SIGSTOP`.
    ///
    /// # Errors
    /// When it does not come to that, or is gone.
    pub fn wait_until_stopped(&self) -> io::Result<()> {
        let until = Instant::now() + STOPPED_WITHIN;
        while !self.is_stopped()? {
            if Instant::now() > until {
                let why = format!("it still runs {STOPPED_WITHIN:?} after SIGSTOP");
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn is_stopped(&self) -> io::Result<bool> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("stat"));
            // A thread that has ended meanwhile runs no more. The name before the state may have any letters.
            let state = stat.as_ref().ok().and_then(|stat| stat.rsplit_once(')'));
            if state.is_some_and(|(_, rest)| !rest.trim_start().starts_with(['T', 'Z', 'X'])) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Kills and reaps it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Waits until it has ended by itself; `None` if it has not in time.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait_for(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Bounded: a process in the kernel's hands must not hold this one.
        let _ = self.wait_for(REAPED_WITHIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_is_told_and_heard_and_its_end_is_noticed() {
        let (heard, hears) = sync_channel(16);
        let mut process = Process::start(
            shell("read line; echo $line; echo garbage"),
            heard,
            |said: Said<u64>| said,
        )
        .expect("started");
        process.tell(&17_u64).expect("it listens");
        assert!(matches!(hears.recv(), Ok(Said::News(17))));
        let Ok(Said::Silent(Some(why))) = hears.recv() else {
            panic!("garbage was understood");
        };
        assert!(why.contains("garbage"), "{why}");
        let limit = Duration::from_secs(20);
        assert!(process.wait_for(limit).expect("waited").is_some());
    }

    #[test]
    fn a_child_that_stands_still_is_reaped_all_the_same() {
        let (heard, hears) = sync_channel(16);
        let process = Process::start(shell("exec sleep 1000"), heard, |said: Said<u64>| said)
            .expect("started");
        let stat = format!("/proc/{}/stat", process.id());
        assert!(!process.is_stopped().expect("it is there"));
        process.signal(Signal::STOP).expect("it is there");
        process.wait_until_stopped().expect("it stands still");
        let line = std::fs::read_to_string(&stat).expect("it is there");
        assert!(line.contains(") T "), "{line}");
        drop(process);
        assert!(matches!(hears.recv(), Ok(Said::Silent(None))));
        assert!(!std::path::Path::new(&stat).exists());
    }
}
