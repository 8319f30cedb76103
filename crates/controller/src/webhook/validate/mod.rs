//! What objects must be: pure functions over objects, in the API server's words.

mod certificate;
mod csr;
mod issuer;
mod request;
mod subject;

pub(crate) use certificate::certificate;
pub(crate) use csr::extended_usages;
pub(crate) use issuer::{issuer, issuer_warnings};
pub(crate) use request::{create_request, update_request};

use chancery_kubernetes::cert_manager::{CLUSTER_ISSUER, ISSUER, IssuerReference, SecretKeySelector};

use super::field::{Errors, Path};

/// A reference to an issuer.
fn issuer_reference(reference: &IssuerReference, spec: &Path, errors: &mut Errors) {
    let path = spec.child("issuerRef");
    if reference.name.is_empty() {
        errors.required(&path.child("name"), "must be specified");
    }
    if reference.is_ours() && !matches!(reference.kind(), ISSUER | CLUSTER_ISSUER) {
        let group = reference.group.as_deref().unwrap_or_default();
        let hint = match group {
            "" => format!(" (did you forget to set {}?)", path.child("group")),
            _ => String::new(),
        };
        errors.invalid(
            &path.child("kind"),
            reference.kind(),
            format!("must be one of Issuer or ClusterIssuer{hint}"),
        );
    }
}

/// A reference to an entry of a Secret, whose key has a default.
fn secret_reference(reference: &SecretKeySelector, path: &Path, errors: &mut Errors) {
    if reference.name.is_empty() {
        errors.required(&path.child("name"), "secret name is required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_to_an_issuer_has_a_name_and_a_kind_of_its_group() {
        let refused = |reference: IssuerReference| {
            let mut errors = Errors::default();
            issuer_reference(&reference, &Path::new("spec"), &mut errors);
            errors.to_string()
        };
        assert_eq!(refused(IssuerReference { name: "a".into(), ..IssuerReference::default() }), "[]");
        assert_eq!(refused(IssuerReference::new("a", "ClusterIssuer", "cert-manager.io")), "[]");
        assert_eq!(refused(IssuerReference::new("a", "AWSPCAIssuer", "awspca.cert-manager.io")), "[]");
        assert_eq!(
            refused(IssuerReference::default()),
            "spec.issuerRef.name: Required value: must be specified"
        );
        assert_eq!(
            refused(IssuerReference::new("a", "Other", "")),
            "spec.issuerRef.kind: Invalid value: \"Other\": must be one of Issuer or ClusterIssuer (did you forget to set \
             spec.issuerRef.group?)"
        );
        assert_eq!(
            refused(IssuerReference::new("a", "Other", "cert-manager.io")),
            "spec.issuerRef.kind: Invalid value: \"Other\": must be one of Issuer or ClusterIssuer"
        );
    }
}
