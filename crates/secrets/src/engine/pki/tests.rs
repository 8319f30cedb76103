//! The engine through its own routes, over memory storage.

mod authorities;
mod crl;
mod lint;
mod mldsa;
mod ocsp;
mod resign;
mod revocation;
mod roles;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::Ttl;
use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, KeyForm, KeySpec, MountLimits, PrivateKey, RequestedNames,
    Signer, Subject, create_csr, prepare_root,
};
use chancery_storage::memory::Fault;
use chancery_storage::{Barrier, Memory, Name, Position, ShareScheme, View, Writes};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Pki;
use super::leaf::fresh_serial;
use super::records::{
    IssuerId, IssuerRecord, IssuerUsage, IssuersConfig, KeyId, KeyRecord, LeafNotAfterBehavior,
};
use super::store::collection;
use crate::engine::{Call, Class, Engine, Mount, SystemLimits, Tuning};
use crate::error::{Error, Kind};
use crate::request::{Connection, Operation};
use crate::response::Response;

pub(super) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 123_456_789);

pub(super) struct Bed {
    memory: Memory,
    share: Vec<u8>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    pub(super) engine: Arc<Pki>,
    now: Mutex<Timestamp>,
}

impl Bed {
    /// A mount without issuers.
    pub(super) async fn empty() -> Self {
        let memory = Memory::new();
        let barrier = Barrier::new(Arc::new(memory.clone()), None);
        let scheme = ShareScheme::new(1, 1).unwrap();
        let founding = barrier.found(scheme, std::time::SystemTime::UNIX_EPOCH).await.unwrap();
        let (_, shares) = founding.commit(Writes::new()).await.unwrap();
        Self::over(memory, shares[0].to_vec()).await
    }

    async fn over(memory: Memory, share: Vec<u8>) -> Self {
        let faults = Arc::new(Mutex::new(VecDeque::new()));
        let asked = Arc::clone(&faults);
        let faulty = memory.with_faults(move |_| asked.lock().unwrap().pop_front().unwrap_or(Fault::None));
        let barrier = Barrier::new(Arc::new(faulty), None);
        assert!(barrier.provide_share(&share).await.unwrap());
        let view = barrier.unsealed().unwrap().view("mount").unwrap();
        Self { memory, share, faults, engine: engine(view).await, now: Mutex::new(NOW) }
    }

    /// A mount with a root of ten years as the default issuer.
    pub(super) async fn new() -> Self {
        let bed = Self::empty().await;
        bed.add_root("root", KeySpec::new("ec", 256).unwrap()).await;
        bed
    }

    /// The same store after a restart.
    pub(super) async fn restarted(&self) -> Self {
        let bed = Self::over(self.memory.reopened(), self.share.clone()).await;
        *bed.now.lock().unwrap() = self.now();
        bed
    }

    /// Adds a self-signed issuer and makes it the default.
    pub(super) async fn add_root(&self, name: &str, spec: KeySpec) -> IssuerId {
        let key = Arc::new(PrivateKey::generate(spec).unwrap());
        let signer: Arc<dyn Signer> = key.clone();
        let mut request = CaRequest::new(name, self.engine.limits());
        request.ttl = Some(Duration::from_secs(87_600 * 3600));
        let serial = fresh_serial(NOW).unwrap();
        let root = prepare_root(&request, &signer, &AiaUrls::default(), serial, NOW).unwrap().sign().unwrap();
        let (id, key_id) = (IssuerId::fresh(), KeyId::fresh());
        let mut change = self.engine.store.change().await.unwrap();
        let config = IssuersConfig { default: Some(id), ..IssuersConfig::default() };
        change.put_issuers_config(&config).unwrap();
        let record = KeyRecord {
            id: key_id,
            name: String::new(),
            key_type: key.spec().key_type().name().to_owned(),
            private_key: key.to_pem(KeyForm::Pkcs8),
        };
        change.put_key(&record).unwrap();
        let record = IssuerRecord {
            id,
            name: name.to_owned(),
            key: Some(key_id),
            certificate: root.pem,
            chain: vec![id],
            manual_chain: Vec::new(),
            leaf_not_after_behavior: LeafNotAfterBehavior::Err,
            usage: IssuerUsage::default(),
            revocation_signature_algorithm: String::new(),
            urls: None,
            revoked: None,
            last_modified: NOW,
        };
        change.put_issuer(&record).unwrap();
        change.commit().await.unwrap();
        id
    }

