//! What an operator asks about certificates in a cluster, and does to them; the command line prints it.
//!
//! - [`status`] tells of a Certificate or a CertificateRequest and of everything it depends on.
//! - [`renew`] and [`decide`] write conditions that controllers act on: these and others that honour `cert-manager.io`.
//! - [`inspect`] reads a Secret or a file, and asks nobody.
//! - [`check`] tells whether the API is there and whether the webhook answers.
//!
//! Everything goes through the Kubernetes API only.

pub mod check;
pub mod decide;
pub mod inspect;
pub mod renew;
pub mod status;
#[cfg(test)]
mod tests;

use chancery_kubernetes::cert_manager::{Condition, GROUP};
use chancery_kubernetes::{ApiError, request};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Why there is no answer, or nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server refused, or is out of reach.
    #[error("{0}: {1}")]
    Api(String, ApiError),
    /// An object or a file says something else than is expected of it.
    #[error("{0}")]
    Content(String),
    /// Others have changed the object each time that it was to be written.
    #[error("{0} is being changed all the time; try again")]
    Contended(String),
}

/// How often a write is tried that others were quicker with.
const ATTEMPTS: usize = 8;

/// Objects of a kind, untyped: what is written back keeps the fields that are unknown here.
fn objects(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, "v1", kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// The conditions of an object.
fn conditions(object: &DynamicObject) -> Result<Vec<Condition>, Error> {
    let Some(found) = object.data.pointer("/status/conditions") else { return Ok(Vec::new()) };
    Vec::deserialize(found).map_err(|error| Error::Content(format!("the conditions cannot be read: {error}")))
}

/// Changes the conditions in the status of an object, also when others write it at the same time. `change` says whether
/// there is anything to write; so does the answer.
async fn change_conditions(
    api: &Api<DynamicObject>,
    what: &str,
    name: &str,
    change: impl Fn(&DynamicObject, &mut Vec<Condition>) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let failed = |error| Error::Api(what.to_owned(), error);
    for _ in 0..ATTEMPTS {
        let mut object = request(api.get(name)).await.map_err(failed)?;
        let mut conditions = conditions(&object)?;
        if !change(&object, &mut conditions)? {
            return Ok(false);
        }
        let Some(data) = object.data.as_object_mut() else {
            return Err(Error::Content(format!("{what} is no object")));
        };
        let status = data.entry("status").or_insert_with(|| json!({}));
        if !status.is_object() {
            *status = json!({});
        }
        if let Some(status) = status.as_object_mut() {
            let conditions = serde_json::to_value(&conditions).unwrap_or(Value::Null);
            status.insert("conditions".to_owned(), conditions);
        }
        match request(api.replace_status(name, &PostParams::default(), &object)).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Error::Contended(what.to_owned()))
}
