//! Issuers behind the Vault API.
//!
//! - `plan.rs`: the settings, held against the rules.
//! - `connection.rs`: a kept connection, made of the plan and of Secrets; it logs in once and keeps its token.
//! - `check.rs`: whether the server is there and lets us sign. `sign.rs`: one signature.
//! - Here: one connection per issuer, replaced when its issuer or one of its Secrets changes; never two logins at a time.

mod check;
mod connection;
mod outage;
mod plan;
mod sign;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_kubernetes::cert_manager::{Issuer, VaultIssuer};
use jiff::Timestamp;

use self::check::Permission;
pub(super) use self::check::Trouble;
use self::connection::{Connection, Ingredients, OpenError};
use self::outage::Outage;
pub(super) use self::plan::Plan;
use self::sign::{Question, Refusal, failed};
use super::secret::Versions;
use super::{IssuerKey, Order, SignError, Signed};

/// The longest a server may take for one answer.
const LIMIT: Duration = Duration::from_secs(20);

/// How long revoking all tokens may take when the controller stops.
const STOP: Duration = Duration::from_secs(6);

/// So long after a failed login nothing has changed: the event that says so is that of our own writing.
const JUST_NOW: Duration = Duration::from_secs(2);

/// Every issuer's connection.
pub(super) struct Vaults {
    slots: Mutex<HashMap<IssuerKey, Arc<Slot>>>,
    pub(super) limit: Duration,
}

impl Default for Vaults {
    fn default() -> Self {
        Self { slots: Mutex::default(), limit: LIMIT }
    }
}

/// An issuer's place.
#[derive(Default)]
struct Slot {
    /// Held while connecting, so that one does it for all.
    kept: tokio::sync::Mutex<Kept>,
    outage: Outage,
    /// Whether a fresh token was refused an answer about its permissions.
    is_mute: AtomicBool,
}

#[derive(Default)]
struct Kept {
    current: Option<(Identity, Arc<Connection>)>,
    failure: Option<Failure>,
}

/// The last attempt to connect, if it failed.
struct Failure {
    at: tokio::time::Instant,
    identity: Identity,
    versions: Versions,
    error: OpenError,
}

/// Which state of which issuer.
#[derive(Clone, PartialEq, Eq)]
struct Identity {
    uid: Option<String>,
    generation: Option<i64>,
}

/// An issuer and its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) client: &'a kube::Client,
    /// Of its Secrets.
    pub(super) namespace: &'a str,
    pub(super) key: &'a IssuerKey,
    pub(super) issuer: &'a Issuer,
    pub(super) spec: &'a VaultIssuer,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked {
    /// It can sign.
    Ready,
    /// Its settings cannot be used. Somebody has to change them.
    Unusable(String),
    /// It cannot sign now.
    Trouble(Trouble),
    /// The API server does not answer, so nobody knows.
    Unknown(String),
}

impl Vaults {
    /// Connects if need be, and looks whether the server is there and lets us sign.
    pub(super) async fn check(&self, place: Place<'_>) -> Checked {
        let plan = match Plan::of(place.spec, place.key) {
            Ok(plan) => Arc::new(plan),
            Err(message) => return Checked::Unusable(message),
        };
        let slot = self.slot(place.key);
        let connection = match self.connect(place, &plan, &slot, true).await {
            Ok(connection) => connection,
            Err(OpenError::Unknown(message)) => return Checked::Unknown(message),
            Err(error) => {
                return Checked::Trouble(Trouble::init(&error));
            }
        };
        if let Err(trouble) = connection.check_health().await {
            // It may have moved to another address.
            if let Err(error) = connection.client().reload().await {
                tracing::warn!(%error, "an issuer's connection cannot be made anew");
            }
            return Checked::Trouble(trouble);
        }
        match self.check_permission(place, &plan, &slot, &connection).await {
            Ok(()) => {
                slot.outage.end();
                Checked::Ready
            }
            Err(trouble) => Checked::Trouble(trouble),
        }
    }

