//! A CA in a few lines, for tests.

#![allow(dead_code, unreachable_pub, reason = "each of those who include it uses a part")]
#![allow(clippy::expect_used, reason = "a helper of tests fails as tests do")]

use std::sync::Arc;
use std::time::Duration;

use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, IssuanceRequest, Issuer, IssuerOptions, KeyForm, KeyPolicy,
    KeySpec, MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer,
    VerifiedCsr, create_csr, prepare, prepare_root,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

/// A root that signs leaves itself.
pub struct Ca {
    issuer: Issuer,
}

const LIMITS: MountLimits =
    MountLimits { default_ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(10 * 365 * 86400) };

#[expect(clippy::disallowed_methods, reason = "tests of real time are an edge")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

fn serial() -> SerialNumber {
    let mut random = [0; 14];
    aws_lc_rs::rand::fill(&mut random).expect("there must be randomness");
    SerialNumber::generate(now(), random)
}

impl Ca {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let key = PrivateKey::generate(KeySpec::new("ec", 256).expect("a key")).expect("a key");
        let key: Arc<dyn Signer> = Arc::new(key);
        let request =
            CaRequest { ttl: Some(Duration::from_secs(365 * 86400)), ..CaRequest::new(name, LIMITS) };
        let prepared = prepare_root(&request, &key, &AiaUrls::default(), serial(), now()).expect("a root");
        let root = prepared.sign().expect("a root");
        let certificate = root.certificate().expect("a root");
        Self { issuer: Issuer::new(certificate, key, IssuerOptions::default()).expect("an issuer") }
    }

    /// The root in PEM.
    pub fn root_pem(&self) -> String {
        self.root().pem().to_owned()
    }

    /// The root.
    pub fn root(&self) -> &Certificate {
        self.issuer.certificate()
    }

    /// A leaf in PEM with the names of a CSR and a life of its own.
    pub fn sign(&self, csr: &str, life: Duration) -> String {
        let csr = VerifiedCsr::from_pem(csr, &KeyPolicy::any()).expect("a CSR");
        let profile = Profile::new(ProfileConfig {
            require_cn: false,
            basic_constraints_valid_for_non_ca: true,
            server_flag: true,
            client_flag: true,
            use_csr_values: false,
            ..ProfileConfig::verbatim()
        })
        .expect("a profile");
        let mut request = IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, LIMITS)
            .expect("a request");
        request.ttl = Some(life);
        let prepared =
            prepare(&request, &csr.key(), &profile, &self.issuer, serial(), now()).expect("a leaf");
        prepared.sign().expect("a leaf").pem
    }

    /// A leaf with an identity, and its key.
    pub fn leaf(&self, id: &str) -> (String, Zeroizing<String>) {
        self.named_leaf(RequestedNames { uri_sans: vec![id.to_owned()], ..RequestedNames::default() })
    }

    /// A leaf with a DNS name or an address, and its key.
    pub fn server_leaf(&self, name: &str) -> (String, Zeroizing<String>) {
        let mut names = RequestedNames::default();
        if name.parse::<std::net::IpAddr>().is_ok() {
            names.ip_sans = vec![name.to_owned()];
        } else {
            names.alt_names = vec![name.to_owned()];
        }
        self.named_leaf(names)
    }

    fn named_leaf(&self, names: RequestedNames) -> (String, Zeroizing<String>) {
        let key = PrivateKey::generate(KeySpec::new("ec", 256).expect("a key")).expect("a key");
        let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).expect("a CSR");
        (self.sign(&csr.pem, Duration::from_secs(3600)), key.to_pem(KeyForm::Traditional))
    }
}
