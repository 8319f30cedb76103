//! What each kind is found by, and what most of each are like.

use chancery_kubernetes::cert_manager::{Certificate, Issuer, READY, is_true};

use super::facts::{RequestFacts, SecretFacts};
use super::store::{Facts, Term};
use crate::Key;
use crate::issuer::IssuerKey;

impl Facts<IssuerKey> for Issuer {
    fn terms(&self, key: &IssuerKey, say: &mut dyn FnMut(Term<'_>)) {
        let mut secret = |name: &str| match key {
            _ if name.is_empty() => {}
            IssuerKey::Namespaced { namespace, .. } => say(Term::Secret { namespace, name }),
            IssuerKey::Cluster { .. } => say(Term::ClusterSecret(name)),
        };
        if let Some(ca) = &self.spec.ca {
            secret(&ca.secret_name);
        }
        let Some(vault) = &self.spec.vault else { return };
        let auth = &vault.auth;
        let selectors = [
            &vault.ca_bundle_secret_ref,
            &vault.client_cert_secret_ref,
            &vault.client_key_secret_ref,
            &auth.token_secret_ref,
        ];
        selectors.into_iter().flatten().for_each(|selector| secret(&selector.name));
        if let Some(app_role) = &auth.app_role {
            secret(&app_role.secret_ref.name);
        }
        if let Some(selector) = auth.kubernetes.as_ref().and_then(|auth| auth.secret_ref.as_ref()) {
            secret(&selector.name);
        }
        if let Some(name) = auth.client_certificate.as_ref().and_then(|auth| auth.secret_name.as_ref()) {
            secret(name);
        }
    }

    fn is_typical(&self) -> bool {
        is_true(self.conditions(), READY)
    }
}

impl Facts<Key> for Certificate {
    fn terms(&self, key: &Key, say: &mut dyn FnMut(Term<'_>)) {
        if let Some(uid) = &self.metadata.uid {
            say(Term::Uid(uid));
        }
        if let Some(issuer) = IssuerKey::of(&self.spec.issuer_ref, &key.namespace) {
            say(Term::Issuer(&issuer));
        }
        let mut secret = |name: &str| say(Term::Secret { namespace: &key.namespace, name });
        secret(&self.spec.secret_name);
        let next = self.status.as_ref().and_then(|status| status.next_private_key_secret_name.as_ref());
        if let Some(name) = next {
            secret(name);
        }
        if let Some(keystores) = &self.spec.keystores {
            let jks = keystores.jks.as_ref().and_then(|jks| jks.password_secret_ref.as_ref());
            let pkcs12 = keystores.pkcs12.as_ref().and_then(|pkcs12| pkcs12.password_secret_ref.as_ref());
            [jks, pkcs12].into_iter().flatten().for_each(|selector| secret(&selector.name));
        }
    }

    fn is_typical(&self) -> bool {
        is_true(self.conditions(), READY)
    }
}

impl Facts<Key> for RequestFacts {
    fn terms(&self, key: &Key, say: &mut dyn FnMut(Term<'_>)) {
        if let Some(owner) = &self.owner {
            say(Term::Owner(owner));
        }
        if let Some(issuer) = IssuerKey::of(&self.issuer_ref, &key.namespace) {
            say(Term::Issuer(&issuer));
        }
        // A self-signing issuer needs this Secret.
        if let Some(name) = &self.private_key_secret {
            say(Term::Secret { namespace: &key.namespace, name });
        }
    }

    fn is_typical(&self) -> bool {
        self.unsigned.is_none()
    }
}

impl Facts<Key> for SecretFacts {
    fn terms(&self, _: &Key, say: &mut dyn FnMut(Term<'_>)) {
        if let Some(owner) = &self.owner {
            say(Term::Owner(owner));
        }
    }

    fn is_typical(&self) -> bool {
        self.certificate.is_some()
    }
}
