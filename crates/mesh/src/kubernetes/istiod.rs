//! istiod's own certificate, as a Certificate that cert-manager keeps.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_issuance::TrustDomain;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::issuer::IssuerWatch;
use chancery_kubernetes::cert_manager::{
    Certificate, CertificatePrivateKey, CertificateSpec, IssuerReference, KeyAlgorithm as Algorithm,
    RotationPolicy,
};
use chancery_kubernetes::is_dns_subdomain;
use chancery_kubernetes::{ApiError, optional, request};
use chancery_kubernetes::{Pauses, follow, untyped};

/// The Secret that istiod mounts.
pub(super) const SECRET: &str = "istiod-tls";

/// Looked at this often even if nothing seems to happen.
const RESYNC: Duration = Duration::from_secs(300);

/// What istiod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstiodNames {
    /// Always `istiod.NAMESPACE.svc`.
    pub common_name: String,
    /// One for each revision, then the additional ones.
    pub dns_names: Vec<String>,
    /// One, whatever the revision.
    pub uri: String,
}

/// Why istiod's certificate cannot be as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IstiodError {
    /// A revision twice.
    #[error("the revision {0:?} is named twice")]
    DuplicateRevision(String),
    /// A name that is none.
    #[error("{0:?} is no DNS name")]
    NotDnsName(String),
    /// Renewed before it begins.
    #[error("renew-before {renew_before:?} must be shorter than the duration {duration:?}")]
    RenewBefore {
        /// How long before the end it is renewed.
        renew_before: Duration,
        /// How long it lives.
        duration: Duration,
    },
    /// A key of an unknown kind.
    #[error("{0:?} is neither RSA nor ECDSA")]
    KeyAlgorithm(String),
    /// A key of a size that is too small or does not exist.
    #[error("{algorithm} keys of {size} bits are not possible here; {possible}")]
    KeySize {
        /// The kind.
        algorithm: &'static str,
        /// What was asked for.
        size: u32,
        /// What can be asked for.
        possible: &'static str,
    },
}

/// Kinds of keys, with their size in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// At least 2048.
    Rsa(u32),
    /// 256 or 384.
    Ecdsa(u32),
}

impl KeyAlgorithm {
    /// From flags; a size of 0 is the usual one.
    ///
    /// # Errors
    /// An unknown kind, or a size that the kind does not have.
    pub fn parse(algorithm: &str, size: u32) -> Result<Self, IstiodError> {
        let wrong = |algorithm, possible| Err(IstiodError::KeySize { algorithm, size, possible });
        match (algorithm.to_ascii_uppercase().as_str(), size) {
            ("RSA", 0) => Ok(Self::Rsa(2048)),
            ("RSA", 2048..=8192) => Ok(Self::Rsa(size)),
            ("RSA", _) => wrong("RSA", "2048 to 8192 are"),
            ("ECDSA", 0) => Ok(Self::Ecdsa(256)),
            ("ECDSA", 256 | 384) => Ok(Self::Ecdsa(size)),
            ("ECDSA", _) => wrong("ECDSA", "256 and 384 are"),
            _ => Err(IstiodError::KeyAlgorithm(algorithm.to_owned())),
        }
    }
}

impl IstiodNames {
    /// The names in a namespace. No revision at all means `default`.
    ///
    /// # Errors
    /// A revision twice, or an additional name that is no DNS name.
    pub fn new(
        trust_domain: &TrustDomain,
        namespace: &str,
        revisions: &[String],
        additional: &[String],
    ) -> Result<Self, IstiodError> {
        let default = ["default".to_owned()];
        let revisions = if revisions.is_empty() { &default } else { revisions };
        let common_name = format!("istiod.{namespace}.svc");
        let mut dns_names = Vec::new();
        for revision in revisions {
            let name = match revision.as_str() {
                "default" => common_name.clone(),
                revision => format!("istiod-{revision}.{namespace}.svc"),
            };
            if dns_names.contains(&name) {
                return Err(IstiodError::DuplicateRevision(revision.clone()));
            }
            dns_names.push(name);
        }
        for name in additional {
            if !dns_names.contains(name) {
                dns_names.push(name.clone());
            }
        }
        if let Some(name) = dns_names.iter().find(|name| !is_dns_subdomain(name)) {
            return Err(IstiodError::NotDnsName(name.clone()));
        }
        let uri = format!("spiffe://{trust_domain}/ns/{namespace}/sa/istiod-service-account");
        Ok(Self { common_name, dns_names, uri })
    }
}

