//! ACME through its own routes, over memory storage, with a world outside that is as each test wants it.

pub(super) mod client;

mod accounts;
mod config;
mod orders;
mod tidy;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use chancery_api::Ttl;
use chancery_issuance::{Certificate, CsrRequest, KeySpec, PrivateKey, RequestedNames, Signer, create_csr};
use chancery_storage::memory::Fault;
use chancery_storage::{Barrier, Memory, ShareScheme, Writes};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::client::Key;
use super::super::Pki;
use super::Envelope;
use crate::engine::{Call, Class, Engine, Mount, SystemLimits, Tuning};
use crate::error::Error;
use crate::probe::{Host, Presented, ProbeError, Prober};
use crate::request::{Connection, Operation};
use crate::response::{Header, Response};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const BASE: &str = "https://ca.example/v1/pki/";

/// The world outside.
#[derive(Debug)]
struct World {
    /// What is at `host/token`.
    files: Mutex<HashMap<String, Vec<u8>>>,
    /// TXT records by name.
    texts: Mutex<HashMap<String, Vec<String>>>,
    /// What hosts present.
    presented: Mutex<HashMap<String, Presented>>,
    /// What was asked for.
    asked: Mutex<Vec<String>>,
    /// Hosts whose names begin with `slow` answer one question for each permit.
    patience: Semaphore,
}

impl Default for World {
    fn default() -> Self {
        Self {
            files: Mutex::default(),
            texts: Mutex::default(),
            presented: Mutex::default(),
            asked: Mutex::default(),
            patience: Semaphore::new(0),
        }
    }
}

