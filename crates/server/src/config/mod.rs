//! What an operator writes: `server -config=FILE`.
//!
//! The files are HCL or JSON with Vault's keys. Several files, or a directory of them, are read in
//! order and laid over each other. A value that means nothing is an error that names file, line and
//! column; a key that means nothing is a warning, so that a file for another version still starts.

mod block;
mod listener;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use chancery_api::Ttl;
use chancery_api::hcl::{self, Item, Position};
use chancery_storage::seal::{StaticKey, StaticSeal};
use ipnet::IpNet;

use crate::probe::ProbeConfig;
use block::Block;
pub use listener::{Bind, Forwarded, ListenerConfig, TlsConfig, TlsVersion};

/// A server as configured. Made from files by [`Config::load`], or by hand.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; several are allowed.
    pub listeners: Vec<ListenerConfig>,
    /// Where data is kept.
    pub storage: StorageConfig,
    /// How the server is unsealed.
    pub seal: SealConfig,
    /// The address that clients shall use, as `sys/leader` tells it.
    pub api_addr: Option<String>,
    /// A name for people.
    pub cluster_name: Option<String>,
    /// What is measured, and how it is told.
    pub telemetry: Telemetry,
    /// Whether the UI is offered.
    pub ui: bool,
    /// How much is logged: `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: LogLevel,
    /// How it is written.
    pub log_format: LogFormat,
    /// Where to, instead of standard error.
    pub log_file: Option<PathBuf>,
    /// First lifetime of tokens and leases where nothing else is said.
    pub default_lease_ttl: Ttl,
    /// Longest lifetime of tokens and leases where nothing else is said.
    pub max_lease_ttl: Ttl,
    /// How hosts are asked for the proofs of ACME.
    pub acme: ProbeConfig,
    /// A file that holds the process's number while it runs.
    pub pid_file: Option<PathBuf>,
    /// What the operator should know about the files.
    pub warnings: Vec<String>,
}

/// Where data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageConfig {
    /// In memory: gone when the process ends.
    Memory,
    /// In a file of this machine.
    Embedded {
        /// A directory; it is made if it is not there.
        path: PathBuf,
    },
}

impl StorageConfig {
    /// Its kind, as `storage "…"` names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "inmem",
            Self::Embedded { .. } => "embedded",
        }
    }
}

/// How the server is unsealed.
#[derive(Debug, Clone, Default)]
pub enum SealConfig {
    /// By people with key shares.
    #[default]
    Shamir,
    /// By itself, with a key from the configuration.
    Static(Box<StaticSeal>),
}

/// What is measured, and how it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Put this before each name.
    pub metrics_prefix: String,
    /// Whether metrics are offered in Prometheus' format: they are, unless `prometheus_retention_time` is
    /// zero. Any other time means the same, since series that have not moved are not forgotten.
    pub prometheus: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { metrics_prefix: "vault".to_owned(), prometheus: true }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What a developer wants to see.
    Debug,
    /// What an operator wants to see.
    #[default]
    Info,
    /// What may become a problem.
    Warn,
    /// What is a problem.
    Error,
}

impl LogLevel {
    /// The level of that word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        LOG_LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
    }

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        LOG_LEVELS.iter().find(|(_, level)| *level == self).map_or("info", |(name, _)| name)
    }
}

const LOG_LEVELS: [(&str, LogLevel); 8] = [
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("notice", LogLevel::Info),
    ("warning", LogLevel::Warn),
    ("err", LogLevel::Error),
];

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Standard,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The format of that word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        LOG_FORMATS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, format)| *format)
    }
}

const LOG_FORMATS: [(&str, LogFormat); 2] = [("standard", LogFormat::Standard), ("json", LogFormat::Json)];

/// What is wrong with the configuration, and where.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    position: Option<Position>,
    message: String,
}

