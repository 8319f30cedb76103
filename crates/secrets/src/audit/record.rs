//! The shape of a record.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::device::Device;
use super::hash::{hash_all, hash_fields};
use super::headers::AuditedHeaders;
use crate::engine::Class;
use crate::error::Error;
use crate::mounts::MountPoint;
use crate::request::{Operation, Request};
use crate::response::Answer;
use crate::token::{TokenEntry, TokenStore};

/// What is known of a request before its handler runs.
pub struct RequestRecord<'a> {
    /// The request.
    pub request: &'a Request,
    /// Its operation, `create` told from `update`.
    pub operation: Operation,
    /// The token, if it was a real one.
    pub token: Option<&'a TokenEntry>,
    /// The mount that the path belongs to.
    pub mount: Option<&'a MountPoint>,
    /// Why it was refused at the door.
    pub error: Option<&'a Error>,
}

/// What came of a request.
pub enum Outcome<'a> {
    /// An answer.
    Answered(&'a Answer),
    /// A refusal.
    Refused(&'a Error),
}

/// Proof that a request was recorded, and what the record of its answer repeats. Values are kept as
/// they came: each device hashes with its own key.
#[must_use = "the answer must be recorded too"]
pub struct Receipt(Option<Box<Recorded>>);

struct Recorded {
    auth: Value,
    request: Value,
    clear_request: Vec<String>,
    clear_response: Vec<String>,
    /// Names of the request headers that stand as hashes.
    hashed_headers: Vec<String>,
    mount: Option<Value>,
    error: Option<String>,
    list: bool,
}

impl Receipt {
    /// There is no device.
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn of(record: &RequestRecord<'_>, tokens: &TokenStore, headers: &AuditedHeaders) -> Self {
        let RequestRecord { request, operation, token, mount, error } = record;
        let accessor = token.map(|token| tokens.accessor(token));
        let mut asked = Map::new();
        let mut put = |name: &str, value: Value| {
            asked.insert(name.to_owned(), value);
        };
        put("id", request.id.as_str().into());
        put("operation", operation.name().into());
        put("namespace", json!({ "id": "root" }));
        put("path", request.path.as_str().into());
        if let Some(point) = mount {
            put("mount_point", point.entry.path.as_str().into());
            put("mount_type", point.entry.kind.as_str().into());
            put("mount_accessor", point.entry.accessor.as_str().into());
            put("mount_class", class(point).into());
        }
        if let Some(text) = &request.token {
            put("client_token", text.expose().into());
        }
        if let Some(accessor) = &accessor {
            put("client_token_accessor", accessor.as_str().into());
        }
        if let Some(address) = request.connection.address {
            put("remote_address", address.to_string().into());
            put("remote_port", request.connection.port.into());
        }
        if let Some(ttl) = request.wrap_ttl {
            put("wrap_ttl", ttl.as_secs().into());
        }
        if let Some(data) = data(request) {
            put("data", data);
        }
        let mut hashed_headers = Vec::new();
        let mut recorded_headers = Map::new();
        for (name, audited) in headers {
            let hashed = audited.hmac || name.is_credential();
            let name = name.as_str();
            let given: Vec<&str> = request
                .headers
                .iter()
                .filter(|(given, _)| given == name)
                .map(|(_, value)| value.as_str())
                .collect();
            if !given.is_empty() {
                recorded_headers.insert(name.to_owned(), json!(given));
                hashed_headers.extend(hashed.then(|| name.to_owned()));
            }
        }
        if !recorded_headers.is_empty() {
            put("headers", Value::Object(recorded_headers));
        }

        let auth = match token {
            None => json!({ "token_type": "default" }),
            Some(token) => json!({
                "client_token": request.token.as_ref().map(|text| text.expose()),
                "accessor": accessor,
                "display_name": token.display_name,
                "policies": token.policies,
                "token_policies": token.policies,
                "policy_results": { "allowed": error.is_none() },
                "metadata": token.meta,
                "entity_id": token.entity_id,
                "token_type": token.kind.name(),
                "token_ttl": token.ttl,
                "token_issue_time": token.created.to_string(),
            }),
        };
        let tuning = mount.map(|point| point.mount.tuning());
        Self(Some(Box::new(Recorded {
            auth,
            request: Value::Object(asked),
            clear_request: tuning.as_ref().map(|t| t.audit_non_hmac_request_keys.clone()).unwrap_or_default(),
            clear_response: tuning
                .as_ref()
                .map(|t| t.audit_non_hmac_response_keys.clone())
                .unwrap_or_default(),
            hashed_headers,
            mount: mount.map(|point| {
                json!({
                    "mount_point": point.entry.path,
                    "mount_type": point.entry.kind,
                    "mount_accessor": point.entry.accessor,
                    "mount_class": class(point),
                })
            }),
            error: error.map(ToString::to_string),
            list: matches!(operation, Operation::List | Operation::Scan),
        })))
    }

    pub(super) fn request_line(&self, device: &Device, now: Timestamp) -> Result<Vec<u8>, Error> {
        let Some(recorded) = &self.0 else { return Ok(Vec::new()) };
        let mut line = recorded.head("request", device, now);
        if let (Some(error), Some(object)) = (&recorded.error, line.as_object_mut()) {
            object.insert("error".to_owned(), error.as_str().into());
        }
        Ok(serde_json::to_vec(&line)?)
    }

    pub(super) fn response_line(
        &self,
        device: &Device,
        outcome: &Outcome<'_>,
        now: Timestamp,
    ) -> Result<Vec<u8>, Error> {
        let Some(recorded) = &self.0 else { return Ok(Vec::new()) };
        let mut line = recorded.head("response", device, now);
        let mut answered = recorded.mount.clone().unwrap_or_else(|| json!({}));
        if let (Some(object), Some(answered)) = (line.as_object_mut(), answered.as_object_mut()) {
            match outcome {
                Outcome::Refused(error) => {
                    object.insert("error".to_owned(), error.to_string().into());
                }
                Outcome::Answered(answer) => recorded.describe(answer, device, answered)?,
            }
            object.insert("response".to_owned(), Value::Object(std::mem::take(answered)));
        }
        Ok(serde_json::to_vec(&line)?)
    }
}

impl Recorded {
    /// The part that both records have.
    fn head(&self, kind: &str, device: &Device, now: Timestamp) -> Value {
        let (mut auth, mut request) = (self.auth.clone(), self.request.clone());
        // Also where everything else stands in the clear: the operator asked for these by name.
        for name in &self.hashed_headers {
            if let Some(values) = request.get_mut("headers").and_then(|headers| headers.get_mut(name)) {
                hash_all(&device.salt, values);
            }
        }
        if !device.log_raw {
            hash_names(device, &mut auth, &["client_token"], &["accessor"]);
            hash_names(device, &mut request, &["client_token"], &["client_token_accessor"]);
            if let Some(data) = request.get_mut("data") {
                hash_fields(&device.salt, data, &self.clear_request);
            }
        }
        json!({ "time": now.to_string(), "type": kind, "auth": auth, "request": request })
    }

    fn describe(
        &self,
        answer: &Answer,
        device: &Device,
        answered: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        if let Some(data) = &answer.response.data {
            let mut data: Value = serde_json::from_str(data.get())?;
            if self.list && device.elide_lists {
                elide(&mut data);
            }
            if !device.log_raw {
                hash_fields(&device.salt, &mut data, &self.clear_response);
            }
            answered.insert("data".to_owned(), data);
        }
        if let Some(unwrapped) = &answer.response.unwrapped {
            let mut whole: Value = serde_json::from_str(unwrapped.get())?;
            if !device.log_raw {
                hash_all(&device.salt, &mut whole);
            }
            answered.insert("unwrapped".to_owned(), whole);
        }
        if let Some(auth) = &answer.auth {
            let mut auth = serde_json::to_value(auth)?;
            if !device.log_raw {
                hash_names(device, &mut auth, &["client_token"], &["accessor"]);
            }
            answered.insert("auth".to_owned(), auth);
        }
        if let Some(info) = &answer.wrap_info {
            let mut info = serde_json::to_value(info)?;
            if !device.log_raw {
                hash_names(device, &mut info, &["token"], &["accessor", "wrapped_accessor"]);
            }
            answered.insert("wrap_info".to_owned(), info);
        }
        if !answer.lease.id.is_empty() {
            answered.insert("secret".to_owned(), json!({ "lease_id": answer.lease.id }));
        }
        if !answer.response.warnings.is_empty() {
            answered.insert("warnings".to_owned(), json!(answer.response.warnings));
        }
        Ok(())
    }
}

fn class(point: &MountPoint) -> &'static str {
    match point.entry.class {
        Class::Secret => "secret",
        Class::Auth => "auth",
    }
}

