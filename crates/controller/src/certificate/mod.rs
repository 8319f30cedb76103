//! Certificates: keys, requests, Secrets, renewal.
//!
//! - `policy.rs`: must it be issued, is it ready; one chain of rules. `matching.rs`: does a request ask for what is wanted.
//!   `renewal.rs`: when is it renewed, when is a failure tried again. All of these are pure.
//! - `look.rs`: is there anything to do, from the cache alone. Nothing is read or written for what is as it should be.
//! - `live.rs`: everything of one Certificate, read anew, and one way through it from the first step to the last.
//!   `issue.rs`: the steps of an issuance. `key.rs`, `request.rs`, `secret.rs`: what is made in them. `facts.rs`: what is
//!   read out of objects.
//!
//! Each step can be repeated: the name of a request follows from the Certificate and its revision, the status names the key,
//! so that what an earlier try made is found again; statuses are written against the version that was read.

mod facts;
mod issue;
mod key;
mod live;
mod look;
mod matching;
mod policy;
mod renewal;
mod request;
mod secret;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Secret;

use self::live::Live;
use self::look::View;
use crate::cache::Digest;
use crate::context::Context;
use crate::{Error, Key, Next};

/// So often a Certificate is decided anew at once, because somebody else was quicker.
const ATTEMPTS: usize = 5;

/// Brings one a step further. It can be repeated at any time.
pub(crate) async fn reconcile(context: &Context, key: Key) -> Result<Next, Error> {
    if let Some(next) = look(context, &key) {
        return Ok(next);
    }
    let mut last = Ok(Next::Done);
    for _ in 0..ATTEMPTS {
        last = match Live::read(context, &key).await {
            Ok(Some(live)) => live.advance().await,
            Ok(None) => return Ok(Next::Done),
            Err(error) => Err(error),
        };
        match &last {
            Err(Error::Api(error)) if error.is_conflict() => {}
            // Deleted meanwhile: its watch tells.
            Err(Error::Api(error)) if error.is_not_found() => return Ok(Next::Done),
            _ => break,
        }
    }
    last
}

/// What the cache says about it: when to look again; `None`: there is something to do.
fn look(context: &Context, key: &Key) -> Option<Next> {
    let Some(certificate) = context.cache.certificates.get(key) else { return Some(Next::Done) };
    if certificate.metadata.deletion_timestamp.is_some() {
        return Some(Next::Done);
    }
    let uid = certificate.metadata.uid.clone().unwrap_or_default();
    let place = Key { namespace: key.namespace.clone(), name: certificate.spec.secret_name.clone() };
    let secret = context.cache.secrets.get(&place);
    let claimants = context.cache.certificates_in(&place);
    let owner = policy::owner_of(claimants.iter().map(AsRef::as_ref), secret.as_deref());
    let mut keys = context.cache.secrets_of(&uid);
    keys.retain(|secret| secret.is_next_private_key && secret.key != place);
    // Those that are deleted, and that the cache still has.
    let gone = keys.iter().filter_map(|secret| context.cache.gone.left(&secret.uid)).min();
    keys.retain(|secret| !context.cache.is_gone(secret));
    let view = View {
        certificate: &certificate,
        secret: secret.as_deref(),
        requests: &context.cache.requests_of(&uid),
        keys: &keys,
        is_owner: owner.is_none_or(|owner| owner == key.name),
        settings: &context.settings,
        now: context.clock.now(),
    };
    match (view.is_quiet()?, gone) {
        (Next::After(pause), Some(gone)) => Some(Next::After(pause.min(gone))),
        // Nobody else would look whether they have gone.
        (Next::Done, Some(gone)) => Some(Next::After(gone)),
        (next, None) => Some(next),
    }
}

/// For [`SecretFacts::applied`](crate::cache::SecretFacts::applied).
pub(crate) fn applied(secret: &Secret) -> Option<Digest> {
    facts::applied(secret).map(|applied| applied.digest())
}
