//! Each parser of strangers' input as a function of bytes that only has to return.
//!
//! Where a law holds for whatever was taken, the function checks it too and panics if it does not.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chancery_api::{Input, Secret, Strings, Ttl, duration, hcl};
use chancery_issuance::{
    Certificate, CrlEntry, CrlTimes, ImportedBundle, ImportedCrl, KeyForm, KeyPolicy, OcspRequest,
    PrivateKey, SerialNumber, SpiffeId, Time, TrustDomain, VerifiedCsr, build_chains,
};
use chancery_mesh::ca::answer::{Answers, Wanted};
use chancery_mesh::ca::request::{CheckedCsr, KeyRules};
use chancery_mesh::ca::roots::Roots;
use chancery_mesh::ca::signer::SignedChain;
use chancery_mesh::inspect::{Dump, Expectations, LiveCertificates, findings};
use chancery_mesh::overlay::{Compatibility, Document, MatchPolicy, Node, Patch};
use chancery_mesh::token::dev::DevIssuer;
use chancery_mesh::token::keys::Jwks;
use chancery_mesh::token::verify::{ServiceAccountToken, TokenRules};
use chancery_secrets::engine::pki::acme::{Envelope, Jwk, Jws, KeyReference};
use chancery_secrets::policy::Policy;
use chancery_secrets::{Connection, Request};
use chancery_server::Config;
use chancery_server::config::{Bind, Forwarded, ListenerConfig};
use chancery_server::http::{Asked, asked, body_as_json};
use chancery_storage::seal::combine;
use http::Uri;
use http::header::{HOST, HeaderValue};

use crate::pipeline::{with_sealed_server, with_server};

/// A parser, and how much a short test may ask of it.
#[derive(Debug, Clone, Copy)]
pub struct Parser {
    /// Also the name of its fuzz target and of its folder of seeds.
    pub name: &'static str,
    /// Takes anything, and must return.
    pub parse: fn(&[u8]),
    /// How many mutated inputs take about a quarter of a second in a debug build.
    pub rounds: usize,
}

/// All of them.
pub const ALL: &[Parser] = &[
    Parser { name: "acme_jws", parse: acme_jws, rounds: 6_000 },
    Parser { name: "admission_review", parse: admission_review, rounds: 10_000 },
    Parser { name: "cel", parse: cel, rounds: 100 },
    Parser { name: "certificate", parse: certificate, rounds: 10_000 },
    Parser { name: "config", parse: config, rounds: 8_000 },
    Parser { name: "crl", parse: crl, rounds: 20_000 },
    Parser { name: "csr", parse: csr, rounds: 10_000 },
    Parser { name: "duration", parse: duration, rounds: 100_000 },
    Parser { name: "envoy_dump", parse: envoy_dump, rounds: 2_000 },
    Parser { name: "forwarded", parse: forwarded, rounds: 20_000 },
    Parser { name: "hcl", parse: hcl, rounds: 5_000 },
    Parser { name: "http_request", parse: http_request, rounds: 15_000 },
    Parser { name: "json_fields", parse: json_fields, rounds: 30_000 },
    Parser { name: "mesh_answer", parse: mesh_answer, rounds: 1_000 },
    Parser { name: "mesh_csr", parse: mesh_csr, rounds: 3_000 },
    Parser { name: "mesh_token", parse: mesh_token, rounds: 2_000 },
    Parser { name: "names", parse: names, rounds: 40_000 },
    Parser { name: "ocsp", parse: ocsp, rounds: 60_000 },
    Parser { name: "overlay", parse: overlay, rounds: 1_000 },
    Parser { name: "overlay_path", parse: overlay_path, rounds: 5_000 },
    Parser { name: "path", parse: path, rounds: 30_000 },
    Parser { name: "pem_bundle", parse: pem_bundle, rounds: 5_000 },
    Parser { name: "pipeline", parse: pipeline, rounds: 2_000 },
    Parser { name: "policy", parse: policy, rounds: 8_000 },
    Parser { name: "private_key", parse: private_key, rounds: 3_000 },
    Parser { name: "serial", parse: serial, rounds: 60_000 },
    Parser { name: "shares", parse: shares, rounds: 30_000 },
    Parser { name: "token", parse: token, rounds: 1_000 },
    Parser { name: "unseal_key", parse: unseal_key, rounds: 4_000 },
];

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// PEM texts begin with their dashes; anything else is DER, which a fuzzer gets further with.
fn pem(bytes: &[u8]) -> Option<&str> {
    text(bytes).filter(|text| text.starts_with("-----"))
}