impl ConfigError {
    fn at(file: &Path, position: Position, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position: Some(position), message: message.into() }
    }

    fn of(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position: None, message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.as_os_str().is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "error loading configuration from {}", self.file.display())?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Keys that mean something to the peer and nothing here.
const ELSEWHERE: &[&str] = &[
    "audit",
    "allow_audit_log_prefixing",
    "administrative_namespace_path",
    "cache_size",
    "cluster_addr",
    "default_max_request_duration",
    "detect_deadlocks",
    "disable_cache",
    "disable_clustering",
    "disable_indexing",
    "disable_performance_standby",
    "disable_printable_check",
    "disable_sealwrap",
    "disable_standby_reads",
    "enable_response_header_hostname",
    "enable_response_header_raft_node_id",
    "enable_ui",
    "entropy",
    "experiments",
    "ha_backend",
    "ha_storage",
    "imprecise_lease_role_tracking",
    "initialize",
    "introspection_endpoint",
    "license_path",
    "log_requests_level",
    "log_rotate_bytes",
    "log_rotate_duration",
    "log_rotate_max_files",
    "plugin_directory",
    "plugin_file_permissions",
    "plugin_file_uid",
    "plugin_tmpdir",
    "raw_storage_endpoint",
    "service_registration",
    "user_lockout",
];

impl Config {
    /// A server with this storage and no listener.
    #[must_use]
    pub fn new(storage: StorageConfig) -> Self {
        Self {
            listeners: Vec::new(),
            storage,
            seal: SealConfig::Shamir,
            api_addr: None,
            cluster_name: None,
            telemetry: Telemetry::default(),
            ui: false,
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            log_file: None,
            default_lease_ttl: Ttl::hours(768),
            max_lease_ttl: Ttl::hours(768),
            acme: ProbeConfig::default(),
            pid_file: None,
            warnings: Vec::new(),
        }
    }

    /// Reads files, and of directories the files that end in `.hcl` or `.json`, in the order of their
    /// names.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut files = Vec::new();
        for path in paths {
            let unreadable = |error: std::io::Error| ConfigError::of(path, error.to_string());
            if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
                files.push(path.clone());
                continue;
            }
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(path).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?.path();
                if entry.extension().is_some_and(|extension| extension == "hcl" || extension == "json") {
                    inside.push(entry);
                }
            }
            inside.sort();
            files.append(&mut inside);
        }
        let mut texts = Vec::with_capacity(files.len());
        for file in files {
            let text = std::fs::read(&file).map_err(|error| ConfigError::of(&file, error.to_string()))?;
            let text = String::from_utf8(text).map_err(|_| ConfigError::of(&file, "not UTF-8"))?;
            texts.push((file, text));
        }
        Self::parse(&texts)
    }

    /// Reads texts; the paths are for messages.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(texts: &[(PathBuf, String)]) -> Result<Self, ConfigError> {
        let mut config = Self::new(StorageConfig::Memory);
        let mut storage = None;
        for (file, text) in texts {
            let body =
                hcl::parse(text).map_err(|error| ConfigError::at(file, error.position, error.message))?;
            let block = Block::new(file, &body, Position { line: 1, column: 1 });
            config.lay_over(&block)?;
            if let Some(found) = storage_of(&block, &mut config.warnings)? {
                storage = Some(found);
            }
            block.finish(ELSEWHERE, &mut config.warnings);
        }
        let Some(storage) = storage else {
            return Err(ConfigError::of(Path::new(""), "a storage backend must be specified"));
        };
        if config.default_lease_ttl > config.max_lease_ttl {
            return Err(ConfigError::of(
                Path::new(""),
                "cannot have DefaultLeaseTTL larger than MaxLeaseTTL",
            ));
        }
        Ok(Self { storage, ..config })
    }

    fn lay_over(&mut self, block: &Block<'_>) -> Result<(), ConfigError> {
        self.listeners.extend(listener::listeners(block, &mut self.warnings)?);
        if let Some(seal) = seal_of(block, &mut self.warnings)? {
            self.seal = seal;
        }
        if let Some(telemetry) = block.nested("telemetry")? {
            self.telemetry = telemetry_of(&telemetry, &mut self.warnings)?;
        }
        if let Some(acme) = block.nested("acme")? {
            self.acme = acme_of(&acme, &mut self.warnings)?;
        }
        let text = |key| Ok::<_, ConfigError>(block.text(key)?.map(str::to_owned));
        self.api_addr = text("api_addr")?.or(self.api_addr.take());
        self.cluster_name = text("cluster_name")?.or(self.cluster_name.take());
        self.ui = block.boolean("ui")?.unwrap_or(self.ui);
        self.log_level = block.word("log_level", &LOG_LEVELS)?.unwrap_or(self.log_level);
        self.log_format = block.word("log_format", &LOG_FORMATS)?.unwrap_or(self.log_format);
        self.log_file = text("log_file")?.map(PathBuf::from).or(self.log_file.take());
        self.default_lease_ttl = block.duration("default_lease_ttl")?.map_or(self.default_lease_ttl, Ttl);
        self.max_lease_ttl = block.duration("max_lease_ttl")?.map_or(self.max_lease_ttl, Ttl);
        self.pid_file = text("pid_file")?.map(PathBuf::from).or(self.pid_file.take());
        // Accepted for the sake of existing files. Memory is not locked: keys zero themselves, and swap
        // is the operator's to encrypt or to switch off.
        block.boolean("disable_mlock")?;
        block.boolean("unsafe_allow_api_audit_creation")?;
        Ok(())
    }
}

