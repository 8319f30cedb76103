//! The engine through its own routes, over memory storage.

mod authorities;
mod crl;
mod lint;
mod mldsa;
mod ocsp;
mod revocation;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::Ttl;
use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, KeyForm, KeySpec, MountLimits, PrivateKey, RequestedNames,
    Signer, Subject, create_csr, prepare_root,
};
use chancery_storage::memory::Fault;
use chancery_storage::{Barrier, Memory, Name, Position, ShareScheme, Writes};
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

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 123_456_789);

struct Bed {
    memory: Memory,
    share: Vec<u8>,
    /// What becomes of a commit, once so many others are through.
    fault: Arc<Mutex<(u32, Fault)>>,
    engine: Arc<Pki>,
    now: Mutex<Timestamp>,
}

impl Bed {
    /// A mount without issuers.
    async fn empty() -> Self {
        let memory = Memory::new();
        let barrier = Barrier::new(Arc::new(memory.clone()), None);
        let scheme = ShareScheme::new(1, 1).unwrap();
        let founding = barrier.found(scheme, std::time::SystemTime::UNIX_EPOCH).await.unwrap();
        let (_, shares) = founding.commit(Writes::new()).await.unwrap();
        Self::over(memory, shares[0].to_vec()).await
    }

    async fn over(memory: Memory, share: Vec<u8>) -> Self {
        let fault = Arc::new(Mutex::new((0_u32, Fault::None)));
        let asked = Arc::clone(&fault);
        let faulty = memory.with_faults(move |_| {
            let (before, fault) = &mut *asked.lock().unwrap();
            match before.checked_sub(1) {
                Some(left) => {
                    *before = left;
                    Fault::None
                }
                None => std::mem::replace(fault, Fault::None),
            }
        });
        let barrier = Barrier::new(Arc::new(faulty), None);
        assert!(barrier.provide_share(&share).await.unwrap());
        let view = barrier.unsealed().unwrap().view("mount").unwrap();
        let tuning = Tuning { max_lease_ttl: Ttl::hours(87_600), ..Tuning::default() };
        let mount =
            Mount::new("mount".into(), "pki_1".into(), Class::Secret, view, SystemLimits::default(), tuning);
        Self { memory, share, fault, engine: Pki::open(Arc::new(mount)).await.unwrap(), now: Mutex::new(NOW) }
    }

    /// A mount with a root of ten years as the default issuer.
    async fn new() -> Self {
        let bed = Self::empty().await;
        bed.add_root("root", KeySpec::new("ec", 256).unwrap()).await;
        bed
    }

    /// The same store after a restart.
    async fn restarted(&self) -> Self {
        let bed = Self::over(self.memory.reopened(), self.share.clone()).await;
        *bed.now.lock().unwrap() = self.now();
        bed
    }

    /// Adds a self-signed issuer and makes it the default.
    async fn add_root(&self, name: &str, spec: KeySpec) -> IssuerId {
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
        self.commit_after(0, fault);
    }

    /// As [`next_commit`](Self::next_commit), once so many others are through.
    fn commit_after(&self, others: u32, fault: Fault) {
        *self.fault.lock().unwrap() = (others, fault);
    }

