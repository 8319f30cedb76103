//! Something that can be mounted: a secrets engine or an auth method.
//!
//! An engine is a type that implements [`Engine`], a folder, and one line in [`open`]. It receives a
//! [`Mount`] when it is opened (its storage, its limits) and a [`Call`] for each request, which exists
//! only when the pipeline has let the request in.

pub mod cubbyhole;
pub mod pki;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use chancery_api::{Secret, Ttl};
use chancery_storage::View;
use jiff::Timestamp;

use crate::auth::approle::AppRole;
use crate::error::Error;
use crate::probe::{NoProber, Prober};
use crate::request::{Connection, Operation};
use crate::response::{LeaseTerms, Response};
use crate::route::{BoxFuture, Captures, Matched, RouteSchema, Routes};
use crate::token::{Authorized, TokenEntry};

/// One request that was let in, as an engine sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request's id.
    pub request_id: String,
    /// What is to be done.
    pub operation: Operation,
    /// The path within the mount.
    pub path: String,
    /// What the route's pattern captured.
    pub captures: Captures,
    /// The body: a JSON object, or empty; anything at all on a route that takes it raw.
    pub body: Bytes,
    /// The query's parameters.
    pub query: Vec<(String, String)>,
    /// The other end of the connection.
    pub connection: Connection,
    /// The mount's path, with its slash: `pki/`, `auth/approle/`.
    pub mount_path: String,
    /// Who asks; `None` on a path that needs no token.
    pub authorized: Option<Authorized>,
    /// The token's text as it came, for the few paths of `sys/` that judge it themselves.
    pub presented: Option<Secret>,
    /// The instant that this request takes place at.
    pub now: Timestamp,
}

impl Call {
    /// The token's entry, where the path needs one.
    pub fn token(&self) -> Option<&Arc<TokenEntry>> {
        self.authorized.as_ref().map(Authorized::token)
    }
}

/// Whether a mount holds secrets or lets people in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Mounted anywhere but under `auth/`.
    Secret,
    /// Mounted under `auth/`; may answer a login.
    Auth,
}

/// What an operator can tune on a mount. Zero and empty are "the server's".
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Tuning {
    /// First lifetime of leases and tokens.
    pub default_lease_ttl: Ttl,
    /// Longest lifetime of leases and tokens.
    pub max_lease_ttl: Ttl,
    /// Accepted for compatibility; nothing here caches by mount.
    pub force_no_cache: bool,
    /// Kept and shown.
    pub description: String,
    /// Whether the UI lists the mount to people who are not logged in: `unauth`, `hidden` or empty.
    pub listing_visibility: String,
    /// Request fields that audit records show in the clear.
    pub audit_non_hmac_request_keys: Vec<String>,
    /// Answer fields that audit records show in the clear.
    pub audit_non_hmac_response_keys: Vec<String>,
    /// Request headers handed to the engine.
    pub passthrough_request_headers: Vec<String>,
    /// Answer headers the engine may set.
    pub allowed_response_headers: Vec<String>,
    /// For auth mounts: `default-service`, `default-batch`, `service`, `batch` or empty.
    pub token_type: String,
    /// The engine's options.
    pub options: BTreeMap<String, String>,
    /// For auth mounts: when wrong logins lock a name out.
    pub user_lockout: BTreeMap<String, String>,
}

/// The server's own limits, for mounts that set none.
#[derive(Debug, Clone, Copy)]
pub struct SystemLimits {
    /// First lifetime.
    pub default_lease_ttl: Ttl,
    /// Longest lifetime.
    pub max_lease_ttl: Ttl,
}

impl Default for SystemLimits {
    fn default() -> Self {
        Self { default_lease_ttl: Ttl::hours(768), max_lease_ttl: Ttl::hours(768) }
    }
}

/// All that an engine is given: its storage, its limits, and whom it asks.
#[derive(Debug)]
pub struct Mount {
    /// Names the mount for good; its storage lies under it.
    pub uuid: String,
    /// Names the mount in policies and aliases, e.g. `auth_approle_1a2b3c4d`.
    pub accessor: String,
    /// Secret or auth.
    pub class: Class,
    /// The engine's storage.
    pub view: View,
    /// The server's limits.
    pub system: SystemLimits,
    /// Asks the outside world.
    pub prober: Arc<dyn Prober>,
    tuning: RwLock<Arc<Tuning>>,
}

impl Mount {
    /// A mount as the mount table knows it.
    pub fn new(
        uuid: String,
        accessor: String,
        class: Class,
        view: View,
        system: SystemLimits,
        tuning: Tuning,
    ) -> Self {
        let (prober, tuning) = (Arc::new(NoProber), RwLock::new(Arc::new(tuning)));
        Self { uuid, accessor, class, view, system, prober, tuning }
    }

    /// The same with a way to the outside world.
    #[must_use]
    pub fn asking(self, prober: Arc<dyn Prober>) -> Self {
        Self { prober, ..self }
    }

    /// The settings in force.
    pub fn tuning(&self) -> Arc<Tuning> {
        Arc::clone(&self.tuning.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings in force.
    pub fn tune(&self, tuning: Tuning) {
        *self.tuning.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tuning);
    }

    /// First lifetime of what this mount gives out.
    pub fn default_ttl(&self) -> Ttl {
        self.tuning().default_lease_ttl.or(self.system.default_lease_ttl)
    }

    /// Longest lifetime of what this mount gives out.
    pub fn max_ttl(&self) -> Ttl {
        self.tuning().max_lease_ttl.or(self.system.max_lease_ttl)
    }
}

/// What an auth method allows when a token it gave is renewed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenewTerms {
    /// Next lifetime; zero is the mount's default.
    pub ttl: Ttl,
    /// Longest lifetime since the login; zero is the mount's maximum.
    pub max_ttl: Ttl,
    /// A period in place of both; zero is none.
    pub period: Ttl,
    /// A hard end since the login; `None` is the one that the token was given.
    pub explicit_max_ttl: Option<Ttl>,
}