/// The fields of the body and the query. A body that is no object is recorded as what it is: the
/// handler refuses it later.
fn data(request: &Request) -> Option<Value> {
    let mut fields = match serde_json::from_slice::<Value>(&request.body) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => return Some(json!({ "body": other })),
        Err(_) if request.body.is_empty() => Map::new(),
        Err(_) => return Some(json!({ "body": String::from_utf8_lossy(&request.body) })),
    };
    for (name, value) in &request.query {
        fields.entry(name.as_str()).or_insert_with(|| value.as_str().into());
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// Hashes the named fields; `accessors` only where the device wants that.
fn hash_names(device: &Device, value: &mut Value, secrets: &[&str], accessors: &[&str]) {
    let accessors = if device.hmac_accessor { accessors } else { &[] };
    for name in secrets.iter().chain(accessors) {
        if let Some(Value::String(text)) = value.get_mut(name)
            && !text.is_empty()
        {
            *text = device.hash(text);
        }
    }
}

/// A list by its length.
fn elide(data: &mut Value) {
    let Value::Object(fields) = data else { return };
    for name in ["keys", "key_info"] {
        if let Some(field) = fields.get_mut(name) {
            let length = match field {
                Value::Array(entries) => entries.len(),
                Value::Object(entries) => entries.len(),
                _ => continue,
            };
            *field = length.into();
        }
    }
}