/// The one labelled block of these names.
fn labelled<'a>(
    block: &Block<'a>,
    names: &[&'static str],
) -> Result<Option<(&'a str, Block<'a>, &'a Item)>, ConfigError> {
    let mut found = None;
    for name in names.iter().copied() {
        for item in block.items(name) {
            if found.is_some() {
                return block.fail(item.position(), format!("only one \"{name}\" block is permitted"));
            }
            let (Some(label), Some(body)) = (item.label(), item.value.as_object()) else {
                return block.fail(
                    item.position(),
                    format!("{name} must be a block with a type: {name} \"…\" {{ … }}"),
                );
            };
            found = Some((label, Block::new(block.file, body, item.position()), item));
        }
    }
    Ok(found)
}

fn storage_of(block: &Block<'_>, warnings: &mut Vec<String>) -> Result<Option<StorageConfig>, ConfigError> {
    let Some((kind, block, _)) = labelled(block, &["storage", "backend"])? else { return Ok(None) };
    let storage = match kind {
        "inmem" => StorageConfig::Memory,
        "embedded" => match block.text("path")? {
            Some(path) => StorageConfig::Embedded { path: path.into() },
            None => return block.fail_here("storage \"embedded\" needs a path"),
        },
        other => {
            let offered = "offered are \"embedded\", a path on this machine, and \"inmem\"";
            return block.fail_here(format!("storage \"{other}\" is not offered: {offered}"));
        }
    };
    block.finish(&["node_id"], warnings);
    Ok(Some(storage))
}

fn seal_of(block: &Block<'_>, warnings: &mut Vec<String>) -> Result<Option<SealConfig>, ConfigError> {
    let Some((kind, block, _)) = labelled(block, &["seal"])? else { return Ok(None) };
    if block.boolean("disabled")? == Some(true) {
        return Ok(None);
    }
    let seal = match kind {
        "shamir" => SealConfig::Shamir,
        "static" => {
            let Some(current) = static_key(&block, "current_key_id", "current_key")? else {
                return block.fail_here("seal \"static\" needs current_key_id and current_key");
            };
            let previous = static_key(&block, "previous_key_id", "previous_key")?;
            match StaticSeal::new(current, previous) {
                Ok(seal) => SealConfig::Static(Box::new(seal)),
                Err(error) => return block.fail_here(error.to_string()),
            }
        }
        other => {
            return block.fail_here(format!(
                "seal \"{other}\" is not offered: offered are \"shamir\" and \"static\""
            ));
        }
    };
    block.finish(&["name", "priority"], warnings);
    Ok(Some(seal))
}

