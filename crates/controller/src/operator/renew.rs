//! `renew`: have certificates issued anew, before they are due.

use chancery_kubernetes::cert_manager::{Certificate, Condition, ISSUING, is_true, set_condition};
use chancery_kubernetes::request;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::{Error, change_conditions, objects};
use crate::Key;

/// Which Certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// These of one namespace.
    Named(Vec<String>),
    /// Those with these labels (`a=b,c`); all with an empty selector.
    Selected(String),
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Its issuance was triggered.
    Triggered,
    /// It is being issued already; nothing was written.
    UnderWay,
}

/// The Certificates that are meant, of one namespace or of all (`None`).
///
/// # Errors
/// The API server refuses, or is out of reach.
pub async fn find(client: &Client, namespace: Option<&str>, which: &Which) -> Result<Vec<Key>, Error> {
    let selector = match (which, namespace) {
        (Which::Named(names), Some(namespace)) => {
            let key = |name: &String| Key { namespace: namespace.to_owned(), name: name.clone() };
            return Ok(names.iter().map(key).collect());
        }
        (Which::Named(_), None) => {
            return Err(Error::Content("a name is of one namespace".to_owned()));
        }
        (Which::Selected(selector), _) => selector,
    };
    let api: Api<Certificate> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut parameters = ListParams::default().limit(500);
    if !selector.is_empty() {
        parameters = parameters.labels(selector);
    }
    let metadata = |error| Error::Api("certificates".to_owned(), error);
    let mut keys = Vec::new();
    loop {
        let page = request(api.list_metadata(&parameters)).await.map_err(metadata)?;
        keys.extend(
            page.items.iter().map(|found| Key {
                namespace: found.namespace().unwrap_or_default(),
                name: found.name_any(),
            }),
        );
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(keys),
        }
    }
}

/// Has one issued anew. What is being issued already is left alone, so that doing it twice is doing it once.
///
/// # Errors
/// There is no such Certificate, or it cannot be written.
pub async fn renew(client: &Client, key: &Key, now: Timestamp) -> Result<Renewal, Error> {
    let api = objects(client, "Certificate", &key.namespace);
    let what = format!("Certificate {key}");
    let changed = change_conditions(&api, &what, &key.name, |object, conditions| {
        if is_true(conditions, ISSUING) {
            return Ok(false);
        }
        let message = "Certificate re-issuance manually triggered";
        let condition = Condition::new(ISSUING, true, "ManuallyTriggered", message);
        Ok(set_condition(conditions, condition.of_generation(object.metadata.generation), now))
    });
    Ok(if changed.await? { Renewal::Triggered } else { Renewal::UnderWay })
}
