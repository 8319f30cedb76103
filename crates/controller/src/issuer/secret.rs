//! Secrets, read live when they are needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_kubernetes::{ApiError, request};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use zeroize::Zeroizing;

use crate::Key;

/// `metadata.resourceVersion` of the Secrets that something was made of.
pub(super) type Versions = BTreeMap<String, String>;

/// What a Secret holds. It is wiped when it is dropped.
#[derive(Clone)]
pub(super) struct Contents {
    pub(super) version: String,
    data: Arc<BTreeMap<String, Zeroizing<Vec<u8>>>>,
}

impl Contents {
    /// The entry of this key, if there is one that is not empty.
    pub(super) fn entry(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The same as text; what is none is none of ours.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.entry(key)?).ok()
    }
}

/// Why an entry of a Secret is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// There is no such Secret; in the API server's words.
    #[error("{0}")]
    Missing(String),
    /// It has no such entry, or an empty one.
    #[error("no data for {key:?} in secret '{secret}'")]
    NoData { key: String, secret: Key },
    /// The entry is not UTF-8.
    #[error("{key:?} in secret '{secret}' is no text")]
    NoText { key: String, secret: Key },
    /// The API server refused, or is out of reach.
    #[error(transparent)]
    Api(ApiError),
}

/// Reads Secrets of one namespace, each once, and remembers which versions it saw.
pub(super) struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    seen: BTreeMap<String, Contents>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(client: &'a Client, namespace: &'a str) -> Self {
        Self { client, namespace, seen: BTreeMap::new() }
    }

    pub(super) async fn secret(&mut self, name: &str) -> Result<Contents, SecretError> {
        if let Some(seen) = self.seen.get(name) {
            return Ok(seen.clone());
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let found = request(api.get(name)).await.map_err(|error| match error {
            ApiError::Refused(status) if status.is_not_found() => {
                SecretError::Missing(status.message.clone())
            }
            other => SecretError::Api(other),
        })?;
        let version = found.metadata.resource_version.unwrap_or_default();
        let data = found.data.unwrap_or_default().into_iter();
        let data = Arc::new(data.map(|(key, value)| (key, Zeroizing::new(value.0))).collect());
        let contents = Contents { version, data };
        self.seen.insert(name.to_owned(), contents.clone());
        Ok(contents)
    }

    /// An entry that must be there, as text.
    pub(super) async fn text(&mut self, name: &str, key: &str) -> Result<Zeroizing<String>, SecretError> {
        let contents = self.secret(name).await?;
        let secret = || Key { namespace: self.namespace.to_owned(), name: name.to_owned() };
        let Some(value) = contents.entry(key) else {
            return Err(SecretError::NoData { key: key.to_owned(), secret: secret() });
        };
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => Err(SecretError::NoText { key: key.to_owned(), secret: secret() }),
        }
    }

    /// Which versions were seen.
    pub(super) fn versions(self) -> Versions {
        self.seen.into_iter().map(|(name, contents)| (name, contents.version)).collect()
    }
}
