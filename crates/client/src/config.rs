//! How a client is set up, by hand or from the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chancery_api::Secret;

use crate::{Address, AddressError, parse_duration};

/// The address a client asks when nothing else is said.
const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";

/// Everything a [`crate::Client`] needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the server is. Default `https://127.0.0.1:8200`.
    pub address: Address,
    /// The token to send, if any.
    pub token: Option<Secret>,
    /// The namespace to send, if any.
    pub namespace: Option<String>,
    /// A file of PEM certificates, which with those of `ca_path` are then the only ones trusted.
    pub ca_cert: Option<PathBuf>,
    /// Certificates as PEM text, which are then the only ones trusted.
    pub ca_cert_pem: Option<String>,
    /// A folder of files of PEM certificates, at any depth, which with those of `ca_cert` are then the only
    /// ones trusted.
    pub ca_path: Option<PathBuf>,
    /// A PEM certificate to show the server, with its chain.
    pub client_cert: Option<PathBuf>,
    /// The private key of `client_cert`, in PEM.
    pub client_key: Option<PathBuf>,
    /// A certificate to show the server, and its key, for who has them in memory; it goes before the files.
    pub client_identity: Option<ClientIdentity>,
    /// The name the server's certificate must carry, if it is not the address's host.
    pub tls_server_name: Option<String>,
    /// Trust any certificate. For development.
    pub danger_skip_verify: bool,
    /// How long a request may take, with all its repetitions; zero is without limit. Default one minute.
    pub timeout: Duration,
    /// How often a request is repeated after 412, 429, 503 or a failed connection, and a read after any 5xx
    /// but 501 or a lost answer too. Default 2.
    pub max_retries: u32,
    /// How long a wrapped answer is kept; `None` asks for plain answers.
    pub wrap_ttl: Option<Duration>,
    /// Do not follow the one redirect with which a standby names the active node.
    pub disable_redirects: bool,
    /// Requests a second, and how many may come at once.
    pub rate_limit: Option<(f64, u32)>,
    /// A proxy for all requests. Without one, `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` count, but not for
    /// a server on this machine.
    pub proxy: Option<String>,
    /// Further headers for every request.
    pub headers: BTreeMap<String, String>,
    /// Connections that are kept while nobody uses them, where one cannot be shared (HTTP/1.1): each has some 16 KiB.
    /// Who has more requests under way than that makes and ends connections all the time. Default 32.
    pub idle_connections: usize,
    /// The longest answer that is read, in bytes. Default 128 MiB: a CRL of a million entries and some.
    pub max_answer: usize,
}

/// A certificate to show a server, and its key.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// PEM, with its chain.
    pub certificate: String,
    /// PEM.
    pub key: Secret,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A variable or flag has a value that cannot be read.
    #[error("could not parse {name}: {reason}")]
    Value {
        /// The variable.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read or holds something else.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate without key or the other way round.
    #[error("both client cert and client key must be provided")]
    HalfIdentity,
    /// The HTTP client refuses its settings.
    #[error("{0}")]
    Http(String),
}

/// Where variables are looked up.
pub trait Environment {
    /// The variable's value, if it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The value of `BAO_{name}`, else of `VAULT_{name}`; empty ones count as not set.
    fn setting(&self, name: &str) -> Option<String> {
        ["BAO_", "VAULT_"].into_iter().find_map(|prefix| self.named(&format!("{prefix}{name}")))
    }

    /// The value of exactly that variable; empty counts as not set.
    fn named(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.is_empty())
    }
}

impl<F: Fn(&str) -> Option<String>> Environment for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }
}

