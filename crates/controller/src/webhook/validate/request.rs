//! CertificateRequest.

use std::collections::BTreeMap;

use chancery_kubernetes::cert_manager::{
    APPROVED, CertificateRequest, CertificateRequestSpec, Condition, ConditionStatus, DENIED, condition,
};
use kube::ResourceExt as _;

use super::{csr, issuer_reference};
use crate::webhook::field::{Errors, Path};
use crate::webhook::identity;
use crate::webhook::review::UserInfo;

/// What is wrong with a request that is being created.
pub(crate) fn create_request(request: &CertificateRequest, user: &UserInfo) -> Errors {
    let mut errors = Errors::default();
    check_spec(&request.spec, &mut errors);
    check_conditions(request.conditions(), &mut errors);
    identity::check_create(&request.spec, user, &mut errors);
    errors
}

/// What is wrong with a change of a request, or of its status.
pub(crate) fn update_request(old: &CertificateRequest, new: &CertificateRequest) -> Errors {
    let mut errors = Errors::default();
    check_annotations(old.annotations(), new.annotations(), &mut errors);
    if old.spec == new.spec {
        // What was stored once stays possible: otherwise no status could be written to it any more.
    } else {
        errors.forbidden(&Path::new("spec"), "cannot change spec after creation");
        identity::check_update(&old.spec, &new.spec, &mut errors);
    }
    check_conditions(new.conditions(), &mut errors);
    check_transition(old.conditions(), new.conditions(), &mut errors);
    errors
}

fn check_spec(spec: &CertificateRequestSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    issuer_reference(&spec.issuer_ref, &path, errors);
    if spec.request.is_empty() {
        errors.required(&path.child("request"), "must be specified");
    } else if let Err(reason) = csr::check(spec) {
        errors.invalid_plain(&path.child("request"), format!("{:?}", spec.request), reason);
    }
}

/// The controllers' own annotations say what a request is for.
fn check_annotations(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>, errors: &mut Errors) {
    let path = Path::new("metadata").child("annotations");
    let is_ours =
        |key: &&String| key.starts_with("cert-manager.io/") || key.starts_with("acme.cert-manager.io/");
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).filter(is_ours).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        if old.get(key) != new.get(key) {
            errors.forbidden(&path.child(key), "cannot change cert-manager annotation after creation");
        }
    }
}

fn check_conditions(conditions: &[Condition], errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    let mut is_there = true;
    for kind in [APPROVED, DENIED] {
        let found: Vec<&Condition> = conditions.iter().filter(|condition| condition.kind == kind).collect();
        if found.len() > 1 {
            errors.forbidden(&path, &format!("multiple \"{kind}\" conditions present"));
        }
        for condition in &found {
            if condition.status != ConditionStatus::True {
                let detail = format!("\"{kind}\" condition may only be set to True");
                errors.invalid(&path.child(kind), condition.status.as_str(), detail);
            }
        }
        is_there &= !found.is_empty();
    }
    if is_there {
        errors.forbidden(&path, "both 'Denied' and 'Approved' conditions cannot coexist");
    }
}

