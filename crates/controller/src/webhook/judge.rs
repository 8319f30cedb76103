//! What is said of a review: which rules it is held against.

use chancery_kubernetes::cert_manager::{Certificate, CertificateRequest, GROUP, Issuer};
use kube::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::review::{Answer, Request};
use super::{approval, field, identity, validate};

/// Which question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// How the object shall be changed.
    Mutate,
    /// Whether the object may be stored.
    Validate,
}

/// Judges objects.
pub(crate) struct Judge {
    client: Client,
}

/// What the object alone says.
enum Decision {
    /// All there is to say.
    Made(Answer),
    /// The object is fine, if the user may decide about this request.
    OfApprover(Box<CertificateRequest>),
}

impl Judge {
    /// Judges, and asks this API server who may approve.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The answer to a review.
    pub(crate) async fn judge(&self, door: Door, review: &Request) -> Answer {
        let request = match decide(door, review) {
            Decision::Made(answer) => return answer,
            Decision::OfApprover(request) => request,
        };
        match approval::check(&self.client, &review.user_info, &request).await {
            Ok(()) => Answer::allowed(),
            Err(approval::NotAllowed::Forbidden(message)) => Answer::refused(message),
            Err(approval::NotAllowed::Unknown(error)) => {
                tracing::warn!(%error, user = review.user_info.username, "nobody says whether the user may approve");
                Answer::refused_with(
                    500,
                    "InternalError",
                    format!("whether the user may approve is unknown: {error}"),
                )
            }
        }
    }
}

/// The answer as far as it can be given without asking who may approve.
pub(super) fn judge_alone(door: Door, review: &Request) -> Answer {
    match decide(door, review) {
        Decision::Made(answer) => answer,
        Decision::OfApprover(_) => Answer::allowed(),
    }
}

fn decide(door: Door, review: &Request) -> Decision {
    let is_write = matches!(review.operation.as_str(), "CREATE" | "UPDATE");
    if review.kind.group != GROUP || !is_write {
        return Decision::Made(Answer::allowed());
    }
    let is_request = review.kind.kind == "CertificateRequest";
    if door == Door::Mutate {
        let applies = is_request && review.operation == "CREATE" && review.sub_resource.is_empty();
        let patch = if applies {
            identity::patch(spec_of(review.object.as_deref()), &review.user_info)
        } else {
            Vec::new()
        };
        return Decision::Made(Answer { patch, ..Answer::allowed() });
    }
    let decided = match review.kind.kind.as_str() {
        "CertificateRequest" => certificate_request(review),
        "Certificate" => certificate(review).map(Decision::Made),
        "Issuer" | "ClusterIssuer" => issuer(review).map(Decision::Made),
        _ => Ok(Decision::Made(Answer::allowed())),
    };
    decided.unwrap_or_else(|message| Decision::Made(Answer::refused_with(400, "BadRequest", message)))
}

/// An object of a review.
fn read<T: DeserializeOwned>(object: Option<&RawValue>, what: &str) -> Result<T, String> {
    let text = object.map_or("null", RawValue::get);
    serde_json::from_str(text).map_err(|error| format!("the {what} cannot be read: {error}"))
}

/// The spec of an object, as it is written.
fn spec_of(object: Option<&RawValue>) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default)]
        spec: Option<&'a RawValue>,
    }
    serde_json::from_str::<Object<'_>>(object?.get()).ok()?.spec
}

/// The object, if its spec is to be looked at: it is new or changed. What was stored once, under other rules perhaps, can
/// still get labels, lose finalizers, and have its status written.
fn changed<T: DeserializeOwned>(review: &Request, what: &str) -> Result<Option<T>, String> {
    // API servers write the same in the same way. A spec that is only written otherwise is looked at once more.
    let spec = spec_of(review.object.as_deref()).map(RawValue::get);
    let is_kept =
        review.operation == "UPDATE" && spec == spec_of(review.old_object.as_deref()).map(RawValue::get);
    if is_kept || !review.sub_resource.is_empty() {
        return Ok(None);
    }
    read(review.object.as_deref(), what).map(Some)
}

fn verdict(errors: &field::Errors, warnings: Vec<String>) -> Answer {
    if errors.is_empty() {
        return Answer { warnings, ..Answer::allowed() };
    }
    Answer::refused(errors.to_string())
}

fn certificate(review: &Request) -> Result<Answer, String> {
    let Some(object) = changed::<Certificate>(review, "Certificate")? else { return Ok(Answer::allowed()) };
    Ok(verdict(&validate::certificate(&object.spec), Vec::new()))
}

fn issuer(review: &Request) -> Result<Answer, String> {
    let Some(object) = changed::<Issuer>(review, &review.kind.kind)? else { return Ok(Answer::allowed()) };
    Ok(verdict(&validate::issuer(&object.spec), validate::issuer_warnings(&object.spec)))
}

fn certificate_request(review: &Request) -> Result<Decision, String> {
    let what = "CertificateRequest";
    let new: CertificateRequest = read(review.object.as_deref(), what)?;
    if review.operation == "CREATE" {
        let errors = validate::create_request(&new, &review.user_info);
        return Ok(Decision::Made(verdict(&errors, Vec::new())));
    }
    let old: CertificateRequest = read(review.old_object.as_deref(), what)?;
    let errors = validate::update_request(&old, &new);
    if !errors.is_empty() {
        return Ok(Decision::Made(verdict(&errors, Vec::new())));
    }
    if review.sub_resource == "status" && approval::is_decision(old.conditions(), new.conditions()) {
        return Ok(Decision::OfApprover(Box::new(new)));
    }
    Ok(Decision::Made(Answer::allowed()))
}
