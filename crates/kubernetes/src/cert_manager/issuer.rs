//! Issuer and ClusterIssuer: who signs, and how to get there.

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::Condition;
use super::value::{Bytes, Unknown};

/// Declares a kind with `apiVersion`, `kind`, `metadata`, `spec` and `status`.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $plural:literal, $scope:ty, $spec:ty, $status:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// `cert-manager.io/v1`
            #[serde(default)]
            pub api_version: String,
            /// The object's kind.
            #[serde(default)]
            pub kind: String,
            /// Name, labels, annotations.
            pub metadata: kube::api::ObjectMeta,
            /// What is wanted.
            pub spec: $spec,
            /// What is.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub status: Option<$status>,
        }

        $crate::resource!($name, "cert-manager.io", $kind, $plural, $scope);

        impl $name {
            /// An object that is not sent yet, without a status.
            pub fn new(metadata: kube::api::ObjectMeta, spec: $spec) -> Self {
                let (api_version, kind) = ($crate::cert_manager::API_VERSION.to_owned(), $kind.to_owned());
                Self { api_version, kind, metadata, spec, status: None }
            }

            /// Its conditions; none before it has a status.
            pub fn conditions(&self) -> &[$crate::cert_manager::Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
    };
}
pub(super) use object;

object!(
    /// Signs for the CertificateRequests of its namespace.
    Issuer, "Issuer", "issuers", NamespaceResourceScope, IssuerSpec, IssuerStatus
);
object!(
    /// Signs for the CertificateRequests of all namespaces. Its Secrets are in the controller's cluster resource namespace.
    ClusterIssuer, "ClusterIssuer", "clusterissuers", ClusterResourceScope, IssuerSpec, IssuerStatus
);

impl From<ClusterIssuer> for Issuer {
    /// The same with the other kind's type: what reads issuers reads both.
    fn from(cluster: ClusterIssuer) -> Self {
        let ClusterIssuer { api_version, kind, metadata, spec, status } = cluster;
        Self { api_version, kind, metadata, spec, status }
    }
}

/// Exactly one type of issuer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerSpec {
    /// Signs with a key pair of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaIssuer>,
    /// Signs each certificate with its own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSignedIssuer>,
    /// Has a server with the Vault API sign, such as this project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultIssuer>,
    /// Accepted and kept, but not carried out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Unknown>")]
    pub acme: Option<Value>,
    /// Accepted and kept, but not carried out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Unknown>")]
    pub venafi: Option<Value>,
}

/// An issuer that signs with a key pair of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaIssuer {
    /// Name of the Secret with tls.crt and tls.key of the CA.
    pub secret_name: String,
    /// URLs for the CRL distribution points extension of what is signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl_distribution_points: Vec<String>,
    /// URLs of OCSP servers for the authority information access extension of what is signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ocsp_servers: Vec<String>,
    /// URLs of the CA's certificate for the authority information access extension of what is signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "issuingCertificateURLs")]
    pub issuing_certificate_urls: Vec<String>,
}

/// An issuer that signs each certificate with its own key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfSignedIssuer {
    /// URLs for the CRL distribution points extension of what is signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl_distribution_points: Vec<String>,
}

/// An entry of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeySelector {
    /// Name of the Secret.
    pub name: String,
    /// Key of the entry in the Secret's data; some places have a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl SecretKeySelector {
    /// The key, or this one if none is given.
    pub fn key_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.key.as_deref().filter(|key| !key.is_empty()).unwrap_or(default)
    }
}

/// An issuer behind the Vault API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultIssuer {
    /// How to log in: exactly one method.
    pub auth: VaultAuth,
    /// The server's URL, such as https://vault.example.com:8200.
    pub server: String,
    /// Path that signs, after /v1/: normally MOUNT/sign/ROLE.
    pub path: String,
    /// Namespace on the server, sent in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name that the server's certificate must have, and that is asked for by SNI, if not the URL's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Roots in PEM that the server's certificate must lead to. Not together with caBundleSecretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<Bytes>,
    /// The same in a Secret; the key is ca.crt by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_secret_ref: Option<SecretKeySelector>,
    /// Client certificate for TLS in PEM; the key is tls.crt by default. Only with clientKeySecretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<SecretKeySelector>,
    /// The client certificate's private key in PEM; the key is tls.key by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_secret_ref: Option<SecretKeySelector>,
}

/// How to log in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultAuth {
    /// A token; the key is token by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeySelector>,
    /// The AppRole method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<VaultAppRole>,
    /// The TLS certificate method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<VaultClientCertificate>,
    /// The Kubernetes method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<VaultKubernetes>,
    /// The AWS method: accepted, but not carried out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<VaultAws>,
}

/// Login by AppRole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultAppRole {
    /// Where the method is mounted, such as approle.
    pub path: String,
    /// The role id.
    pub role_id: String,
    /// The secret id; its key must be given.
    pub secret_ref: SecretKeySelector,
}

/// Login by a client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultClientCertificate {
    /// Where the method is mounted; /v1/auth/cert by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// Name of a Secret of type kubernetes.io/tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The role; any that fits if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Login by a service account's token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultKubernetes {
    /// Where the method is mounted; /v1/auth/kubernetes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// A Secret with the token; the key is token by default. Not together with serviceAccountRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
    /// A service account for which a token is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRef>,
    /// The role.
    pub role: String,
}

/// A service account for which a token is requested.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Name of the service account.
    pub name: String,
    /// Audiences beside the one that is always asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
}

/// Login by AWS: accepted, but not carried out here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultAws {
    /// The role.
    #[schemars(length(min = 1))]
    pub role: String,
    /// Where the method is mounted; /v1/auth/aws by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// The region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A service account whose token stands for an IAM role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRef>,
    /// ARN of the IAM role that the service account assumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_role_arn: Option<String>,
    /// Value of the server id header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_header_value: Option<String>,
}

/// What became of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// The only type is Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Unknown>")]
    pub acme: Option<Value>,
}