/// A secrets engine or an auth method.
pub trait Engine: Send + Sync + Sized + 'static {
    /// The table of its paths, the same for every mount of the kind.
    fn routes() -> &'static Routes<Self>;

    /// Regular upkeep (tidy, lists): called about once a second, so that it must cost next to nothing while
    /// there is nothing to do.
    fn tick(self: Arc<Self>, _now: Timestamp) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Takes back what a lease gave out. Called again until it succeeds.
    fn revoke(
        self: Arc<Self>,
        _internal: BTreeMap<String, String>,
        _now: Timestamp,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Judges the renewal of a secret's lease: the terms to go on with.
    fn renew_lease(
        self: Arc<Self>,
        _internal: BTreeMap<String, String>,
        _now: Timestamp,
    ) -> impl Future<Output = Result<LeaseTerms, Error>> + Send {
        async { Err(Error::invalid("lease is not renewable")) }
    }

    /// Judges the renewal of a token that this auth method gave.
    fn renew_token(
        self: Arc<Self>,
        _token: Arc<TokenEntry>,
        _now: Timestamp,
    ) -> impl Future<Output = Result<RenewTerms, Error>> + Send {
        async { Ok(RenewTerms::default()) }
    }
}

/// An opened engine, whatever its type. Implemented for every [`Engine`] through [`Mounted`].
pub trait AnyEngine: Send + Sync {
    /// Which route answers `path`.
    fn matching(&self, path: &str) -> Option<Matched>;
    /// Whether something is there already.
    fn exists(&self, matched: &Matched, call: Call) -> BoxFuture<Result<bool, Error>>;
    /// Calls the handler.
    fn dispatch(&self, matched: &Matched, call: Call) -> BoxFuture<Result<Response, Error>>;
    /// Every route, for help and OpenAPI.
    fn describe(&self) -> Vec<RouteSchema>;
    /// The names that routes are counted under.
    fn counted(&self) -> Vec<&'static str>;
    /// [`Engine::tick`].
    fn tick(&self, now: Timestamp) -> BoxFuture<Result<(), Error>>;
    /// [`Engine::revoke`].
    fn revoke(&self, internal: BTreeMap<String, String>, now: Timestamp) -> BoxFuture<Result<(), Error>>;
    /// [`Engine::renew_lease`].
    fn renew_lease(
        &self,
        internal: BTreeMap<String, String>,
        now: Timestamp,
    ) -> BoxFuture<Result<LeaseTerms, Error>>;
    /// [`Engine::renew_token`].
    fn renew_token(&self, token: Arc<TokenEntry>, now: Timestamp) -> BoxFuture<Result<RenewTerms, Error>>;
}

/// Gives an [`Engine`] the form in which the mount table keeps it.
pub struct Mounted<E>(pub Arc<E>);

impl<E: Engine> AnyEngine for Mounted<E> {
    fn matching(&self, path: &str) -> Option<Matched> {
        E::routes().matching(path)
    }

    fn exists(&self, matched: &Matched, call: Call) -> BoxFuture<Result<bool, Error>> {
        E::routes().exists(Arc::clone(&self.0), matched, call)
    }

    fn dispatch(&self, matched: &Matched, call: Call) -> BoxFuture<Result<Response, Error>> {
        E::routes().dispatch(Arc::clone(&self.0), matched, call)
    }

    fn describe(&self) -> Vec<RouteSchema> {
        E::routes().describe()
    }

    fn counted(&self) -> Vec<&'static str> {
        E::routes().counted()
    }

    fn tick(&self, now: Timestamp) -> BoxFuture<Result<(), Error>> {
        Box::pin(Arc::clone(&self.0).tick(now))
    }

    fn revoke(&self, internal: BTreeMap<String, String>, now: Timestamp) -> BoxFuture<Result<(), Error>> {
        Box::pin(Arc::clone(&self.0).revoke(internal, now))
    }

    fn renew_lease(
        &self,
        internal: BTreeMap<String, String>,
        now: Timestamp,
    ) -> BoxFuture<Result<LeaseTerms, Error>> {
        Box::pin(Arc::clone(&self.0).renew_lease(internal, now))
    }

    fn renew_token(&self, token: Arc<TokenEntry>, now: Timestamp) -> BoxFuture<Result<RenewTerms, Error>> {
        Box::pin(Arc::clone(&self.0).renew_token(token, now))
    }
}

/// The kinds that can be mounted, sorted. One name per line of [`open`].
pub(crate) const fn kinds(class: Class) -> &'static [&'static str] {
    match class {
        Class::Secret => &["pki"],
        Class::Auth => &["approle"],
    }
}

/// Opens the engine of a mount: one line per kind.
pub(crate) async fn open(kind: &str, mount: Arc<Mount>) -> Result<Arc<dyn AnyEngine>, Error> {
    match (mount.class, kind) {
        (Class::Secret, "pki") => Ok(Arc::new(Mounted(pki::Pki::open(mount).await?))),
        (Class::Auth, "approle") => Ok(Arc::new(Mounted(Arc::new(AppRole::open(mount).await?)))),
        _ => Err(Error::invalid(format!("plugin not found in the catalog: {kind}"))),
    }
}
