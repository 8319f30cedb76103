//! `config/acme`: whether ACME is served, for which issuers and roles, and to whom.

use std::net::SocketAddr;
use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Strings, fields};
use chancery_storage::Name;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::super::Pki;
use super::super::authorities::{Authorities, one_error};
use super::super::store::collection;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

/// The record's name in the `config` collection.
const NAME: &str = "acme";

/// Stands for every issuer or role.
const ANY: &str = "*";

/// `config/acme` as it is stored and answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in super::super) struct AcmeConfig {
    /// Take the role's extended key usages instead of `serverAuth` alone.
    pub(super) allow_role_ext_key_usage: bool,
    /// Issuers that may be used, or `*`.
    pub(super) allowed_issuers: Vec<String>,
    /// Roles that may be used, or `*`.
    pub(super) allowed_roles: Vec<String>,
    /// What directories without a role do.
    pub(super) default_directory_policy: DirectoryPolicy,
    /// The DNS server to ask; empty for the system's.
    pub(super) dns_resolver: String,
    /// Who may make accounts and orders.
    pub(super) eab_policy: EabPolicy,
    /// Whether anything is served.
    pub(super) enabled: bool,
}

impl Default for AcmeConfig {
    fn default() -> Self {
        Self {
            allow_role_ext_key_usage: false,
            allowed_issuers: vec![ANY.to_owned()],
            allowed_roles: vec![ANY.to_owned()],
            default_directory_policy: DirectoryPolicy::SignVerbatim,
            dns_resolver: String::new(),
            eab_policy: EabPolicy::Never,
            enabled: false,
        }
    }
}

impl AcmeConfig {
    /// The DNS server to ask, if not the system's.
    pub(super) fn resolver(&self) -> Option<SocketAddr> {
        self.dns_resolver.parse().ok()
    }

    /// Whether certificates may be asked for under this role.
    pub(super) fn allows_role(&self, name: &str) -> bool {
        self.allowed_roles.iter().any(|allowed| allowed == ANY || allowed == name)
    }

    /// Whether certificates may be asked for from every issuer.
    pub(super) fn allows_any_issuer(&self) -> bool {
        self.allowed_issuers.iter().any(|allowed| allowed == ANY)
    }
}

/// What a directory without a role in its path does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) enum DirectoryPolicy {
    /// Nothing.
    Forbid,
    /// Every proved name is certified.
    SignVerbatim,
    /// As the directory of this role.
    Role(String),
}

impl TryFrom<String> for DirectoryPolicy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("role:")) {
            ("forbid", _) => Ok(Self::Forbid),
            ("sign-verbatim", _) => Ok(Self::SignVerbatim),
            (_, Some("")) => Err(format!("no role specified by policy {text}")),
            (_, Some(role)) => Ok(Self::Role(role.to_owned())),
            _ => Err(format!("string {text} not a valid Default Directory Policy")),
        }
    }
}

impl From<DirectoryPolicy> for String {
    fn from(policy: DirectoryPolicy) -> Self {
        match policy {
            DirectoryPolicy::Forbid => "forbid".to_owned(),
            DirectoryPolicy::SignVerbatim => "sign-verbatim".to_owned(),
            DirectoryPolicy::Role(role) => format!("role:{role}"),
        }
    }
}

/// Who needs a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EabPolicy {
    /// Nobody.
    #[serde(rename = "not-required")]
    Never,
    /// Whoever makes an account.
    #[serde(rename = "new-account-required")]
    NewAccounts,
    /// Accounts that were made without one too.
    #[serde(rename = "always-required")]
    Always,
}

impl EabPolicy {
    fn named(name: &str) -> Option<Self> {
        match name {
            "not-required" => Some(Self::Never),
            "new-account-required" => Some(Self::NewAccounts),
            "always-required" => Some(Self::Always),
            _ => None,
        }
    }
}

