//! Which change leads to which work.

use std::sync::Arc;

use chancery_kubernetes::cert_manager::{Certificate, Issuer, READY, condition, is_true};

use super::facts::{RequestFacts, SecretFacts};
use super::store::{Change, Term};
use super::{Cache, values};
use crate::Key;
use crate::context::{Context, Queues};
use crate::issuer::IssuerKey;

/// Says to all stores which queues get which keys.
pub(super) fn listen(context: &Context) {
    let works = Works::new(context);
    let cache = &context.cache;
    let to = works.clone();
    cache.issuers.listen(move |change| to.issuer(change));
    let to = works.clone();
    cache.certificates.listen(move |change| to.certificate(change));
    let to = works.clone();
    cache.requests.listen(move |change| to.request(change));
    cache.secrets.listen(move |change| works.secret(change));
}

/// What makes work out of changes.
#[derive(Clone)]
pub(super) struct Works {
    /// The cache holds the listeners, and so not the other way round.
    cache: std::sync::Weak<Cache>,
    queues: Queues,
    cluster_namespace: Arc<str>,
}

impl Works {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            cache: Arc::downgrade(&context.cache),
            queues: context.queues.clone(),
            cluster_namespace: context.settings.cluster_resource_namespace.as_str().into(),
        }
    }

    fn issuer(&self, change: &Change<'_, IssuerKey, Issuer>) {
        let Some(cache) = self.cache.upgrade() else { return };
        let is_other = match (change.before, change.now) {
            (Some(before), Some(now)) => before.spec != now.spec || before.metadata.uid != now.metadata.uid,
            _ => true,
        };
        let ready = |issuer: Option<&Arc<Issuer>>| {
            issuer.and_then(|issuer| condition(issuer.conditions(), READY).cloned())
        };
        let (before, now) = (ready(change.before), ready(change.now));
        // What we wrote about it ourselves is no reason to look again; that somebody took it away is one.
        if is_other || now.is_none() {
            self.queues.issuers.add(change.key.clone());
        }
        if !is_other && before.map(|ready| ready.status) == now.map(|ready| ready.status) {
            return;
        }
        for request in cache.requests_for(change.key) {
            if is_waiting(&request) {
                self.queues.requests.add(request.key.clone());
            }
        }
        for (key, certificate) in cache.certificates.find_by(Term::Issuer(change.key)) {
            if !is_true(certificate.conditions(), READY) {
                self.queues.certificates.add(key);
            }
        }
    }

    fn certificate(&self, change: &Change<'_, Key, Certificate>) {
        let Some(cache) = self.cache.upgrade() else { return };
        self.queues.certificates.add(change.key.clone());
        let secret = |certificate: Option<&Arc<Certificate>>| {
            certificate.map(|certificate| certificate.spec.secret_name.clone())
        };
        let (before, now) = (secret(change.before), secret(change.now));
        if before == now {
            return;
        }
        // Whoever names the same Secret may have it now, or no longer.
        for name in [before, now].into_iter().flatten() {
            let term = Term::Secret { namespace: &change.key.namespace, name: &name };
            cache.certificates.keys_by(term).into_iter().for_each(|key| self.queues.certificates.add(key));
        }
    }

    fn request(&self, change: &Change<'_, Key, RequestFacts>) {
        let Some(cache) = self.cache.upgrade() else { return };
        self.queues.requests.add(change.key.clone());
        for facts in [change.before, change.now].into_iter().flatten() {
            self.owner(&cache, facts.owner.as_deref());
        }
    }

    fn secret(&self, change: &Change<'_, Key, SecretFacts>) {
        let Some(cache) = self.cache.upgrade() else { return };
        if let Some(before) = change.before
            && change.now.is_none_or(|now| now.uid != before.uid)
        {
            cache.gone.forget(&before.uid);
        }
        for facts in [change.before, change.now].into_iter().flatten() {
            self.owner(&cache, facts.owner.as_deref());
        }
        let is_other = match (change.before, change.now) {
            (Some(before), Some(now)) => before.data != now.data || before.kind != now.kind,
            _ => true,
        };
        self.certificates_of(&cache, change.key);
        // Labels and annotations are nothing to those who only read it.
        if is_other {
            self.readers_of(&cache, change.key);
        }
    }

    /// Something happened to a Secret of which nothing is kept.
    pub(super) fn foreign_secret(&self, key: &Key) {
        let Some(cache) = self.cache.upgrade() else { return };
        self.certificates_of(&cache, key);
        self.readers_of(&cache, key);
    }

    /// What happened to Secrets of which nothing is kept was not seen for a while.
    pub(super) fn foreign_secrets(&self) {
        let Some(cache) = self.cache.upgrade() else { return };
        cache.issuers.keys().into_iter().for_each(|key| self.queues.issuers.add(key));
        cache.certificates.keys().into_iter().for_each(|key| self.queues.certificates.add(key));
    }

    fn owner(&self, cache: &Cache, uid: Option<&str>) {
        let Some(uid) = uid else { return };
        let owners = cache.certificates.keys_by(Term::Uid(uid));
        owners.into_iter().for_each(|key| self.queues.certificates.add(key));
    }

    fn certificates_of(&self, cache: &Cache, Key { namespace, name }: &Key) {
        let certificates = cache.certificates.keys_by(Term::Secret { namespace, name });
        certificates.into_iter().for_each(|key| self.queues.certificates.add(key));
    }

    fn readers_of(&self, cache: &Cache, Key { namespace, name }: &Key) {
        let term = Term::Secret { namespace, name };
        let mut issuers = cache.issuers.keys_by(term);
        if **namespace == *self.cluster_namespace {
            issuers.extend(cache.issuers.keys_by(Term::ClusterSecret(name)));
        }
        issuers.into_iter().for_each(|key| self.queues.issuers.add(key));
        for request in values(cache.requests.find_by(term)) {
            if is_waiting(&request) {
                self.queues.requests.add(request.key.clone());
            }
        }
    }
}

/// Whether a request may still be signed.
fn is_waiting(request: &RequestFacts) -> bool {
    let is_signed = is_true(&request.conditions, READY);
    !is_signed && request.failure_time.is_none() && !request.is_deleting
}