    async fn ask(&self, operation: Operation, path: &str, body: Value) -> Result<Response, Error> {
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
            now: self.now(),
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

    async fn write(&self, path: &str, body: Value) -> Result<Response, Error> {
        self.ask(Operation::Update, path, body).await
    }

    async fn read(&self, path: &str) -> Result<Value, Error> {
        self.ask(Operation::Read, path, json!({})).await.map(|response| data(&response))
    }

    async fn keys(&self, path: &str, body: Value) -> Vec<String> {
        match self.ask(Operation::List, path, body).await {
            Ok(response) => serde_json::from_value(data(&response)["keys"].clone()).unwrap(),
            Err(error) => {
                assert_eq!(error.kind, Kind::NotFound, "{error:?}");
                Vec::new()
            }
        }
    }

    async fn role(&self, name: &str, body: Value) {
        self.write(&format!("roles/{name}"), body).await.unwrap();
    }
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
async fn a_role_write_answers_the_whole_role_with_defaults_filled_in() {
    let bed = Bed::new().await;
    let answer = data(&bed.write("roles/web", json!({})).await.unwrap());
    let expected: Value = serde_json::from_str(
        r#"{
        "allow_any_name": false, "allow_bare_domains": false, "allow_glob_domains": false,
        "allow_globs_in_identity_templates": false, "allow_ip_sans": true, "allow_localhost": true,
        "allow_subdomains": false, "allow_token_displayname": false, "allow_wildcard_certificates": true,
        "allowed_domains": [], "allowed_domains_template": false, "allowed_ip_sans_cidr": [],
        "allowed_other_sans": [], "allowed_serial_numbers": [], "allowed_uri_sans": [],
        "allowed_uri_sans_template": false, "allowed_user_ids": [],
        "basic_constraints_valid_for_non_ca": false, "client_flag": true,
        "cn_validations": ["email", "hostname"], "code_signing_flag": false, "country": [],
        "email_protection_flag": false, "enforce_hostnames": true, "ext_key_usage": [],
        "ext_key_usage_oids": [], "generate_lease": false, "issuer_ref": "default", "key_bits": 2048,
        "key_type": "rsa", "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
        "locality": [], "max_ttl": 0, "no_store": false, "not_after": "", "not_after_bound": "permit",
        "not_before": "", "not_before_bound": "permit", "not_before_duration": 30, "organization": [],
        "ou": [], "policy_identifiers": [], "postal_code": [], "province": [], "require_cn": true,
        "server_flag": true, "signature_bits": 0, "street_address": [], "ttl": 0,
        "use_csr_common_name": true, "use_csr_sans": true, "use_pss": false
        }"#,
    )
    .unwrap();
    assert_eq!(answer, expected);
    assert_eq!(bed.read("roles/web").await.unwrap(), expected);
}

#[tokio::test]
async fn role_fields_are_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    for (body, sentence) in [
        (json!({"ttl": "2h", "max_ttl": "1h"}), "\"ttl\" value must be less than \"max_ttl\" value"),
        (json!({"key_type": "foo"}), "unknown key type foo"),
        (json!({"key_type": ""}), "unknown key type "),
        (json!({"key_type": "ec", "key_bits": 123}), "unsupported bit length for EC key: 123"),
        (json!({"key_type": "ec", "key_bits": -1}), "unsupported bit length for EC key: -1"),
        (
            json!({"ext_key_usage_oids": "3.1"}),
            "\"3.1\" could not be parsed as a valid oid for an extended key usage",
        ),
        (json!({"key_bits": 1024}), "RSA keys < 2048 bits are unsafe and not supported: got 1024"),
        (json!({"key_bits": -1}), "RSA keys < 2048 bits are unsafe and not supported: got -1"),
        (
            json!({"ext_key_usage_oids": "1.2.3,,"}),
            "\"\" could not be parsed as a valid oid for an extended key usage",
        ),
        (
            json!({"cn_validations": "foo"}),
            "1 error occurred:\n\t* cn_validations value incorrect: unknown type: `foo`\n\n",
        ),
        (
            json!({"cn_validations": "disabled,email"}),
            "1 error occurred:\n\t* cn_validations value incorrect: cannot specify `disabled` along with `email` or `hostname`\n\n",
        ),
        (
            json!({"cn_validations": "email,email"}),
            "1 error occurred:\n\t* cn_validations value incorrect: `email` specified multiple times\n\n",
        ),
        (
            json!({"allowed_ip_sans_cidr": "10.0.0.0/8,1.2.3.4"}),
            "error parsing allowed_ip_sans_cidr: invalid CIDR address: 1.2.3.4",
        ),
        (
            json!({"allowed_other_sans": "foo"}),
            "error parsing allowed_other_sans: expected a semicolon in other SAN \"foo\"",
        ),
        (
            json!({"allowed_other_sans": ["1.2.3;UTF8"]}),
            "error parsing allowed_other_sans: expected a colon in other SAN \"1.2.3;UTF8\"",
        ),
        (
            json!({"allowed_other_sans": ["1.2.3;UTF8:a", "1.2.3;foo:bar"]}),
            "error parsing allowed_other_sans: only utf8 other SANs are supported; found non-supported type in other SAN \"1.2.3;foo:bar\"",
        ),
        (
            json!({"not_before_bound": "x"}),
            "Unknown value for field `not_before_bound`. Possible values are `permit` `duration` or `forbid`",
        ),
        (
            json!({"not_after_bound": "x"}),
            "Unknown value for field `not_after_bound`. Possible values are `permit`, `ttl-limited`, `forbid`, or an explicit timestamp.",
        ),
        (
            json!({"policy_identifiers": ["{\"notice\":\"1.3.6.1\"}"]}),
            "1 error occurred:\n\t* strconv.Atoi: parsing \"\": invalid syntax\n\n",
        ),
    ] {
        let error = bed.write("roles/web", body.clone()).await.unwrap_err();
        assert_eq!((error.kind, error.message().as_str()), (Kind::InvalidRequest, sentence), "{body}");
    }
    assert!(bed.keys("roles", json!({})).await.is_empty(), "a refused role must not be stored");
}

