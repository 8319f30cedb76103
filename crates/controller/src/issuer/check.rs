//! Whether an issuer is ready, written into its status.

use chancery_kubernetes::cert_manager::{
    ClusterIssuer, Condition, Issuer, IssuerSpec, IssuerStatus, READY, condition, set_condition,
};
use chancery_kubernetes::events::EventType;
use chancery_kubernetes::{ApiError, request};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::ca::PairError;
use super::secret::SecretError;
use super::vault::{Checked, Place};
use super::{IssuerKey, namespace_of_secrets};
use crate::context::Context;
use crate::{Error, Next};

/// How often a status is tried to be written while others write it too.
const ATTEMPTS: u32 = 5;

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    is_ready: bool,
    reason: &'static str,
    message: String,
    /// Events: whether they warn, reason, message.
    events: Vec<(EventType, &'static str, String)>,
    then: Then,
}

/// What comes after a check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    /// Somebody has to change something.
    Wait,
    /// It is looked at again in a while.
    Recheck,
    /// Likewise, but sooner: whoever waits for it waits for nothing else.
    RecheckSoon,
    /// It is tried again, for this reason.
    Retry(String),
}

/// Checks an issuer and writes its condition.
pub(crate) async fn reconcile(context: &Context, key: IssuerKey) -> Result<Next, Error> {
    let issuers = &context.issuers;
    issuers.attach(context);
    let Some(issuer) = context.cache.issuers.get(&key) else {
        issuers.vaults.forget(&key).await;
        issuers.pairs.forget(&key);
        return Ok(Next::Done);
    };
    if issuer.spec.vault.is_none() {
        issuers.vaults.forget(&key).await;
    }
    if issuer.spec.ca.is_none() {
        issuers.pairs.forget(&key);
    }
    if issuer.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Done);
    }
    let Some(finding) = find(context, &key, &issuer).await? else { return Ok(Next::Done) };
    let was_ready =
        condition(issuer.conditions(), READY).map(|before| (before.status, before.message.clone()));
    let condition = Condition::new(READY, finding.is_ready, finding.reason, finding.message.as_str());
    let is_new = was_ready != Some((condition.status, condition.message.clone()));
    let Some(()) = write(context, &key, &issuer, condition).await? else { return Ok(Next::Done) };
    let component = match &key {
        IssuerKey::Namespaced { .. } => "cert-manager-issuers",
        IssuerKey::Cluster { .. } => "cert-manager-clusterissuers",
    };
    let is_told = is_new || matches!(finding.then, Then::Retry(_));
    for (kind, reason, message) in finding.events {
        // Each failed attempt is told; what lasts is told once.
        if is_told {
            context.recorder.record_reference(reference(&key, &issuer), component, kind, reason, message);
        }
    }
    match finding.then {
        Then::Wait => Ok(Next::Done),
        Then::Recheck => Ok(Next::After(context.settings.health_interval)),
        Then::RecheckSoon => Ok(Next::After(context.settings.health_interval / 4)),
        Then::Retry(cause) => {
            Err(Error::Other(format!("issuer {key}: {}", cause.replace(['\n', '\t'], " "))))
        }
    }
}

/// `None`: it is left to others.
async fn find(context: &Context, key: &IssuerKey, issuer: &Issuer) -> Result<Option<Finding>, Error> {
    let IssuerSpec { ca, self_signed, vault, acme, venafi } = &issuer.spec;
    if acme.is_some() || venafi.is_some() {
        return Ok(None);
    }
    let namespace = namespace_of_secrets(key, &context.settings);
    Ok(match (vault, ca, self_signed) {
        (Some(spec), None, None) => {
            let place = Place { client: &context.client, namespace, key, issuer, spec };
            Some(of_vault(context.issuers.vaults.check(place).await)?)
        }
        (None, Some(spec), None) => {
            let pair = context.issuers.pairs.read(&context.client, key, namespace, &spec.secret_name).await;
            Some(of_ca(pair.map(drop))?)
        }
        (None, None, Some(_)) => Some(Finding {
            is_ready: true,
            reason: "IsReady",
            message: String::new(),
            events: Vec::new(),
            then: Then::Wait,
        }),
        // The definition and the webhook refuse none and several.
        _ => None,
    })
}

fn of_vault(checked: Checked) -> Result<Finding, Error> {
    let not_ready = |message: String| Finding {
        is_ready: false,
        reason: "VaultError",
        message,
        events: Vec::new(),
        then: Then::Wait,
    };
    Ok(match checked {
        Checked::Ready => Finding {
            is_ready: true,
            reason: "VaultVerified",
            message: "Vault verified".into(),
            events: Vec::new(),
            then: Then::Recheck,
        },
        Checked::Unusable(message) => not_ready(message),
        Checked::Trouble(trouble) => {
            let is_cheap = trouble.is_cheap;
            let finding = retried(not_ready(trouble.message), trouble.cause);
            // It ends without anybody changing anything here.
            if is_cheap { Finding { then: Then::RecheckSoon, ..finding } } else { finding }
        }
        // It says nothing about the issuer: its condition stays.
        Checked::Unknown(message) => return Err(Error::Other(message)),
    })
}

