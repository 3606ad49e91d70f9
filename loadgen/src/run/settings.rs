//! The runtime's settings as they took effect, for the report.

use corecast::base::cpu_list::CpuList;
use corecast::node::settings::{ParkPolicy, Plan, Settings};

use crate::options::Setting;
use crate::units::{duration, grouped};

/// What the runtime runs with.
pub(super) fn effective(settings: &Settings, plan: &Plan) -> Vec<Setting> {
    let shares = if plan.coordination_shares {
        "shared with a data core"
    } else {
        "to itself"
    };
    let park = match settings.park {
        ParkPolicy::Park => "yes",
        ParkPolicy::Never => "never",
    };
    let count = |messages: usize| grouped(messages as u64);
    vec![
        Setting::new("data cores", format!("CPUs {}", CpuList(&plan.data_cores))),
        Setting::new(
            "coordination core",
            format!("CPU {}, {shares}", plan.coordination_cpu),
        ),
        Setting::new("spin", duration(plan.spin)),
        Setting::new("park", park),
        Setting::new(
            "budget per core",
            format!(
                "{} messages, {} MiB",
                count(settings.budget_messages),
                settings.budget_bytes >> 20
            ),
        ),
        Setting::new(
            "lanes",
            format!(
                "{} batches of {} messages",
                count(settings.lane_batches),
                count(settings.batch_messages)
            ),
        ),
        Setting::new(
            "outbox",
            format!("{} messages", count(settings.outbox_messages)),
        ),
        Setting::new(
            "turn",
            format!(
                "{} messages or {}",
                count(settings.turn_messages),
                duration(settings.turn_time)
            ),
        ),
    ]
}