#[tokio::test]
async fn role_fields_are_brought_into_normal_form() {
    let bed = Bed::new().await;
    for (body, field, normal) in [
        (json!({"key_type": "ec"}), "key_bits", json!(256)),
        (json!({"key_type": "any", "key_bits": 17}), "key_bits", json!(17)),
        (
            json!({"allowed_domains": "a.com,,b.com, c.com"}),
            "allowed_domains",
            json!(["a.com", "", "b.com", "c.com"]),
        ),
        (json!({"ou": ["a,b", " c "]}), "ou", json!(["a,b", "c"])),
        (
            json!({"allowed_ip_sans_cidr": "10.1.2.3/8,fe80::/10"}),
            "allowed_ip_sans_cidr",
            json!(["10.0.0.0/8", "fe80::/10"]),
        ),
        (json!({"issuer_ref": ""}), "issuer_ref", json!("default")),
        (json!({"cn_validations": []}), "cn_validations", json!(["email", "hostname"])),
        (json!({"cn_validations": "HOSTNAME,Email"}), "cn_validations", json!(["hostname", "email"])),
        (json!({"max_ttl": "90000h", "ttl": "1.5h"}), "ttl", json!(5400)),
        (json!({"server_flag": null}), "server_flag", json!(false)),
        (json!({"key_usage": null}), "key_usage", json!([])),
        (json!({"not_before_duration": null}), "not_before_duration", json!(30)),
        (
            json!({"policy_identifiers": "1.3.6.1.4.1.1, 2.5.29.32.0"}),
            "policy_identifiers",
            json!(["1.3.6.1.4.1.1", "2.5.29.32.0"]),
        ),
        (
            json!({"policy_identifiers": "[{\"oid\":\"1.3.6.1.4.1.7.8\",\"notice\":\"hi\",\"cps\":\"http://x\"}]"}),
            "policy_identifiers",
            json!(["{\"oid\":\"1.3.6.1.4.1.7.8\",\"cps\":\"http://x\",\"notice\":\"hi\"}"]),
        ),
    ] {
        let answer = data(&bed.write("roles/web", body.clone()).await.unwrap());
        assert_eq!(answer[field], normal, "{body}");
    }
}

#[tokio::test]
async fn a_role_that_may_surprise_is_written_with_a_warning() {
    let bed = Bed::new().await;
    let both = bed.write("roles/web", json!({"no_store": true, "generate_lease": true})).await.unwrap();
    assert_eq!(
        both.warnings,
        [
            "mutually exclusive values no_store=true and generate_lease=true were both specified; no_store=true takes priority"
        ]
    );
    assert_eq!(data(&both)["generate_lease"], json!(false));
    let lease = bed.write("roles/web", json!({"generate_lease": true})).await.unwrap();
    assert!(lease.warnings[0].starts_with("it is encouraged to disable generate_lease"));
    assert_eq!(lease.warnings.len(), 1);
    let gone = bed.write("roles/web", json!({"issuer_ref": "gone"})).await.unwrap();
    assert_eq!(
        gone.warnings,
        ["Issuing Certificate was set to gone but no issuing certificate currently has that name"]
    );
    assert!(bed.write("roles/web", json!({"issuer_ref": "root"})).await.unwrap().warnings.is_empty());

    let empty = Bed::empty().await.write("roles/web", json!({})).await.unwrap();
    assert_eq!(
        empty.warnings,
        [
            "Issuing Certificate was set to default, but no default issuing certificate (configurable at /config/issuers) is currently set"
        ]
    );
}

#[tokio::test]
async fn a_patch_changes_the_given_fields_and_nothing_else() {
    let bed = Bed::new().await;
    bed.role(
        "web",
        json!({"key_type": "ec", "max_ttl": "1h", "ttl": "1h", "ou": "x", "allowed_domains": "a.com"}),
    )
    .await;
    let patch = json!({"key_bits": 384, "allowed_domains": null, "ttl": null});
    let answer = data(&bed.ask(Operation::Patch, "roles/web", patch).await.unwrap());
    assert_eq!(answer["key_bits"], json!(384));
    assert_eq!(answer["allowed_domains"], json!([]));
    assert_eq!((&answer["ttl"], &answer["ou"]), (&json!(3600), &json!(["x"])));
    assert_eq!(bed.read("roles/web").await.unwrap(), answer);

    let error = bed.ask(Operation::Patch, "roles/gone", json!({})).await.unwrap_err();
    assert_eq!(error.message(), "Unable to fetch role entry to patch");
}

