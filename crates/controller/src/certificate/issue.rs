//! The steps of an issuance: key, request, Secret.

use chancery_issuance::{Certificate as X509, PrivateKey, Signer as _};
use chancery_kubernetes::cert_manager::names;
use chancery_kubernetes::cert_manager::{
    CertificateRequest, CertificateStatus, Condition, ISSUING, Time, condition, remove_condition,
    set_condition,
};
use chancery_kubernetes::events::EventType;
use chancery_kubernetes::{optional, request as ask};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use std::time::Duration;

use super::facts::{csr_of, private_key_of};
use super::live::{Live, component};
use super::request::{self, Outcome};
use super::secret::{self, Content};
use super::{key, matching, policy, renewal};
use crate::cache::{RequestFacts, sha256};
use crate::{Error, Next};

/// When to look again at what somebody else must clear away first.
const SOON: Duration = Duration::from_secs(2);

/// The private key of an issuance.
enum NextKey {
    /// It is there.
    Ready(PrivateKey, String),
    /// It cannot be had before the user acts.
    Blocked,
}

impl Live<'_> {
    /// Goes from wherever the issuance stands to where it waits for others, or to its end.
    pub(super) async fn issue(mut self) -> Result<Next, Error> {
        let NextKey::Ready(key, key_secret) = self.next_key().await? else { return Ok(Next::Done) };
        let Some(found) = self.next_request(&key, &key_secret).await? else {
            return Ok(Next::After(SOON));
        };
        let Some(facts) = RequestFacts::of(&found) else { return Ok(Next::Done) };
        match request::outcome(&facts) {
            Outcome::Waiting => Ok(Next::Done),
            Outcome::Failed { reason, message, .. } => self.fail(reason, message).await,
            Outcome::Issued => match is_usable(&found, &key, self.now) {
                Ok(()) => self.finish(&found, &key).await,
                Err(message) => self.fail("InvalidCertificate".to_owned(), message).await,
            },
        }
    }

    /// Finds the Secret with the key that the status names, or makes one.
    ///
    /// Only that one counts: whoever may create Secrets could otherwise put a key of their own in its place.
    async fn next_key(&mut self) -> Result<NextKey, Error> {
        let Some(secret_name) = self.status().next_private_key_secret_name else {
            return self.make_key().await;
        };
        let existing = optional(self.secrets_api.get(&secret_name)).await?;
        let Some(existing) = existing.filter(|found| is_key_of(&found.metadata, &self.uid())) else {
            return self.make_key().await;
        };
        let Some(found) = private_key_of(&existing) else {
            let message =
                format!("Failed to decode private key stored in Secret {secret_name:?} - generating new key");
            self.tell(component::KEY_MANAGER, EventType::Warning, "DecodeFailed", message);
            return self.replace_key(&existing, &secret_name).await;
        };
        let violations = policy::key_violations(&self.certificate.spec, found.spec());
        if !violations.is_empty() {
            let listed = matching::listed(&violations);
            let message = format!("Regenerating private key due to change in fields: {listed}");
            self.tell(component::KEY_MANAGER, EventType::Normal, "Deleted", message);
            return self.replace_key(&existing, &secret_name).await;
        }
        // Whatever is waited for: the status says meanwhile what has become of the certificate in use.
        self.write(|_| {}, Vec::new()).await?;
        Ok(NextKey::Ready(found, secret_name))
    }

    async fn name_key(&mut self, secret_name: &str) -> Result<(), Error> {
        let named = Some(secret_name.to_owned());
        self.write(|status| status.next_private_key_secret_name = named, Vec::new()).await
    }

    async fn replace_key(&mut self, existing: &Secret, secret_name: &str) -> Result<NextKey, Error> {
        let uid = existing.metadata.uid.clone().unwrap_or_default();
        self.delete_secret(secret_name, &uid).await?;
        self.make_key().await
    }

    async fn make_key(&mut self) -> Result<NextKey, Error> {
        let (spec, target) = (self.certificate.spec.clone(), self.certificate.spec.secret_name.clone());
        let spec = &spec;
        let mut kept = None;
        if !key::rotates(spec)
            && let Some(existing) = &self.secret
            && existing
                .data
                .as_ref()
                .is_some_and(|data| data.get("tls.key").is_some_and(|key| !key.0.is_empty()))
        {
            match private_key_of(existing) {
                Some(found) if policy::key_violations(spec, found.spec()).is_empty() => kept = Some(found),
                Some(found) => {
                    let listed = matching::listed(&policy::key_violations(spec, found.spec()));
                    let message = format!(
                        "User intervention required: existing private key in Secret {target:?} does not match requirements \
                         on Certificate resource, mismatching fields: {listed}, but cert-manager cannot create new private \
                         key as the Certificate's .spec.privateKey.rotationPolicy is unset or set to Never. To allow \
                         cert-manager to create a new private key you can set .spec.privateKey.rotationPolicy to 'Always' \
                         (this will result in the private key being regenerated every time a cert is renewed)"
                    );
                    self.tell(component::KEY_MANAGER, EventType::Warning, "CannotRegenerateKey", message);
                    return Ok(NextKey::Blocked);
                }
                None => {
                    let message = format!(
                        "Failed to decode private key stored in Secret {target:?} - generating new key"
                    );
                    self.tell(component::KEY_MANAGER, EventType::Warning, "DecodeFailed", message);
                }
            }
        }
        let is_kept = kept.is_some();
        let made = match kept {
            Some(found) => found,
            None => {
                let spec = spec.clone();
                // Large RSA keys take seconds.
                let made = tokio::task::spawn_blocking(move || key::generate(&spec)).await;
                made.map_err(|error| Error::Other(error.to_string()))?
                    .map_err(|error| Error::Other(error.to_string()))?
            }
        };
        let object = key::next_private_key(&self.certificate, &made);
        let stored = ask(self.secrets_api.create(&manager(component::KEY_MANAGER), &object)).await?.metadata;
        let secret_name = stored.name.unwrap_or_default();
        let named = self.name_key(&secret_name).await;
        if let Err(Error::Api(error)) = &named
            && error.is_conflict()
        {
            // The next try makes another one.
            self.delete_secret(&secret_name, &stored.uid.unwrap_or_default()).await?;
        }
        named?;
        let (reason, message) = if is_kept {
            ("Reused", format!("Reusing private key stored in existing Secret resource {target:?}"))
        } else {
            ("Generated", format!("Stored new private key in temporary Secret resource {secret_name:?}"))
        };
        self.tell(component::KEY_MANAGER, EventType::Normal, reason, message);
        Ok(NextKey::Ready(made, secret_name))
    }

    /// Finds the one request of this issuance, or makes it; what does not fit goes. `None`: something is in its place.
    async fn next_request(
        &mut self,
        key: &PrivateKey,
        key_secret: &str,
    ) -> Result<Option<CertificateRequest>, Error> {
        let revision = self.revision() + 1;
        let mut fitting = None;
        for found in std::mem::take(&mut self.requests) {
            let Some(facts) = RequestFacts::of(&found) else { continue };
            let keeps = match facts.revision {
                None => false,
                Some(other) if i64::from(other) != revision => true,
                Some(_) if facts.is_deleting => return Ok(None),
                Some(_) => self.fits(&found, &facts, key),
            };
            if !keeps {
                self.delete_request(&facts.key.name, &facts.uid).await?;
            } else if facts.revision.map(i64::from) == Some(revision) && fitting.is_none() {
                fitting = Some(found.clone());
            }
            if keeps {
                self.requests.push(found);
            }
        }
        if fitting.is_some() {
            return Ok(fitting);
        }
        let csr = match request::csr(&self.certificate.spec, key) {
            Ok(csr) => csr,
            Err(error) => return self.cannot_ask(&error.to_string()).await,
        };
        let prefixes = &self.context.settings.copied_annotation_prefixes;
        let object = request::request(&self.certificate, revision, key_secret, &csr, prefixes);
        let violations = csr_of(&object)
            .map(|csr| matching::violations(&self.certificate.spec, &object.spec, &csr))
            .unwrap_or_default();
        if !violations.is_empty() {
            // It would be made anew for ever.
            let listed = matching::listed(&violations);
            return self
                .cannot_ask(&format!("write {listed} as the CSR has it: in ASCII, in normal form"))
                .await;
        }
        let name = object.metadata.name.clone().unwrap_or_default();
        match ask(self.requests_api.create(&manager(component::REQUEST_MANAGER), &object)).await {
            Ok(made) => {
                let message = format!("Created new CertificateRequest resource {name:?}");
                self.tell(component::REQUEST_MANAGER, EventType::Normal, "Requested", message);
                self.requests.push(made.clone());
                Ok(Some(made))
            }
            Err(error) if error.is_conflict() => {
                let existing = optional(self.requests_api.get(&name)).await?;
                let owner = existing.as_ref().and_then(RequestFacts::of).and_then(|facts| facts.owner);
                if existing.is_some() && owner.is_none() {
                    let message = format!("Failed to create CertificateRequest: {error}");
                    self.tell(component::REQUEST_MANAGER, EventType::Warning, "RequestFailed", message);
                }
                if owner.as_deref() == Some(&self.uid()) { Err(error.into()) } else { Ok(None) }
            }
            Err(error) => {
                if !error.is_transient() {
                    let message = format!("Failed to create CertificateRequest: {error}");
                    self.tell(component::REQUEST_MANAGER, EventType::Warning, "RequestFailed", message);
                }
                Err(error.into())
            }
        }
    }

    /// There can be no CSR: the issuance fails, until the Certificate is changed.
    async fn cannot_ask(&mut self, why: &str) -> Result<Option<CertificateRequest>, Error> {
        let message = format!("Failed to generate CSR: {why} - will not retry");
        self.tell(component::REQUEST_MANAGER, EventType::Warning, "RequestFailed", message.clone());
        self.write_failure("RequestFailed".to_owned(), message).await?;
        Ok(None)
    }

    /// Whether a request is of this try: for what is wanted now, with this key, and not failed before it began.
    fn fits(&self, found: &CertificateRequest, facts: &RequestFacts, key: &PrivateKey) -> bool {
        let Some(csr) = csr_of(found) else { return false };
        if csr.public_key().spki_der() != key.public_key().spki_der()
            || !matching::violations(&self.certificate.spec, &found.spec, &csr).is_empty()
        {
            return false;
        }
        let Outcome::Failed { at: Some(at), .. } = request::outcome(facts) else { return true };
        let began =
            condition(self.certificate.conditions(), ISSUING).and_then(|one| one.last_transition_time);
        // A failure that was counted by a clock ahead of ours says nothing about what comes after it.
        let counted = self.status().last_failure_time.filter(|counted| counted.0 <= self.now);
        !(began.is_some_and(|began| at < began.0) || counted.is_some_and(|counted| at <= counted.0))
    }

    /// The certificate is there: Secret, status, and what is left is cleared away.
    async fn finish(mut self, found: &CertificateRequest, key: &PrivateKey) -> Result<Next, Error> {
        let status = found.status.clone().unwrap_or_default();
        let chain = status.certificate.unwrap_or_default();
        let ca = status.ca.unwrap_or_default();
        let content =
            Content { chain: &chain.0, key, key_pem: None, ca: &ca.0, issuer: &found.spec.issuer_ref };
        let owner_references = self.context.settings.owner_references;
        let Some(wanted) =
            secret::wanted(&self.certificate, &content, self.secret.as_ref(), owner_references)
        else {
            return Err(Error::Other("the issued certificate cannot be read".to_owned()));
        };
        self.apply(wanted).await?;
        let revision = i32::try_from(self.revision() + 1).unwrap_or(i32::MAX);
        let mut told = vec![(
            component::ISSUING,
            EventType::Normal,
            "Issuing".to_owned(),
            "The certificate has been successfully issued".to_owned(),
        )];
        if let Some(issued) = self.secret_facts.as_ref().and_then(|facts| facts.certificate.as_ref()) {
            let spec = &self.certificate.spec;
            if let Some(message) = renewal::cut(issued.not_before, issued.not_after, spec) {
                told.push((component::ISSUING, EventType::Warning, "LifetimeCut".to_owned(), message));
            }
            if spec.renewal.as_ref().is_some_and(|renewal| !renewal.windows.is_empty()) {
                let message =
                    "spec.renewal.windows is not supported: the certificate is renewed at status.renewalTime";
                told.push((
                    component::ISSUING,
                    EventType::Warning,
                    "WindowError".to_owned(),
                    message.to_owned(),
                ));
            }
        }
        let key_secret = self.status().next_private_key_secret_name;
        self.write(
            |status| {
                remove_condition(&mut status.conditions, ISSUING);
                status.revision = Some(revision);
                status.last_failure_time = None;
                status.failed_issuance_attempts = None;
                status.next_private_key_secret_name = None;
            },
            told,
        )
        .await?;
        self.delete_key(key_secret).await?;
        self.keep().await
    }

    /// Deletes the key of this issuance, also where the cache does not know it yet.
    async fn delete_key(&self, name: Option<String>) -> Result<(), Error> {
        let Some(name) = name else { return Ok(()) };
        let Some(found) = optional(self.secrets_api.get_metadata(&name)).await? else { return Ok(()) };
        // The status may be written by others too: it must not have somebody else's Secret deleted.
        if !is_key_of(&found.metadata, &self.uid()) {
            return Ok(());
        }
        let uid = found.metadata.uid.unwrap_or_default();
        self.delete_secret(&name, &uid).await
    }

    async fn fail(mut self, reason: String, message: String) -> Result<Next, Error> {
        let message =
            format!("The certificate request has failed to complete and will be retried: {message}");
        self.tell_after_failure(reason, message).await?;
        Ok(Next::After(SOON))
    }

    async fn tell_after_failure(&mut self, reason: String, message: String) -> Result<(), Error> {
        let told = (component::ISSUING, EventType::Warning, reason.clone(), message.clone());
        self.write_failure(reason, message).await?;
        let (component, kind, reason, message) = told;
        self.tell(component, kind, reason, message);
        Ok(())
    }

    async fn write_failure(&mut self, reason: String, message: String) -> Result<(), Error> {
        let (generation, now) = (self.certificate.metadata.generation, self.now);
        let key_secret = self.status().next_private_key_secret_name;
        self.write(
            |status: &mut CertificateStatus| {
                let issuing = Condition::new(ISSUING, false, reason, message);
                set_condition(&mut status.conditions, issuing.of_generation(generation), now);
                status.last_failure_time = Some(Time::new(now));
                let attempts = status.failed_issuance_attempts.unwrap_or(0).saturating_add(1);
                status.failed_issuance_attempts = Some(attempts);
                status.next_private_key_secret_name = None;
            },
            Vec::new(),
        )
        .await?;
        self.delete_key(key_secret).await
    }
}