impl Config {
    /// The defaults, for the server at `address`.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            token: None,
            namespace: None,
            ca_cert: None,
            ca_cert_pem: None,
            ca_path: None,
            client_cert: None,
            client_key: None,
            client_identity: None,
            tls_server_name: None,
            danger_skip_verify: false,
            timeout: Duration::from_secs(60),
            max_retries: 2,
            wrap_ttl: None,
            disable_redirects: false,
            rate_limit: None,
            proxy: None,
            headers: BTreeMap::new(),
            idle_connections: 32,
            max_answer: 128 << 20,
        }
    }

    /// The settings of the environment: `BAO_ADDR` or `VAULT_ADDR`, `…_TOKEN`, `…_CACERT`, and so on.
    ///
    /// # Errors
    /// A variable has a value that cannot be used.
    pub fn from_env(env: &impl Environment) -> Result<Self, ConfigError> {
        let address = env.setting("AGENT_ADDR").or_else(|| env.setting("ADDR"));
        let mut config = Self::new(address.as_deref().unwrap_or(DEFAULT_ADDRESS).parse()?);
        config.token = env.setting("TOKEN").map(|token| Secret::new(token.trim()));
        config.namespace = env.setting("NAMESPACE");
        config.ca_cert = env.setting("CACERT").map(PathBuf::from);
        config.ca_cert_pem = env.setting("CACERT_BYTES");
        config.ca_path = env.setting("CAPATH").map(PathBuf::from);
        config.client_cert = env.setting("CLIENT_CERT").map(PathBuf::from);
        config.client_key = env.setting("CLIENT_KEY").map(PathBuf::from);
        config.tls_server_name = env.setting("TLS_SERVER_NAME");
        config.danger_skip_verify = boolean(env, "SKIP_VERIFY")?;
        config.disable_redirects = boolean(env, "DISABLE_REDIRECTS")?;
        config.proxy = env.setting("PROXY_ADDR").or_else(|| env.setting("HTTP_PROXY"));
        if let Some(timeout) = duration(env, "CLIENT_TIMEOUT")? {
            config.timeout = timeout;
        }
        config.wrap_ttl = duration(env, "WRAP_TTL")?.filter(|ttl| !ttl.is_zero());
        if let Some(text) = env.setting("MAX_RETRIES") {
            config.max_retries = text.trim().parse().map_err(|_| unreadable("MAX_RETRIES", &text))?;
        }
        if let Some(text) = env.setting("RATE_LIMIT") {
            config.rate_limit = Some(rate_limit(&text).ok_or_else(|| unreadable("RATE_LIMIT", &text))?);
        }
        Ok(config)
    }
}

fn unreadable(name: &str, text: &str) -> ConfigError {
    ConfigError::Value { name: format!("VAULT_{name}"), reason: format!("{text:?}") }
}

fn boolean(env: &impl Environment, name: &str) -> Result<bool, ConfigError> {
    match env.setting(name).as_deref() {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => Err(unreadable(name, other)),
    }
}

fn duration(env: &impl Environment, name: &str) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = env.setting(name) else { return Ok(None) };
    let parsed = parse_duration(&text);
    parsed
        .map(Some)
        .map_err(|error| ConfigError::Value { name: format!("VAULT_{name}"), reason: error.to_string() })
}

/// `rate` or `rate:burst`.
fn rate_limit(text: &str) -> Option<(f64, u32)> {
    let (rate, burst) = match text.split_once(':') {
        Some((rate, burst)) => (rate, Some(burst)),
        None => (text, None),
    };
    let rate: f64 = rate.trim().parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)?;
    let burst = match burst {
        Some(burst) => burst.trim().parse().ok().filter(|burst| *burst > 0)?,
        None => 1.max(rate.min(f64::from(u32::MAX)) as u32),
    };
    Some((rate, burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> impl Environment + use<> {
        let map: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        move |name: &str| map.get(name).cloned()
    }

    #[test]
    fn bao_variables_come_before_vault_variables_and_empty_ones_do_not_count() {
        let config = Config::from_env(&env(&[
            ("VAULT_ADDR", "http://vault:1"),
            ("BAO_ADDR", "http://bao:2"),
            ("BAO_TOKEN", ""),
            ("VAULT_TOKEN", "t"),
        ]))
        .expect("usable");
        assert_eq!(config.address.to_string(), "http://bao:2");
        assert_eq!(config.token.expect("a token").expose(), "t");
    }

    #[test]
    fn without_variables_the_defaults_stand() {
        let config = Config::from_env(&env(&[])).expect("usable");
        assert_eq!(config.address.to_string(), "https://127.0.0.1:8200");
        assert_eq!((config.timeout, config.max_retries), (Duration::from_secs(60), 2));
    }

    #[test]
    fn a_value_that_cannot_be_read_names_its_variable() {
        let error = Config::from_env(&env(&[("VAULT_SKIP_VERIFY", "maybe")])).expect_err("refused");
        assert_eq!(error.to_string(), "could not parse VAULT_SKIP_VERIFY: \"maybe\"");
        let error = Config::from_env(&env(&[("VAULT_CLIENT_TIMEOUT", "1x")])).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "could not parse VAULT_CLIENT_TIMEOUT: time: unknown unit \"x\" in duration \"1x\""
        );
    }

    #[test]
    fn rate_limits_are_read_with_and_without_burst() {
        assert_eq!(rate_limit("10"), Some((10.0, 10)));
        assert_eq!(rate_limit("0.5:3"), Some((0.5, 3)));
        assert_eq!(rate_limit("0"), None);
        assert_eq!(rate_limit("x:1"), None);
    }
}
