//! AdmissionReview (`admission.k8s.io/v1`): what the API server asks, and what it is answered.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What is asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    /// Which question this is; the answer repeats it.
    pub(crate) uid: String,
    /// Of what kind the object is.
    #[serde(default)]
    pub(crate) kind: GroupVersionKind,
    /// What stands after the object's name in the path, such as `status`.
    #[serde(default)]
    pub(crate) sub_resource: String,
    /// The object's namespace; empty for objects of the cluster.
    #[serde(default)]
    pub(crate) namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    #[serde(default)]
    pub(crate) operation: String,
    /// Who asks.
    #[serde(default)]
    pub(crate) user_info: UserInfo,
    /// The object as it shall be. It stays text until it is known what it is: as values of any kind it would take many times
    /// its length.
    #[serde(default)]
    pub(crate) object: Option<Box<RawValue>>,
    /// The object as it is.
    #[serde(default)]
    pub(crate) old_object: Option<Box<RawValue>>,
}

/// Of what kind an object is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct GroupVersionKind {
    #[serde(default)]
    pub(crate) group: String,
    #[serde(default)]
    pub(crate) kind: String,
}

/// A user, as the API server knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct UserInfo {
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) uid: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) groups: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Go writes an absent list as `null`.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Request {
    /// Reads a review.
    ///
    /// # Errors
    /// Why it is none; the sender is told.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Review {
            #[serde(default)]
            api_version: String,
            #[serde(default)]
            kind: String,
            request: Option<Request>,
        }
        let review: Review =
            serde_json::from_slice(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
        let Review { api_version, kind, request } = review;
        if api_version != API_VERSION || kind != KIND {
            return Err(format!("expected {API_VERSION} {KIND}, got {api_version:?} {kind:?}"));
        }
        let request = request.ok_or_else(|| format!("the {KIND} has no request"))?;
        if request.uid.is_empty() {
            return Err(format!("the {KIND}'s request has no uid"));
        }
        Ok(request)
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answer {
    /// Why it is refused; `None`: it is allowed.
    pub(crate) refusal: Option<Refusal>,
    /// A JSON patch (RFC 6902) of the object; empty: it stays as it is.
    pub(crate) patch: Vec<Operation>,
    /// What the user is told although it is allowed.
    pub(crate) warnings: Vec<String>,
}

/// Why a write is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP code that the client gets.
    pub(crate) code: u16,
    /// The word for it.
    pub(crate) reason: &'static str,
    /// The sentence for it.
    pub(crate) message: String,
}

/// A step of a JSON patch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Operation {
    /// Sets a member, whether or not it is there.
    Add { path: &'static str, value: Value },
    /// Removes a member that is there.
    Remove { path: &'static str },
}

impl Answer {
    /// It is fine.
    pub(crate) fn allowed() -> Self {
        Self::default()
    }

    /// The object is not as it must be.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::refused_with(406, "NotAcceptable", message)
    }

    /// Likewise with another code.
    pub(crate) fn refused_with(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { refusal: Some(Refusal { code, reason, message: message.into() }), ..Self::default() }
    }

    /// The review to send back.
    pub(crate) fn into_review(self, uid: &str) -> Value {
        let Self { refusal, patch, warnings } = self;
        let mut response = json!({ "uid": uid, "allowed": refusal.is_none() });
        let mut set = |field: &str, value: Value| {
            if let Some(response) = response.as_object_mut() {
                response.insert(field.to_owned(), value);
            }
        };
        if let Some(Refusal { code, reason, message }) = refusal {
            set("status", json!({ "status": "Failure", "code": code, "reason": reason, "message": message }));
        } else if !patch.is_empty() {
            // Members of plain types: there is nothing that could fail.
            let patch = serde_json::to_vec(&patch).unwrap_or_default();
            set("patchType", "JSONPatch".into());
            set("patch", BASE64.encode(&patch).into());
        }
        if !warnings.is_empty() {
            set("warnings", warnings.into());
        }
        json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_review_is_refused_with_the_reason() {
        for (body, reason) in [
            ("", "the body is no AdmissionReview"),
            ("[]", "the body is no AdmissionReview"),
            ("{}", "expected admission.k8s.io/v1 AdmissionReview, got \"\" \"\""),
            (
                r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#,
                "expected admission.k8s.io/v1 AdmissionReview, got \"admission.k8s.io/v1beta1\"",
            ),
            (
                r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
                "the AdmissionReview has no request",
            ),
            (
                r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":""}}"#,
                "the AdmissionReview's request has no uid",
            ),
            (
                r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}"#,
                "the body is no AdmissionReview",
            ),
        ] {
            let found = Request::parse(body.as_bytes()).expect_err(body);
            assert!(found.starts_with(reason), "{body}: {found}");
        }
    }

    #[test]
    fn absent_groups_may_be_null() {
        let body = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",
            "request":{"uid":"u","object":null,"userInfo":{"username":"a","groups":null,"extra":null}}}"#;
        let request = Request::parse(body.as_bytes()).expect("a review");
        assert_eq!(request.user_info.username, "a");
        assert!(request.object.is_none() && request.old_object.is_none());
    }

    #[test]
    fn an_object_takes_no_more_memory_than_its_text() {
        let numbers = format!("[{}0]", "0,".repeat(1000));
        let body = format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","object":{numbers}}}}}"#
        );
        let request = Request::parse(body.as_bytes()).expect("a review");
        let object: Option<Box<RawValue>> = request.object;
        assert_eq!(object.expect("an object").get(), numbers);
    }

    #[test]
    fn answers_have_the_shape_that_an_api_server_reads() {
        let patch = vec![
            Operation::Add { path: "/spec/uid", value: "x".into() },
            Operation::Remove { path: "/spec/extra" },
        ];
        let answer = Answer { patch, ..Answer::allowed() }.into_review("7");
        assert_eq!(
            answer,
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
                "uid": "7", "allowed": true, "patchType": "JSONPatch",
                "patch": BASE64.encode(br#"[{"op":"add","path":"/spec/uid","value":"x"},{"op":"remove","path":"/spec/extra"}]"#),
            }})
        );
        let answer = Answer { warnings: vec!["w".into()], ..Answer::refused("no") }.into_review("7");
        assert_eq!(
            answer["response"],
            json!({ "uid": "7", "allowed": false, "warnings": ["w"],
                "status": { "status": "Failure", "code": 406, "reason": "NotAcceptable", "message": "no" } })
        );
    }
}