    fn next_commit(&self, fault: Fault) {
        self.next_commits([fault]);
    }

    /// As [`next_commit`](Self::next_commit), once so many others are through.
    fn commit_after(&self, others: usize, fault: Fault) {
        self.next_commits(std::iter::repeat_n(Fault::None, others).chain([fault]));
    }

    /// What becomes of the commits to come, one after the other.
    pub(super) fn next_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.faults.lock().unwrap() = faults.into_iter().collect();
    }

    pub(super) async fn ask(&self, operation: Operation, path: &str, body: Value) -> Result<Response, Error> {
        self.ask_at(self.now(), operation, path, body).await
    }

    pub(super) async fn ask_at(
        &self,
        now: Timestamp,
        operation: Operation,
        path: &str,
        body: Value,
    ) -> Result<Response, Error> {
        let routes = Pki::routes();
        let matched = routes.matching(path).ok_or_else(Error::unsupported_path)?;
        let call = Call {
            request_id: "request".into(),
            operation,
            path: path.into(),
            captures: matched.captures.clone(),
            body: Bytes::from(body.to_string()),
            query: Vec::new(),
            connection: Connection::default(),
            mount_path: "pki/".into(),
            authorized: None,
            presented: None,
            now,
        };
        routes.dispatch(Arc::clone(&self.engine), &matched, call).await
    }

    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    /// So many seconds pass.
    fn later(&self, seconds: i64) {
        let mut now = self.now.lock().unwrap();
        *now = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
    }

    pub(super) async fn write(&self, path: &str, body: Value) -> Result<Response, Error> {
        self.ask(Operation::Update, path, body).await
    }

    pub(super) async fn read(&self, path: &str) -> Result<Value, Error> {
        self.ask(Operation::Read, path, json!({})).await.map(|response| data(&response))
    }

    pub(super) async fn keys(&self, path: &str, body: Value) -> Vec<String> {
        match self.ask(Operation::List, path, body).await {
            Ok(response) => serde_json::from_value(data(&response)["keys"].clone()).unwrap(),
            Err(error) => {
                assert_eq!(error.kind, Kind::NotFound, "{error:?}");
                Vec::new()
            }
        }
    }

    pub(super) async fn role(&self, name: &str, body: Value) {
        self.write(&format!("roles/{name}"), body).await.unwrap();
    }
}

/// The engine on a mount with this storage.
async fn engine(view: View) -> Arc<Pki> {
    let tuning = Tuning { max_lease_ttl: Ttl::hours(87_600), ..Tuning::default() };
    let mount =
        Mount::new("mount".into(), "pki_1".into(), Class::Secret, view, SystemLimits::default(), tuning);
    Pki::open(Arc::new(mount)).await.unwrap()
}

fn data(response: &Response) -> Value {
    serde_json::from_str(response.data.as_ref().unwrap().get()).unwrap()
}

fn text<'a>(data: &'a Value, name: &str) -> &'a str {
    data[name].as_str().unwrap()
}

/// A CSR with this common name and these DNS names.
fn csr(common_name: &str, alt_names: &[&str]) -> String {
    csr_with(KeySpec::new("ec", 256).unwrap(), common_name, alt_names)
}

fn csr_with(spec: KeySpec, common_name: &str, alt_names: &[&str]) -> String {
    let names = RequestedNames {
        common_name: common_name.to_owned(),
        alt_names: alt_names.iter().map(|name| (*name).to_owned()).collect(),
        ..RequestedNames::default()
    };
    let request = CsrRequest { names, subject: Subject::default(), ..CsrRequest::default() };
    create_csr(&request, &PrivateKey::generate(spec).unwrap()).unwrap().pem
}

