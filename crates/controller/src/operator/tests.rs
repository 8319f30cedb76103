//! Against a double of the API server.

use std::time::Duration;

use chancery_issuance::{
    AiaUrls, CaRequest, CsrRequest, Curve, IssuanceRequest, Issuer, IssuerOptions, KeyForm, KeyPolicy,
    KeySpec, MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer,
    VerifiedCsr, create_csr, prepare, prepare_root,
};
use chancery_testkit::kubernetes::{ApiServer, Fault};
use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::check::{NotReady, check};
use super::decide::{Decision, decide};
use super::renew::{Renewal, Which, find, renew};
use super::{Error, inspect, status};
use crate::Key;
use crate::webhook::test_client as client;

const NAMESPACE: &str = "istio-system";

fn now() -> Timestamp {
    "2026-11-27T00:00:00Z".parse().expect("an instant")
}

fn key(name: &str) -> Key {
    Key { namespace: NAMESPACE.into(), name: name.into() }
}

fn certificate(name: &str, labels: Value, status: Value) -> Value {
    json!({ "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": { "name": name, "labels": labels },
        "spec": { "secretName": "istiod-tls", "issuerRef": { "name": "vault-issuer" },
            "dnsNames": ["istiod.istio-system.svc"], "unknown": 1 },
        "status": status })
}

fn of_type<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[tokio::test]
async fn renewing_twice_is_renewing_once_and_nothing_else_is_touched() {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    let status = json!({ "revision": 3, "unknown": "kept", "conditions": [
        { "type": "Ready", "status": "True", "reason": "Ready", "message": "m" },
        { "type": "Issuing", "status": "False", "reason": "Failed", "message": "m" },
    ]});
    server.put("certificates", NAMESPACE, certificate("istiod", json!({}), status));
    // Others are quicker, twice.
    server.inject("update", "certificates/status", Fault::Race, 2);
    assert_eq!(renew(&client, &key("istiod"), now()).await.expect("renewed"), Renewal::Triggered);
    let found = server.get("certificates", NAMESPACE, "istiod").expect("a certificate");
    let issuing = of_type(&found, "Issuing").expect("a condition");
    assert_eq!((&issuing["status"], &issuing["reason"]), (&json!("True"), &json!("ManuallyTriggered")));
    assert_eq!(issuing["message"], "Certificate re-issuance manually triggered");
    assert_eq!(issuing["lastTransitionTime"], "2026-11-27T00:00:00Z");
    assert_eq!((&found["status"]["revision"], &found["status"]["unknown"]), (&json!(3), &json!("kept")));
    assert_eq!(found["spec"]["unknown"], 1);
    assert!(of_type(&found, "Ready").is_some());
    let writes = server.count("update", "certificates/status");
    assert_eq!(renew(&client, &key("istiod"), now()).await.expect("renewed"), Renewal::UnderWay);
    assert_eq!(server.count("update", "certificates/status"), writes);
    let missing = renew(&client, &key("nobody"), now()).await.expect_err("there is none");
    assert!(missing.to_string().starts_with("Certificate istio-system/nobody: "), "{missing}");
    // For ever quicker: it says so.
    server.put("certificates", NAMESPACE, certificate("busy", json!({}), json!({})));
    server.inject("update", "certificates/status", Fault::Race, 100);
    assert!(matches!(renew(&client, &key("busy"), now()).await, Err(Error::Contended(_))));
}

