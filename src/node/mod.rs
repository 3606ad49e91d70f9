//! What users build with.

#[cfg(target_os = "linux")]
pub mod cluster;
#[cfg(all(test, target_os = "linux"))]
mod dead_core_tests;
#[cfg(all(test, target_os = "linux"))]
mod outbox_tests;
pub mod pinning_args;
#[cfg(target_os = "linux")]
pub mod runtime;
pub mod service;
pub mod settings;
#[cfg(target_os = "linux")]
pub mod start_error;