/// The config in memory, and who changes it.
pub(super) struct ConfigCache {
    /// One entry at most. The guard of a reader is void once a writer removes the entry.
    cache: Cache<(), Arc<AcmeConfig>>,
    changing: Mutex<()>,
}

impl ConfigCache {
    pub(super) fn new() -> Self {
        Self { cache: Cache::new(1), changing: Mutex::new(()) }
    }
}

fields! {
    /// Whether and how ACME is served.
    #[derive(Debug)]
    pub(in super::super) struct WriteConfig {
        body {
            /// Take the role's extended key usages instead of `serverAuth` alone.
            allow_role_ext_key_usage: Option<bool>,
            /// Issuers that may be used: ids or names, or `*` for every one.
            allowed_issuers: Option<Strings>,
            /// Roles that may be used: names, or `*` for every one.
            allowed_roles: Option<Strings>,
            /// What directories without a role do: `forbid`, `sign-verbatim` or `role:NAME`.
            default_directory_policy: Option<String>,
            /// The DNS server to ask, `address:port`; empty for the system's.
            dns_resolver: Option<String>,
            /// Who needs a binding: `not-required`, `new-account-required` or `always-required`.
            eab_policy: Option<String>,
            /// Whether anything is served.
            enabled: Option<bool>,
        }
    }
}

impl Pki {
    /// The config in force.
    pub(super) async fn acme_config(&self) -> Result<Arc<AcmeConfig>, Error> {
        match self.acme.config.cache.get_value_or_guard_async(&()).await {
            Ok(config) => Ok(config),
            Err(guard) => {
                let stored = self.mount.view.get_json(collection::CONFIG, &Name::new(NAME)).await?;
                let config = Arc::new(stored.unwrap_or_default());
                let _ = guard.insert(Arc::clone(&config));
                Ok(config)
            }
        }
    }

    /// GET `config/acme`
    pub(in super::super) async fn read_acme_config(
        self: Arc<Self>,
        _: Call,
        _: NoFields,
    ) -> Result<Response, Error> {
        Response::data(&*self.acme_config().await?)
    }

    /// POST `config/acme`
    pub(in super::super) async fn write_acme_config(
        self: Arc<Self>,
        _: Call,
        body: WriteConfig,
    ) -> Result<Response, Error> {
        let _changing = self.acme.config.changing.lock().await;
        let before = self.acme_config().await?;
        let config = body.over(&before)?;
        self.check_acme_config(&config).await?;
        let cache = &self.acme.config.cache;
        cache.remove(&());
        let outcome = self.mount.view.put_json(collection::CONFIG, &Name::new(NAME), &config).await;
        cache.remove(&());
        outcome?;
        Response::data(&config)
    }

    /// Whether what a config names is there, in the peer's words.
    async fn check_acme_config(&self, config: &AcmeConfig) -> Result<(), Error> {
        let AcmeConfig { allowed_issuers, allowed_roles, default_directory_policy, .. } = config;
        let authorities = self.store.authorities().await?;
        check_issuers(allowed_issuers, &authorities)?;
        if allowed_roles.is_empty() {
            return Err(one_error(&format_args!("allowed_roles {EMPTY}")));
        }
        match allowed_roles.iter().position(|role| role == ANY) {
            Some(index) if allowed_roles.len() > 1 => {
                return Err(one_error(&format_args!("cannot use '*' as role name at index {index}")));
            }
            Some(_) => {}
            None => {
                for role in allowed_roles {
                    self.check_acme_role(role).await.map_err(|why| {
                        one_error(&format_args!("allowed_role {role} is not a valid acme role: {why}"))
                    })?;
                }
            }
        }
        if let DirectoryPolicy::Role(role) = default_directory_policy {
            self.check_acme_role(role).await.map_err(|why| {
                one_error(&format_args!(
                    "default directory policy role {role} is not a valid ACME role: {why}"
                ))
            })?;
            if !config.allows_role(role) {
                return Err(one_error(&format_args!(
                    "default directory policy role:{role} was not specified in allowed_roles: [{}]",
                    allowed_roles.join(" ")
                )));
            }
        }
        let cluster = &authorities.cluster.value;
        if config.enabled && cluster.path.is_empty() {
            return Err(one_error(
                &"ACME feature requires local cluster 'path' field configuration to be set",
            ));
        }
        Ok(())
    }