#[tokio::test]
async fn a_signed_csr_comes_back_with_its_chain_and_is_stored() {
    let bed = Bed::new().await;
    bed.role(
        "web",
        json!({"key_type": "ec", "allowed_domains": "example.com", "allow_subdomains": true, "ttl": "1h"}),
    )
    .await;
    let response =
        bed.write("sign/web", json!({"csr": csr("a.example.com", &["b.example.com"])})).await.unwrap();
    assert!(response.warnings.is_empty(), "{:?}", response.warnings);
    assert!(response.lease.is_none());
    let answer = data(&response);

    let leaf = Certificate::from_pem(text(&answer, "certificate")).unwrap();
    let root = Certificate::from_pem(text(&answer, "issuing_ca")).unwrap();
    assert!(leaf.is_signed_by(&root));
    assert_eq!(leaf.common_name(), Some("a.example.com"));
    assert_eq!(answer["ca_chain"], json!([answer["issuing_ca"]]));
    assert_eq!(text(&answer, "serial_number"), leaf.serial_number().to_string());
    assert_eq!(answer["expiration"], json!(NOW.as_second() + 3600));
    assert_eq!(answer["not_before"], json!(NOW.as_second() - 30));
    for absent in ["private_key", "private_key_type"] {
        assert!(answer.get(absent).is_none());
    }
    for pem in ["certificate", "issuing_ca"] {
        assert!(text(&answer, pem).ends_with("-----END CERTIFICATE-----"));
    }

    let serial = text(&answer, "serial_number");
    for spelled in [serial.to_owned(), serial.replace(':', "-"), serial.to_uppercase()] {
        let read = bed.read(&format!("cert/{spelled}")).await.unwrap();
        assert_eq!(
            read,
            json!({"certificate": answer["certificate"], "revocation_time": 0, "revocation_time_rfc3339": ""})
        );
    }
    let raw = bed.ask(Operation::Read, &format!("cert/{serial}/raw"), json!({})).await.unwrap().raw.unwrap();
    assert_eq!((&*raw.content_type, &*raw.body), ("application/pkix-cert", leaf.der()));
    let raw =
        bed.ask(Operation::Read, &format!("cert/{serial}/raw/pem"), json!({})).await.unwrap().raw.unwrap();
    assert_eq!(raw.content_type, "application/pem-certificate-chain");
    assert_eq!(&*raw.body, text(&answer, "certificate").as_bytes());

    let again = bed.restarted().await;
    assert_eq!(again.keys("certs", json!({})).await, [serial]);
}

#[tokio::test]
async fn what_is_not_there_is_said_as_the_peer_says_it() {
    let bed = Bed::new().await;
    assert_eq!(bed.read("cert/12:34").await.unwrap_err().kind, Kind::NotFound);
    assert!(bed.read("cert/12:34").await.unwrap_err().messages.is_empty());
    assert!(bed.read("cert/zz").await.unwrap_err().message().contains("unsupported path"));
    let raw = bed.ask(Operation::Read, "cert/12-34/raw", json!({})).await.unwrap();
    assert_eq!(raw.status, Some(204));
    assert!(bed.keys("certs", json!({})).await.is_empty());

    bed.role("web", json!({"allow_any_name": true, "key_type": "ec", "issuer_ref": "gone"})).await;
    let error = bed.write("issue/web", json!({"common_name": "x"})).await.unwrap_err();
    assert_eq!(error.kind, Kind::Internal);
    assert_eq!(
        error.message(),
        "1 error occurred:\n\t* could not fetch the CA certificate (was one set?): unable to find PKI issuer for reference: gone\n\n"
    );
    // The path's issuer counts, whatever the role says.
    bed.write("issuer/root/issue/web", json!({"common_name": "x.com"})).await.unwrap();
    bed.write("issuer/default/issue/web", json!({"common_name": "x.com"})).await.unwrap();

    let empty = Bed::empty().await;
    let error = empty.write("sign-verbatim", json!({"csr": csr("x", &[])})).await.unwrap_err();
    assert!(error.message().contains("no default issuer currently configured"));
}

