//! HTTP: connections, requests read, faults, answers written.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::call::Call;
use super::control::{Fault, Request, Shared};
use super::discovery;
use super::kind::Target;
use super::status::Failure;

pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let counted = Arc::clone(&shared);
            counted.connections.send_modify(|(open, most)| {
                *open += 1;
                *most = (*most).max(*open);
            });
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            // A connection that breaks is part of the game.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            counted.connections.send_modify(|(open, _)| *open -= 1);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: http::Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
    let user = match shared.state().access.authenticate(&head.headers) {
        Ok(user) => user,
        Err(refused) => return Ok(failure(&refused)),
    };
    match head.uri.path() {
        "/healthz" | "/livez" | "/readyz" => return Ok(plain("ok".into())),
        "/version" => {
            return Ok(json_answer(200, &json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" })));
        }
        _ => {}
    }
    if let Some(found) = discovery::answer(head.uri.path(), &shared.state().store.kinds) {
        return Ok(json_answer(200, &found));
    }
    let parameters = parameters(head.uri.query().unwrap_or_default());
    let Some(target) = Target::parse(head.uri.path()) else { return Ok(failure(&Failure::no_such_path())) };
    let Some(body) = read(&body, &head.headers) else { return Ok(failure(&Failure::unsupported_body())) };
    let verb = verb(&head.method, &target, &parameters);
    let call = Call { target, parameters, headers: head.headers, body, verb, user };
    let (fault, latency) = {
        let mut state = shared.state();
        let resource = call.resource();
        let fault =
            state.fault(verb, &resource, call.target.name.as_deref().unwrap_or_else(|| call.body_name()));
        let request = Request {
            verb: verb.to_owned(),
            resource,
            namespace: call.target.namespace.clone(),
            name: call.target.name.clone(),
            user: call.user["username"].as_str().unwrap_or_default().to_owned(),
            at: Instant::now(),
        };
        let stopped = state.stop.as_mut().and_then(|stop| stop.meet(&request));
        state.record(request);
        (stopped.or(fault), state.latency)
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match fault {
        Some(Fault::Code(code)) => return Ok(failure(&Failure::of_code(code))),
        Some(Fault::RetryAfter(seconds)) => {
            let mut refused = Failure::of_code(429);
            refused.body["details"]["retryAfterSeconds"] = seconds.into();
            return Ok(failure(&refused));
        }
        Some(Fault::Refuse(status)) => {
            let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            return Ok(failure(&Failure { code, body: status }));
        }
        Some(Fault::Drop) => return Err(broken()),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::HangAfter) => {
            let _ = call.perform(&shared).await;
            std::future::pending().await
        }
        Some(Fault::LoseAnswer) => {
            let _ = call.perform(&shared).await;
            return Err(broken());
        }
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Race) => call.overtake(&shared),
        None => {}
    }
    Ok(call.perform(&shared).await)
}

/// A body in JSON; applications may come in YAML.
fn read(body: &[u8], headers: &http::HeaderMap) -> Option<Value> {
    if body.is_empty() {
        return Some(Value::Null);
    }
    if let Ok(body) = serde_json::from_slice(body) {
        return Some(body);
    }
    let form = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !form.contains("yaml") {
        return None;
    }
    serde_saphyr::from_str(std::str::from_utf8(body).ok()?).ok()
}

fn verb(method: &Method, target: &Target, parameters: &Map<String, Value>) -> &'static str {
    let watches = matches!(parameters.get("watch").and_then(Value::as_str), Some("true" | "1"));
    match (method, &target.name) {
        (&Method::GET, Some(_)) => "get",
        (&Method::GET, None) if watches => "watch",
        (&Method::GET, None) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        (&Method::DELETE, None) => "deletecollection",
        _ => "none",
    }
}

fn parameters(query: &str) -> Map<String, Value> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect()
}

pub(super) fn json_answer(code: u16, body: &Value) -> Answer {
    text_answer(code, body.to_string())
}

/// JSON that is written already.
pub(super) fn text_answer(code: u16, body: String) -> Answer {
    let mut answer = plain(body.into());
    *answer.status_mut() = StatusCode::from_u16(code).expect("a status code");
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn failure(failure: &Failure) -> Answer {
    let mut answer = json_answer(failure.code, &failure.body);
    if let Some(seconds) = failure.body["details"]["retryAfterSeconds"].as_u64() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn plain(text: Bytes) -> Answer {
    Response::new(Full::new(text).map_err(never).boxed())
}

fn never(never: Infallible) -> io::Error {
    match never {}
}
