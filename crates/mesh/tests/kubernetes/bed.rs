//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::{Clock, SystemClock};
use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, Curve, IssuanceRequest, Issuer, IssuerOptions, KeyPolicy, KeySpec,
    MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer, VerifiedCsr,
    prepare, prepare_intermediate, prepare_root,
};
use chancery_mesh::ca::roots::Roots;
use chancery_mesh::kubernetes::{ClientOptions, IssuerReference, connect};
use chancery_testkit::kubernetes::ApiServer;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Longer than anything takes here, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) async fn client(url: &str) -> kube::Client {
    let options = ClientOptions { server: Some(url.to_owned()), ..ClientOptions::default() };
    connect(&options).await.expect("a client")
}

/// A double and a client of it.
pub(crate) async fn double() -> (ApiServer, kube::Client) {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    (server, client)
}

/// Runs something that does not end, until it is dropped.
pub(crate) fn background(task: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    tasks
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn issuer(name: &str) -> IssuerReference {
    IssuerReference::new(name, "Issuer", "cert-manager.io")
}

/// An authority made for a test.
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    key: Arc<dyn Signer>,
    issuer: Issuer,
}

fn limits() -> MountLimits {
    let [default_ttl, max_ttl] = [1, 1000].map(|hours| Duration::from_secs(hours * 3600));
    MountLimits { default_ttl, max_ttl }
}

fn serial() -> SerialNumber {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    SerialNumber::generate(now(), [NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst); 14])
}

fn key() -> Arc<dyn Signer> {
    Arc::new(PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key"))
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        let key = key();
        let request = CaRequest { ttl: Some(limits().max_ttl), ..CaRequest::new(name, limits()) };
        let root = prepare_root(&request, &key, &AiaUrls::default(), serial(), now()).expect("a root");
        Self::of(root.sign().expect("signed").certificate().expect("a certificate"), key)
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = key();
        let request = chancery_issuance::CsrRequest {
            names: RequestedNames { common_name: name.into(), ..RequestedNames::default() },
            subject: chancery_issuance::Subject::default(),
            add_basic_constraints: true,
            signature_bits: 0,
            use_pss: false,
            critical_names: true,
            ..chancery_issuance::CsrRequest::default()
        };
        let csr = chancery_issuance::create_csr(&request, &*key).expect("a CSR");
        let csr = VerifiedCsr::from_der(&csr.der, &KeyPolicy::any()).expect("a CSR");
        let request = CaRequest { ttl: Some(limits().max_ttl / 2), ..CaRequest::new(name, limits()) };
        let made = prepare_intermediate(&request, &csr, &self.issuer, serial(), now()).expect("prepared");
        Self::of(made.sign().expect("signed").certificate().expect("a certificate"), key)
    }

    fn of(certificate: Certificate, key: Arc<dyn Signer>) -> Self {
        let issuer = Issuer::new(certificate.clone(), Arc::clone(&key), IssuerOptions::default());
        Self { certificate, key, issuer: issuer.expect("an issuer") }
    }

    pub(crate) fn key(&self) -> &Arc<dyn Signer> {
        &self.key
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem().to_owned()
    }

    /// Signs what a CSR asks for.
    pub(crate) fn sign(&self, csr: &str, life: Duration) -> Certificate {
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
        let mut request = IssuanceRequest::new(&names, Some(&csr), &profile, limits()).expect("a request");
        request.ttl = Some(life);
        let prepared =
            prepare(&request, &csr.key(), &profile, &self.issuer, serial(), now()).expect("prepared");
        prepared.sign().expect("signed").certificate().expect("a certificate")
    }
}

pub(crate) fn roots(authorities: &[&Ca]) -> Arc<Roots> {
    Arc::new(Roots {
        certificates: authorities.iter().map(|ca| ca.certificate.clone()).collect(),
        pem: authorities.iter().map(|ca| ca.pem()).collect(),
    })
}
