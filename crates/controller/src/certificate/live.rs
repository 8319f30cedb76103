//! One Certificate with all that belongs to it, read anew, and the way through it.

use chancery_kubernetes::cert_manager::{
    Certificate, CertificateRequest, CertificateStatus, Condition, ISSUING, READY, condition, is_true,
    set_condition,
};
use chancery_kubernetes::events::EventType;
use chancery_kubernetes::{optional, request as ask};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use super::facts::{APPLIER, csr_of};
use super::policy::{self, Current, Evidence, Finding, UNSUPPORTED};
use super::request::Outcome;
use super::{look, matching, request, secret};
use crate::cache::{RequestFacts, SecretFacts, sha256};
use crate::context::Context;
use crate::{Error, Key, Next};

/// Parts of the controller, as events name them.
pub(super) mod component {
    pub(in crate::certificate) const TRIGGER: &str = "cert-manager-certificates-trigger";
    pub(in crate::certificate) const KEY_MANAGER: &str = "cert-manager-certificates-key-manager";
    pub(in crate::certificate) const REQUEST_MANAGER: &str = "cert-manager-certificates-request-manager";
    pub(in crate::certificate) const ISSUING: &str = "cert-manager-certificates-issuing";
}

/// An event that is told when what it tells of has been written.
pub(super) type Told = (&'static str, EventType, String, String);

/// A Certificate and what belongs to it, as the API server has it.
pub(super) struct Live<'a> {
    pub(super) context: &'a Context,
    pub(super) certificate: Certificate,
    pub(super) secret: Option<Secret>,
    pub(super) secret_facts: Option<SecretFacts>,
    /// Requests that it controls, whatever their revision.
    pub(super) requests: Vec<CertificateRequest>,
    is_owner: bool,
    pub(super) now: Timestamp,
    pub(super) secrets_api: Api<Secret>,
    pub(super) requests_api: Api<CertificateRequest>,
    certificates_api: Api<Certificate>,
}

impl<'a> Live<'a> {
    /// Reads everything; `None`: there is nothing to look after.
    pub(super) async fn read(context: &'a Context, key: &Key) -> Result<Option<Self>, Error> {
        let client = || context.client.clone();
        let certificates_api: Api<Certificate> = Api::namespaced(client(), &key.namespace);
        let secrets_api: Api<Secret> = Api::namespaced(client(), &key.namespace);
        let requests_api: Api<CertificateRequest> = Api::namespaced(client(), &key.namespace);
        let Some(certificate) = optional(certificates_api.get(&key.name)).await? else { return Ok(None) };
        if certificate.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let secret = optional(secrets_api.get(&certificate.spec.secret_name)).await?;
        let secret_facts = secret.as_ref().and_then(SecretFacts::of);
        let place = Key { namespace: key.namespace.clone(), name: certificate.spec.secret_name.clone() };
        let claimants = context.cache.certificates_in(&place);
        let is_owner = policy::owner_of(claimants.iter().map(AsRef::as_ref), secret_facts.as_ref())
            .is_none_or(|owner| owner == key.name);
        let mut live = Self {
            context,
            certificate,
            secret,
            secret_facts,
            requests: Vec::new(),
            is_owner,
            now: context.clock.now(),
            secrets_api,
            requests_api,
            certificates_api,
        };
        live.read_requests().await?;
        Ok(Some(live))
    }

    /// Reads the requests that are known, and those that must be there by their names.
    async fn read_requests(&mut self) -> Result<(), Error> {
        let (name, uid, revision) = (self.name(), self.uid(), self.revision());
        let mut names: Vec<String> =
            self.context.cache.requests_of(&uid).iter().map(|found| found.key.name.clone()).collect();
        if revision > 0 {
            names.push(request::name(&name, revision));
        }
        if self.is_issuing() || self.status().last_failure_time.is_some() {
            names.push(request::name(&name, revision + 1));
        }
        names.sort();
        names.dedup();
        for name in names {
            if let Some(found) = optional(self.requests_api.get(&name)).await?
                && RequestFacts::of(&found).is_some_and(|facts| facts.owner.as_deref() == Some(&uid))
            {
                self.requests.push(found);
            }
        }
        Ok(())
    }

