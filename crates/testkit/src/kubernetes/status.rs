//! Refusals in the words and shapes of an API server.

use serde_json::{Map, Value, json};

use super::kind::Kind;

/// A refusal: the body that goes with its code.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) body: Value,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &str, message: impl Into<String>, details: Option<Value>) -> Self {
        let mut body = Map::new();
        body.insert("kind".into(), "Status".into());
        body.insert("apiVersion".into(), "v1".into());
        body.insert("metadata".into(), json!({}));
        body.insert("status".into(), "Failure".into());
        body.insert("message".into(), message.into().into());
        body.insert("reason".into(), reason.into());
        if let Some(details) = details {
            body.insert("details".into(), details);
        }
        body.insert("code".into(), code.into());
        Self { code, body: Value::Object(body) }
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        Self::new(404, "NotFound", message, Some(details(kind, name)))
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource", Some(json!({})))
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        Self::new(409, "AlreadyExists", message, Some(details(kind, name)))
    }

    pub(super) fn conflict(kind: &Kind, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please apply your \
             changes to the latest version and try again",
            kind.qualified()
        );
        Self::new(409, "Conflict", message, Some(details(kind, name)))
    }

    pub(super) fn precondition(kind: &Kind, name: &str, what: &str, wanted: &str, found: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: Precondition failed: {what} in precondition: {wanted}, \
             {what} in object meta: {found}",
            kind.qualified()
        );
        Self::new(409, "Conflict", message, Some(details(kind, name)))
    }

    pub(super) fn version_required(kind: &Kind, name: &str) -> Self {
        let what = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        let message = format!("{} {name:?} is invalid: {what}", kind.qualified());
        let mut details = details(kind, name);
        details["causes"] = json!([{
            "reason": "FieldValueInvalid", "field": "metadata.resourceVersion",
            "message": "Invalid value: 0: must be specified for an update",
        }]);
        Self::new(422, "Invalid", message, Some(details))
    }

    pub(super) fn name_required(kind: &Kind) -> Self {
        let message = format!(
            "{} \"\" is invalid: metadata.name: Required value: name or generateName is required",
            kind.kind
        );
        let details = json!({ "kind": kind.kind, "group": kind.group, "causes": [{
            "reason": "FieldValueRequired", "field": "metadata.name",
            "message": "Required value: name or generateName is required",
        }]});
        Self::new(422, "Invalid", message, Some(details))
    }

    pub(super) fn terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let message = format!(
            "{} {name:?} is forbidden: unable to create new content in namespace {namespace} because it is being \
             terminated",
            kind.qualified()
        );
        let mut details = details(kind, name);
        details["causes"] = json!([{
            "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {namespace} is being terminated"),
        }]);
        Self::new(403, "Forbidden", message, Some(details))
    }

    pub(super) fn forbidden(
        user: &str,
        verb: &str,
        kind: &Kind,
        namespace: Option<&str>,
        name: Option<&str>,
        sub: Option<&str>,
    ) -> Self {
        let scope = match namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let plural = match sub {
            Some(sub) => format!("{}/{sub}", kind.plural),
            None => kind.plural.clone(),
        };
        let head = match name {
            Some(name) => format!("{} {name:?} is forbidden", kind.qualified()),
            None => format!("{} is forbidden", kind.qualified()),
        };
        let group = &kind.group;
        let message =
            format!("{head}: User {user:?} cannot {verb} resource {plural:?} in API group {group:?} {scope}");
        Self::new(403, "Forbidden", message, Some(details(kind, name.unwrap_or_default())))
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", None)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    pub(super) fn patch_failed(cause: &str) -> Self {
        Self::new(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {cause}"),
            None,
        )
    }

    pub(super) fn too_large(asked: u64, newest: u64) -> Self {
        let details = json!({
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            "retryAfterSeconds": 1,
        });
        let message = format!("Timeout: Too large resource version: {asked}, current: {newest}");
        Self::new(504, "Timeout", message, Some(details))
    }

    pub(super) fn unsupported_patch(content_type: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml; not {content_type}"
        );
        Self::new(415, "UnsupportedMediaType", message, Some(json!({})))
    }

    pub(super) fn unsupported_body() -> Self {
        let message = "the body of the request was in an unknown format - accepted media types include: application/json";
        Self::new(415, "UnsupportedMediaType", message, Some(json!({})))
    }

    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"), None)
    }

    /// What an API server answers with a code that it has no more to say about.
    pub(super) fn of_code(code: u16) -> Self {
        match code {
            429 => Self::new(
                429,
                "TooManyRequests",
                "Too many requests, please try again later.",
                Some(json!({ "retryAfterSeconds": 1 })),
            ),
            503 => Self::new(
                503,
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
                Some(json!({ "retryAfterSeconds": 1 })),
            ),
            504 => {
                Self::new(504, "Timeout", "Timeout: request did not complete within requested timeout", None)
            }
            410 => Self::new(410, "Expired", "The resourceVersion for the provided list is too old.", None),
            400 => Self::bad_request("the server rejected our request for an unknown reason"),
            401 => Self::unauthorized(),
            403 => Self::new(403, "Forbidden", "forbidden: not allowed", None),
            404 => Self::new(404, "NotFound", "the server could not find the requested resource", None),
            409 => Self::new(
                409,
                "Conflict",
                "Operation cannot be fulfilled: the object has been modified; please apply your changes to the \
                 latest version and try again",
                None,
            ),
            code => Self::new(
                code,
                "InternalError",
                "Internal error occurred: etcdserver: request timed out",
                Some(json!({ "causes": [{ "message": "etcdserver: request timed out" }] })),
            ),
        }
    }
}

fn details(kind: &Kind, name: &str) -> Value {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".into(), name.into());
    }
    if !kind.group.is_empty() {
        details.insert("group".into(), kind.group.clone().into());
    }
    details.insert("kind".into(), kind.plural.clone().into());
    Value::Object(details)
}

/// What a deletion answers that leaves nothing behind.
pub(super) fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = details(kind, name);
    details["uid"] = uid.into();
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