#[tokio::test]
async fn a_patch_that_meets_a_deletion_does_not_bring_the_role_back() {
    let bed = Bed::new().await;
    bed.role("web", json!({"ou": "old"})).await;
    let store = &bed.engine.store;
    let (record, version) = store.stored_role("web").await.unwrap().unwrap();
    bed.ask(Operation::Delete, "roles/web", json!({})).await.unwrap();
    assert!(!store.replace_role("web", &record, &version).await.unwrap());
    assert_eq!(bed.read("roles/web").await.unwrap_err().kind, Kind::NotFound);
    // Nor does it undo what was written meanwhile.
    bed.role("web", json!({"ou": "new"})).await;
    assert!(!store.replace_role("web", &record, &version).await.unwrap());
    assert_eq!(bed.read("roles/web").await.unwrap()["ou"], json!(["new"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_of_one_role_at_the_same_time_lose_nothing() {
    const ROUNDS: usize = 5;

    let bed = Arc::new(Bed::new().await);
    bed.role("web", json!({})).await;
    let fields = ["ou", "organization", "country", "locality"];
    let patching: Vec<_> = fields
        .map(|field| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move {
                for round in 1..=ROUNDS {
                    let patch = json!({ field: round.to_string() });
                    bed.ask(Operation::Patch, "roles/web", patch).await.unwrap();
                }
            })
        })
        .into_iter()
        .collect();
    for one in patching {
        one.await.unwrap();
    }
    let role = bed.read("roles/web").await.unwrap();
    for field in fields {
        assert_eq!(role[field], json!([ROUNDS.to_string()]), "{field}");
    }
}

#[tokio::test]
async fn a_role_is_refused_if_no_certificate_could_carry_its_identifiers() {
    let bed = Bed::new().await;
    for oid in ["1.3.6.1.4.1.99999", "2.39.1", "2.40.1", "2.999.1", "1.2.4294967296"] {
        for (field, value) in [
            ("ext_key_usage_oids", json!(oid)),
            ("policy_identifiers", json!(oid)),
            ("policy_identifiers", json!([json!({ "oid": oid, "notice": "n" }).to_string()])),
        ] {
            let role = json!({"allow_any_name": true, "key_type": "ec", field: value});
            let written = bed.write("roles/web", role.clone()).await;
            assert!(written.is_ok() || oid != "1.3.6.1.4.1.99999", "{role}");
            match written {
                Ok(_) => drop(bed.write("issue/web", json!({"common_name": "a.com"})).await.unwrap()),
                Err(error) => assert!(
                    error.kind == Kind::InvalidRequest && error.message().contains(oid),
                    "{role}: {error:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn a_deleted_role_is_gone_and_a_rewritten_one_takes_effect_at_once() {
    let bed = Bed::new().await;
    bed.role("web", json!({"key_type": "ec", "allow_any_name": true})).await;
    let sign = json!({"csr": csr("a.example.com", &[])});
    bed.write("sign/web", sign.clone()).await.unwrap();
    bed.role("web", json!({"key_type": "ec", "allowed_domains": "other.org"})).await;
    assert!(bed.write("sign/web", sign.clone()).await.is_err());
    bed.ask(Operation::Delete, "roles/web", json!({})).await.unwrap();
    bed.ask(Operation::Delete, "roles/web", json!({})).await.unwrap();
    let error = bed.write("sign/web", sign).await.unwrap_err();
    assert_eq!(error.message(), "unknown role: web");
    assert_eq!(bed.read("roles/web").await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test]
async fn roles_are_listed_page_by_page() {
    let bed = Bed::new().await;
    for name in ["b", "a", "web"] {
        bed.role(name, json!({})).await;
    }
    assert_eq!(bed.keys("roles", json!({})).await, ["a", "b", "web"]);
    assert_eq!(bed.keys("roles", json!({"after": "a"})).await, ["b", "web"]);
    assert_eq!(bed.keys("roles", json!({"limit": 1})).await, ["a"]);
    assert_eq!(bed.keys("roles", json!({"after": "a", "limit": "1"})).await, ["b"]);
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