/// A signed request of ACME: JSON with three parts. What verifies under its own key has one thumbprint.
pub fn acme_jws(bytes: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(bytes) else { return };
    let Ok(jws) = Jws::parse(&envelope) else { return };
    let KeyReference::Jwk(key) = &jws.key else { return };
    let again = Jwk::parse(key.canonical().as_bytes()).expect("what was written must be readable");
    assert_eq!(again.thumbprint(), key.thumbprint());
    let _ = jws.verify(key);
}

/// What an API server asks of the admission webhook, and anybody in the cluster can. Whatever can be read is answered, and a
/// refusal says why.
pub fn admission_review(bytes: &[u8]) {
    let Ok(answers) = chancery_controller::webhook::answers_to(bytes) else { return };
    for answer in answers {
        let has = |path: &str| {
            let text = answer.pointer(path).and_then(serde_json::Value::as_str);
            text.is_some_and(|text| !text.is_empty())
        };
        assert!(has("/response/uid"), "{answer}");
        let is_allowed = answer.pointer("/response/allowed") == Some(&true.into());
        assert!(is_allowed || has("/response/status/message"), "{answer}");
    }
}

/// A CEL program, read and run on an empty request.
pub fn cel(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = chancery_secrets::engine::pki::try_program(text);
}

/// A certificate, as importing an issuer reads it.
pub fn certificate(bytes: &[u8]) {
    let read = match pem(bytes) {
        Some(text) => Certificate::all_from_pem(text),
        None => Certificate::from_der(bytes).map(|one| vec![one]),
    };
    let Ok(certificates) = read else { return };
    for one in &certificates {
        let _ = (one.serial_number(), one.common_name(), one.sans(), one.issuer_name(), one.is_self_signed());
        let _ = (one.subject_name(), one.signature_algorithm(), one.permitted_dns_domains());
        let again = Certificate::from_der(one.der()).expect("what was read must be readable");
        assert_eq!(again.serial_number(), one.serial_number());
    }
    let chains = build_chains(&certificates.iter().collect::<Vec<_>>());
    assert!(chains.iter().all(|chain| chain.len() <= certificates.len()));
}

/// A revocation list, as `resign-crls` takes it and `pki health-check` judges it. What it names can be written again.
pub fn crl(bytes: &[u8]) {
    let (read, times) = match pem(bytes) {
        Some(text) => (ImportedCrl::from_pem(text), CrlTimes::from_pem(text)),
        None => (ImportedCrl::from_der(bytes), CrlTimes::from_der(bytes)),
    };
    assert!(read.is_err() || times.is_ok() || pem(bytes).is_some());
    let Ok(crl) = read else { return };
    let mut entries = Vec::new();
    for entry in crl.entries() {
        CrlEntry { serial: &entry.serial, at: entry.at, reason: 0, extensions: &[] }.encode(&mut entries);
    }
    assert_eq!(entries.is_empty(), crl.entries().is_empty());
}

/// A certificate request.
pub fn csr(bytes: &[u8]) {
    let keys = KeyPolicy::any();
    let _ = match pem(bytes) {
        Some(text) => VerifiedCsr::from_pem(text, &keys),
        None => VerifiedCsr::from_der(bytes, &keys),
    };
}

/// A certificate request of a mesh's workload. What was taken is taken again as it is passed on.
pub fn mesh_csr(bytes: &[u8]) {
    const IDENTITY: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";
    let base64 = || data_encoding::BASE64.encode(bytes);
    let text = pem(bytes).map_or_else(
        || format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", base64()),
        str::to_owned,
    );
    let (identities, keys) = ([IDENTITY.to_owned()], KeyRules::default());
    let Ok(checked) = CheckedCsr::check(&text, &identities, &keys) else { return };
    assert_eq!(checked.identities(), identities);
    let again =
        CheckedCsr::check(&checked.pem(), &identities, &keys).expect("what is passed on must be good");
    assert_eq!(again.public_key(), checked.public_key());
}