/// The Certificate that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstiodCertificate {
    /// `--istiod-cert-name`
    pub name: String,
    /// `--istiod-cert-namespace`
    pub namespace: String,
    /// Its names.
    pub names: IstiodNames,
    /// `--istiod-cert-duration`
    pub duration: Duration,
    /// `--istiod-cert-renew-before`
    pub renew_before: Duration,
    /// Its key.
    pub key: KeyAlgorithm,
    /// `--istiod-cert-additional-annotations`: set when it is created, not later.
    pub annotations: BTreeMap<String, String>,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq)]
enum Action {
    Nothing,
    Create(Box<DynamicObject>),
    Update(Box<DynamicObject>),
}

impl IstiodCertificate {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// It would be renewed before it begins.
    pub fn validated(self) -> Result<Self, IstiodError> {
        check_renewal(self.duration, self.renew_before)?;
        Ok(self)
    }

    fn spec(&self, issuer: &IssuerReference) -> CertificateSpec {
        let (algorithm, size) = match self.key {
            KeyAlgorithm::Rsa(size) => (Algorithm::Rsa, size),
            KeyAlgorithm::Ecdsa(size) => (Algorithm::Ecdsa, size),
        };
        CertificateSpec {
            common_name: Some(self.names.common_name.clone()),
            dns_names: self.names.dns_names.clone(),
            uris: vec![self.names.uri.clone()],
            secret_name: SECRET.to_owned(),
            duration: Some(self.duration.into()),
            renew_before: Some(self.renew_before.into()),
            private_key: Some(CertificatePrivateKey {
                rotation_policy: Some(RotationPolicy::Always),
                algorithm: Some(algorithm),
                size: i32::try_from(size).ok(),
                ..CertificatePrivateKey::default()
            }),
            revision_history_limit: Some(1),
            issuer_ref: issuer.clone(),
            ..CertificateSpec::default()
        }
    }

    /// The spec is ours, whole, so that fields in it which are unknown here go too; everything else is left as it is.
    fn decide(&self, observed: Option<DynamicObject>, issuer: &IssuerReference) -> Action {
        let spec = json!(self.spec(issuer));
        let Some(mut observed) = observed else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
                ..ObjectMeta::default()
            };
            let kind = ApiResource::erase::<Certificate>(&());
            let created = DynamicObject::new(&self.name, &kind).data(json!({ "spec": spec }));
            return Action::Create(Box::new(DynamicObject { metadata, ..created }));
        };
        match observed.data.as_object_mut() {
            Some(data) if data.get("spec") == Some(&spec) => return Action::Nothing,
            Some(data) => drop(data.insert("spec".to_owned(), spec)),
            None => observed.data = json!({ "spec": spec }),
        }
        Action::Update(Box::new(observed))
    }

    async fn reconcile(&self, api: &Api<DynamicObject>, issuer: &IssuerReference) -> Result<(), ApiError> {
        let observed = optional(api.get(&self.name)).await?;
        let what = match self.decide(observed, issuer) {
            Action::Nothing => return Ok(()),
            Action::Create(certificate) => {
                request(api.create(&PostParams::default(), &certificate)).await?;
                "created"
            }
            Action::Update(certificate) => {
                request(api.replace(&self.name, &PostParams::default(), &certificate)).await?;
                "brought up to date"
            }
        };
        tracing::info!(name = self.name, %issuer, what, "istiod's Certificate");
        Ok(())
    }
}

pub(super) fn check_renewal(duration: Duration, renew_before: Duration) -> Result<(), IstiodError> {
    if renew_before >= duration {
        return Err(IstiodError::RenewBefore { renew_before, duration });
    }
    Ok(())
}

