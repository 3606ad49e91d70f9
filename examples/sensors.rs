//! Sensors with names for ids send readings; each folds its own and reports to a summary. Work that would hold the core
//! goes elsewhere: a blocking call to the pool, a wait into a future, and both results come back as messages. One
//! sensor fails on a broken reading, and nobody else notices.
//!
//! `cargo run --release --example sensors`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use corecast::{
    Actor, ActorRef, AskError, Context, EntityType, Fault, Handle, InlineKey, Next, Region,
    ReplyTo, Runtime, TaskError,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

#[derive(Debug)]
enum SensorMsg {
    /// Degrees Celsius.
    Reading(f64),
    /// How many readings so far?
    Count(ReplyTo<u64>),
    /// Tells the summary what has come together so far.
    ReportTo(ActorRef<SummaryMsg>),
}

/// What one sensor has measured.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measured {
    readings: u64,
    sum: f64,
    max: f64,
}

/// One sensor: an entity, named by the text on its label.
struct Sensor {
    label: InlineKey,
    measured: Measured,
}

#[derive(Debug, thiserror::Error)]
#[error("sensor {} is broken: it measured {reading} degrees", .label.as_str())]
struct Broken {
    label: InlineKey,
    reading: f64,
}

impl Sensor {
    fn new(label: &InlineKey) -> Sensor {
        Sensor {
            label: *label,
            measured: Measured {
                readings: 0,
                sum: 0.0,
                max: f64::NEG_INFINITY,
            },
        }
    }
}

impl Actor for Sensor {
    type Msg = SensorMsg;

    fn receive(&mut self, msg: SensorMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            SensorMsg::Reading(reading) if !(-90.0..=60.0).contains(&reading) => {
                // A fault restarts this sensor, and it alone: it begins to count anew, and what waits for it is not lost.
                return Err(Broken {
                    label: self.label,
                    reading,
                }
                .into());
            }
            SensorMsg::Reading(reading) => {
                self.measured.readings += 1;
                self.measured.sum += reading;
                self.measured.max = self.measured.max.max(reading);
            }
            SensorMsg::Count(reply_to) => ctx.reply(reply_to, self.measured.readings),
            SensorMsg::ReportTo(summary) => {
                ctx.tell(summary, SummaryMsg::Report(self.label, self.measured))
            }
        }
        Ok(Next::Continue)
    }
}

#[derive(Debug)]
enum SummaryMsg {
    Report(InlineKey, Measured),
    /// Answered when all reports have come and their trend has been worked out, or after a while without.
    WhenComplete {
        sensors: usize,
        within: Duration,
        reply_to: ReplyTo<Summary>,
    },
    /// The blocking pool has worked it out.
    Trend(Result<f64, TaskError>),
    /// The time is up.
    TooLate,
}

#[derive(Debug, PartialEq)]
struct Summary {
    reports: BTreeMap<InlineKey, Measured>,
    /// Degrees, if it could be worked out in time.
    trend: Option<f64>,
}

/// Collects the reports: a plain actor on one core.
#[derive(Default)]
struct Collector {
    reports: BTreeMap<InlineKey, Measured>,
    expected: usize,
    waiting: Option<ReplyTo<Summary>>,
}

impl Actor for Collector {
    type Msg = SummaryMsg;

    fn receive(&mut self, msg: SummaryMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            SummaryMsg::Report(label, measured) => {
                self.reports.insert(label, measured);
                self.work_out_if_complete(ctx);
            }
            SummaryMsg::WhenComplete {
                sensors,
                within,
                reply_to,
            } => {
                self.expected = sensors;
                self.waiting = Some(reply_to);
                // A future on this core; the mailbox keeps moving meanwhile, and its end is a message.
                let time_is_up = ctx.sleep(within);
                ctx.spawn(time_is_up, |_| SummaryMsg::TooLate);
                self.work_out_if_complete(ctx);
            }
            SummaryMsg::Trend(Ok(trend)) => self.answer(Some(trend), ctx),
            // It panicked, or the pool had no room: an outcome like any other.
            SummaryMsg::Trend(Err(error)) => {
                println!("no trend: {error}");
                self.answer(None, ctx);
            }
            SummaryMsg::TooLate => self.answer(None, ctx),
        }
        Ok(Next::Continue)
    }
}