/// A service account's token; or its claims, which are then signed first. What was taken names a service account.
pub fn mesh_token(bytes: &[u8]) {
    static ISSUER: OnceLock<(DevIssuer, Jwks)> = OnceLock::new();
    let (issuer, keys) = ISSUER.get_or_init(|| {
        let issuer = DevIssuer::generate("https://issuer.example").expect("a key must be made");
        let keys = Jwks::parse(issuer.jwks().as_bytes()).expect("what was written must be readable");
        (issuer, keys)
    });
    let _ = Jwks::parse(bytes);
    let signed = bytes.starts_with(b"{").then(|| issuer.sign(bytes).expect("the key must sign"));
    let Some(token) = signed.as_ref().map(Secret::expose).or_else(|| text(bytes)) else { return };
    let rules = TokenRules {
        issuers: vec!["https://issuer.example".to_owned()],
        audiences: vec!["istio-ca".to_owned()],
        leeway: std::time::Duration::from_secs(10),
    };
    let now = jiff::Timestamp::from_second(1_795_000_000).expect("a time");
    let Ok(token) = ServiceAccountToken::verify(token, keys, &rules, now) else { return };
    assert!(!token.workload.namespace.is_empty() && !token.workload.service_account.is_empty());
}

/// What a signer sent for a workload: the roots that are trusted, the key, the names and the time are its own. Each element
/// of the answer but the last has one certificate, and there are at least two.
pub fn mesh_answer(bytes: &[u8]) {
    let Some(chain) = text(bytes) else { return };
    let Ok(certificates) = Certificate::all_from_pem(chain) else { return };
    // A long list of them costs as much as it may; that is no fault.
    if certificates.len() > 8 {
        return;
    }
    let Some(leaf) = certificates.iter().find(|one| !one.is_ca()) else { return };
    let Some(public_key) = leaf.public_key() else { return };
    let identities = leaf.sans().map(|names| names.uri).unwrap_or_default();
    let roots: Vec<Certificate> = certificates.iter().filter(|one| one.is_self_signed()).cloned().collect();
    let pem = roots.iter().map(Certificate::pem).collect();
    let roots = Arc::new(Roots { certificates: roots, pem });
    let signed = SignedChain { chain: chain.to_owned(), root: None };
    let (wanted, answers) = (Wanted { public_key, identities: &identities }, Answers::default());
    let answer = |now| answers.answer(&signed, wanted, &roots, now);
    let Ok(first) = answer(leaf.not_before()) else { return };
    let (last, others) = first.cert_chain.split_last().expect("an answer must have elements");
    assert_eq!(*last, roots.pem);
    assert!(!others.is_empty() && others.iter().all(|one| one.matches("-----BEGIN ").count() == 1));
    let again = answer(leaf.not_before()).expect("what was good must be good again");
    assert_eq!(again.cert_chain, first.cert_chain);
}

/// Certificates and keys in one text, as `config/ca` and `issuers/import/bundle` take them.
pub fn pem_bundle(bytes: &[u8]) {
    let Some(Ok(bundle)) = text(bytes).map(|text| ImportedBundle::from_pem(text, true)) else { return };
    for certificate in &bundle.certificates {
        let _ = bundle.key_of(certificate);
    }
    let _ = build_chains(&bundle.certificates.iter().collect::<Vec<_>>());
}

/// A private key in PKCS#8, PKCS#1 or SEC 1. Whatever is taken is written and read again.
pub fn private_key(bytes: &[u8]) {
    let read = match pem(bytes) {
        Some(text) => PrivateKey::from_pem(text),
        None => PrivateKey::from_der(bytes),
    };
    let Ok(key) = read else { return };
    let again = PrivateKey::from_der(&key.to_der(KeyForm::Pkcs8)).expect("what was written must be readable");
    assert_eq!(again.spec(), key.spec());
}

/// An OCSP request in DER. What was taken asks after something, within the limits.
pub fn ocsp(bytes: &[u8]) {
    let Ok(request) = OcspRequest::from_der(bytes) else { return };
    assert!((1..=OcspRequest::MAX_CERTIFICATES).contains(&request.certificates().len()));
    assert!(request.nonce().is_none_or(|nonce| (1..=128).contains(&nonce.len())));
    for id in request.certificates() {
        let _ = (id.issuer(), id.serial_number());
    }
}