/// Keeps the Certificate as it is wanted, signed by whichever issuer is active. It does not return; drop it to end it.
pub async fn run_istiod_certificate(client: Client, wanted: IstiodCertificate, mut issuer: IssuerWatch) {
    let api = untyped::<Certificate>(client, Some(&wanted.namespace));
    let config = watcher::Config::default().fields(&format!("metadata.name={}", wanted.name));
    let changed = Notify::new();
    let reconcile = async {
        let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(60));
        loop {
            let active = issuer.borrow_and_update().clone();
            let done = match &active {
                Some(active) => wanted.reconcile(&api, active).await,
                None => Ok(()),
            };
            match done {
                Ok(()) => pauses.reset(),
                Err(error) => {
                    tracing::warn!(name = wanted.name, %error, "istiod's Certificate could not be written");
                    sleep(pauses.pause()).await;
                    continue;
                }
            }
            // Whichever comes first: something changed, or it is time to look.
            let _ = timeout(RESYNC, async {
                tokio::select! {
                    () = changed.notified() => {}
                    Ok(()) = issuer.changed() => {}
                }
            })
            .await;
        }
    };
    tokio::join!(follow(api.clone(), config, "istiod's Certificate", |_| changed.notify_one()), reconcile);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("cluster.local").expect("a trust domain")
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn wanted() -> IstiodCertificate {
        let revisions = strings(&["default", "canary"]);
        IstiodCertificate {
            name: "istiod-dynamic".into(),
            namespace: "istio-system".into(),
            names: IstiodNames::new(&domain(), "istio-system", &revisions, &strings(&["istiod.example.com"]))
                .expect("names"),
            duration: Duration::from_secs(3600),
            renew_before: Duration::from_secs(1800),
            key: KeyAlgorithm::parse("rsa", 0).expect("a kind of key"),
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }
    }

    fn issuer(name: &str) -> IssuerReference {
        IssuerReference::new(name, "Issuer", "cert-manager.io")
    }

    #[test]
    fn each_revision_has_a_name_and_the_common_name_is_always_the_same() {
        let names = |revisions: &[&str], more: &[&str]| {
            IstiodNames::new(&domain(), "mesh", &strings(revisions), &strings(more))
        };
        assert_eq!(names(&[], &[]).expect("names").dns_names, ["istiod.mesh.svc"]);
        let canary = names(&["canary"], &["a.example.com", "a.example.com"]).expect("names");
        assert_eq!(canary.common_name, "istiod.mesh.svc");
        assert_eq!(canary.dns_names, ["istiod-canary.mesh.svc", "a.example.com"]);
        assert_eq!(canary.uri, "spiffe://cluster.local/ns/mesh/sa/istiod-service-account");
        assert_eq!(names(&["a", "a"], &[]), Err(IstiodError::DuplicateRevision("a".into())));
        assert_eq!(names(&[], &["UP"]), Err(IstiodError::NotDnsName("UP".into())));
    }

    #[test]
    fn keys_have_the_sizes_that_their_kind_has() {
        let key = KeyAlgorithm::parse;
        assert_eq!(key("RSA", 0), Ok(KeyAlgorithm::Rsa(2048)));
        assert_eq!(key("ecdsa", 0), Ok(KeyAlgorithm::Ecdsa(256)));
        assert_eq!(key("ECDSA", 384), Ok(KeyAlgorithm::Ecdsa(384)));
        for (algorithm, size) in [("RSA", 1024), ("RSA", 1), ("ECDSA", 521), ("Ed25519", 0), ("", 0)] {
            assert!(key(algorithm, size).is_err(), "{algorithm} {size}");
        }
        let long = IstiodCertificate { renew_before: Duration::from_secs(3600), ..wanted() };
        assert!(matches!(long.validated(), Err(IstiodError::RenewBefore { .. })));
        assert!(wanted().validated().is_ok());
    }

    #[test]
    fn a_missing_certificate_is_created_as_istio_wants_it() {
        let Action::Create(created) = wanted().decide(None, &issuer("istio-ca")) else {
            panic!("not created")
        };
        let expected = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": { "name": "istiod-dynamic", "annotations": { "a": "b" } },
            "spec": {
                "commonName": "istiod.istio-system.svc",
                "dnsNames": ["istiod.istio-system.svc", "istiod-canary.istio-system.svc", "istiod.example.com"],
                "uris": ["spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"],
                "secretName": "istiod-tls",
                "duration": "1h0m0s",
                "renewBefore": "30m0s",
                "privateKey": { "rotationPolicy": "Always", "algorithm": "RSA", "size": 2048 },
                "revisionHistoryLimit": 1,
                "issuerRef": { "name": "istio-ca", "kind": "Issuer", "group": "cert-manager.io" },
            },
        });
        assert_eq!(serde_json::to_value(created).expect("JSON"), expected);
    }

    #[test]
    fn the_spec_is_overwritten_whole_and_the_rest_is_kept() {
        let Action::Create(created) = wanted().decide(None, &issuer("istio-ca")) else {
            panic!("not created")
        };
        assert_eq!(wanted().decide(Some((*created).clone()), &issuer("istio-ca")), Action::Nothing);
        let mut foreign = (*created).clone();
        foreign.data["spec"]["isCA"] = true.into();
        foreign.data["spec"]["ofALaterVersion"] = true.into();
        foreign.data["status"] = json!({ "revision": 1 });
        foreign.metadata.annotations = None;
        foreign.metadata.labels = Some(BTreeMap::from([("kept".to_owned(), "yes".to_owned())]));
        let Action::Update(updated) = wanted().decide(Some(foreign.clone()), &issuer("istio-ca")) else {
            panic!("not updated")
        };
        assert_eq!(updated.data["spec"], created.data["spec"]);
        assert_eq!(updated.data["status"], foreign.data["status"]);
        assert_eq!(updated.metadata, foreign.metadata);
        let Action::Update(moved) = wanted().decide(Some(*created), &issuer("other")) else {
            panic!("not updated")
        };
        assert_eq!(moved.data["spec"]["issuerRef"]["name"], "other");
    }
}