/// Whether a Secret holds a key that waits for a certificate of this Certificate.
fn is_key_of(secret: &ObjectMeta, uid: &str) -> bool {
    let is_key = secret
        .labels
        .as_ref()
        .is_some_and(|labels| labels.get(names::NEXT_PRIVATE_KEY).is_some_and(|value| value == "true"));
    let owners = secret.owner_references.as_deref().unwrap_or_default();
    is_key && owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

fn manager(component: &str) -> PostParams {
    PostParams { field_manager: Some(component.to_owned()), ..PostParams::default() }
}

/// Whether what the issuer returned can go into the Secret; else why not.
fn is_usable(found: &CertificateRequest, key: &PrivateKey, now: Timestamp) -> Result<(), String> {
    let chain = found.status.as_ref().and_then(|status| status.certificate.as_ref());
    let text = chain.and_then(|chain| chain.as_str()).unwrap_or_default();
    let leaf =
        X509::from_pem(text).map_err(|error| format!("error decoding certificate PEM block: {error}"))?;
    let expected = sha256(key.public_key().spki_der());
    if leaf.public_key().map(|found| sha256(found.spki_der())) != Some(expected) {
        return Err(
            "Issuer returned a certificate with a public key that does not match the CSR. This usually \
                    indicates a misconfigured issuer."
                .to_owned(),
        );
    }
    let end = leaf.not_after().to_timestamp();
    if end < now {
        return Err(format!(
            "Issuer returned an already expired certificate (notAfter: {}). This usually indicates an expired CA \
             certificate in the issuer.",
            end.strftime("%Y-%m-%dT%H:%M:%SZ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_of_the_same_certificate_is_deleted_by_name() {
        let owner = k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            uid: "ours".to_owned(),
            controller: Some(true),
            ..Default::default()
        };
        let mut secret = ObjectMeta {
            labels: Some([(names::NEXT_PRIVATE_KEY.to_owned(), "true".to_owned())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        assert!(is_key_of(&secret, "ours"));
        assert!(!is_key_of(&secret, "theirs"));
        secret.labels = None;
        assert!(!is_key_of(&secret, "ours"));
        assert!(!is_key_of(&ObjectMeta::default(), "ours"));
    }
}
