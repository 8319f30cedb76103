//! Admission webhooks: whom a write is shown to, and what they say of it (`admission.k8s.io/v1`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::kind::Kind;
use super::patch;
use super::selector::Selectors;
use super::status::Failure;
use super::store::Store;

/// Connections that are open and idle, by the webhook they lead to.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<HashMap<String, Vec<SendRequest<Full<Bytes>>>>>);

/// A webhook that a write is to be shown to.
#[derive(Debug)]
pub(super) struct Hook {
    name: String,
    mutates: bool,
    url: url::Url,
    /// Where it is, if that is not what the URL says.
    address: Option<SocketAddr>,
    authorities: Vec<u8>,
    /// Whether a write is refused if it cannot be asked.
    must_answer: bool,
    timeout: Duration,
}

/// A write, as webhooks are told of it.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) kind: &'a Kind,
    pub(super) subresource: Option<&'a str>,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE`.
    pub(super) operation: &'static str,
    pub(super) object: Value,
    pub(super) before: Value,
    pub(super) user: &'a Value,
    pub(super) dry: bool,
}

/// The webhooks that a write is to be shown to: those that may change it first.
pub(super) fn hooks(
    store: &Store,
    services: &HashMap<(String, String), SocketAddr>,
    subject: &Subject<'_>,
) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for (plural, mutates) in
        [("mutatingwebhookconfigurations", true), ("validatingwebhookconfigurations", false)]
    {
        let Some(table) = store.tables.get(&format!("{plural}.admissionregistration.k8s.io")) else {
            continue;
        };
        if subject.kind.group == "admissionregistration.k8s.io" {
            continue; // Nobody can lock the door that is to be opened to him.
        }
        let webhooks = table.objects.values().filter_map(|object| object["webhooks"].as_array()).flatten();
        hooks.extend(
            webhooks
                .filter(|webhook| concerns(webhook, store, subject))
                .filter_map(|webhook| Hook::read(webhook, mutates, services)),
        );
    }
    hooks
}

fn concerns(webhook: &Value, store: &Store, subject: &Subject<'_>) -> bool {
    let kind = subject.kind;
    let resource = |pattern: &str| match (pattern.split_once('/'), subject.subresource) {
        (None, None) => pattern == "*" || pattern == kind.plural,
        (None, Some(_)) => false,
        (Some((plural, sub)), found) => {
            (plural == "*" || plural == kind.plural) && (sub == "*" || Some(sub) == found)
        }
    };
    let rules = webhook["rules"].as_array().into_iter().flatten();
    let is_ruled = rules.into_iter().any(|rule| {
        let any = |field: &str, fits: &dyn Fn(&str) -> bool| {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).any(fits)
        };
        let scope = rule["scope"].as_str().unwrap_or("*");
        any("operations", &|one| one == "*" || one == subject.operation)
            && any("apiGroups", &|one| one == "*" || one == kind.group)
            && any("apiVersions", &|one| one == "*" || one == kind.version)
            && any("resources", &resource)
            && (scope == "*" || (scope == "Namespaced") == kind.namespaced)
    });
    if !is_ruled {
        return false;
    }
    let home = if kind.plural == "namespaces" { subject.name } else { subject.namespace };
    let home = store.find("namespaces", &(String::new(), home.to_owned()));
    let in_namespace = match home {
        Some(home) => Selectors::of_object(&webhook["namespaceSelector"]).matches(home),
        None => true,
    };
    let chosen = Selectors::of_object(&webhook["objectSelector"]);
    in_namespace && (chosen.matches(&subject.object) || chosen.matches(&subject.before))
}

impl Hook {
    fn read(
        webhook: &Value,
        mutates: bool,
        services: &HashMap<(String, String), SocketAddr>,
    ) -> Option<Self> {
        let client = &webhook["clientConfig"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (url, address) = match client["url"].as_str() {
            Some(url) => (url.to_owned(), None),
            None => {
                let (namespace, name) =
                    (word(&client["service"]["namespace"]), word(&client["service"]["name"]));
                let port = client["service"]["port"].as_u64().unwrap_or(443);
                let path = word(&client["service"]["path"]);
                let path = path.trim_start_matches('/');
                let url = format!("https://{name}.{namespace}.svc:{port}/{path}");
                // What no table resolves leads nowhere.
                let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
                (url, Some(services.get(&(namespace, name)).copied().unwrap_or(nowhere)))
            }
        };
        let bundle = client["caBundle"].as_str().unwrap_or_default();
        Some(Self {
            name: word(&webhook["name"]),
            mutates,
            url: url.parse().ok()?,
            address,
            authorities: data_encoding::BASE64.decode(bundle.as_bytes()).unwrap_or_default(),
            must_answer: webhook["failurePolicy"] != "Ignore",
            timeout: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(10)),
        })
    }

    /// Shows it a write, and changes the write as it says. Answers its warnings.
    pub(super) async fn ask(&self, subject: &mut Subject<'_>, idle: &Idle) -> Result<Vec<String>, Failure> {
        let review = subject.review();
        let answer = match tokio::time::timeout(self.timeout, self.send(&review, idle)).await {
            Ok(answer) => answer.and_then(|answer| self.read_answer(&review, answer)),
            Err(_) => Err(format!("Post {:?}: context deadline exceeded", self.url.as_str())),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if !self.must_answer => return Ok(Vec::new()),
            Err(cause) => {
                let message = format!(
                    "Internal error occurred: failed calling webhook {:?}: failed to call webhook: {cause}",
                    self.name
                );
                let details = json!({ "causes": [{ "message": message.trim_start_matches("Internal error occurred: ") }] });
                return Err(Failure::new(500, "InternalError", message, Some(details)));
            }
        };
        if answer["allowed"] != true {
            return Err(self.denial(&answer["status"]));
        }
        if self.mutates
            && let Some(patch) = answer["patch"].as_str()
        {
            let patch = data_encoding::BASE64.decode(patch.as_bytes()).unwrap_or_default();
            let patch = serde_json::from_slice(&patch).unwrap_or_default();
            patch::apply_operations(&mut subject.object, &patch).map_err(|cause| {
                Failure::new(500, "InternalError", format!("Internal error occurred: {cause}"), None)
            })?;
        }
        let warnings = answer["warnings"].as_array().into_iter().flatten();
        Ok(warnings.filter_map(|warning| warning.as_str().map(str::to_owned)).collect())
    }