#[tokio::test]
async fn bad_requests_for_leaves_are_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    bed.role("any", json!({"allow_any_name": true, "key_type": "any"})).await;
    let rsa = csr_with(KeySpec::Rsa(2048), "a.com", &[]);
    for (path, body, sentence) in [
        ("sign/web", json!({}), "\"csr\" is empty"),
        ("sign/web", json!({"csr": "zz"}), "csr contains no data"),
        ("sign/web", json!({"csr": rsa}), "role requires keys of type ec"),
        ("sign/gone", json!({}), "unknown role: gone"),
        ("sign-verbatim/gone", json!({}), "unknown role: gone"),
        (
            "sign/web",
            json!({"format": "PEM"}),
            "the \"format\" path parameter must be \"pem\", \"der\", or \"pem_bundle\"",
        ),
        (
            "sign/web",
            json!({"csr": csr("a.com", &[]), "ttl": "1h", "not_after": "2030-01-01T00:00:00Z"}),
            "Either ttl or not_after should be provided. Both should not be provided in the same request.",
        ),
        (
            "issue/web",
            json!({}),
            "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false",
        ),
        (
            "issue/any",
            json!({"common_name": "x"}),
            "role key type \"any\" not allowed for issuing certificates without providing key_type and/or key_bits request parameters",
        ),
        ("issue/any", json!({"common_name": "x", "key_type": "any"}), "unknown key type: any"),
        (
            "issue/any",
            json!({"common_name": "x", "key_type": "ec", "key_bits": 1}),
            "1 error occurred:\n\t* failed to validate role: unsupported bit length for EC key: 1\n\n",
        ),
    ] {
        let error = bed.write(path, body.clone()).await.unwrap_err();
        assert_eq!(error.message(), sentence, "{path} {body}");
    }
    assert!(bed.keys("certs", json!({})).await.is_empty());
}

#[tokio::test]
async fn a_certificate_that_could_not_be_stored_is_not_handed_out() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    for (path, body) in [
        ("sign/web", json!({"csr": csr("a.com", &[])})),
        ("issue/web", json!({"common_name": "a.com"})),
        ("sign-verbatim", json!({"csr": csr("a.com", &[])})),
    ] {
        bed.next_commit(Fault::Fails);
        let error = bed.write(path, body).await.unwrap_err();
        assert_eq!(error.kind, Kind::Internal);
        assert!(error.message().contains("could not be stored and is not handed out"), "{}", error.message());
        assert!(bed.restarted().await.keys("certs", json!({})).await.is_empty());
    }
}

#[tokio::test]
async fn an_unknown_outcome_of_storing_is_said_and_the_certificate_is_not_handed_out() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    bed.next_commit(Fault::FailsAfterPersisting);
    let error = bed.write("sign/web", json!({"csr": csr("a.com", &[])})).await.unwrap_err();
    assert_eq!(error.kind, Kind::Internal);
    assert!(!error.message().contains("BEGIN CERTIFICATE"));
    // The sentence names the certificate, so that an operator can find out what became of it.
    let stored = bed.restarted().await.keys("certs", json!({})).await;
    assert_eq!(stored.len(), 1);
    assert!(error.message().contains(&stored[0]), "{}", error.message());
    assert!(error.message().contains("unknown whether"));
}

