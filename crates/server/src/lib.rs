//! HTTP and TLS around the secrets server; health and metrics.
//!
//! [`config::Config`] is what an operator writes. [`start`] makes a [`Running`] server of it: ports are
//! taken, storage is opened, the core is made and, if it can unseal itself, unsealed; only then are
//! requests accepted. `listener` turns connections into requests and knows whose they are, `http` turns
//! requests into [`chancery_secrets::Request`]s and answers into responses, and that is all: who may do
//! what is decided one floor below. [`run`] is the same as a process, with logs and signals;
//! [`start_dev`] is the same for trying things out, in memory and unsealed.

pub mod config;
mod dev;
pub mod http;
pub mod listener;
pub mod logging;
mod metrics;
mod probe;
mod process;
mod run;

pub use config::{Config, ConfigError};
pub use dev::{DevOptions, DevServer, start_dev};
pub use probe::ProbeConfig;
pub use process::{raise_open_files, run};
pub use run::{Running, StartError, start};