fn of_ca(read: Result<(), PairError>) -> Result<Finding, Error> {
    let error = match read {
        Ok(()) => {
            return Ok(Finding {
                is_ready: true,
                reason: "KeyPairVerified",
                message: "Signing CA verified".into(),
                events: vec![(EventType::Normal, "KeyPairVerified", "Signing CA verified".into())],
                then: Then::Wait,
            });
        }
        Err(PairError::Secret(SecretError::Api(error))) if error.is_transient() => return Err(error.into()),
        Err(error) => error,
    };
    let message = format!("Error getting keypair for CA issuer: {error}");
    let reason = match error {
        PairError::NotAnAuthority => "ErrInvalidKeyPair",
        _ => "ErrGetKeyPair",
    };
    let events = vec![(EventType::Warning, reason, message.clone())];
    let finding = Finding { is_ready: false, reason, message, events, then: Then::Wait };
    Ok(match error {
        PairError::NotAnAuthority => finding,
        error => retried(finding, error.to_string()),
    })
}

fn retried(mut finding: Finding, cause: String) -> Finding {
    finding.events.push((EventType::Warning, "ErrInitIssuer", format!("Error initializing issuer: {cause}")));
    finding.then = Then::Retry(cause);
    finding
}

/// Writes the condition if it is another than before. `None`: the issuer is gone, or another than the one that was looked at.
async fn write(
    context: &Context,
    key: &IssuerKey,
    issuer: &Issuer,
    new: Condition,
) -> Result<Option<()>, Error> {
    let new = new.of_generation(issuer.metadata.generation);
    let mut current = issuer.clone();
    for _ in 0..ATTEMPTS {
        let mut status = current.status.clone().unwrap_or_default();
        if !set_condition(&mut status.conditions, new.clone(), context.clock.now()) {
            return Ok(Some(()));
        }
        match patch(&context.client, key, &current, &status).await {
            Ok(()) => return Ok(Some(())),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        let Some(live) = read(&context.client, key).await? else { return Ok(None) };
        // Then the watch tells, and it is looked at anew.
        if live.metadata.uid != issuer.metadata.uid || live.metadata.generation != issuer.metadata.generation
        {
            return Ok(None);
        }
        current = live;
    }
    Err(Error::Other(format!("issuer {key}: others write its status all the time")))
}

async fn patch(
    client: &Client,
    key: &IssuerKey,
    issuer: &Issuer,
    status: &IssuerStatus,
) -> Result<(), ApiError> {
    let body = json!({
        // With the version of what was read: nobody else's condition is overwritten.
        "metadata": { "resourceVersion": issuer.metadata.resource_version },
        "status": { "conditions": status.conditions },
    });
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(body));
    match key {
        IssuerKey::Namespaced { namespace, name } => {
            let api: Api<Issuer> = Api::namespaced(client.clone(), namespace);
            request(api.patch_status(name, &parameters, &patch)).await.map(drop)
        }
        IssuerKey::Cluster { name } => {
            let api: Api<ClusterIssuer> = Api::all(client.clone());
            request(api.patch_status(name, &parameters, &patch)).await.map(drop)
        }
    }
}

async fn read(client: &Client, key: &IssuerKey) -> Result<Option<Issuer>, ApiError> {
    match key {
        IssuerKey::Namespaced { namespace, name } => {
            let api: Api<Issuer> = Api::namespaced(client.clone(), namespace);
            chancery_kubernetes::optional(api.get(name)).await
        }
        IssuerKey::Cluster { name } => {
            let api: Api<ClusterIssuer> = Api::all(client.clone());
            Ok(chancery_kubernetes::optional(api.get(name)).await?.map(Issuer::from))
        }
    }
}

/// Both kinds are kept as one type, so the kind is that of the key.
fn reference(key: &IssuerKey, issuer: &Issuer) -> ObjectReference {
    use chancery_kubernetes::cert_manager::{API_VERSION, CLUSTER_ISSUER, ISSUER};
    let (kind, namespace) = match key {
        IssuerKey::Namespaced { namespace, .. } => (ISSUER, Some(namespace.clone())),
        IssuerKey::Cluster { .. } => (CLUSTER_ISSUER, None),
    };
    ObjectReference {
        api_version: Some(API_VERSION.into()),
        kind: Some(kind.into()),
        name: issuer.metadata.name.clone(),
        namespace,
        uid: issuer.metadata.uid.clone(),
        resource_version: issuer.metadata.resource_version.clone(),
        field_path: None,
    }
}