impl World {
    fn ask<T: Clone>(&self, what: String, known: &Mutex<HashMap<String, T>>) -> Option<T> {
        self.asked.lock().unwrap().push(what.clone());
        known.lock().unwrap().get(&what).cloned()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Prober for World {
    async fn http(&self, host: &Host, token: &str, _: Option<SocketAddr>) -> Result<Vec<u8>, ProbeError> {
        tokio::task::yield_now().await;
        if host.to_string().starts_with("slow") {
            self.patience.acquire().await.unwrap().forget();
        }
        let nothing = || ProbeError::Connection(format!("{host} does not answer"));
        self.ask(format!("{host}/{token}"), &self.files).ok_or_else(nothing)
    }

    async fn texts(&self, name: &str, _: Option<SocketAddr>) -> Result<Vec<String>, ProbeError> {
        Ok(self.ask(name.to_owned(), &self.texts).unwrap_or_default())
    }

    async fn tls(&self, host: &Host, _: Option<SocketAddr>) -> Result<Presented, ProbeError> {
        let nothing = || ProbeError::Tls(format!("{host} does not shake hands"));
        self.ask(host.to_string(), &self.presented).ok_or_else(nothing)
    }
}

struct Bed {
    memory: Memory,
    share: Vec<u8>,
    fault: Arc<Mutex<Fault>>,
    world: Arc<World>,
    engine: Arc<Pki>,
    now: Mutex<Timestamp>,
}

impl Bed {
    /// A mount with a root of ten years on which ACME is served.
    async fn new() -> Self {
        let memory = Memory::new();
        let barrier = Barrier::new(Arc::new(memory.clone()), None);
        let scheme = ShareScheme::new(1, 1).unwrap();
        let founding = barrier.found(scheme, std::time::SystemTime::UNIX_EPOCH).await.unwrap();
        let (_, shares) = founding.commit(Writes::new()).await.unwrap();
        let bed = Self::over(memory, shares[0].to_vec(), Arc::default()).await;
        let root = json!({ "common_name": "root", "key_type": "ec", "ttl": "87600h", "issuer_name": "root" });
        bed.write("root/generate/internal", root).await.unwrap();
        bed.write("config/cluster", json!({ "path": BASE.trim_end_matches('/') })).await.unwrap();
        bed.write("config/acme", json!({ "enabled": true })).await.unwrap();
        bed
    }

    async fn over(memory: Memory, share: Vec<u8>, world: Arc<World>) -> Self {
        let fault = Arc::new(Mutex::new(Fault::None));
        let asked = Arc::clone(&fault);
        let faulty = memory.with_faults(move |_| std::mem::replace(&mut *asked.lock().unwrap(), Fault::None));
        let barrier = Barrier::new(Arc::new(faulty), None);
        assert!(barrier.provide_share(&share).await.unwrap());
        let view = barrier.unsealed().unwrap().view("mount").unwrap();
        let tuning = Tuning { max_lease_ttl: Ttl::hours(87_600), ..Tuning::default() };
        let mount =
            Mount::new("mount".into(), "pki_1".into(), Class::Secret, view, SystemLimits::default(), tuning);
        let mount = mount.asking(Arc::clone(&world) as Arc<dyn Prober>);
        let engine = Pki::open(Arc::new(mount)).await.unwrap();
        Self { memory, share, fault, world, engine, now: Mutex::new(NOW) }
    }

    /// The same store and the same world after a restart.
    async fn restarted(&self) -> Self {
        let again = Self::over(self.memory.reopened(), self.share.clone(), Arc::clone(&self.world)).await;
        *again.now.lock().unwrap() = self.now();
        again
    }

    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn later(&self, seconds: u64) {
        *self.now.lock().unwrap() += Duration::from_secs(seconds);
    }

    fn next_commit(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    async fn ask(&self, operation: Operation, path: &str, body: Value) -> Result<Response, Error> {
        let routes = Pki::routes();
        let matched = routes.matching(path).ok_or_else(Error::unsupported_path)?;
        routes.dispatch(Arc::clone(&self.engine), &matched, self.call(operation, path, body)).await
    }

    fn call(&self, operation: Operation, path: &str, body: Value) -> Call {
        let matched = Pki::routes().matching(path).expect("a path of ours");
        Call {
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
        }
    }

    async fn write(&self, path: &str, body: Value) -> Result<Response, Error> {
        self.ask(Operation::Update, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.ask(Operation::Read, path, Value::Null).await.unwrap())
    }

    async fn nonce(&self) -> String {
        self.get("acme/new-nonce").await.header(Header::ReplayNonce)
    }

    /// Lets jobs in the background go as far as they can.
    async fn run_on(&self) {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets jobs in the background end.
    async fn settle(&self) {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
            if self.engine.acme.validations.idle() {
                return;
            }
        }
        panic!("a job does not end");
    }

    /// A round of upkeep, and the end of what it began.
    async fn tick(&self) {
        Arc::clone(&self.engine).tick(self.now()).await.unwrap();
        self.settle().await;
    }
}

/// An answer of a directory.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(Header, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(response: Response) -> Self {
        let raw = response.raw.expect("an answer of a directory");
        let status = response.status.unwrap_or(200);
        Self { status, headers: response.headers, body: raw.body.to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn header(&self, wanted: Header) -> String {
        let found = self.headers.iter().find(|(header, _)| *header == wanted);
        found.unwrap_or_else(|| panic!("{wanted:?} in {self:?}")).1.clone()
    }

    /// The problem's name; empty for an answer that is none.
    fn problem(&self) -> String {
        let kind = serde_json::from_slice::<Value>(&self.body).unwrap_or_default()["type"].clone();
        let name = kind.as_str().and_then(|urn| urn.strip_prefix("urn:ietf:params:acme:error:"));
        name.unwrap_or_default().to_owned()
    }

    /// The status and the problem's name.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.problem())
    }
}

/// A client of one directory.
struct Client<'a> {
    bed: &'a Bed,
    directory: String,
    key: Key,
    kid: String,
}

impl<'a> Client<'a> {
    /// With an account.
    async fn new(bed: &'a Bed, directory: &str) -> Self {
        let mut client = Self::without_account(bed, directory);
        let answer = client.new_account(json!({})).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        client.kid = answer.header(Header::Location);
        client
    }

    fn without_account(bed: &'a Bed, directory: &str) -> Self {
        Self { bed, directory: directory.to_owned(), key: Key::new("ES256"), kid: String::new() }
    }

    fn url(&self, rest: &str) -> String {
        format!("{BASE}{}{rest}", self.directory)
    }

    async fn send(&self, url: &str, envelope: &Envelope) -> Answer {
        let path = url.strip_prefix(BASE).expect("a URL of ours");
        Answer::of(self.bed.write(path, json!(envelope)).await.unwrap())
    }

    async fn new_account(&self, payload: Value) -> Answer {
        let url = self.url("new-account");
        let header = json!({
            "alg": self.key.algorithm, "jwk": self.key.jwk(), "nonce": self.bed.nonce().await, "url": url,
        });
        self.send(&url, &self.key.sign(&header, payload.to_string().as_bytes())).await
    }

