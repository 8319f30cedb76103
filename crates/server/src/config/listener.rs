//! `listener "tcp" { … }` and `listener "unix" { … }`.

use std::path::PathBuf;
use std::time::Duration;

use chancery_api::hcl::Item;
use ipnet::IpNet;

use super::ConfigError;
use super::block::Block;

/// One place to listen, and the limits there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where.
    pub bind: Bind,
    /// `None` for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The longest body, in bytes.
    pub max_request_size: usize,
    /// The longest time for reading the body of a request.
    pub max_request_duration: Duration,
    /// The longest time for the TLS handshake.
    pub handshake_timeout: Duration,
    /// The longest time that a connection waits for a request, and for the whole of its head.
    pub idle_timeout: Duration,
    /// Whom to believe about the caller's address.
    pub forwarded: Option<Forwarded>,
    /// Whether metrics can be read without a token.
    pub unauthenticated_metrics: bool,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// `host:port`.
    Tcp(String),
    /// A socket in the file system.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permissions, such as `0o600`.
        mode: Option<u32>,
    },
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate and those above it, in PEM.
    pub cert_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
    /// The authorities of client certificates, in PEM. With `require_client_cert` others are refused.
    pub client_ca_file: Option<PathBuf>,
    /// Refuse connections without a certificate that the authorities vouch for.
    pub require_client_cert: bool,
    /// Do not ask for client certificates.
    pub disable_client_certs: bool,
    /// Oldest version.
    pub min_version: TlsVersion,
    /// Newest version.
    pub max_version: TlsVersion,
}

/// Versions of TLS that are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// `x_forwarded_for_…`: proxies that may say on whose behalf they ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The proxies.
    pub authorized: Vec<IpNet>,
    /// How many addresses at the end of the header to pass over.
    pub hop_skips: usize,
    /// Refuse proxies that do not say it.
    pub reject_not_present: bool,
    /// Refuse others that say it.
    pub reject_not_authorized: bool,
}

/// The longest body where nothing else is said: 32 MiB.
const MAX_REQUEST_SIZE: usize = 32 * 1024 * 1024;

impl ListenerConfig {
    /// A listener with the usual limits, without TLS.
    #[must_use]
    pub fn new(bind: Bind) -> Self {
        Self {
            bind,
            tls: None,
            max_request_size: MAX_REQUEST_SIZE,
            max_request_duration: Duration::from_secs(90),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            forwarded: None,
            unauthenticated_metrics: false,
        }
    }
}

const ELSEWHERE: &[&str] = &[
    "cluster_address",
    "cors_allowed_headers",
    "cors_allowed_origins",
    "cors_enabled",
    "custom_response_headers",
    "disable_replication_status_endpoints",
    "http_read_timeout",
    "http_write_timeout",
    "infrastructure",
    "max_request_json_memory",
    "max_request_json_strings",
    "profiling",
    "inflight_requests_logging",
    "proxy_protocol_authorized_addrs",
    "proxy_protocol_behavior",
    "purpose",
    "role",
    "redact_addresses",
    "redact_cluster_name",
    "redact_version",
    "socket_user",
    "socket_group",
    "tls_cipher_suites",
    "tls_prefer_server_cipher_suites",
    "tls_acme_ca_directory",
    "tls_acme_domains",
    "tls_acme_email",
    "x_forwarded_for_client_cert_header",
    "x_forwarded_for_client_cert_header_decoders",
];

const VERSIONS: [(&str, TlsVersion); 2] = [("tls12", TlsVersion::Tls12), ("tls13", TlsVersion::Tls13)];

/// All listeners of a file.
pub(super) fn listeners(
    block: &Block<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    block.items("listener").map(|item| listener(block, item, warnings)).collect()
}

