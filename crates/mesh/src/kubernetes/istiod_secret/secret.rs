//! The Secret as it is read and written here.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use chancery_kubernetes::resource;

/// A Secret whose values do not stay in memory when it is dropped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TlsSecret {
    #[serde(default = "version")]
    api_version: String,
    #[serde(default = "kind")]
    kind: String,
    pub(super) metadata: ObjectMeta,
    #[serde(rename = "type", default)]
    pub(super) kind_of_secret: String,
    #[serde(default)]
    pub(super) data: BTreeMap<String, Datum>,
}

fn version() -> String {
    "v1".into()
}

fn kind() -> String {
    "Secret".into()
}

resource!(TlsSecret, "", "Secret", "secrets", NamespaceResourceScope);

/// A value, in base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(super) struct Datum(String);

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Datum {
    pub(super) fn new(text: &str) -> Self {
        Self(data_encoding::BASE64.encode(text.as_bytes()))
    }

    pub(super) fn text(&self) -> Option<Zeroizing<String>> {
        let bytes = data_encoding::BASE64.decode(self.0.as_bytes()).ok()?;
        String::from_utf8(bytes).ok().map(Zeroizing::new)
    }
}

impl TlsSecret {
    pub(super) fn new(name: &str) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let kind_of_secret = "kubernetes.io/tls".to_owned();
        Self { api_version: version(), kind: kind(), metadata, kind_of_secret, data: BTreeMap::new() }
    }

    pub(super) fn text(&self, key: &str) -> Option<Zeroizing<String>> {
        self.data.get(key)?.text()
    }
}