/// A decision stands.
fn check_transition(old: &[Condition], new: &[Condition], errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    for kind in [APPROVED, DENIED] {
        if let Some(decided) = condition(old, kind)
            && condition(new, kind) != Some(decided)
        {
            errors.forbidden(&path, &format!("'{kind}' condition may not be modified once set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use chancery_kubernetes::cert_manager::{CertificateRequestStatus, GoDuration, IssuerReference};
    use kube::api::ObjectMeta;

    use super::*;
    use crate::webhook::tests::csr_pem;

    fn user() -> UserInfo {
        UserInfo { username: "u".into(), ..UserInfo::default() }
    }

    fn request() -> CertificateRequest {
        let spec = CertificateRequestSpec {
            issuer_ref: IssuerReference { name: "i".into(), ..IssuerReference::default() },
            request: csr_pem().as_str().into(),
            username: Some("u".into()),
            ..CertificateRequestSpec::default()
        };
        CertificateRequest::new(ObjectMeta { name: Some("r".into()), ..ObjectMeta::default() }, spec)
    }

    fn decided(conditions: &[(&str, ConditionStatus)]) -> CertificateRequest {
        let conditions = conditions.iter();
        let conditions =
            conditions.map(|(kind, status)| Condition::new(*kind, *status, "Reason", "Message")).collect();
        let status = CertificateRequestStatus { conditions, ..CertificateRequestStatus::default() };
        CertificateRequest { status: Some(status), ..request() }
    }

    #[test]
    fn a_request_as_istios_agents_make_it_is_fine() {
        assert_eq!(create_request(&request(), &user()).to_string(), "[]");
    }

    #[test]
    fn each_fault_of_a_request_is_named_with_its_field() {
        let refusal = |change: fn(&mut CertificateRequestSpec)| {
            let mut request = request();
            change(&mut request.spec);
            create_request(&request, &user()).to_string()
        };
        assert_eq!(
            refusal(|spec| spec.request = "".into()),
            "spec.request: Required value: must be specified"
        );
        let malformed = refusal(|spec| spec.request = "x".into());
        assert!(
            malformed.starts_with("spec.request: Invalid value: [1 bytes]: failed to decode csr: "),
            "{malformed}"
        );
        assert_eq!(
            refusal(|spec| spec.issuer_ref.name.clear()),
            "spec.issuerRef.name: Required value: must be specified"
        );
        assert_eq!(
            refusal(|spec| spec.username = None),
            "spec.username: Forbidden: username identity must be that of the requester"
        );
    }

    #[test]
    fn a_spec_never_changes() {
        let mut changed = request();
        changed.spec.duration = Some(GoDuration::seconds(7200));
        assert_eq!(
            update_request(&request(), &changed).to_string(),
            "spec: Forbidden: cannot change spec after creation"
        );
        changed.spec.username = Some("v".into());
        assert!(
            update_request(&request(), &changed)
                .to_string()
                .contains("spec.username: Forbidden: username identity cannot be changed once set")
        );
    }

    #[test]
    fn annotations_of_the_controllers_never_change() {
        let mut annotated = request();
        annotated.annotations_mut().insert("cert-manager.io/certificate-revision".into(), "1".into());
        annotated.annotations_mut().insert("example.com/x".into(), "1".into());
        let refusal = "metadata.annotations.cert-manager.io/certificate-revision: Forbidden: cannot change cert-manager \
                       annotation after creation";
        assert_eq!(update_request(&request(), &annotated).to_string(), refusal);
        assert_eq!(update_request(&annotated, &request()).to_string(), refusal);
        let mut other = annotated.clone();
        other.annotations_mut().insert("example.com/x".into(), "2".into());
        assert_eq!(update_request(&annotated, &other).to_string(), "[]");
    }

    #[test]
    fn a_request_stored_before_the_rules_still_gets_its_status() {
        let mut old = request();
        old.spec.request = "no CSR".into();
        let mut new = old.clone();
        new.status = decided(&[(APPROVED, ConditionStatus::True)]).status;
        assert_eq!(update_request(&old, &new).to_string(), "[]");
    }

    #[test]
    fn a_request_is_approved_or_denied_once() {
        use ConditionStatus::{False, True, Unknown};
        let (yes, no): (&[_], &[_]) = (&[(APPROVED, True)], &[(DENIED, True)]);
        for (old, new, refusal) in [
            (&[][..], yes, "[]"),
            (&[], no, "[]"),
            (yes, yes, "[]"),
            (&[], &[("Ready", False), (APPROVED, True)], "[]"),
            (
                &[],
                &[(APPROVED, False)],
                "status.conditions.Approved: Invalid value: \"False\": \"Approved\" condition may only be set to True",
            ),
            (
                &[],
                &[(DENIED, Unknown)],
                "status.conditions.Denied: Invalid value: \"Unknown\": \"Denied\" condition may only be set to True",
            ),
            (
                &[],
                &[(APPROVED, True), (DENIED, True)],
                "status.conditions: Forbidden: both 'Denied' and 'Approved' conditions cannot coexist",
            ),
            (
                &[],
                &[(APPROVED, True), (APPROVED, True)],
                "status.conditions: Forbidden: multiple \"Approved\" conditions present",
            ),
            (yes, &[], "status.conditions: Forbidden: 'Approved' condition may not be modified once set"),
            (no, yes, "status.conditions: Forbidden: 'Denied' condition may not be modified once set"),
        ] {
            assert_eq!(update_request(&decided(old), &decided(new)).to_string(), refusal, "{old:?} {new:?}");
        }
        let mut reworded = decided(yes);
        if let Some(condition) = reworded.status.as_mut().and_then(|status| status.conditions.first_mut()) {
            condition.message = "another".into();
        }
        assert!(!update_request(&decided(yes), &reworded).is_empty());
    }
}
