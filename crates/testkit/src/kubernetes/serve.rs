//! Requests: from HTTP to the store and back.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::control::{Fault, Request, Shared, State};
use super::discovery;
use super::kind::{Kind, Target};
use super::selector::Selectors;
use super::status::Failure;
use super::store::{Part, merge, text};
use super::watch::{self, Watch, metadata_of};

type Answer = Response<BoxBody<Bytes, io::Error>>;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
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

/// A request, read.
struct Call {
    method: Method,
    target: Target,
    parameters: Map<String, Value>,
    headers: HeaderMap,
    body: Value,
    verb: &'static str,
}

async fn answer(request: http::Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
    let bearer =
        head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = match &shared.state().bearer {
        Some(token) => bearer.strip_prefix("Bearer ") == Some(token),
        None => true,
    };
    if !is_known {
        return Ok(failure(&Failure::unauthorized()));
    }
    match head.uri.path() {
        "/healthz" | "/livez" | "/readyz" => return Ok(plain("ok")),
        "/version" => {
            return Ok(json_answer(200, &json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" })));
        }
        _ => {}
    }
    if let Some(found) = discovery::answer(head.uri.path(), &shared.state().kinds) {
        return Ok(json_answer(200, &found));
    }
    let parameters = parameters(head.uri.query().unwrap_or_default());
    let Some(target) = Target::parse(head.uri.path()) else { return Ok(failure(&Failure::no_such_path())) };
    let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
    let Ok(body) = body else { return Ok(failure(&Failure::unsupported_body())) };
    let verb = verb(&head.method, &target, &parameters);
    let call = Call { method: head.method, target, parameters, headers: head.headers, body, verb };
    let fault = {
        let mut state = shared.state();
        let resource = call.resource();
        state.requests.push(Request {
            verb: verb.to_owned(),
            resource: resource.clone(),
            namespace: call.target.namespace.clone(),
            name: call.target.name.clone(),
        });
        state.fault(verb, &resource)
    };
    match fault {
        Some(Fault::Code(code)) => return Ok(failure(&Failure::of_code(code))),
        Some(Fault::Drop) => return Err(broken()),
        Some(Fault::LoseAnswer) => {
            let _ = call.perform(&shared);
            return Err(broken());
        }
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Race) => call.overtake(&shared),
        None => {}
    }
    Ok(call.perform(&shared))
}

impl Call {
    fn resource(&self) -> String {
        match &self.target.subresource {
            Some(subresource) => format!("{}/{subresource}", self.target.plural),
            None => self.target.plural.clone(),
        }
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_dry(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    fn perform(&self, shared: &Arc<Shared>) -> Answer {
        let done = self.try_perform(shared);
        shared.announce();
        done.unwrap_or_else(|refused| failure(&refused))
    }

    fn try_perform(&self, shared: &Arc<Shared>) -> Result<Answer, Failure> {
        let mut state = shared.state();
        if self.target.group == "authentication.k8s.io" && self.target.plural == "tokenreviews" {
            return self.review(&state);
        }
        let kind = state.kind_of(&self.target).ok_or_else(Failure::no_such_path)?;
        let namespace = self.target.namespace.as_deref();
        if state.is_denied(self.verb, &self.resource()) {
            let (name, sub) = (self.target.name.as_deref(), self.target.subresource.as_deref());
            return Err(Failure::forbidden(&state.user, self.verb, &kind, namespace, name, sub));
        }
        let part = match self.target.subresource.as_deref() {
            None => Part::Object,
            Some("status") if kind.status => Part::Status,
            Some(_) => return Err(Failure::no_such_path()),
        };
        let (home, store) = (namespace.unwrap_or_default(), &mut state.store);
        let Some(name) = self.target.name.as_deref() else {
            return match self.verb {
                "watch" => {
                    drop(state);
                    self.watch(kind, shared)
                }
                "list" => self.list(&kind, &state),
                "create" => {
                    Ok(json_answer(201, &store.create(&kind, home, self.body.clone(), self.is_dry())?))
                }
                "deletecollection" => {
                    for object in store.list(&kind, namespace, &self.selectors()?) {
                        store.delete(&kind, text(&object, "namespace"), text(&object, "name"), &self.body)?;
                    }
                    self.list(&kind, &state)
                }
                _ => {
                    Err(Failure::new(405, "MethodNotAllowed", "the server does not allow this method", None))
                }
            };
        };
        match self.verb {
            "get" => {
                let object = store.get(&kind, home, name)?;
                Ok(json_answer(
                    200,
                    &if self.wants_metadata() { metadata_of(object) } else { object.clone() },
                ))
            }
            "update" => {
                let object = store.replace(&kind, home, name, self.body.clone(), part, self.is_dry())?;
                Ok(json_answer(200, &object))
            }
            "patch" => self.patch(&kind, &mut state, home, name, part),
            "delete" => {
                let options = if self.body.is_null() { json!({}) } else { self.body.clone() };
                Ok(json_answer(200, &store.delete(&kind, home, name, &options)?))
            }
            _ => Err(Failure::new(405, "MethodNotAllowed", "the server does not allow this method", None)),
        }
    }

    fn patch(
        &self,
        kind: &Kind,
        state: &mut State,
        home: &str,
        name: &str,
        part: Part,
    ) -> Result<Answer, Failure> {
        let form =
            self.headers.get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok()).unwrap_or_default();
        let applies = form.starts_with("application/apply-patch+yaml");
        if !applies
            && !form.starts_with("application/merge-patch+json")
            && !form.starts_with("application/strategic-merge-patch+json")
        {
            return Err(Failure::unsupported_patch(form));
        }
        if applies && self.parameter("fieldManager").is_empty() {
            return Err(Failure::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value",
            ));
        }
        let current = match state.store.get(kind, home, name) {
            Ok(current) => current.clone(),
            Err(_) if applies && part == Part::Object => {
                let mut object = self.body.clone();
                object["metadata"]["name"] = name.into();
                return Ok(json_answer(201, &state.store.create(kind, home, object, self.is_dry())?));
            }
            Err(missing) => return Err(missing),
        };
        let mut object = current;
        merge(&mut object, &self.body);
        Ok(json_answer(200, &state.store.replace(kind, home, name, object, part, self.is_dry())?))
    }

    fn list(&self, kind: &Kind, state: &State) -> Result<Answer, Failure> {
        let mut items = state.store.list(kind, self.target.namespace.as_deref(), &self.selectors()?);
        let mut metadata = json!({ "resourceVersion": state.store.revision.to_string() });
        // A page goes on behind a name. Versions of pages are not kept: a page shows what is there now.
        let after = self.parameter("continue");
        if !after.is_empty() {
            items.retain(|object| position(object).as_str() > after);
        }
        let limit: usize = self.parameter("limit").parse().unwrap_or(0);
        if limit > 0 && items.len() > limit {
            metadata["remainingItemCount"] = (items.len() - limit).into();
            items.truncate(limit);
            metadata["continue"] = position(&items[limit - 1]).into();
        }
        if self.wants_metadata() {
            let items: Vec<_> = items.iter().map(metadata_of).collect();
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items,
            });
            return Ok(json_answer(200, &list));
        }
        if !kind.custom {
            // Objects in lists of built-in kinds do not repeat their kind.
            for item in &mut items {
                item.as_object_mut().map(|item| (item.remove("kind"), item.remove("apiVersion")));
            }
        }
        let list = json!({
            "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
            "metadata": metadata, "items": items,
        });
        Ok(json_answer(200, &list))
    }

    fn watch(&self, kind: Kind, shared: &Arc<Shared>) -> Result<Answer, Failure> {
        let version = self.parameter("resourceVersion");
        let initial_events = self.parameter("sendInitialEvents") == "true";
        let from = match version {
            "" | "0" => None,
            _ if initial_events => None,
            version => Some(version.parse().map_err(|_| {
                Failure::bad_request(format!("invalid resource version {version:?}: strconv.ParseUint"))
            })?),
        };
        let events = watch::begin(
            Watch {
                kind,
                namespace: self.target.namespace.clone(),
                selectors: self.selectors()?,
                from,
                bookmarks: self.parameter("allowWatchBookmarks") == "true",
                initial_events,
                timeout: Duration::from_secs(self.parameter("timeoutSeconds").parse().unwrap_or(1800)),
                metadata_only: self.wants_metadata(),
            },
            shared,
        );
        let mut answer = Response::new(events.boxed());
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        Ok(answer)
    }

    /// authentication.k8s.io/v1 TokenReview.
    fn review(&self, state: &State) -> Result<Answer, Failure> {
        if self.method != Method::POST {
            return Err(Failure::no_such_path());
        }
        if state.is_denied("create", "tokenreviews") {
            let kind = Kind {
                plural: "tokenreviews".into(),
                status: false,
                ..Kind::custom("authentication.k8s.io", "v1", "tokenreviews", "TokenReview")
            };
            return Err(Failure::forbidden(&state.user, "create", &kind, None, None, None));
        }
        let asked: Vec<&str> = self.body["spec"]["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let found = self.body["spec"]["token"].as_str().and_then(|token| state.reviews.get(token));
        let status = match found {
            None => {
                json!({ "user": {}, "error": "[invalid bearer token, square/go-jose: error in cryptographic primitive]" })
            }
            Some((user, audiences)) => {
                let shared: Vec<_> = audiences.iter().filter(|one| asked.contains(&one.as_str())).collect();
                if shared.is_empty() && !asked.is_empty() {
                    let error = format!(
                        "[invalid bearer token, token audiences {audiences:?} is invalid for the target audiences {asked:?}]"
                    );
                    json!({ "user": {}, "error": error })
                } else {
                    json!({ "authenticated": true, "user": user, "audiences": shared })
                }
            }
        };
        let mut object = self.body.clone();
        object["kind"] = "TokenReview".into();
        object["apiVersion"] = "authentication.k8s.io/v1".into();
        object["metadata"] = json!({ "creationTimestamp": null });
        object["status"] = status;
        Ok(json_answer(201, &object))
    }

    /// Another writer touches the object first.
    fn overtake(&self, shared: &Shared) {
        let mut state = shared.state();
        let (Some(kind), Some(name)) = (state.kind_of(&self.target), &self.target.name) else { return };
        let home = self.target.namespace.as_deref().unwrap_or_default();
        let Ok(mut object) = state.store.get(&kind, home, name).cloned() else { return };
        object["metadata"]["annotations"]["example.com/touched"] = state.store.revision.to_string().into();
        let _ = state.store.replace(&kind, home, name, object, Part::Object, false);
    }

    fn selectors(&self) -> Result<Selectors, Failure> {
        Selectors::parse(self.parameter("labelSelector"), self.parameter("fieldSelector"))
            .map_err(Failure::bad_request)
    }

    fn wants_metadata(&self) -> bool {
        let accepts = self.headers.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
        accepts.is_some_and(|accepts| accepts.contains("as=PartialObjectMetadata"))
    }
}

impl State {
    fn kind_of(&self, target: &Target) -> Option<Kind> {
        let fits = |kind: &&Kind| {
            kind.group == target.group && kind.version == target.version && kind.plural == target.plural
        };
        self.kinds.iter().find(fits).cloned()
    }
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

fn position(object: &Value) -> String {
    format!("{}/{}", text(object, "namespace"), text(object, "name"))
}

fn parameters(query: &str) -> Map<String, Value> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect()
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let mut answer = plain(&body.to_string());
    *answer.status_mut() = StatusCode::from_u16(code).expect("a status code");
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn failure(failure: &Failure) -> Answer {
    let mut answer = json_answer(failure.code, &failure.body);
    if let Some(seconds) = failure.body["details"]["retryAfterSeconds"].as_u64() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn plain(text: &str) -> Answer {
    Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(never).boxed())
}

fn never(never: Infallible) -> io::Error {
    match never {}
}