    /// Why a role cannot be used.
    async fn check_acme_role(&self, name: &str) -> Result<(), String> {
        match self.store.role(name).await {
            Ok(None) => Err("the request message was malformed: role does not exist".to_owned()),
            Ok(Some(role)) if role.record.no_store => Err(
                "the server experienced an internal error: role can not be used as NoStore is set to true"
                    .to_owned(),
            ),
            Ok(Some(_)) => Ok(()),
            Err(error) => Err(error.message()),
        }
    }
}

/// How the peer goes on after the name of a list that is empty.
const EMPTY: &str = "must take a non-zero length value; specify '*' as the value to allow anything or specify enabled=false to disable ACME entirely";

fn check_issuers(allowed: &[String], authorities: &Authorities) -> Result<(), Error> {
    if allowed.is_empty() {
        return Err(one_error(&format_args!("allowed_issuers {EMPTY}")));
    }
    match allowed.iter().position(|issuer| issuer == ANY) {
        Some(index) if allowed.len() > 1 => {
            Err(one_error(&format_args!("cannot use '*' as issuer name at index {index}")))
        }
        Some(_) => Ok(()),
        None => allowed.iter().try_for_each(|issuer| {
            authorities.find_issuer(issuer).map(drop).map_err(|unresolved| {
                one_error(&format_args!(
                    "failed validating allowed_issuers: unable to fetch issuer: {issuer}: {unresolved}"
                ))
            })
        }),
    }
}

impl WriteConfig {
    /// The config after this write: what it does not name stays.
    fn over(self, before: &AcmeConfig) -> Result<AcmeConfig, Error> {
        let Self {
            allow_role_ext_key_usage,
            allowed_issuers,
            allowed_roles,
            default_directory_policy,
            dns_resolver,
            eab_policy,
            enabled,
        } = self;
        let mut config = before.clone();
        if let Some(allowed) = allow_role_ext_key_usage {
            config.allow_role_ext_key_usage = allowed;
        }
        if let Some(issuers) = allowed_issuers {
            config.allowed_issuers = issuers.non_empty();
        }
        if let Some(roles) = allowed_roles {
            config.allowed_roles = roles.non_empty();
        }
        if let Some(policy) = default_directory_policy {
            config.default_directory_policy = DirectoryPolicy::try_from(policy)
                .map_err(|why| one_error(&format_args!("invalid default_directory_policy: {why}")))?;
        }
        if let Some(resolver) = dns_resolver {
            check_resolver(&resolver)
                .map_err(|why| one_error(&format_args!("failed to parse DNS resolver address: {why}")))?;
            config.dns_resolver = resolver;
        }
        if let Some(policy) = eab_policy {
            config.eab_policy = EabPolicy::named(&policy).ok_or_else(|| {
                one_error(
                    &"invalid eab policy name provided, valid values are 'not-required', 'new-account-required', \
                      'always-required'",
                )
            })?;
        }
        if let Some(enabled) = enabled {
            config.enabled = enabled;
        }
        Ok(config)
    }
}

/// An address with a port, or nothing.
fn check_resolver(text: &str) -> Result<(), String> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    match text.rsplit_once(':') {
        None => Err(format!("address {text}: missing port in address")),
        Some((host, port))
            if port.parse::<u16>().is_err()
                && host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() =>
        {
            Err(format!("address {text}: a port is a number up to 65535"))
        }
        Some(_) => Err("expected IPv4/IPv6 address, likely got hostname".to_owned()),
    }
}