    async fn header(&self, url: &str) -> Value {
        json!({ "alg": self.key.algorithm, "kid": self.kid, "nonce": self.bed.nonce().await, "url": url })
    }

    /// A request as the account.
    async fn post(&self, url: &str, payload: Value) -> Answer {
        let header = self.header(url).await;
        self.send(url, &self.key.sign(&header, payload.to_string().as_bytes())).await
    }

    /// POST-as-GET.
    async fn read(&self, url: &str) -> Answer {
        let header = self.header(url).await;
        self.send(url, &self.key.sign(&header, b"")).await
    }

    async fn order(&self, names: &[&str]) -> Answer {
        let identifiers: Vec<Value> =
            names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
        self.post(&self.url("new-order"), json!({ "identifiers": identifiers })).await
    }

    /// The challenge of this kind.
    async fn challenge(&self, authorization: &str, kind: &str) -> Value {
        let authorization = self.read(authorization).await.json();
        let challenges = authorization["challenges"].as_array().unwrap();
        challenges.iter().find(|challenge| challenge["type"] == kind).unwrap().clone()
    }

    fn key_authorization(&self, token: &str) -> String {
        let key = super::Jwk::parse(self.key.jwk().to_string().as_bytes()).unwrap();
        format!("{token}.{}", key.thumbprint())
    }

    /// Puts the proof of `http-01` in its place.
    fn publish(&self, host: &str, token: &str) {
        let content = self.key_authorization(token).into_bytes();
        self.bed.world.files.lock().unwrap().insert(format!("{host}/{token}"), content);
    }

    /// Proves every name of an order over HTTP.
    async fn prove(&self, order: &Answer) {
        for url in order.json()["authorizations"].as_array().unwrap() {
            let url = url.as_str().unwrap();
            let host = self.read(url).await.json()["identifier"]["value"].as_str().unwrap().to_owned();
            let challenge = self.challenge(url, "http-01").await;
            self.publish(&host, challenge["token"].as_str().unwrap());
            let answer = self.post(challenge["url"].as_str().unwrap(), json!({})).await;
            assert_eq!(answer.json()["status"], "processing");
            self.bed.settle().await;
            assert_eq!(self.read(url).await.json()["status"], "valid");
        }
    }

    /// Says of the first name of a fresh order that its proof over HTTP is there; answers the authorization's URL.
    async fn claim(&self, name: &str, proved: bool) -> String {
        let order = self.order(&[name]).await;
        let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let challenge = self.challenge(&url, "http-01").await;
        if proved {
            self.publish(name, challenge["token"].as_str().unwrap());
        }
        let answer = self.post(challenge["url"].as_str().unwrap(), json!({})).await;
        assert_eq!(answer.json()["status"], "processing", "{}", answer.text());
        url
    }

    async fn finalize(&self, order: &Answer, csr: &[u8]) -> Answer {
        let url = order.json()["finalize"].as_str().unwrap().to_owned();
        self.post(&url, json!({ "csr": BASE64URL.encode(csr) })).await
    }

    /// A certificate for these names.
    async fn certificate(&self, names: &[&str]) -> Certificate {
        let order = self.order(names).await;
        assert_eq!(order.status, 201, "{}", order.text());
        self.prove(&order).await;
        let answer = self.finalize(&order, &csr("", names)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let url = answer.json()["certificate"].as_str().unwrap().to_owned();
        Certificate::from_pem(&self.read(&url).await.text()).unwrap()
    }
}

/// A CSR in DER.
fn csr(common_name: &str, names: &[&str]) -> Vec<u8> {
    csr_of(&PrivateKey::generate(KeySpec::new("ec", 256).unwrap()).unwrap(), common_name, names, false)
}

fn csr_of(key: &dyn Signer, common_name: &str, names: &[&str], authority: bool) -> Vec<u8> {
    let (ip, dns): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
    let names = RequestedNames {
        common_name: common_name.to_owned(),
        alt_names: owned(dns),
        ip_sans: owned(ip),
        exclude_cn_from_sans: true,
        ..RequestedNames::default()
    };
    let request = CsrRequest { names, add_basic_constraints: authority, ..CsrRequest::default() };
    create_csr(&request, key).unwrap().der
}