    async fn check_permission(
        &self,
        place: Place<'_>,
        plan: &Arc<Plan>,
        slot: &Slot,
        connection: &Arc<Connection>,
    ) -> Result<(), Trouble> {
        let seen = connection.token_number();
        let permission = connection.check_permission().await?;
        if permission != Permission::Refused {
            return Ok(());
        }
        if connection.is_given() {
            return connection.try_to_sign().await;
        }
        if slot.is_mute.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The token may have been revoked.
        let again = self.log_in_again(place, plan, slot, connection, seen).await;
        let again = again.map_err(|error| Trouble::init(&error))?;
        if let Some(connection) = again
            && connection.check_permission().await? != Permission::Refused
        {
            return Ok(());
        }
        slot.is_mute.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Has a CSR signed.
    pub(super) async fn sign(
        &self,
        place: Place<'_>,
        order: &Order<'_>,
        now: Timestamp,
    ) -> Result<Signed, SignError> {
        let plan = Plan::of(place.spec, place.key).map_err(|message| init_error(&message, None))?;
        let plan = Arc::new(plan);
        let question = Question::of(order)?;
        let slot = self.slot(place.key);
        slot.outage.gate()?;
        let connection = match self.connect(place, &plan, &slot, false).await {
            Ok(connection) => connection,
            Err(error) => return Err(slot.wait_for_login(&error)),
        };
        let seen = connection.token_number();
        let refusal = match connection.ask(&question, now).await {
            Ok(signed) => {
                slot.outage.end();
                return Ok(signed);
            }
            Err(Refusal::Forbidden(text)) => {
                match self.log_in_again(place, &plan, &slot, &connection, seen).await {
                    Ok(Some(connection)) => match connection.ask(&question, now).await {
                        Ok(signed) => return Ok(signed),
                        Err(refusal) => refusal,
                    },
                    Ok(None) => Refusal::Final(text),
                    Err(error) => return Err(slot.wait_for_login(&error)),
                }
            }
            Err(refusal) => refusal,
        };
        Err(match refusal {
            Refusal::Final(text) | Refusal::Forbidden(text) => failed(&text),
            Refusal::Transient { text, is_outage } => slot.outage.begin(
                "SigningError",
                format!("Vault failed to sign certificate: {text}"),
                is_outage,
            ),
        })
    }

    /// The kept connection, or a new one. `is_strict`: the Secrets are looked at again too.
    async fn connect(
        &self,
        place: Place<'_>,
        plan: &Arc<Plan>,
        slot: &Slot,
        is_strict: bool,
    ) -> Result<Arc<Connection>, OpenError> {
        let identity = Identity::of(place.issuer);
        let mut kept = slot.kept.lock().await;
        let current = kept.current.as_ref().filter(|(of, _)| *of == identity);
        if let Some((_, connection)) = current
            && !is_strict
        {
            return Ok(Arc::clone(connection));
        }
        // Another may have failed while this one waited for its turn.
        if !is_strict
            && let Some(failure) = kept.failure.as_ref().filter(|failure| failure.identity == identity)
            && failure.at.elapsed() < JUST_NOW
        {
            return Err(failure.error.clone());
        }
        let ingredients = Ingredients::gather(plan, place.client, place.namespace, self.limit).await?;
        if let Some((_, connection)) = current
            && connection.versions == ingredients.versions
        {
            return Ok(Arc::clone(connection));
        }
        if let Some(failure) = &kept.failure
            && failure.identity == identity
            && failure.versions == ingredients.versions
            && failure.at.elapsed() < JUST_NOW
        {
            return Err(failure.error.clone());
        }
        self.replace(&mut kept, slot, identity, ingredients, plan).await
    }

    async fn replace(
        &self,
        kept: &mut Kept,
        slot: &Slot,
        identity: Identity,
        ingredients: Ingredients,
        plan: &Arc<Plan>,
    ) -> Result<Arc<Connection>, OpenError> {
        let versions = ingredients.versions.clone();
        match ingredients.open(plan).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                slot.is_mute.store(false, Ordering::Relaxed);
                kept.failure = None;
                if let Some((_, old)) = kept.current.replace((identity, Arc::clone(&connection))) {
                    tokio::spawn(async move { old.end().await });
                }
                Ok(connection)
            }
            Err(error) => {
                let at = tokio::time::Instant::now();
                kept.failure = Some(Failure { at, identity, versions, error: error.clone() });
                Err(error)
            }
        }
    }

    /// After a token was refused: another one, made of what the Secrets say now. `None`: there is no other.
    async fn log_in_again(
        &self,
        place: Place<'_>,
        plan: &Arc<Plan>,
        slot: &Slot,
        refused: &Arc<Connection>,
        seen: u64,
    ) -> Result<Option<Arc<Connection>>, OpenError> {
        let mut kept = slot.kept.lock().await;
        if let Some((_, connection)) = &kept.current
            && !Arc::ptr_eq(connection, refused)
        {
            return Ok(Some(Arc::clone(connection)));
        }
        let ingredients = Ingredients::gather(plan, place.client, place.namespace, self.limit).await?;
        if ingredients.versions != refused.versions {
            let identity = Identity::of(place.issuer);
            return self.replace(&mut kept, slot, identity, ingredients, plan).await.map(Some);
        }
        Ok(refused.log_in_again(seen).await?.then(|| Arc::clone(refused)))
    }

    /// An issuer is gone, or is no longer of this type.
    pub(super) async fn forget(&self, key: &IssuerKey) {
        let slot = self.slots().remove(key);
        if let Some(slot) = slot {
            slot.end().await;
        }
    }

    /// Ends all connections and their tokens.
    pub(super) async fn stop(&self) {
        let slots: Vec<Arc<Slot>> = self.slots().drain().map(|(_, slot)| slot).collect();
        let mut ending = tokio::task::JoinSet::new();
        for slot in slots {
            ending.spawn(async move { slot.end().await });
        }
        // One that is logging in just now is not waited for.
        if tokio::time::timeout(STOP, ending.join_all()).await.is_err() {
            tracing::warn!("not all tokens were revoked: there was no time");
        }
    }

    fn slot(&self, key: &IssuerKey) -> Arc<Slot> {
        Arc::clone(self.slots().entry(key.clone()).or_default())
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<IssuerKey, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    async fn end(&self) {
        let current = self.kept.lock().await.current.take();
        if let Some((_, connection)) = current {
            connection.end().await;
        }
    }

    /// A request waits for the login to work.
    fn wait_for_login(&self, error: &OpenError) -> SignError {
        match error {
            OpenError::Missing(message) => SignError::Pending {
                reason: "SecretMissing",
                message: format!("Required secret resource not found: {message}"),
                retry_after: Some(outage::LONGEST),
            },
            OpenError::Other(message) | OpenError::Unknown(message) | OpenError::Outage(message) => {
                let SignError::Pending { reason, message, .. } = init_error(message, None) else {
                    return SignError::Foreign;
                };
                self.outage.begin(reason, message, true)
            }
        }
    }
}

impl Identity {
    fn of(issuer: &Issuer) -> Self {
        Self { uid: issuer.metadata.uid.clone(), generation: issuer.metadata.generation }
    }
}

fn init_error(message: &str, retry_after: Option<Duration>) -> SignError {
    SignError::Pending {
        reason: "VaultInitError",
        message: format!("Failed to initialise vault client for signing: {message}"),
        retry_after,
    }
}
