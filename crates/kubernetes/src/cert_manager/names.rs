//! Labels and annotations of `cert-manager.io`.

/// On a CertificateRequest and a Secret: the Certificate that it is of.
pub const CERTIFICATE_NAME: &str = "cert-manager.io/certificate-name";
/// On a CertificateRequest: which issuance of its Certificate it is; a number from 1.
pub const CERTIFICATE_REVISION: &str = "cert-manager.io/certificate-revision";
/// On a CertificateRequest: the Secret with the key of its CSR.
pub const PRIVATE_KEY_SECRET_NAME: &str = "cert-manager.io/private-key-secret-name";
/// On a Secret: the issuer's name.
pub const ISSUER_NAME: &str = "cert-manager.io/issuer-name";
/// On a Secret: the issuer's kind.
pub const ISSUER_KIND: &str = "cert-manager.io/issuer-kind";
/// On a Secret: the issuer's API group.
pub const ISSUER_GROUP: &str = "cert-manager.io/issuer-group";
/// On a Secret: the certificate's common name; perhaps empty.
pub const COMMON_NAME: &str = "cert-manager.io/common-name";
/// On a Secret: the certificate's DNS names, separated by commas; perhaps empty.
pub const ALT_NAMES: &str = "cert-manager.io/alt-names";
/// On a Secret: the certificate's IP addresses; perhaps empty.
pub const IP_SANS: &str = "cert-manager.io/ip-sans";
/// On a Secret: the certificate's URIs; perhaps empty.
pub const URI_SANS: &str = "cert-manager.io/uri-sans";
/// On a Secret: the certificate's e-mail addresses; absent if it has none.
pub const EMAIL_SANS: &str = "cert-manager.io/email-sans";
/// On a Secret: what the annotations of the subject's parts begin with, such as `…organizations`; absent if there are none.
pub const SUBJECT_PREFIX: &str = "cert-manager.io/subject-";
/// On a Certificate, `"true"`: a certificate of our own making stands in until the issuer's is there.
pub const ISSUE_TEMPORARY: &str = "cert-manager.io/issue-temporary-certificate";
/// On a Secret, `"true"`: its CA may be copied into other objects.
pub const ALLOW_DIRECT_INJECTION: &str = "cert-manager.io/allow-direct-injection";
/// Label of a Secret, `"true"`: it holds the key of an issuance that is under way.
pub const NEXT_PRIVATE_KEY: &str = "cert-manager.io/next-private-key";
/// Label of a Secret, `"true"`: the controller reads it whole.
pub const FAO: &str = "controller.cert-manager.io/fao";