    pub(super) fn name(&self) -> String {
        self.certificate.metadata.name.clone().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> String {
        self.certificate.metadata.uid.clone().unwrap_or_default()
    }

    pub(super) fn status(&self) -> CertificateStatus {
        self.certificate.status.clone().unwrap_or_default()
    }

    pub(super) fn revision(&self) -> i64 {
        self.certificate.status.as_ref().and_then(|status| status.revision).unwrap_or(0).into()
    }

    pub(super) fn is_issuing(&self) -> bool {
        is_true(self.certificate.conditions(), ISSUING)
    }

    /// The request of a revision, and what is known of it.
    pub(super) fn of_revision(&self, revision: i64) -> Option<(&CertificateRequest, RequestFacts)> {
        let found = self.requests.iter().filter_map(|one| Some((one, RequestFacts::of(one)?)));
        let mut found =
            found.filter(|(_, facts)| facts.revision.map(i64::from) == Some(revision) && revision > 0);
        found.next()
    }

    fn current(&self) -> Option<Current> {
        let (found, _) = self.of_revision(self.revision())?;
        let Some(csr) = csr_of(found) else { return Some(Current::default()) };
        Some(Current {
            public_key: Some(sha256(csr.public_key().spki_der())),
            violations: matching::violations(&self.certificate.spec, &found.spec, &csr),
        })
    }

    fn findings(&self) -> (Option<Finding>, Option<Finding>) {
        let (name, status, current) = (self.name(), self.status(), self.current());
        let evidence = Evidence {
            name: &name,
            spec: &self.certificate.spec,
            status: &status,
            secret: self.secret_facts.as_ref(),
            current: current.as_ref(),
            now: self.now,
        };
        (evidence.must_issue(), evidence.is_unready())
    }

    /// Goes as far as it can.
    pub(super) async fn advance(mut self) -> Result<Next, Error> {
        let (must_issue, _) = self.findings();
        if self.is_issuing() && !self.is_owner {
            self.write(|_| {}, Vec::new()).await?;
            return Ok(Next::After(look::NOT_OWNER));
        }
        if !self.is_issuing() && must_issue.is_none() {
            return self.keep().await;
        }
        if let Some(refused) = policy::unsupported(&self.certificate.spec) {
            return self.refuse(refused).await;
        }
        if let Some(finding) = must_issue.filter(|_| !self.is_issuing()) {
            if let Some(next) = self.is_held() {
                self.write(|status| status.next_private_key_secret_name = None, Vec::new()).await?;
                self.delete_keys().await?;
                return Ok(next);
            }
            // What the last try left would be taken for this one's.
            self.delete_keys().await?;
            self.delete_failed_request().await?;
            let told = (component::TRIGGER, EventType::Normal, "Issuing".to_owned(), finding.message.clone());
            let generation = self.certificate.metadata.generation;
            let now = self.now;
            self.write(
                |status| {
                    let issuing = Condition::new(ISSUING, true, finding.reason, finding.message);
                    set_condition(&mut status.conditions, issuing.of_generation(generation), now);
                    status.next_private_key_secret_name = None;
                },
                vec![told],
            )
            .await?;
            self.read_requests_again().await?;
        }
        self.issue().await
    }

    /// Deletes the request of the next revision, if it has failed.
    async fn delete_failed_request(&self) -> Result<(), Error> {
        let Some((_, facts)) = self.of_revision(self.revision() + 1) else { return Ok(()) };
        if matches!(request::outcome(&facts), Outcome::Failed { .. }) {
            self.delete_request(&facts.key.name, &facts.uid).await?;
        }
        Ok(())
    }

    async fn read_requests_again(&mut self) -> Result<(), Error> {
        self.requests.clear();
        self.read_requests().await
    }

    /// It must be issued, but not now.
    fn is_held(&self) -> Option<Next> {
        if !self.is_owner {
            return Some(Next::After(look::NOT_OWNER));
        }
        let is_outdated = self.of_revision(self.revision() + 1).is_some_and(|(found, _)| {
            csr_of(found)
                .is_none_or(|csr| !matching::violations(&self.certificate.spec, &found.spec, &csr).is_empty())
        });
        let settings = &self.context.settings;
        let at =
            look::retry_at(&self.certificate, self.secret_facts.as_ref(), is_outdated, settings, self.now)?;
        (self.now < at).then(|| Next::After(look::until(at, self.now)))
    }

    /// It asks for what cannot be made.
    async fn refuse(mut self, refused: Finding) -> Result<Next, Error> {
        let before = condition(self.certificate.conditions(), ISSUING).cloned();
        let is_told =
            before.is_some_and(|one| one.reason == refused.reason && one.message == refused.message);
        let told = (component::ISSUING, EventType::Warning, UNSUPPORTED.to_owned(), refused.message.clone());
        let (generation, now) = (self.certificate.metadata.generation, self.now);
        self.write(
            |status| {
                let issuing = Condition::new(ISSUING, false, refused.reason, refused.message.clone());
                set_condition(&mut status.conditions, issuing.of_generation(generation), now);
                status.next_private_key_secret_name = None;
                if !is_true(&status.conditions, READY) {
                    let ready = Condition::new(READY, false, refused.reason, refused.message);
                    set_condition(&mut status.conditions, ready.of_generation(generation), now);
                }
            },
            if is_told { Vec::new() } else { vec![told] },
        )
        .await?;
        self.delete_keys().await?;
        Ok(Next::Done)
    }

    /// It need not be issued: the rest is kept right.
    pub(super) async fn keep(mut self) -> Result<Next, Error> {
        if let Some(existing) = &self.secret {
            let owner_references = self.context.settings.owner_references;
            let facts = self.secret_facts.as_ref();
            let is_kept =
                facts.is_some_and(|facts| secret::is_kept(&self.certificate, facts, owner_references));
            if !is_kept && let Some(wanted) = secret::kept(&self.certificate, existing, owner_references) {
                self.apply(wanted).await?;
            }
        }
        self.write(|status| status.next_private_key_secret_name = None, Vec::new()).await?;
        self.delete_keys().await?;
        self.prune().await?;
        Ok(look::wakes(&self.status(), self.now))
    }

    /// Applies the Secret.
    pub(super) async fn apply(&mut self, wanted: Secret) -> Result<(), Error> {
        let name = self.certificate.spec.secret_name.clone();
        let parameters = PatchParams::apply(APPLIER).force();
        let patch = Patch::Apply(&wanted);
        let written = ask(self.secrets_api.patch(&name, &parameters, &patch)).await?;
        self.secret_facts = SecretFacts::of(&written);
        self.secret = Some(written);
        Ok(())
    }

    /// Writes the status with what changes in it and what follows from the rest, if it differs from what stands there.
    /// Then it tells the events.
    pub(super) async fn write(
        &mut self,
        change: impl FnOnce(&mut CertificateStatus),
        told: Vec<Told>,
    ) -> Result<(), Error> {
        let before = self.certificate.status.clone();
        let mut status = self.status();
        // The revision decides which request is the current one.
        let generation = self.certificate.metadata.generation;
        (status.not_before, status.not_after, status.renewal_time) =
            look::dates(&self.certificate, self.secret_facts.as_ref());
        self.certificate.status = Some(status.clone());
        let revision_before = status.revision;
        let mut changed = status.clone();
        change(&mut changed);
        if changed.revision != revision_before {
            self.certificate.status = Some(changed.clone());
        }
        let (_, unready) = self.findings();
        let refuses = condition(&changed.conditions, ISSUING).is_some_and(|one| one.reason == UNSUPPORTED);
        let ready = match unready {
            None => Condition::new(READY, true, "Ready", "Certificate is up to date and has not expired"),
            Some(_)
                if refuses
                    && condition(&changed.conditions, READY).is_some_and(|one| one.reason == UNSUPPORTED) =>
            {
                condition(&changed.conditions, READY)
                    .cloned()
                    .unwrap_or_else(|| Condition::new(READY, false, UNSUPPORTED, ""))
            }
            Some(finding) => Condition::new(READY, false, finding.reason, finding.message),
        };
        set_condition(&mut changed.conditions, ready.of_generation(generation), self.now);
        self.certificate.status = before.clone();
        if before.as_ref() != Some(&changed) {
            let mut object = self.certificate.clone();
            object.status = Some(changed);
            let name = self.name();
            let parameters = PostParams { field_manager: Some(APPLIER.to_owned()), ..PostParams::default() };
            self.certificate = ask(self.certificates_api.replace_status(&name, &parameters, &object)).await?;
        }
        for (component, kind, reason, message) in told {
            self.tell(component, kind, reason, message);
        }
        Ok(())
    }

    pub(super) fn tell(
        &self,
        component: &'static str,
        kind: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.context.recorder.record(&self.certificate, component, kind, reason, message);
    }

    /// Deletes the keys of issuances that are over, each once: the cache may still have what is gone.
    pub(super) async fn delete_keys(&self) -> Result<(), Error> {
        let (uid, target) = (self.uid(), &self.certificate.spec.secret_name);
        let cache = &self.context.cache;
        let cached = cache.secrets_of(&uid);
        // A template may give the certificate's own Secret any label.
        let is_left = |found: &SecretFacts| {
            found.is_next_private_key && found.key.name != *target && !cache.is_gone(found)
        };
        for found in cached.iter().filter(|found| is_left(found)) {
            self.delete_secret(&found.key.name, &found.uid).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_secret(&self, name: &str, uid: &str) -> Result<(), Error> {
        let going = self.context.cache.gone.begin(uid);
        if delete(&self.secrets_api, name, uid).await? {
            going.keep();
        }
        Ok(())
    }

    pub(super) async fn delete_request(&self, name: &str, uid: &str) -> Result<(), Error> {
        delete(&self.requests_api, name, uid).await.map(drop)
    }

    /// Deletes the oldest requests that are too many.
    async fn prune(&self) -> Result<(), Error> {
        if !is_true(self.certificate.conditions(), READY) {
            return Ok(());
        }
        let facts = self.requests.iter().filter_map(RequestFacts::of);
        let mut numbered: Vec<_> = facts.filter_map(|facts| Some((facts.revision?, facts))).collect();
        numbered.sort_by_key(|(revision, _)| *revision);
        let surplus = numbered.len().saturating_sub(look::history_limit(&self.certificate));
        for (_, facts) in numbered.iter().take(surplus) {
            self.delete_request(&facts.key.name, &facts.uid).await?;
        }
        Ok(())
    }
}

/// Deletes this one object; one that is gone, or another of the same name, is not looked at. Says whether it is gone for
/// certain: a conflict may be about more than the UID.
async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<bool, Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match ask(api.delete(name, &parameters)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