/// A serial number as clients write it. Its own text leads back to it.
pub fn serial(bytes: &[u8]) {
    let Some(Ok(serial)) = text(bytes).map(str::parse::<SerialNumber>) else { return };
    assert_eq!(serial.to_string().parse(), Ok(serial));
}

/// SPIFFE ids, trust domains and dates.
pub fn names(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(SpiffeId::parse(id.as_str()).as_ref(), Ok(&id));
    }
    let _ = (text.parse::<TrustDomain>(), Time::parse(text));
}

/// A duration in the words that clients use.
pub fn duration(bytes: &[u8]) {
    let _ = text(bytes).map(duration::parse);
}

/// HCL version 1 or JSON. What was formatted means the same.
pub fn hcl(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let meaning = |body: &hcl::Body| -> Vec<(Vec<String>, serde_json::Value)> {
        let names = |item: &hcl::Item| item.keys.iter().map(|key| key.name.clone()).collect();
        body.items.iter().map(|item| (names(item), item.value.to_json())).collect()
    };
    let Ok(body) = hcl::parse(text) else { return };
    let Ok(formatted) = hcl::format(text) else { return };
    let again = hcl::parse(&formatted).expect("what was formatted must be readable");
    assert_eq!(meaning(&again), meaning(&body), "{formatted}");
}

/// The text of a policy.
pub fn policy(bytes: &[u8]) {
    let _ = text(bytes).map(|text| Policy::parse("fuzz", text));
}

/// A server's configuration.
pub fn config(bytes: &[u8]) {
    let _ = text(bytes).map(|text| Config::parse(&[(PathBuf::from("server.hcl"), text.to_owned())]));
}

/// A request's body: its names first, then fields of every type.
pub fn json_fields(bytes: &[u8]) {
    let Ok(mut input) = Input::from_body(bytes) else { return };
    let _ = input.take::<Ttl>("ttl");
    let _ = input.take::<i64>("number");
    let _ = input.take::<bool>("flag");
    let _ = input.take::<Strings>("names");
    let _ = input.take::<Secret>("token");
    let _ = input.take::<String>("text");
    let _ = input.take::<chancery_api::KeyValues>("meta");
    let _ = input.take::<jiff::Timestamp>("time");
    let _ = (input.unknown(), input.rest());
}

/// What an Envoy says of its secrets, or of the certificates that it has loaded. What was taken can be shown and judged.
pub fn envoy_dump(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = LiveCertificates::parse(text).map(|live| live.table());
    let Ok(dump) = Dump::parse(text) else { return };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let _ = (dump.table(now, true), dump.details(now));
    let _ = findings(&dump, &Expectations { now, roots: None, least_left: 20 });
    assert!(serde_json::from_str::<Node>(&dump.to_json()).is_ok());
}

/// A YAML document with overlays: printed and read again it is the same.
pub fn overlay(bytes: &[u8]) {
    let Some(Ok(documents)) = text(bytes).map(Node::documents) else { return };
    for node in documents {
        let Ok(yaml) = node.to_yaml() else { continue };
        let again = Node::documents(&yaml).expect("what was printed must be readable");
        assert!(again == [node.clone()] || node == Node::Null, "{yaml}");
        let Ok(document) = Document::read(&node) else { continue };
        let mut objects = vec![node.clone()];
        let _ = document.lint(Some(&objects));
        let _ = document.carry_out(&mut objects, MatchPolicy::May, Compatibility::Upstream);
    }
}

/// The path of a patch, carried out on an object in both ways. A patch that fails changes nothing.
pub fn overlay_path(bytes: &[u8]) {
    let Some(path) = text(bytes) else { return };
    let before = Node::document("a: {b: [x, --y=1, 2], c: [{name: n, d: [[1]]}, {name: m}], e: null}");
    let before = before.expect("the object must be YAML");
    for compatibility in [Compatibility::Exact, Compatibility::Upstream] {
        for value in [Node::Null, Node::from("v"), Node::List(Vec::new())] {
            let mut object = before.clone();
            let patch = Patch { path: path.to_owned(), value };
            assert!(patch.apply(&mut object, compatibility).is_ok() || object == before);
        }
    }
}

