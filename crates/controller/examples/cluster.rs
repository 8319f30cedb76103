//! A cluster for `cargo xtask bench controller`: the double of the API server in a process of its own, and what fills it.
//!
//! `cluster CSR_FILE` prints a line of JSON with its `url`, and then answers each line of its input with one:
//! - `issuer SERVER ROLE_ID SECRET_ID`: makes a vault Issuer and waits until it is ready: `seconds`.
//! - `idle COUNT`: makes CertificateRequests one after another; how long each waits for its certificate: `p50_ms`, `p99_ms`.
//! - `round_trips COUNT`: how long the API server itself takes for the same, an object told by a watch and one write of it:
//!   `p50_ms`, `p99_ms`.
//! - `burst COUNT`: makes so many at once: `seconds`, how many have certificates (`issued`), how many of those are `distinct`.
//! - `certificates COUNT`: makes Certificates and waits until all are ready: `seconds`, `ready`.
//! - `secrets COUNT`: makes Secrets that are nobody's.
//! - `counts`: how many requests came so far that write (`writes`), that make CertificateRequests (`issuances`), and in all (`all`).
//!   Leases and events are not counted.

use std::collections::HashSet;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use chancery_kubernetes::{ClientOptions, connect, follow, request};
use chancery_testkit::kubernetes::ApiServer;
use data_encoding::BASE64;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher::{Config, Event};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

type Failure = Box<dyn Error + Send + Sync>;

const NAMESPACE: &str = "istio-system";
const REQUESTS: &str = "certificaterequests";

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(3600);

struct Cluster {
    server: ApiServer,
    csr: String,
    made: usize,
}

fn main() -> Result<(), Failure> {
    let csr = std::env::args().nth(1).ok_or("usage: cluster CSR_FILE")?;
    let csr = BASE64.encode(&std::fs::read(csr)?);
    let runtime = tokio::runtime::Runtime::new()?;
    let mut cluster = runtime.block_on(async { Cluster { server: ApiServer::start().await, csr, made: 0 } });
    say(&json!({ "url": cluster.server.url() }))?;
    for line in std::io::stdin().lock().lines() {
        say(&runtime.block_on(cluster.obey(&line?))?)?;
    }
    Ok(())
}

fn say(answer: &Value) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{answer}")?;
    Ok(output.flush()?)
}

