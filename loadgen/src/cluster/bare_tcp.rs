//! Bare TCP between two processes on loopback: what corecast is held against.
//!
//! The other process ([`serve`]) takes one connection after the other. The first byte of each says what it is for: an echo
//! that reads in a spin, an echo that blocks, or a stream that is read to its end and counted.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::lines::write_line;
use super::process::{Process, Said, die_with_parent};
use crate::measure::Latencies;

/// The word that makes the program the other process.
pub const PEER: &str = "bare-tcp-peer";
/// Bytes of each round trip.
const ECHO_BYTES: usize = 64;
/// Bytes of each write and read of a stream.
const CHUNK_BYTES: usize = 64 << 10;
/// How long the other process may take to say where it listens, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Purpose {
    PollingEcho = b'p',
    BlockingEcho = b'b',
    Stream = b's',
}

/// Which CPUs the two processes are pinned to.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// Of the process that sends.
    pub here: usize,
    /// Of the other.
    pub there: usize,
}

/// What bare TCP does.
#[derive(Clone, Copy, Debug)]
pub struct BareTcp {
    /// Median round trip with both ends reading in a spin.
    pub polling_ns: u64,
    /// Median round trip with blocking reads.
    pub blocking_ns: u64,
    /// One way.
    pub bytes_per_s: f64,
}

/// Measures bare TCP between this process and another, each for so long.
///
/// # Errors
/// When processes, threads or sockets fail.
pub fn measure(cpus: Cpus, each: Duration) -> io::Result<BareTcp> {
    let (heard, hears) = sync_channel(4);
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        PEER.to_owned(),
        std::process::id().to_string(),
        cpus.there.to_string(),
    ]);
    let _peer = Process::start(command, heard, |said: Said<u16>| said)?;
    let Ok(Said::News(port)) = hears.recv_timeout(PATIENCE) else {
        return Err(io::Error::other(
            "the other process does not say where it listens",
        ));
    };
    // A thread of its own, for it is pinned.
    let measuring = std::thread::Builder::new().spawn(move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpus.here });
        Ok(BareTcp {
            polling_ns: round_trips(port, Purpose::PollingEcho, each)?,
            blocking_ns: round_trips(port, Purpose::BlockingEcho, each)?,
            bytes_per_s: stream(port, each)?,
        })
    })?;
    let panicked = |_| Err(io::Error::other("the measurement panicked"));
    measuring.join().unwrap_or_else(panicked)
}

fn connect(port: u16, purpose: Purpose) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[purpose as u8])?;
    Ok(stream)
}

/// The median round trip of 64 bytes.
fn round_trips(port: u16, purpose: Purpose, each: Duration) -> io::Result<u64> {
    let mut stream = connect(port, purpose)?;
    stream.set_nonblocking(purpose == Purpose::PollingEcho)?;
    let (mut latencies, mut bytes) = (Latencies::new(), [7; ECHO_BYTES]);
    let until = Instant::now() + each;
    loop {
        let sent = Instant::now();
        if sent >= until {
            break;
        }
        write_spinning(&mut stream, &bytes)?;
        read_spinning(&mut stream, &mut bytes)?;
        latencies.record(sent.elapsed());
    }
    Ok(latencies.at(0.5))
}

/// Bytes per second one way.
fn stream(port: u16, each: Duration) -> io::Result<f64> {
    let mut stream = connect(port, Purpose::Stream)?;
    let chunk = vec![7; CHUNK_BYTES];
    let begin = Instant::now();
    let mut sent = 0_u64;
    while begin.elapsed() < each {
        stream.write_all(&chunk)?;
        sent += CHUNK_BYTES as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut counted = [0; 8];
    stream.read_exact(&mut counted)?;
    let elapsed = begin.elapsed();
    match u64::from_le_bytes(counted) == sent {
        true => Ok(sent as f64 / elapsed.as_secs_f64()),
        false => Err(io::Error::other("bytes were lost on loopback")),
    }
}

/// The other process: `arguments` are the number of the process that started it, and its CPU.
///
/// # Errors
/// When sockets fail.
pub fn serve(arguments: impl Iterator<Item = std::ffi::OsString>) -> io::Result<()> {
    let mut numbers = arguments.filter_map(|word| word.to_str()?.parse::<u32>().ok());
    let (Some(parent), Some(cpu)) = (numbers.next(), numbers.next()) else {
        return Err(io::Error::other(
            "it is started by loadgen wire, not by hand",
        ));
    };
    die_with_parent(parent)?;
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu as usize });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    write_line(&port, &mut io::stdout().lock())?;
    for stream in listener.incoming() {
        serve_one(stream?)?;
    }
    Ok(())
}

fn serve_one(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut purpose = [0];
    stream.read_exact(&mut purpose)?;
    if purpose[0] == Purpose::Stream as u8 {
        let (mut counted, mut chunk) = (0_u64, vec![0; CHUNK_BYTES]);
        loop {
            match stream.read(&mut chunk)? {
                0 => return stream.write_all(&counted.to_le_bytes()),
                count => counted += count as u64,
            }
        }
    }
    stream.set_nonblocking(purpose[0] == Purpose::PollingEcho as u8)?;
    let mut bytes = [0; ECHO_BYTES];
    loop {
        match read_spinning(&mut stream, &mut bytes) {
            Ok(()) => write_spinning(&mut stream, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads all of it: a socket that does not block is tried again at once, one that blocks waits.
fn read_spinning(stream: &mut TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_spinning(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
