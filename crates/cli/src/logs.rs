//! What a service in a Kubernetes cluster logs: its flags, and what they set up.

use chancery_server::config::{LogFormat, LogLevel, StorageConfig};

use crate::command::Failure;
use crate::flags::{Flag, Flags, Kind};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::new(
        "log-level",
        Kind::Text,
        "\"trace\", \"debug\", \"info\", \"warn\" or \"error\"; or 1 (info) to 5 (trace).",
    )
    .alias(&["v"])
    .env("LOG_LEVEL"),
    Flag::new("log-format", Kind::Text, "\"text\" or \"json\".").default("text"),
];

/// Sets logging up. `format` reads the format's word: those who came before these services differ in how they refuse one.
///
/// # Errors
/// A word that is none, or logging was set up before.
pub(crate) fn init(
    flags: &Flags,
    format: impl FnOnce(&str) -> Result<LogFormat, Failure>,
) -> Result<(), Failure> {
    let mut config = chancery_server::Config::new(StorageConfig::Memory);
    if let Some(word) = flags.non_empty("log-level") {
        config.log_level = match word {
            "0" | "1" => LogLevel::Info,
            "2" | "3" => LogLevel::Debug,
            "4" | "5" => LogLevel::Trace,
            word => LogLevel::named(word).ok_or_else(|| {
                Failure::flag("log-level", word, "trace, debug, info, warn, error or 1 to 5")
            })?,
        };
    }
    config.log_format = format(flags.text("log-format").unwrap_or_default())?;
    chancery_server::logging::init(&config).map_err(|error| Failure::Local(error.to_string()))
}