fn listener(
    outer: &Block<'_>,
    item: &Item,
    warnings: &mut Vec<String>,
) -> Result<ListenerConfig, ConfigError> {
    let Some(body) = item.value.as_object() else {
        return outer.fail(item.position(), "listener must be a block: listener \"tcp\" { … }");
    };
    let block = Block::new(outer.file, body, item.position());
    let (kind_given, address) = (block.text("type")?, block.text("address")?);
    let kind = item.label().or(kind_given).unwrap_or("");
    let bind = match kind.to_lowercase().as_str() {
        "tcp" => Bind::Tcp(address.unwrap_or("127.0.0.1:8200").to_owned()),
        "unix" => {
            let Some(path) = address else {
                return block.fail_here("listener \"unix\" needs an address: a path");
            };
            Bind::Unix { path: path.into(), mode: socket_mode(&block)? }
        }
        _ => {
            return block.fail_here(format!(
                "unsupported listener type \"{kind}\": offered are \"tcp\" and \"unix\""
            ));
        }
    };
    let defaults = ListenerConfig::new(bind);
    let unix = matches!(defaults.bind, Bind::Unix { .. });
    let telemetry = block.nested("telemetry")?;
    let unauthenticated_metrics = match &telemetry {
        Some(telemetry) => telemetry.boolean("unauthenticated_metrics_access")?.unwrap_or(false),
        None => false,
    };
    if let Some(telemetry) = telemetry {
        // Passed over, these would serve what the operator wanted to keep away from this address.
        for (key, served) in [("metrics_only", "the whole API"), ("disallow_metrics", "metrics")] {
            if telemetry.boolean(key)? == Some(true) {
                let message = format!("{key} is not offered: the listener would serve {served} all the same");
                return telemetry.fail(telemetry.position_of(key), message);
            }
        }
        telemetry.finish(&["metrics_path"], warnings);
    }
    let listener = ListenerConfig {
        tls: tls(&block, unix)?,
        max_request_size: match block.number("max_request_size")? {
            None | Some(0) => defaults.max_request_size,
            Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
        },
        max_request_duration: nonzero(block.duration("max_request_duration")?, defaults.max_request_duration),
        handshake_timeout: nonzero(block.duration("http_read_header_timeout")?, defaults.handshake_timeout),
        idle_timeout: nonzero(block.duration("http_idle_timeout")?, defaults.idle_timeout),
        forwarded: forwarded(&block)?,
        unauthenticated_metrics,
        ..defaults
    };
    block.finish(ELSEWHERE, warnings);
    Ok(listener)
}

fn nonzero(given: Option<Duration>, otherwise: Duration) -> Duration {
    given.filter(|given| !given.is_zero()).unwrap_or(otherwise)
}

fn socket_mode(block: &Block<'_>) -> Result<Option<u32>, ConfigError> {
    let Some(text) = block.text("socket_mode")? else { return Ok(None) };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(Some(mode)),
        _ => block
            .fail(block.position_of("socket_mode"), "socket_mode must be an octal number, such as \"600\""),
    }
}

fn tls(block: &Block<'_>, unix: bool) -> Result<Option<TlsConfig>, ConfigError> {
    let disabled = block.boolean("tls_disable")?;
    let files = (block.text("tls_cert_file")?, block.text("tls_key_file")?);
    let min_version = block.word("tls_min_version", &VERSIONS)?.unwrap_or(TlsVersion::Tls12);
    let max_version = block.word("tls_max_version", &VERSIONS)?.unwrap_or(TlsVersion::Tls13);
    let client_ca_file = block.text("tls_client_ca_file")?.map(PathBuf::from);
    let require_client_cert = block.boolean("tls_require_and_verify_client_cert")?.unwrap_or(false);
    let disable_client_certs = block.boolean("tls_disable_client_certs")?.unwrap_or(false);
    if disabled.unwrap_or(unix) {
        return Ok(None);
    }
    let (Some(cert_file), Some(key_file)) = files else {
        return block.fail_here("a listener needs tls_cert_file and tls_key_file, or tls_disable = true");
    };
    if min_version > max_version {
        return block
            .fail(block.position_of("tls_min_version"), "tls_min_version is newer than tls_max_version");
    }
    if require_client_cert && disable_client_certs {
        let message = "tls_require_and_verify_client_cert and tls_disable_client_certs contradict each other";
        return block.fail(block.position_of("tls_disable_client_certs"), message);
    }
    if require_client_cert && client_ca_file.is_none() {
        let message = "tls_require_and_verify_client_cert needs a tls_client_ca_file";
        return block.fail(block.position_of("tls_require_and_verify_client_cert"), message);
    }
    Ok(Some(TlsConfig {
        cert_file: cert_file.into(),
        key_file: key_file.into(),
        client_ca_file,
        require_client_cert,
        disable_client_certs,
        min_version,
        max_version,
    }))
}

fn forwarded(block: &Block<'_>) -> Result<Option<Forwarded>, ConfigError> {
    let mut authorized = Vec::new();
    for text in block.texts("x_forwarded_for_authorized_addrs")? {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => authorized.push(network),
            Err(_) => {
                let position = block.position_of("x_forwarded_for_authorized_addrs");
                return block.fail(position, format!("\"{text}\" is neither an address nor a network"));
            }
        }
    }
    let hop_skips = block.number("x_forwarded_for_hop_skips")?.unwrap_or(0);
    let reject_not_present = block.boolean("x_forwarded_for_reject_not_present")?.unwrap_or(true);
    let reject_not_authorized = block.boolean("x_forwarded_for_reject_not_authorized")?.unwrap_or(true);
    if authorized.is_empty() {
        return Ok(None);
    }
    Ok(Some(Forwarded {
        authorized,
        hop_skips: usize::try_from(hop_skips).unwrap_or(usize::MAX),
        reject_not_present,
        reject_not_authorized,
    }))
}
