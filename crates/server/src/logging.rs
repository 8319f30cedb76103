//! Where log lines go and what they look like.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Config, LogFormat};

/// Sends the events of this process to standard error, or to the configured file. The first call wins;
/// an embedding program may have set up its own.
///
/// # Errors
/// If the file cannot be opened.
pub fn init(config: &Config) -> io::Result<()> {
    let writer = match &config.log_file {
        Some(path) => {
            let file: File = OpenOptions::new().create(true).append(true).open(path)?;
            BoxMakeWriter::new(Arc::new(file))
        }
        None => BoxMakeWriter::new(io::stderr),
    };
    // The libraries below tell how they move bytes, which nobody wants at our own levels.
    let level = config.log_level.name();
    let filter =
        EnvFilter::new(format!("{level},hyper=warn,hyper_util=warn,h2=warn,rustls=warn,tokio_rustls=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    let _ = match config.log_format {
        LogFormat::Standard => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
