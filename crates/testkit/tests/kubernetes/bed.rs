//! What the tests share: a client that says exactly what it sends.

use bytes::Bytes;
use chancery_testkit::kubernetes::ApiServer;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/default/certificaterequests";
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A request to be sent.
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

pub(crate) fn ask(method: &'static str, path: impl Into<String>) -> Ask {
    Ask { method, path: path.into(), headers: Vec::new(), body: None }
}

impl Ask {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }

    /// What is answered, or none, if the connection breaks.
    pub(crate) async fn open(self, server: &ApiServer) -> Option<Response<Incoming>> {
        let stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request =
            http::Request::builder().method(self.method).uri(self.path).header("host", "double");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let body = self.body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        sender.send_request(request.body(Full::new(body)).expect("a request")).await.ok()
    }

    pub(crate) async fn send(self, server: &ApiServer) -> (StatusCode, Value) {
        let answer = self.open(server).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    pub(crate) async fn good(self, server: &ApiServer) -> Value {
        let (status, body) = self.send(server).await;
        assert!(status.is_success(), "{body}");
        body
    }

    /// Code, reason, message.
    pub(crate) async fn refused(self, server: &ApiServer) -> (u16, String, String) {
        let (status, body) = self.send(server).await;
        assert!(!status.is_success(), "{body}");
        let word = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(body["code"], status.as_u16());
        (status.as_u16(), word("reason"), word("message"))
    }
}

pub(crate) fn apply(path: &str, manager: &str, body: Value) -> Ask {
    ask("PATCH", format!("{path}?fieldManager={manager}"))
        .with("content-type", "application/apply-patch+yaml")
        .body(body)
}

pub(crate) fn patch(path: &str, form: &str, body: Value) -> Ask {
    ask("PATCH", path).with("content-type", format!("application/{form}+json")).body(body)
}

pub(crate) fn map(name: &str, value: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "k": value } })
}

/// The events of a watch.
pub(crate) struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    pub(crate) async fn open(server: &ApiServer, path: &str, accept: &str) -> Self {
        let answer = ask("GET", path).with("accept", accept).open(server).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), rest: Vec::new() }
    }

    /// The next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = self.body.frame().await?.expect("a frame");
            self.rest.extend_from_slice(frame.data_ref().expect("data"));
        }
    }

    /// Drops what came; false at the end.
    pub(crate) async fn skip(&mut self) -> bool {
        self.body.frame().await.is_some_and(|frame| frame.is_ok())
    }

    /// The next event that is no bookmark, as its type and the object's name.
    pub(crate) async fn next_change(&mut self) -> (String, String) {
        loop {
            let event = self.next().await.expect("an event");
            if event["type"] != "BOOKMARK" {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return (word(&event["type"]), word(&event["object"]["metadata"]["name"]));
            }
        }
    }
}
