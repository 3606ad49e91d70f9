//! What users build with.

pub mod pinning_args;
#[cfg(target_os = "linux")]
pub mod runtime;
pub mod service;
pub mod settings;
#[cfg(target_os = "linux")]
pub mod start_error;