    fn read_answer(&self, review: &Value, answer: Value) -> Result<Value, String> {
        if answer["apiVersion"] != "admission.k8s.io/v1" || answer["kind"] != "AdmissionReview" {
            return Err(format!(
                "received invalid webhook response: expected webhook response of admission.k8s.io/v1, \
                 Kind=AdmissionReview, got {}, Kind={}",
                answer["apiVersion"].as_str().unwrap_or_default(),
                answer["kind"].as_str().unwrap_or_default()
            ));
        }
        let response = &answer["response"];
        if response["uid"] != review["request"]["uid"] {
            return Err("received invalid webhook response: response.uid does not match".into());
        }
        if response["patch"].is_string() && response["patchType"] != "JSONPatch" {
            return Err("received invalid webhook response: webhook returned response.patch but not response.patchType".into());
        }
        Ok(response.clone())
    }

    fn denial(&self, status: &Value) -> Failure {
        let by = format!("admission webhook {:?} denied the request", self.name);
        let word = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
        let message = match (word("message"), word("reason")) {
            (Some(text), _) | (None, Some(text)) => format!("{by}: {text}"),
            (None, None) => format!("{by} without explanation"),
        };
        let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0).max(400);
        let details = status.get("details").filter(|details| !details.is_null()).cloned();
        let mut failure = Failure::new(code, word("reason").unwrap_or_default(), message, details);
        if word("reason").is_none() {
            super::write::remove(&mut failure.body, "reason");
        }
        failure
    }

    async fn send(&self, review: &Value, idle: &Idle) -> Result<Value, String> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let port = self.url.port_or_known_default().unwrap_or(443);
        let failed = |cause: &dyn std::fmt::Display| format!("Post {:?}: {cause}", self.url.as_str());
        let place = match self.address {
            Some(address) => address.to_string(),
            None => format!("{host}:{port}"),
        };
        let kept =
            format!("{place} {} {}", self.url.scheme(), data_encoding::BASE64.encode(&self.authorities));
        let mut sender = match idle.take(&kept) {
            Some(sender) => sender,
            None => self.connect(&place, &host).await.map_err(|cause| failed(&cause))?,
        };
        let request = http::Request::post(self.url[url::Position::BeforePath..].to_owned())
            .header(http::header::HOST, format!("{host}:{port}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(review.to_string())))
            .map_err(|cause| failed(&cause))?;
        let answer = sender.send_request(request).await.map_err(|cause| failed(&cause))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|cause| failed(&cause))?.to_bytes();
        idle.keep(kept, sender);
        if !status.is_success() {
            return Err(format!(
                "an error on the server ({:?}) has prevented the request from succeeding",
                String::from_utf8_lossy(&body)
            ));
        }
        serde_json::from_slice(&body).map_err(|cause| failed(&cause))
    }

    async fn connect(&self, place: &str, host: &str) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(place).await.map_err(|cause| format!("dial tcp {place}: {cause}"))?;
        let _ = stream.set_nodelay(true);
        if self.url.scheme() == "http" {
            return opened(TokioIo::new(stream)).await;
        }
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authorities).flatten() {
            roots.add(certificate).map_err(|cause| cause.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| cause.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|cause| cause.to_string())?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        opened(TokioIo::new(
            connected.map_err(|cause| format!("tls: failed to verify certificate: {cause}"))?,
        ))
        .await
    }
}

async fn opened<T>(stream: T) -> Result<SendRequest<Full<Bytes>>, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(stream).await.map_err(|cause| cause.to_string())?;
    tokio::spawn(async move {
        // A connection that breaks is seen by whoever sends over it.
        let _ = connection.await;
    });
    Ok(sender)
}

impl Idle {
    fn take(&self, kept: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.0.lock().expect("nobody panicked");
        let senders = idle.get_mut(kept)?;
        while let Some(sender) = senders.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, kept: String, sender: SendRequest<Full<Bytes>>) {
        self.0.lock().expect("nobody panicked").entry(kept).or_default().push(sender);
    }
}

impl Subject<'_> {
    fn review(&self) -> Value {
        let kind = self.kind;
        let gvk = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        let gvr = json!({ "group": kind.group, "version": kind.version, "resource": kind.plural });
        let options = match self.operation {
            "CREATE" => "CreateOptions",
            "UPDATE" => "UpdateOptions",
            _ => "DeleteOptions",
        };
        let mut request = json!({
            "uid": uuid::Uuid::new_v4().to_string(),
            "kind": gvk, "resource": gvr, "requestKind": gvk, "requestResource": gvr,
            "name": self.name, "operation": self.operation, "userInfo": self.user,
            "object": self.object, "oldObject": self.before, "dryRun": self.dry,
            "options": { "kind": options, "apiVersion": "meta.k8s.io/v1" },
        });
        if !self.namespace.is_empty() {
            request["namespace"] = self.namespace.into();
        }
        if let Some(subresource) = self.subresource {
            request["subResource"] = subresource.into();
            request["requestSubResource"] = subresource.into();
        }
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
    }
}
