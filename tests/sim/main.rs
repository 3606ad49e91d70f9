//! The runtime in the simulator: every test runs many seeds, each twice and compared.
//!
//! By default each test runs few seeds. For a long run, `CORECAST_SEEDS=10000 cargo test --test sim`; to replay one seed,
//! the line that a failing test prints.

mod arrivals;
mod asks;
mod awaiting;
mod balancing;
mod behavior_corners;
mod behaviors;
mod clock;
mod dead_letters;
mod determinism;
mod event_sourcing;
mod event_sourcing_corners;
mod events;
mod families;
mod family_lessons;
mod family_rules;
mod fifo;
mod foreign;
mod forwarding;
mod governed;
mod history;
mod hostile;
mod hostile_actor;
mod injections;
mod kit;
mod lives;
mod mailboxes;
mod moves;
mod panics;
mod passivation;
mod paths;
mod planted;
mod remote_archived;
mod remote_asks;
mod remote_errands;
mod remote_held;
mod remote_hostile;
mod remote_kit;
mod remote_links;
mod remote_owners;
mod remote_tells;
mod restarts;
mod shutdown;
mod strangers;
mod stream_corners;
mod streams;
mod supervision;
mod timers;
mod two_panics;
mod watch;
mod watch_corners;
mod workload;