#[tokio::test]
async fn a_role_whose_write_had_an_unknown_outcome_is_read_from_storage() {
    let bed = Bed::new().await;
    bed.role("web", json!({"ou": "old"})).await;
    assert_eq!(bed.read("roles/web").await.unwrap()["ou"], json!(["old"]));
    bed.next_commit(Fault::Fails);
    assert!(bed.write("roles/web", json!({"ou": "new"})).await.is_err());
    assert_eq!(bed.read("roles/web").await.unwrap()["ou"], json!(["old"]));
    bed.next_commit(Fault::FailsAfterPersisting);
    assert!(bed.write("roles/web", json!({"ou": "new"})).await.is_err());
    assert_eq!(bed.read("roles/web").await.unwrap()["ou"], json!(["new"]));
}

#[tokio::test]
async fn authorities_in_memory_are_those_at_rest_whatever_became_of_a_change() {
    for (fault, kept) in [(Fault::Fails, false), (Fault::FailsAfterPersisting, true)] {
        let bed = Bed::new().await;
        let id = bed.engine.store.authorities().await.unwrap().default_issuer().unwrap().record.id;
        let mut change = bed.engine.store.change().await.unwrap();
        change.delete_issuer(&id).unwrap();
        bed.next_commit(fault);
        assert!(change.commit().await.is_err());
        assert_eq!(bed.engine.store.authorities().await.unwrap().issuer(&id).is_none(), kept, "{fault:?}");
        assert_eq!(
            bed.restarted().await.engine.store.authorities().await.unwrap().issuer(&id).is_none(),
            kept,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn authorities_that_could_not_be_read_back_after_a_change_are_not_used_any_more() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    let store = &bed.engine.store;
    let mut change = store.change().await.unwrap();
    let id = change.before.default_issuer().unwrap().record.id;
    change.delete_issuer(&id).unwrap();
    // One record that does not decode makes every reading fail.
    let broken = Name::new("broken");
    store.view().put(collection::ISSUERS, &broken, b"nonsense").await.unwrap();
    assert!(change.commit().await.is_err());
    for _ in 0..2 {
        let error = bed.write("issue/web", json!({"common_name": "a.com"})).await.unwrap_err();
        assert_eq!((error.kind, error.message().as_str()), (Kind::Internal, "internal error"));
        assert!(store.change().await.is_err(), "a change builds on what is at rest");
    }
    // As soon as they can be read, they are those after the change.
    store.view().delete(collection::ISSUERS, &broken).await.unwrap();
    assert!(store.authorities().await.unwrap().issuer(&id).is_none());
    let error = bed.write("issue/web", json!({"common_name": "a.com"})).await.unwrap_err();
    assert!(error.message().contains("no default issuer"), "{}", error.message());
}

#[tokio::test]
async fn names_and_lifetimes_are_judged_before_a_slow_key_is_made() {
    let bed = Bed::new().await;
    bed.role("slow", json!({"allowed_domains": "a.com", "allow_bare_domains": true, "key_bits": 2048})).await;
    bed.read("roles/slow").await.unwrap();
    // The first poll makes no key: that is another thread's work, and has to be waited for.
    let at_once = |body| tokio::time::timeout(Duration::ZERO, bed.write("issue/slow", body));
    for body in [
        json!({"common_name": "b.com"}),
        json!({"common_name": "a.com", "ip_sans": "nonsense"}),
        json!({"common_name": "a.com", "not_after": "nonsense"}),
        json!({"common_name": "a.com", "not_after": "2020-01-01T00:00:00Z"}),
    ] {
        let refused = at_once(body.clone()).await.expect("no key is made").unwrap_err();
        assert_eq!(refused.kind, Kind::InvalidRequest, "{body}");
    }
    assert!(at_once(json!({"common_name": "a.com"})).await.is_err(), "a key is made");
    bed.write("issue/slow", json!({"common_name": "a.com"})).await.unwrap();
}

#[tokio::test]
async fn no_store_leaves_no_trace_and_generate_lease_asks_for_a_lease_of_the_certificates_life() {
    let bed = Bed::new().await;
    bed.role("gone", json!({"allow_any_name": true, "key_type": "ec", "no_store": true})).await;
    bed.write("issue/gone", json!({"common_name": "a.com"})).await.unwrap();
    assert!(bed.keys("certs", json!({})).await.is_empty());

    bed.role("leased", json!({"allow_any_name": true, "key_type": "ec", "generate_lease": true})).await;
    let response = bed.write("issue/leased", json!({"common_name": "a.com", "ttl": "2h"})).await.unwrap();
    let lease = response.lease.as_ref().unwrap();
    assert_eq!((lease.ttl, lease.renewable), (Ttl::hours(2), false));
    assert_eq!(lease.internal["serial_number"], text(&data(&response), "serial_number"));
}

#[tokio::test]
async fn issued_keys_come_in_the_form_asked_for() {
    let bed = Bed::new().await;
    bed.role("any", json!({"allow_any_name": true, "key_type": "any"})).await;
    for (key_type, form, label) in [
        ("ec", "der", "EC PRIVATE KEY"),
        ("ec", "pem", "EC PRIVATE KEY"),
        ("ec", "pkcs8", "PRIVATE KEY"),
        ("ed25519", "der", "PRIVATE KEY"),
        ("rsa", "der", "RSA PRIVATE KEY"),
        ("rsa", "pkcs8", "PRIVATE KEY"),
    ] {
        let body = json!({"common_name": "a.com", "key_type": key_type, "private_key_format": form});
        let answer = data(&bed.write("issue/any", body).await.unwrap());
        assert_eq!(text(&answer, "private_key_type"), key_type);
        let pem = text(&answer, "private_key");
        assert!(pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{key_type} {form}");
        let key = PrivateKey::from_pem(pem).unwrap();
        let leaf = Certificate::from_pem(text(&answer, "certificate")).unwrap();
        assert_eq!(leaf.public_key(), Some(key.public_key()));
    }
}

#[tokio::test]
async fn formats_differ_in_wrapping_only() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    let bundle =
        data(&bed.write("issue/web", json!({"common_name": "a.com", "format": "pem_bundle"})).await.unwrap());
    let all = text(&bundle, "certificate");
    assert!(all.starts_with(text(&bundle, "private_key")));
    let certificates = Certificate::all_from_pem(all).unwrap();
    assert_eq!(certificates.len(), 2, "the leaf and the root");
    assert!(certificates[0].is_signed_by(&certificates[1]));

    let der = data(&bed.write("issue/web", json!({"common_name": "a.com", "format": "der"})).await.unwrap());
    let bytes = |value: &str| data_encoding::BASE64.decode(value.as_bytes()).unwrap();
    let leaf = Certificate::from_der(&bytes(text(&der, "certificate"))).unwrap();
    let root = Certificate::from_der(&bytes(text(&der, "issuing_ca"))).unwrap();
    assert!(leaf.is_signed_by(&root));
    assert_eq!(der["ca_chain"], json!([der["issuing_ca"]]));
    assert!(PrivateKey::from_der(&bytes(text(&der, "private_key"))).is_ok());

    let body = json!({"common_name": "a.com", "remove_roots_from_chain": true});
    let bare = data(&bed.write("issue/web", body).await.unwrap());
    assert!(bare.get("ca_chain").is_none(), "the chain held nothing but the root");
}

#[tokio::test]
async fn sign_verbatim_keeps_the_csrs_names_and_takes_lifetimes_from_a_role() {
    let bed = Bed::new().await;
    bed.role("short", json!({"ttl": "1h", "max_ttl": "2h", "allowed_domains": "nothing.here"})).await;
    let csr = csr("anything goes", &["x.example.com"]);
    let answer = data(&bed.write("sign-verbatim", json!({"csr": csr})).await.unwrap());
    assert_eq!(answer["expiration"], json!(NOW.as_second() + 768 * 3600));
    let leaf = Certificate::from_pem(text(&answer, "certificate")).unwrap();
    assert_eq!(leaf.common_name(), Some("anything goes"));

    for path in ["sign-verbatim/short", "issuer/root/sign-verbatim/short"] {
        let answer = data(&bed.write(path, json!({"csr": csr})).await.unwrap());
        assert_eq!(answer["expiration"], json!(NOW.as_second() + 3600), "{path}");
    }
    let response = bed.write("sign-verbatim/short", json!({"csr": csr, "ttl": "3h"})).await.unwrap();
    assert_eq!(
        response.warnings,
        ["TTL \"3h0m0s\" is longer than permitted maxTTL \"2h0m0s\", so maxTTL is being used"]
    );
}

#[tokio::test]
async fn certificates_are_listed_in_order_of_birth_page_by_page() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    for _ in 0..5 {
        bed.write("issue/web", json!({"common_name": "a.com"})).await.unwrap();
    }
    let all = bed.keys("certs", json!({})).await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted());
    assert_eq!(bed.keys("certs", json!({"limit": 2})).await, all[..2]);
    assert_eq!(bed.keys("certs", json!({"limit": 2, "after": all[1]})).await, all[2..4]);
    assert_eq!(bed.keys("certs", json!({"limit": -1, "after": all[3].replace(':', "-")})).await, all[4..]);
    assert_eq!(bed.keys("certs", json!({"after": &all[0][..2]})).await.len(), 5);
    assert!(bed.keys("certs", json!({"after": "zz"})).await.is_empty());
}