#[tokio::test]
async fn certificates_are_chosen_by_name_by_label_or_all() {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    for (namespace, name, app) in [(NAMESPACE, "a", "x"), (NAMESPACE, "b", "y"), ("default", "c", "x")] {
        server.put("certificates", namespace, certificate(name, json!({ "app": app }), json!({})));
    }
    let found = async |namespace: Option<&str>, selector: &str| {
        let keys = find(&client, namespace, &Which::Selected(selector.into())).await.expect("found");
        let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(found(Some(NAMESPACE), "").await, "istio-system/a istio-system/b");
    assert_eq!(found(None, "app=x").await, "default/c istio-system/a");
    assert_eq!(found(None, "app=z").await, "");
    let named = find(&client, Some("n"), &Which::Named(vec!["a".into()])).await.expect("found");
    assert_eq!(named.first().map(ToString::to_string).as_deref(), Some("n/a"));
}

fn certificate_request() -> Value {
    json!({ "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": { "name": "r" },
        "spec": { "issuerRef": { "name": "vault-issuer" }, "request": "eA==", "username": "ann" } })
}

#[tokio::test]
async fn a_decision_is_made_once_and_stands() {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    server.put("certificaterequests", NAMESPACE, certificate_request());
    server.inject("update", "certificaterequests/status", Fault::Race, 1);
    let why = ("KubectlCertManager", "by hand");
    assert!(decide(&client, &key("r"), Decision::Approve, why, now()).await.expect("approved"));
    let found = server.get("certificaterequests", NAMESPACE, "r").expect("a request");
    let approved = of_type(&found, "Approved").expect("a condition");
    assert_eq!(
        (&approved["reason"], &approved["message"]),
        (&json!("KubectlCertManager"), &json!("by hand"))
    );
    assert!(!decide(&client, &key("r"), Decision::Approve, ("Other", "x"), now()).await.expect("approved"));
    let refused = decide(&client, &key("r"), Decision::Deny, why, now()).await.expect_err("it is approved");
    assert_eq!(
        refused.to_string(),
        "CertificateRequest istio-system/r is approved already, and that stands: KubectlCertManager, by hand"
    );
    assert_eq!(server.get("certificaterequests", NAMESPACE, "r"), Some(found));
    // The answer is lost, the decision is not.
    server.remove("certificaterequests", NAMESPACE, "r");
    server.put("certificaterequests", NAMESPACE, certificate_request());
    server.inject("update", "certificaterequests/status", Fault::LoseAnswer, 1);
    assert!(decide(&client, &key("r"), Decision::Deny, why, now()).await.is_err());
    assert!(!decide(&client, &key("r"), Decision::Deny, why, now()).await.expect("denied"));
}

#[tokio::test]
async fn a_report_tells_of_everything_that_a_certificate_depends_on() {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    let ready = |reason: &str, message: &str| json!({ "conditions": [{ "type": "Ready", "status": "True", "reason": reason, "message": message }] });
    let mut status = ready("Ready", "Certificate is up to date and has not expired");
    status["notAfter"] = "2026-11-27T01:00:00Z".into();
    server.put("certificates", NAMESPACE, certificate("istiod", json!({}), status));
    let told = status::certificate(&client, NAMESPACE, "istiod").await.expect("a report");
    assert!(!told.is_ready(), "its issuer is not there");
    server.put(
        "issuers",
        NAMESPACE,
        json!({ "metadata": { "name": "vault-issuer" }, "spec": { "vault": { "server": "https://vault:8200",
            "path": "istioca/sign/cluster-local", "auth": {} } }, "status": ready("VaultVerified", "Vault verified") }),
    );
    let pki = Pki::new();
    server.put("secrets", NAMESPACE, pki.secret("istiod-tls"));
    let mut next = certificate_request();
    next["metadata"]["annotations"] =
        json!({ "cert-manager.io/certificate-name": "istiod", "cert-manager.io/certificate-revision": "1" });
    server.put("certificaterequests", NAMESPACE, next);
    server.put(
        "events",
        NAMESPACE,
        json!({ "metadata": { "name": "e" }, "involvedObject": { "kind": "Certificate", "name": "istiod" },
            "type": "Normal", "reason": "Issuing", "message": "Issued", "source": { "component": "c" },
            "lastTimestamp": "2026-11-27T00:00:00Z" }),
    );
    let told = status::certificate(&client, NAMESPACE, "istiod").await.expect("a report");
    assert!(told.is_ready());
    let text = told.to_string();
    for line in [
        "Name: istiod\nNamespace: istio-system\nCreated at: ",
        "\nConditions:\n  Ready: True, Reason: Ready, Message: Certificate is up to date and has not expired\n",
        "\nDNS Names:\n- istiod.istio-system.svc\n",
        "Normal  Issuing  2026-11-27T00:00:00Z  c     Issued\n",
        "\nIssuer:\n  Name: vault-issuer\n  Kind: Issuer\n  Conditions:\n    Ready: True, Reason: VaultVerified, Message: Vault verified\n",
        "    Path: istioca/sign/cluster-local\n",
        "\nSecret:\n  Name: istiod-tls\n",
        "  Issuer Common Name: root\n",
        "\nNot Before: <none>\nNot After: 2026-11-27T01:00:00Z\nRenewal Time: <none>\n",
        "CertificateRequest:\n  Name: r\n  Namespace: istio-system\n  Conditions:\n    No Conditions set\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    // What may not be read is told in its place.
    server.deny("get", "secrets");
    let text = status::certificate(&client, NAMESPACE, "istiod").await.expect("a report").to_string();
    assert!(text.contains("Secret:\n  Name: istiod-tls\n  secrets \"istiod-tls\" is forbidden"), "{text}");
    let told = status::certificate_request(&client, NAMESPACE, "r").await.expect("a report");
    assert!(!told.is_ready() && told.to_string().contains("Requester: ann\n"), "{told}");
}

/// A root, and a leaf with its key, for a day from [`now`].
struct Pki {
    root: String,
    leaf: String,
    key: String,
}

impl Pki {
    fn new() -> Self {
        let life = Duration::from_secs(24 * 3600);
        let limits = MountLimits { default_ttl: life, max_ttl: 2 * life };
        let serial = |seed| SerialNumber::generate(now(), [seed; 14]);
        let generate = || PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key");
        let signer: std::sync::Arc<dyn Signer> = std::sync::Arc::new(generate());
        let asked = CaRequest { ttl: Some(2 * life), ..CaRequest::new("root", limits) };
        let root = prepare_root(&asked, &signer, &AiaUrls::default(), serial(1), now()).expect("a root");
        let root = root.sign().expect("signed").certificate().expect("a certificate");
        let issuer = Issuer::new(root.clone(), signer, IssuerOptions::default()).expect("an issuer");
        let key = generate();
        let names = RequestedNames {
            uri_sans: vec!["spiffe://cluster.local/ns/foo/sa/sleep".into()],
            ..RequestedNames::default()
        };
        let csr = create_csr(&CsrRequest { names, critical_names: true, ..CsrRequest::default() }, &key);
        let csr = VerifiedCsr::from_der(&csr.expect("a CSR").der, &KeyPolicy::any()).expect("a CSR");
        let profile = ProfileConfig { server_flag: true, require_cn: false, ..ProfileConfig::verbatim() };
        let profile = Profile::new(profile).expect("a profile");
        let asked =
            IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, limits).expect("names");
        let leaf = prepare(&asked, &csr.key(), &profile, &issuer, serial(2), now()).expect("prepared");
        let leaf = leaf.sign().expect("signed").pem;
        Self { root: root.pem().to_owned(), leaf, key: key.to_pem(KeyForm::Pkcs8).to_string() }
    }

    fn secret(&self, name: &str) -> Value {
        let packed = |text: &str| BASE64.encode(text.as_bytes());
        json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name, "annotations": { "cert-manager.io/issuer-name": "vault-issuer" } },
            "data": { "tls.crt": packed(&self.leaf), "tls.key": packed(&self.key), "ca.crt": packed(&self.root) } })
    }
}