impl Collector {
    fn work_out_if_complete(&self, ctx: &mut Context<'_, Self>) {
        if self.waiting.is_some() && self.reports.len() == self.expected {
            let measured: Vec<Measured> = self.reports.values().copied().collect();
            // Long calls go to threads of their own: in the handler this one would hold the core and be logged.
            ctx.spawn_blocking(move || slow_trend(&measured), SummaryMsg::Trend);
        }
    }

    fn answer(&mut self, trend: Option<f64>, ctx: &mut Context<'_, Self>) {
        if let Some(reply_to) = self.waiting.take() {
            ctx.reply(
                reply_to,
                Summary {
                    reports: self.reports.clone(),
                    trend,
                },
            );
        }
    }
}

/// Stands in for a call that takes its time.
fn slow_trend(measured: &[Measured]) -> f64 {
    std::thread::sleep(Duration::from_millis(20));
    let mean = measured
        .iter()
        .map(|one| one.sum / one.readings as f64)
        .sum::<f64>()
        / measured.len() as f64;
    measured
        .iter()
        .map(|one| one.max - mean)
        .fold(0.0, f64::max)
}

const SENSORS: u32 = 8;
const READINGS: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = Runtime::builder();
    // A sensor that has lost its past is as good as any: nothing of it moves when its shard does.
    let sensors = builder.entities(EntityType::ephemeral("sensor", Sensor::new).num_shards(32));
    let runtime = builder.start()?;
    let handle = runtime.handle();
    let collector = handle.spawn(Collector::default).wait()?;

    let labels = (0..SENSORS)
        .map(|number| format!("roof-{number}").parse())
        .collect::<Result<Vec<InlineKey>, _>>()?;
    send_readings(&handle, sensors, &labels, READINGS / 2)?;
    // What waits behind the reading that breaks the sensor is handled once it has been restarted, after a tenth of a second.
    handle.tell(sensors.entity(&labels[3]), SensorMsg::Reading(1e6));
    match handle
        .ask(sensors.entity(&labels[3]), SensorMsg::Count)
        .wait()
    {
        Ok(count) => println!(
            "{} has been restarted, with {count} readings",
            labels[3].as_str()
        ),
        Err(error) => println!("{} has failed: {error}", labels[3].as_str()),
    }
    send_readings(&handle, sensors, &labels, READINGS / 2)?;
    for label in &labels {
        handle.tell(sensors.entity(label), SensorMsg::ReportTo(collector));
    }

    let within = Duration::from_secs(5);
    let summary = handle
        .ask_within(within * 2, collector, move |reply_to| {
            SummaryMsg::WhenComplete {
                sensors: SENSORS as usize,
                within,
                reply_to,
            }
        })
        .wait()?;
    for (label, measured) in &summary.reports {
        let mean = measured.sum / measured.readings as f64;
        println!(
            "{}: {} readings, mean {mean:.1}, max {:.1}",
            label.as_str(),
            measured.readings,
            measured.max
        );
    }
    println!(
        "the warmest is {:.1} degrees above the mean of all",
        summary.trend.unwrap_or(f64::NAN)
    );

    let faults: u64 = handle
        .stats()
        .wait()
        .cores
        .iter()
        .map(|core| core.faults)
        .sum();
    println!("{faults} sensor failed, and was restarted");
    let (broken, whole) = (
        summary.reports[&labels[3]].readings,
        summary.reports[&labels[0]].readings,
    );
    assert_eq!(
        (faults, broken, whole),
        (1, u64::from(READINGS / 2), u64::from(READINGS))
    );
    assert!(summary.trend.is_some());
    Ok(())
    // Dropped, the runtime shuts down as well.
}

/// Readings are tells. An acknowledged send now and then keeps the pace: once it resolves, its message lies in the
/// mailbox, so that mailboxes of 1,000 never overflow here.
fn send_readings(
    handle: &Handle,
    sensors: Region<InlineKey, SensorMsg>,
    labels: &[InlineKey],
    count: u32,
) -> Result<(), AskError> {
    for round in 0..count {
        for (number, label) in labels.iter().enumerate() {
            let reading = SensorMsg::Reading(15.0 + number as f64 + f64::from(round % 100) / 10.0);
            if round % 500 == 499 {
                handle.send(sensors.entity(label), reading).wait()?;
            } else {
                handle.tell(sensors.entity(label), reading);
            }
        }
    }
    Ok(())
}