/// Key shares: the first byte is their length.
pub fn shares(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let shares: Vec<&[u8]> = rest.chunks(usize::from(length).max(1)).collect();
    if let Ok(secret) = combine(&shares) {
        assert_eq!(secret.len() + 1, usize::from(length));
    }
}

/// A listener that believes a proxy, as strictly as can be configured.
fn listener(hop_skips: usize) -> ListenerConfig {
    let authorized = "127.0.0.0/8".parse().into_iter().collect();
    let forwarded =
        Forwarded { authorized, hop_skips, reject_not_present: false, reject_not_authorized: true };
    ListenerConfig { forwarded: Some(forwarded), ..ListenerConfig::new(Bind::Tcp("127.0.0.1:0".to_owned())) }
}

fn connection() -> Connection {
    Connection { address: Some([127, 0, 0, 1].into()), ..Connection::default() }
}

/// Without a `Host` header nothing else of a request is looked at.
const A_HOST: HeaderValue = HeaderValue::from_static("ca.example");

fn get<T: TryInto<Uri, Error: Into<http::Error>>>(uri: T) -> http::request::Builder {
    http::Request::get(uri).header(HOST, A_HOST)
}

/// What `head` asks of the pipeline. A path that is sent elsewhere must be at home there.
fn request(head: &http::request::Parts, hop_skips: usize) -> Option<Request> {
    match asked(head, connection(), &listener(hop_skips)).ok()? {
        Asked::Pipeline(request) => {
            let sound = |segment: &str| segment != ".." && !segment.contains(char::is_control);
            assert!(request.path.split('/').all(sound), "{:?}", request.path);
            Some(request)
        }
        Asked::Elsewhere(location) => {
            let (parts, ()) = get(location.as_str()).body(()).ok()?.into_parts();
            let again = asked(&parts, connection(), &listener(0));
            assert!(!matches!(again, Ok(Asked::Elsewhere(_))), "{location:?} must not lead elsewhere");
            None
        }
        Asked::FrontDoor | Asked::Presence => None,
    }
}

/// The path of a URL, as it stands in the first line of a request.
pub fn path(bytes: &[u8]) {
    let Ok(head) = get(bytes).body(()) else { return };
    let _ = request(&head.into_parts().0, 0);
}

/// `X-Forwarded-For`, one header a line; the first byte says how many hops to pass over.
pub fn forwarded(bytes: &[u8]) {
    let Some((&skips, rest)) = bytes.split_first() else { return };
    let mut head = get("/v1/sys/health");
    for line in rest.split(|byte| *byte == b'\n') {
        head = head.header("x-forwarded-for", line);
    }
    let Ok(head) = head.body(()) else { return };
    let _ = request(&head.into_parts().0, usize::from(skips));
}

/// Head and body of an HTTP/1.1 request; the framing below them is hyper's.
pub(crate) fn read_http(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut head = http::Request::builder().method(first.next()?).uri(first.next()?);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        head = head.header(name, value.get(1..)?.trim_ascii());
    }
    let (mut head, ()) = head.body(()).ok()?.into_parts();
    head.headers.entry(HOST).or_insert(A_HOST);
    let mut request = request(&head, 0)?;
    request.body = body_as_json(&head.headers, Bytes::copy_from_slice(body.trim_ascii_start()));
    Some(request)
}

/// An HTTP request up to the pipeline.
pub fn http_request(bytes: &[u8]) {
    let _ = read_http(bytes);
}

/// An HTTP request through the pipeline of a server with a PKI and an AppRole mount, as root unless it
/// brings a token.
pub fn pipeline(bytes: &[u8]) {
    let Some(mut request) = read_http(bytes) else { return };
    // A device writes to files, wherever the request says.
    if request.path.starts_with("sys/audit") {
        return;
    }
    request.token.get_or_insert_with(|| Secret::new("root"));
    with_server(|server| server.ask(request));
}

/// A token, accessor, lease id or serial number, everywhere that one is looked up.
pub fn token(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    with_server(|server| server.look_up(text));
}

/// A key share in hexadecimal or base64, given to a sealed server.
pub fn unseal_key(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    with_sealed_server(|server| server.unseal(text));
}
