//! What is known of the cluster: facts, fed by watches.
//!
//! A [`Store`] per kind is changed by [`Store::apply`], [`Store::delete`] and [`Store::replace`]; each change is told to
//! the store's listeners, which say which queues get which keys.

mod facts;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use chancery_kubernetes::cert_manager::{Certificate, Issuer, IssuerReference};

pub use self::facts::{CertificateFacts, Digest, RequestFacts, SecretFacts, UnsignedFacts};
use crate::Key;
use crate::issuer::IssuerKey;
use crate::request::UnderWay;

/// A change: what was known before, and what is known now. One of them is always there.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// Whose.
    pub key: &'a K,
    /// Before.
    pub before: Option<&'a Arc<V>>,
    /// Now; `None`: it is gone.
    pub now: Option<&'a Arc<V>>,
}

type Listener<K, V> = Box<dyn Fn(&Change<'_, K, V>) + Send + Sync>;

/// What is known of objects of one kind.
pub struct Store<K, V> {
    facts: RwLock<HashMap<K, Arc<V>>>,
    listeners: RwLock<Vec<Listener<K, V>>>,
}

impl<K, V> Default for Store<K, V> {
    fn default() -> Self {
        Self { facts: RwLock::default(), listeners: RwLock::default() }
    }
}

impl<K: Debug, V> Debug for Store<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash, V: PartialEq> Store<K, V> {
    /// Has changes told to somebody. What calls is a watch: it must not wait.
    pub fn listen(&self, listener: impl Fn(&Change<'_, K, V>) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// What is known of one.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// All that fit. It looks at every one: not for what happens often.
    pub fn find(&self, fits: impl Fn(&V) -> bool) -> Vec<Arc<V>> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts.values().filter(|value| fits(value)).cloned().collect()
    }

    /// It is there, like this.
    pub fn apply(&self, key: K, value: V) {
        let value = Arc::new(value);
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        let before = facts.insert(key.clone(), Arc::clone(&value));
        drop(facts);
        if before.as_ref() != Some(&value) {
            self.tell(&key, before.as_ref(), Some(&value));
        }
    }

    /// It is gone.
    pub fn delete(&self, key: &K) {
        let before = self.facts.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        if before.is_some() {
            self.tell(key, before.as_ref(), None);
        }
    }

    /// These are there and no others: a watch was read anew.
    pub fn replace(&self, all: impl IntoIterator<Item = (K, V)>) {
        let all: HashMap<K, V> = all.into_iter().collect();
        let gone: Vec<K> = {
            let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
            facts.keys().filter(|key| !all.contains_key(*key)).cloned().collect()
        };
        gone.iter().for_each(|key| self.delete(key));
        for (key, value) in all {
            self.apply(key, value);
        }
    }

    fn tell(&self, key: &K, before: Option<&Arc<V>>, now: Option<&Arc<V>>) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter() {
            listener(&Change { key, before, now });
        }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Cache {
    /// Issuers and ClusterIssuers, whole.
    pub issuers: Store<IssuerKey, Issuer>,
    /// Certificates, whole but for `metadata.managedFields`.
    pub certificates: Store<Key, Certificate>,
    /// CertificateRequests.
    pub requests: Store<Key, RequestFacts>,
    /// Secrets of Certificates, and of issuances under way.
    pub secrets: Store<Key, SecretFacts>,
    /// What this process did to CertificateRequests, and watches may not have told yet.
    pub requests_under_way: UnderWay,
}

impl Cache {
    /// Requests that a Certificate controls, by its UID.
    pub fn requests_of(&self, owner: &str) -> Vec<Arc<RequestFacts>> {
        self.requests.find(|request| request.owner.as_deref() == Some(owner))
    }

    /// Requests that an issuer shall sign.
    pub fn requests_for(&self, issuer: &IssuerKey) -> Vec<Arc<RequestFacts>> {
        self.requests.find(|request| is_for(&request.issuer_ref, &request.key.namespace, issuer))
    }

    /// Certificates that name a Secret.
    pub fn certificates_in(&self, secret: &Key) -> Vec<Arc<Certificate>> {
        self.certificates.find(|certificate| {
            certificate.metadata.namespace.as_ref() == Some(&secret.namespace)
                && certificate.spec.secret_name == secret.name
        })
    }
}

fn is_for(reference: &IssuerReference, namespace: &str, issuer: &IssuerKey) -> bool {
    IssuerKey::of(reference, namespace).as_ref() == Some(issuer)
}