impl Cluster {
    async fn obey(&mut self, line: &str) -> Result<Value, Failure> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["issuer", server, role_id, secret_id] => self.issuer(server, role_id, secret_id).await,
            ["idle", count] => self.idle(count.parse()?).await,
            ["round_trips", count] => self.round_trips(count.parse()?).await,
            ["burst", count] => self.burst(count.parse()?).await,
            ["certificates", count] => self.certificates(count.parse()?).await,
            ["secrets", count] => Ok(self.secrets(count.parse()?)),
            ["counts"] => Ok(self.counts()),
            _ => Err(format!("{line:?} is no command").into()),
        }
    }

    async fn issuer(&self, server: &str, role_id: &str, secret_id: &str) -> Result<Value, Failure> {
        let secret = json!({
            "metadata": { "name": "cert-manager-vault-approle" },
            "type": "Opaque",
            "data": { "secretId": BASE64.encode(secret_id.as_bytes()) },
        });
        self.server.put("secrets", NAMESPACE, secret);
        let secret = json!({ "name": "cert-manager-vault-approle", "key": "secretId" });
        let vault = json!({
            "server": server, "path": "istioca/sign/cluster-local",
            "auth": { "appRole": { "path": "approle", "roleId": role_id, "secretRef": secret } },
        });
        let issuer = json!({ "metadata": { "name": "vault-issuer" }, "spec": { "vault": vault } });
        self.server.put("issuers", NAMESPACE, issuer);
        let begin = Instant::now();
        while !self.server.get("issuers", NAMESPACE, "vault-issuer").is_some_and(|issuer| is_ready(&issuer)) {
            if begin.elapsed() > Duration::from_secs(60) {
                let issuer = self.server.get("issuers", NAMESPACE, "vault-issuer");
                return Err(format!("the issuer is not ready: {issuer:?}").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(json!({ "seconds": begin.elapsed().as_secs_f64() }))
    }

    /// Makes one more CertificateRequest, as istio-csr does.
    fn request(&mut self) -> String {
        self.made += 1;
        let name = format!("istio-csr-{}", self.made);
        let object = json!({
            "metadata": {
                "name": name,
                "annotations": { "istio.cert-manager.io/identities": "spiffe://cluster.local/ns/foo/sa/sleep" },
            },
            "spec": {
                "request": self.csr, "duration": "1h0m0s", "isCA": false, "usages": ["client auth", "server auth"],
                "issuerRef": { "name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io" },
            },
        });
        self.server.put(REQUESTS, NAMESPACE, object);
        name
    }

    async fn idle(&mut self, count: usize) -> Result<Value, Failure> {
        let mut times = Vec::new();
        for _ in 0..count {
            let mut changes = self.server.changes();
            let begin = Instant::now();
            let name = self.request();
            let issued = async {
                while !self.server.get(REQUESTS, NAMESPACE, &name).is_some_and(|one| has_certificate(&one)) {
                    changes.changed().await?;
                }
                Ok::<_, Failure>(begin.elapsed())
            };
            times.push(
                timeout(Duration::from_secs(30), issued).await.map_err(|_| "no certificate in 30 s")??,
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(percentiles(times))
    }

    async fn round_trips(&self, count: usize) -> Result<Value, Failure> {
        let options = ClientOptions { server: Some(self.server.url()), ..ClientOptions::default() };
        let api: Api<ConfigMap> = Api::namespaced(connect(&options).await?, NAMESPACE);
        let (sender, mut told) = mpsc::channel(16);
        let watching = tokio::spawn(follow(api.clone(), Config::default(), "configmaps", move |event| {
            if let Event::Apply(object) = event {
                // There is never more than one on its way.
                let _ = sender.try_send(object);
            }
        }));
        // The watch must stand before the first is made.
        sleep(Duration::from_millis(500)).await;
        let mut times = Vec::new();
        for number in 0..count {
            let name = format!("round-trip-{number}");
            let begin = Instant::now();
            let object = json!({ "metadata": { "name": name }, "data": { "request": self.csr } });
            self.server.put("configmaps", NAMESPACE, object);
            let mut object = loop {
                let object = told.recv().await.ok_or("the watch ended")?;
                if object.metadata.name.as_ref() == Some(&name) {
                    break object;
                }
            };
            object.data.get_or_insert_default().insert("certificate".into(), self.csr.repeat(2));
            request(api.replace(&name, &PostParams::default(), &object)).await?;
            times.push(begin.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        watching.abort();
        Ok(percentiles(times))
    }

    async fn burst(&mut self, count: usize) -> Result<Value, Failure> {
        let before = self.written();
        let begin = Instant::now();
        for _ in 0..count {
            self.request();
        }
        // Looking at them all costs more than being told that enough was written to look at them.
        while self.written() < before + count && begin.elapsed() < Duration::from_secs(300) {
            sleep(Duration::from_millis(5)).await;
        }
        let (issued, distinct) = loop {
            let all = self.server.list(REQUESTS, Some(NAMESPACE));
            let certificates = all.iter().filter_map(|one| one.pointer("/status/certificate"));
            let issued: Vec<&str> = certificates.filter_map(Value::as_str).collect();
            let distinct = issued.iter().collect::<HashSet<_>>().len();
            if issued.len() == self.made || begin.elapsed() > Duration::from_secs(300) {
                break (issued.len(), distinct);
            }
            sleep(Duration::from_millis(100)).await;
        };
        let seconds = begin.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "issued": issued, "distinct": distinct, "made": self.made }))
    }

    fn written(&self) -> usize {
        self.server.count("update", "certificaterequests/status")
    }

    async fn certificates(&self, count: usize) -> Result<Value, Failure> {
        let begin = Instant::now();
        for number in 0..count {
            let object = json!({
                "metadata": { "name": format!("certificate-{number}") },
                "spec": {
                    "secretName": format!("certificate-{number}-tls"), "duration": "720h", "renewBefore": "240h",
                    "dnsNames": [format!("service-{number}.istio-system.svc")],
                    "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
                    "issuerRef": { "name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io" },
                },
            });
            self.server.put("certificates", NAMESPACE, object);
        }
        let mut ready = 0;
        while ready < count && begin.elapsed() < PATIENCE {
            sleep(Duration::from_secs(1)).await;
            ready = self.server.list("certificates", None).iter().filter(|one| is_ready(one)).count();
        }
        Ok(json!({ "seconds": begin.elapsed().as_secs_f64(), "ready": ready }))
    }

    fn secrets(&self, count: usize) -> Value {
        let data = BASE64.encode(&[7; 2048]);
        for number in 0..count {
            let object = json!({
                "metadata": {
                    "name": format!("unrelated-{number}"),
                    "labels": { "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": format!("a-{number}") },
                },
                "type": "Opaque", "data": { "password": data },
            });
            self.server.put("secrets", "default", object);
        }
        json!({})
    }

    fn counts(&self) -> Value {
        let count = |verbs: &[&str], resources: &[&str]| {
            let each = verbs.iter().flat_map(|verb| resources.iter().map(move |resource| (verb, resource)));
            each.map(|(verb, resource)| self.server.count(verb, resource)).sum::<usize>()
        };
        let resources = [
            "certificates",
            "certificates/status",
            REQUESTS,
            "certificaterequests/status",
            "secrets",
            "issuers/status",
            "clusterissuers/status",
        ];
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        let all = [&writes[..], &["get", "list", "watch"]].concat();
        json!({
            "writes": count(&writes, &resources),
            "issuances": count(&["create"], &[REQUESTS]),
            "all": count(&all, &resources),
        })
    }
}

fn has_certificate(object: &Value) -> bool {
    object.pointer("/status/certificate").is_some_and(Value::is_string)
}

fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, field: &str, value: &str| {
        condition.get(field).is_some_and(|found| found == value)
    };
    conditions
        .is_some_and(|all| all.iter().any(|one| text(one, "type", "Ready") && text(one, "status", "True")))
}

fn percentiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |hundredths: usize| {
        let index = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    json!({ "p50_ms": at(50), "p99_ms": at(99) })
}