/// A key and the name it goes by: both, or neither.
fn static_key(
    block: &Block<'_>,
    id: &'static str,
    key: &'static str,
) -> Result<Option<StaticKey>, ConfigError> {
    let position = block.position_of(key);
    let (id, material) = match (block.text(id)?, block.text(key)?) {
        (Some(id), Some(material)) => (id, material),
        (None, None) => return Ok(None),
        (Some(_), None) => return block.fail(block.position_of(id), format!("{id} needs {key} beside it")),
        (None, Some(_)) => return block.fail(position, format!("{key} needs {id} beside it")),
    };
    let material = match indirect(material) {
        Ok(material) => material,
        Err(error) => return block.fail(position, format!("{key}: {error}")),
    };
    match StaticKey::new(id, &material) {
        Ok(key) => Ok(Some(key)),
        Err(error) => block.fail(position, error.to_string()),
    }
}

/// A value given directly, or by `file://`, `env://` or `string://`.
fn indirect(text: &str) -> Result<Vec<u8>, String> {
    if let Some(path) = text.strip_prefix("file://") {
        return std::fs::read(path).map_err(|error| format!("{path}: {error}"));
    }
    if let Some(name) = text.strip_prefix("env://") {
        return std::env::var(name).map(String::into_bytes).map_err(|error| format!("{name}: {error}"));
    }
    Ok(text.strip_prefix("string://").unwrap_or(text).as_bytes().to_vec())
}

fn telemetry_of(block: &Block<'_>, warnings: &mut Vec<String>) -> Result<Telemetry, ConfigError> {
    let defaults = Telemetry::default();
    let telemetry = Telemetry {
        metrics_prefix: block.text("metrics_prefix")?.map_or(defaults.metrics_prefix, str::to_owned),
        prometheus: block
            .duration("prometheus_retention_time")?
            .map_or(defaults.prometheus, |retention| !retention.is_zero()),
    };
    // Names never carry the host's name here.
    block.boolean("disable_hostname")?;
    block.boolean("enable_hostname_label")?;
    let elsewhere = [
        "usage_gauge_period",
        "maximum_gauge_cardinality",
        "filter_default",
        "prefix_filter",
        "lease_metrics_epsilon",
        "num_lease_metrics_buckets",
        "add_lease_metrics_namespace_labels",
        "statsd_address",
        "statsite_address",
        "dogstatsd_addr",
        "dogstatsd_tags",
        "circonus_api_token",
        "stackdriver_project_id",
    ];
    block.finish(&elsewhere, warnings);
    Ok(telemetry)
}

fn acme_of(block: &Block<'_>, warnings: &mut Vec<String>) -> Result<ProbeConfig, ConfigError> {
    let defaults = ProbeConfig::default();
    let position = block.position_of("permitted_networks");
    let mut permitted_networks = Vec::new();
    for text in block.texts("permitted_networks")? {
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => permitted_networks.push(network),
            Err(_) => return block.fail(position, format!("permitted_networks: {text:?} is no network")),
        }
    }
    let port = |key, default| match block.number(key)? {
        None => Ok(default),
        Some(number) => match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => block.fail(block.position_of(key), format!("{key} must be a port, from 1 to 65535")),
        },
    };
    let acme = ProbeConfig {
        permitted_networks,
        http_port: port("http_port", defaults.http_port)?,
        tls_port: port("tls_port", defaults.tls_port)?,
    };
    block.finish(&[], warnings);
    Ok(acme)
}

#[cfg(test)]
mod tests;
