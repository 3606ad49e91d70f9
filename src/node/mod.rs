//! What users build with.

pub mod pinning_args;
pub mod settings;
