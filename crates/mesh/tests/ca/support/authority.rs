//! An authority that signs at once, with a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chancery_api::{Clock, SystemClock};
use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, Curve, IssuanceRequest, Issuer, IssuerOptions, KeyPolicy,
    KeySpec, MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer as Key,
    VerifiedCsr, create_csr, prepare, prepare_intermediate, prepare_root,
};
use chancery_mesh::ca::signer::{SignedChain, Signer, SigningError, SigningRequest};
use jiff::Timestamp;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const LIMITS: MountLimits = MountLimits { default_ttl: YEAR, max_ttl: YEAR };

pub(crate) struct Authority {
    issuer: Issuer,
    /// In PEM.
    pub(crate) root: String,
    /// What its answers carry beside the leaf.
    sent_along: Vec<String>,
    /// How long its certificates live; 0 is as asked.
    pub(crate) lifetime: AtomicU64,
    pub(crate) broken: AtomicBool,
    pub(crate) signed: AtomicU64,
}

fn serial(now: Timestamp) -> SerialNumber {
    let mut random = [0; 14];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    SerialNumber::generate(now, random)
}

fn key() -> Arc<dyn Key> {
    Arc::new(PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap())
}

/// A key and a CSR for these names; those with `://` are URIs.
pub(crate) fn csr(names: &[&str]) -> (PrivateKey, String) {
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let (uris, dns) = names.iter().map(|&name| name.to_owned()).partition(|name| name.contains("://"));
    let names = RequestedNames { alt_names: dns, uri_sans: uris, ..RequestedNames::default() };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap();
    (key, csr.pem)
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::beginning(name, SystemClock.now())
    }

    /// Whose year began then.
    pub(crate) fn beginning(name: &str, now: Timestamp) -> Self {
        let key = key();
        let request = CaRequest::new(name, LIMITS);
        let root =
            prepare_root(&request, &key, &AiaUrls::default(), serial(now), now).unwrap().sign().unwrap();
        let issuer = Issuer::new(root.certificate().unwrap(), key, IssuerOptions::default()).unwrap();
        Self::from(issuer, root.pem.clone(), vec![root.pem])
    }

    fn from(issuer: Issuer, root: String, sent_along: Vec<String>) -> Self {
        let (lifetime, broken, signed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
        Self { issuer, root, sent_along, lifetime, broken, signed }
    }

    /// One below it that sends itself along, and the root too if told so.
    pub(crate) fn intermediate(&self, name: &str, with_root: bool) -> Self {
        let (key, now) = (key(), SystemClock.now());
        let csr = create_csr(&CsrRequest::default(), key.as_ref()).unwrap();
        let csr = VerifiedCsr::from_pem(&csr.pem, &KeyPolicy::any()).unwrap();
        let request = CaRequest::new(name, LIMITS);
        let made =
            prepare_intermediate(&request, &csr, &self.issuer, serial(now), now).unwrap().sign().unwrap();
        let issuer = Issuer::new(made.certificate().unwrap(), key, IssuerOptions::default()).unwrap();
        let mut sent_along = vec![made.pem];
        if with_root {
            sent_along.insert(0, self.root.clone());
        }
        Self::from(issuer, self.root.clone(), sent_along)
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        self.issuer.certificate()
    }

    /// A leaf in PEM.
    pub(crate) fn sign(&self, csr: &str, duration: Duration) -> String {
        let now = SystemClock.now();
        let csr = VerifiedCsr::from_pem(csr, &KeyPolicy::any()).unwrap();
        let profile = Profile::new(ProfileConfig {
            allow_any_name: true,
            allowed_uri_sans: vec!["*".to_owned()],
            key_type: "any".to_owned(),
            require_cn: false,
            not_before_duration: Duration::ZERO,
            ..ProfileConfig::default()
        });
        let profile = profile.unwrap();
        let names = RequestedNames::default();
        let mut request = IssuanceRequest::new(&names, Some(&csr), &profile, LIMITS).unwrap();
        request.ttl = Some(duration);
        let leaf = prepare(&request, &csr.key(), &profile, &self.issuer, serial(now), now).unwrap();
        leaf.sign().unwrap().pem
    }
}

#[async_trait]
impl Signer for Authority {
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(SigningError::Unavailable("out for lunch".to_owned()));
        }
        let lifetime = match self.lifetime.load(Ordering::SeqCst) {
            0 => request.duration,
            seconds => Duration::from_secs(seconds),
        };
        let mut chain = Self::sign(self, &request.csr, lifetime);
        chain.extend(self.sent_along.iter().map(String::as_str));
        let is_root = |pem: &&String| Certificate::from_pem(pem).unwrap().is_self_signed();
        let root = self.sent_along.iter().find(is_root).cloned();
        self.signed.fetch_add(1, Ordering::SeqCst);
        Ok(SignedChain { chain, root })
    }
}