#[tokio::test]
async fn the_detailed_list_says_what_each_certificate_says() {
    let bed = Bed::new().await;
    bed.role("any", json!({"allow_any_name": true, "key_type": "any", "require_cn": false, "ttl": "1h"}))
        .await;
    for body in [
        json!({"common_name": "a.com", "alt_names": "b.com", "key_type": "ec"}),
        json!({"key_type": "ed25519"}),
    ] {
        let made = data(&bed.write("issue/any", body).await.unwrap());
        let serial = text(&made, "serial_number");
        let response = bed.ask(Operation::List, "certs/detailed", json!({})).await.unwrap();
        let listed = &data(&response)["key_info"][serial];
        let ec = listed["key_type"] == "ec";
        assert_eq!(
            *listed,
            json!({
                "common_name": if ec { "a.com" } else { "" },
                "dns_names": ec.then_some(["a.com", "b.com"]),
                "issuer": "CN=root",
                "key_bits": 256,
                "key_type": if ec { "ec" } else { "ed25519" },
                "not_after": "2027-01-15T09:00:00Z",
                "not_before": "2027-01-15T07:59:30Z",
            })
        );
    }
}

#[tokio::test]
async fn an_rsa_issuer_with_a_large_key_signs_too() {
    let bed = Bed::empty().await;
    bed.add_root("rsa", KeySpec::Rsa(3072)).await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    let answer = data(&bed.write("sign/web", json!({"csr": csr("a.com", &[])})).await.unwrap());
    let leaf = Certificate::from_pem(text(&answer, "certificate")).unwrap();
    assert!(leaf.is_signed_by(&Certificate::from_pem(text(&answer, "issuing_ca")).unwrap()));
}

#[tokio::test]
async fn an_issuer_without_the_usage_does_not_sign() {
    let bed = Bed::new().await;
    bed.role("web", json!({"allow_any_name": true, "key_type": "ec"})).await;
    let authorities = bed.engine.store.authorities().await.unwrap();
    let record = &authorities.default_issuer().unwrap().record;
    let usage = IssuerUsage { issuing_certificates: false, crl_signing: false, ocsp_signing: false };
    let mut change = bed.engine.store.change().await.unwrap();
    change.put_issuer(&IssuerRecord { usage, ..record.clone() }).unwrap();
    change.commit().await.unwrap();
    let error = bed.write("issue/web", json!({"common_name": "x.com"})).await.unwrap_err();
    let id = record.id;
    assert_eq!(
        error.message(),
        format!(
            "1 error occurred:\n\t* error fetching CA certificate: error while attempting to use issuer {id}: requested usage issuing-certificates for issuer [id:{id} / name:root] but only had usage read-only\n\n"
        )
    );
}
