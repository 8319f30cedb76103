//! An authority that signs whatever a CSR asks for, at the time that a test has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, Curve, IssuanceRequest, Issuer, IssuerOptions, KeyPolicy,
    KeySpec, MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer,
    VerifiedCsr, create_csr, prepare, prepare_intermediate, prepare_root,
};
use jiff::Timestamp;

const LIMITS: MountLimits =
    MountLimits { default_ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(1000 * 3600) };

/// An authority made for a test.
#[derive(Debug)]
pub struct Ca {
    certificate: Certificate,
    key: Arc<dyn Signer>,
    issuer: Issuer,
    now: fn() -> Timestamp,
}

impl Ca {
    /// A root for 1000 hours; `now` is its clock.
    pub fn root(name: &str, now: fn() -> Timestamp) -> Self {
        let key = key();
        let request = CaRequest { ttl: Some(LIMITS.max_ttl), ..CaRequest::new(name, LIMITS) };
        let root = prepare_root(&request, &key, &AiaUrls::default(), serial(now()), now()).expect("a root");
        Self::of(root.sign().expect("signed").certificate().expect("a certificate"), key, now)
    }

    /// One below it, for half as long.
    pub fn intermediate(&self, name: &str) -> Self {
        let (key, now) = (key(), self.now);
        let names = RequestedNames { common_name: name.into(), ..RequestedNames::default() };
        let request =
            CsrRequest { names, add_basic_constraints: true, critical_names: true, ..CsrRequest::default() };
        let csr = create_csr(&request, &*key).expect("a CSR");
        let csr = VerifiedCsr::from_der(&csr.der, &KeyPolicy::any()).expect("a CSR");
        let request = CaRequest { ttl: Some(LIMITS.max_ttl / 2), ..CaRequest::new(name, LIMITS) };
        let made =
            prepare_intermediate(&request, &csr, &self.issuer, serial(now()), now()).expect("prepared");
        Self::of(made.sign().expect("signed").certificate().expect("a certificate"), key, now)
    }

    fn of(certificate: Certificate, key: Arc<dyn Signer>, now: fn() -> Timestamp) -> Self {
        let issuer = Issuer::new(certificate.clone(), Arc::clone(&key), IssuerOptions::default());
        Self { certificate, key, issuer: issuer.expect("an issuer"), now }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The same in PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem().to_owned()
    }

    /// Its key.
    pub fn key(&self) -> &Arc<dyn Signer> {
        &self.key
    }

    /// Signs what a CSR asks for. The certificate begins half a minute before it is signed.
    pub fn sign(&self, csr: &str, life: Duration) -> Certificate {
        let profile = Profile::new(ProfileConfig {
            allow_any_name: true,
            enforce_hostnames: false,
            allowed_uri_sans: vec!["*".into()],
            key_type: "any".into(),
            require_cn: false,
            use_csr_common_name: true,
            use_csr_sans: true,
            ..ProfileConfig::default()
        })
        .expect("a profile");
        let csr = VerifiedCsr::from_pem(csr, &KeyPolicy::any()).expect("a CSR");
        let names = RequestedNames::default();
        let mut request = IssuanceRequest::new(&names, Some(&csr), &profile, LIMITS).expect("a request");
        request.ttl = Some(life);
        let now = (self.now)();
        let prepared =
            prepare(&request, &csr.key(), &profile, &self.issuer, serial(now), now).expect("prepared");
        prepared.sign().expect("signed").certificate().expect("a certificate")
    }
}

fn key() -> Arc<dyn Signer> {
    Arc::new(PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key"))
}

fn serial(now: Timestamp) -> SerialNumber {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    SerialNumber::generate(now, [NEXT.fetch_add(1, Ordering::SeqCst); 14])
}