#[tokio::test]
async fn a_secret_is_shown_with_what_it_is_for_and_whether_it_is_trusted() {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    let pki = Pki::new();
    server.put("secrets", NAMESPACE, pki.secret("s"));
    let found = inspect::secret(&client, NAMESPACE, "s").await.expect("a certificate");
    assert_eq!(found.verdict(now()), Ok(()));
    let text = found.text(now());
    for line in [
        "Valid for:\n\tDNS Names: \n\t\t- <none>\n\tURIs: \n\t\t- spiffe://cluster.local/ns/foo/sa/sleep\n",
        "\t\t- server auth\n",
        "\tNot After: Sat, 28 Nov 2026 00:00:00 UTC\n",
        "Issued By:\n\tCommon Name:\t\troot\n",
        "Issued For:\n\tCommon Name:\t\t<none>\n",
        "\tTrusted by its ca.crt:\tyes\n\tPrivate key:\t\tthat of the certificate\n\tSPIFFE ID:\t\t\
         spiffe://cluster.local/ns/foo/sa/sleep (trust domain cluster.local)\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains(pki.key.lines().nth(1).expect("a line")), "the key is not shown");
    let document = found.json(now());
    assert_eq!((&document["trusted"], &document["ca"][0]["subject"]), (&json!(true), &json!("CN=root")));
    let later = now().checked_add(SignedDuration::from_hours(30)).expect("an instant");
    assert!(found.verdict(later).expect_err("expired").contains("expired at 2026-11-28T00:00:00Z"));
}

#[test]
fn files_are_read_in_every_form_and_what_is_wrong_is_named() {
    let (pki, other) = (Pki::new(), Pki::new());
    let good = pki.secret("s");
    let verdict = |object: &Value| inspect::read(&object.to_string()).expect("a Secret").verdict(now());
    assert_eq!(verdict(&good), Ok(()));
    let yaml =
        format!("kind: Secret\nstringData:\n  tls.crt: |\n    {}\n", pki.leaf.trim().replace('\n', "\n    "));
    let plain = inspect::read(&yaml).expect("a Secret").verdict(now());
    assert_eq!(plain, Err("there is no ca.crt to hold it against".to_owned()));
    assert!(inspect::read(&pki.leaf).is_ok());
    let with = |key: &str, text: &str| {
        let mut object = good.clone();
        object["data"][key] = BASE64.encode(text.as_bytes()).into();
        object
    };
    assert_eq!(
        verdict(&with("tls.key", &other.key)),
        Err("tls.key is not the key of the certificate".to_owned())
    );
    let unsigned = verdict(&with("ca.crt", &other.root)).expect_err("another root");
    assert!(unsigned.ends_with("is signed by none of the certificates in tls.crt and ca.crt"), "{unsigned}");
    for (text, reason) in [
        ("", "there is no certificate in tls.crt"),
        ("- a", "neither PEM nor a Secret"),
        ("kind: Secret", "there is no certificate in tls.crt"),
        ("data: {tls.crt: '%'}", "data[\"tls.crt\"] is no base64"),
        ("data: {tls.crt: eA==}", "there is no certificate in tls.crt"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "tls.crt: "),
    ] {
        let found = inspect::read(text).expect_err(text).to_string();
        assert!(found.contains(reason), "{text:?}: {found}");
    }
}

#[tokio::test]
async fn an_api_without_a_webhook_is_not_ready() {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    assert!(matches!(check(&client, "default").await, Err(NotReady::NotMutated)));
    assert!(server.list("certificaterequests", None).is_empty(), "nothing is left behind");
    server.deny("create", "certificaterequests");
    assert!(matches!(check(&client, "default").await, Err(NotReady::Refused(_))));
}
