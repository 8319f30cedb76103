//! `cert-manager.io/v1`: the complete types, and the definitions (CRDs) made from them.
//!
//! - `issuer.rs`: Issuer and ClusterIssuer. `certificate.rs`, `keystore.rs`: Certificate. `request.rs`: CertificateRequest.
//! - `condition.rs`: conditions, and the one rule of how they are set.
//! - `value.rs`: durations, bytes and words as they stand in these objects.
//! - `definition.rs`: the CRDs, written to `deploy/helm/chancery-controller/files/crds` by `cargo xtask gen crds`.
//! - `names.rs`: labels and annotations.
//!
//! Fields that are absent stay absent: lists and maps are empty then, everything else is an `Option`, and what is not set is
//! not written. Defaults are applied by whoever reads, never stored. Fields that are not known here are dropped when an
//! object is read: write with a patch, or the status only, where somebody else's fields may be at stake.
//!
//! An object that does not fit these types (made under another definition of the same group) fails to be read, and a list
//! with it. Watches of all objects take [`crate::untyped`] ones, and [`crate::read`] each by itself.

mod certificate;
mod condition;
mod definition;
mod issuer;
mod keystore;
pub mod names;
mod request;
mod value;

pub use certificate::{
    AdditionalOutputFormat, Certificate, CertificatePrivateKey, CertificateSecretTemplate, CertificateSpec,
    CertificateStatus, KeyAlgorithm, KeyEncoding, NameConstraintItem, NameConstraints, OtherName,
    OutputFormat, Renewal, RenewalPolicy, RenewalWindow, RotationPolicy, SignatureAlgorithm, Subject,
};
pub use condition::{
    APPROVED, Condition, ConditionStatus, DENIED, INVALID_REQUEST, ISSUING, READY, condition, is_true,
    remove_condition, set_condition,
};
pub use definition::{Definition, definitions};
pub use issuer::{
    CaIssuer, ClusterIssuer, Issuer, IssuerSpec, IssuerStatus, SecretKeySelector, SelfSignedIssuer,
    ServiceAccountRef, VaultAppRole, VaultAuth, VaultAws, VaultClientCertificate, VaultIssuer,
    VaultKubernetes,
};
pub use keystore::{JksKeystore, Keystores, Pkcs12Keystore, Pkcs12Profile};
pub use request::{CertificateRequest, CertificateRequestSpec, CertificateRequestStatus};
pub use value::{Bytes, GoDuration, IssuerReference, KeyUsage, Time};

/// The API group of all of these.
pub const GROUP: &str = "cert-manager.io";

/// What stands in `apiVersion` of all of these.
pub const API_VERSION: &str = "cert-manager.io/v1";

/// `kind` of issuers of one namespace; what an issuer reference without a kind means.
pub const ISSUER: &str = "Issuer";

/// `kind` of issuers of the whole cluster.
pub const CLUSTER_ISSUER: &str = "ClusterIssuer";
