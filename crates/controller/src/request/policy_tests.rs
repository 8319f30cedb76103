use std::sync::Arc;

use chancery_kubernetes::cert_manager::{CaIssuer, IssuerStatus, SelfSignedIssuer, VaultIssuer};
use kube::api::ObjectMeta;
use serde_json::json;

use super::*;

fn issuer(spec: IssuerSpec, ready: Option<bool>) -> Arc<Issuer> {
    let metadata =
        ObjectMeta { name: Some("i".into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
    let mut issuer = Issuer::new(metadata, spec);
    let conditions = ready.into_iter().map(|ready| Condition::new(READY, ready, "", "")).collect();
    issuer.status = Some(IssuerStatus { conditions, ..IssuerStatus::default() });
    Arc::new(issuer)
}

fn vault() -> IssuerSpec {
    IssuerSpec { vault: Some(VaultIssuer::default()), ..IssuerSpec::default() }
}

struct Case {
    reference: IssuerReference,
    conditions: Vec<Condition>,
    has_failure_time: bool,
    has_certificate: bool,
    is_deleting: bool,
    approves: bool,
    is_cluster_wide: bool,
    issuer: Option<Arc<Issuer>>,
}

/// New, for a ready issuer of type vault; approved here.
fn case() -> Case {
    Case {
        reference: IssuerReference { name: "i".into(), ..IssuerReference::default() },
        conditions: Vec::new(),
        has_failure_time: false,
        has_certificate: false,
        is_deleting: false,
        approves: true,
        is_cluster_wide: true,
        issuer: Some(issuer(vault(), Some(true))),
    }
}

impl Case {
    fn decide(&self) -> Decision {
        let known = Known {
            namespace: "ns",
            issuer_ref: &self.reference,
            conditions: &self.conditions,
            has_failure_time: self.has_failure_time,
            has_certificate: self.has_certificate,
            is_deleting: self.is_deleting,
        };
        let mandate = Mandate { approves: self.approves, is_cluster_wide: self.is_cluster_wide };
        decide(&known, mandate, |_| self.issuer.clone())
    }

    fn with(mut self, kind: &str, status: bool, reason: &str) -> Self {
        let message = if reason == REFUSED { DENIED_MESSAGE } else { "" };
        self.conditions.push(Condition::new(kind, status, reason, message));
        self
    }
}

fn sign(approve: bool, component: &'static str) -> Decision {
    let issuer = IssuerKey::Namespaced { namespace: "ns".into(), name: "i".into() };
    Decision::Sign { approve, issuer, component }
}

fn wait(approve: bool, component: &'static str, reason: &'static str, message: &'static str) -> Decision {
    Decision::Wait { approve, missing: Missing { component, reason, message: message.into() } }
}

#[test]
fn requests_of_other_controllers_and_ended_ones_are_left_alone() {
    let foreign = IssuerReference::new("i", "AWSPCAIssuer", "awspca.cert-manager.io");
    for approves in [true, false] {
        let case = || Case { approves, ..case() };
        let table = [
            ("group", Case { reference: foreign.clone(), ..case() }, Ignored::Foreign),
            (
                "denied elsewhere",
                Case { reference: foreign.clone(), ..case() }.with(DENIED, true, "x"),
                Ignored::Foreign,
            ),
            ("deleting", Case { is_deleting: true, ..case() }, Ignored::Deleting),
            ("invalid", case().with(INVALID_REQUEST, true, "x"), Ignored::Invalid),
            ("issued", Case { has_certificate: true, ..case() }.with(READY, true, ISSUED), Ignored::Ended),
            ("failed", case().with(READY, false, FAILED), Ignored::Ended),
            ("has a certificate", Case { has_certificate: true, ..case() }, Ignored::HasCertificate),
            (
                "denied",
                Case { has_failure_time: true, ..case() }.with(DENIED, true, "x").with(READY, false, REFUSED),
                Ignored::Denied,
            ),
        ];
        for (name, case, why) in table {
            assert_eq!(case.decide(), Decision::Ignore(why), "{name}, approves: {approves}");
        }
        for spec in [
            IssuerSpec { acme: Some(json!({})), ..vault() },
            IssuerSpec { venafi: Some(json!({})), ..IssuerSpec::default() },
        ] {
            for ready in [None, Some(false), Some(true)] {
                let case = Case { issuer: Some(issuer(spec.clone(), ready)), ..case() };
                assert_eq!(case.decide(), Decision::Ignore(Ignored::OtherType));
            }
        }
    }
}

#[test]
fn a_denied_request_ends_and_says_so() {
    let denied = || case().with(APPROVED, true, "x").with(DENIED, true, "y");
    assert_eq!(denied().decide(), Decision::Deny);
    assert_eq!(denied().with(READY, false, PENDING).decide(), Decision::Deny);
    assert_eq!(denied().with(READY, false, REFUSED).decide(), Decision::Deny, "no failure time yet");
    // Whether the issuer is there does not matter, nor whether the request was issued before.
    assert_eq!(Case { issuer: None, ..denied() }.decide(), Decision::Deny);
    assert_eq!(Case { has_certificate: true, ..denied() }.with(READY, true, ISSUED).decide(), Decision::Deny);
    // `Denied=False` does not deny.
    assert_eq!(case().with(DENIED, false, "x").decide(), sign(true, VAULT));
}

#[test]
fn a_request_is_approved_and_signed_at_once() {
    assert_eq!(case().decide(), sign(true, VAULT));
    assert_eq!(case().with(APPROVED, true, "KubectlCertManager").decide(), sign(false, VAULT));
    assert_eq!(case().with(APPROVED, true, "x").with(READY, false, PENDING).decide(), sign(false, VAULT));
    let types = [
        (IssuerSpec { ca: Some(CaIssuer::default()), ..vault() }, CA),
        (vault(), VAULT),
        (IssuerSpec { self_signed: Some(SelfSignedIssuer::default()), ..IssuerSpec::default() }, SELF_SIGNED),
    ];
    for (spec, component) in types {
        let case = Case { issuer: Some(issuer(spec, Some(true))), ..case() };
        assert_eq!(case.decide(), sign(true, component));
    }
    let reference = IssuerReference::new("i", CLUSTER_ISSUER, "cert-manager.io");
    let cluster = IssuerKey::Cluster { name: "i".into() };
    assert!(
        matches!(Case { reference, ..case() }.decide(), Decision::Sign { issuer, .. } if issuer == cluster)
    );
}

#[test]
fn who_looks_after_some_namespaces_leaves_requests_for_cluster_issuers_alone() {
    let reference = IssuerReference::new("i", CLUSTER_ISSUER, "cert-manager.io");
    let some = |issuer| Case { is_cluster_wide: false, reference: reference.clone(), issuer, ..case() };
    for issuer in [None, case().issuer] {
        assert_eq!(some(issuer).decide(), Decision::Ignore(Ignored::ClusterIssuer));
    }
    assert_eq!(some(None).with(DENIED, true, "x").decide(), Decision::Deny);
    assert_eq!(Case { is_cluster_wide: false, ..case() }.decide(), sign(true, VAULT));
}

#[test]
fn nothing_is_signed_before_somebody_approves() {
    let manual = || Case { approves: false, ..case() };
    assert_eq!(manual().decide(), Decision::AwaitApproval(VAULT));
    assert_eq!(manual().with(APPROVED, false, "x").decide(), Decision::AwaitApproval(VAULT));
    assert_eq!(Case { issuer: None, ..manual() }.decide(), Decision::AwaitApproval(VAULT));
    let ca = IssuerSpec { ca: Some(CaIssuer::default()), ..IssuerSpec::default() };
    let case = Case { issuer: Some(issuer(ca, None)), ..manual() };
    assert_eq!(case.decide(), Decision::AwaitApproval(CA));
    assert_eq!(manual().with(APPROVED, true, "x").decide(), sign(false, VAULT));
}

#[test]
fn what_is_missing_is_said_in_the_words_that_clients_know() {
    let cluster = IssuerReference::new("i", CLUSTER_ISSUER, "cert-manager.io");
    let unknown = IssuerReference::new("i", "Isuer", "cert-manager.io");
    let ca = IssuerSpec { ca: Some(CaIssuer::default()), ..IssuerSpec::default() };
    let not_ready = "Referenced issuer does not have a Ready status condition";
    for approve in [true, false] {
        let case = || {
            let case = Case { approves: approve, ..case() };
            if approve { case } else { case.with(APPROVED, true, "x") }
        };
        let table = [
            (
                Case { issuer: None, ..case() },
                wait(
                    approve,
                    VAULT,
                    "IssuerNotFound",
                    r#"Referenced "Issuer" not found: issuer.cert-manager.io "i" not found"#,
                ),
            ),
            (
                Case { issuer: None, reference: cluster.clone(), ..case() },
                wait(
                    approve,
                    VAULT,
                    "IssuerNotFound",
                    r#"Referenced "ClusterIssuer" not found: clusterissuer.cert-manager.io "i" not found"#,
                ),
            ),
            (
                Case { reference: unknown.clone(), ..case() },
                wait(
                    approve,
                    VAULT,
                    "IssuerNotFound",
                    r#"Referenced "Isuer" not found: invalid value "Isuer" for issuerRef.kind: must be empty, "Issuer" or "ClusterIssuer""#,
                ),
            ),
            (
                Case { issuer: Some(issuer(IssuerSpec::default(), Some(true))), ..case() },
                wait(
                    approve,
                    VAULT,
                    "IssuerTypeMissing",
                    "Missing issuer type: no issuer specified for Issuer 'ns/i'",
                ),
            ),
            (
                Case { issuer: Some(issuer(vault(), None)), ..case() },
                wait(approve, VAULT, "IssuerNotReady", not_ready),
            ),
            (
                Case { issuer: Some(issuer(ca.clone(), Some(false))), ..case() },
                wait(approve, CA, "IssuerNotReady", not_ready),
            ),
        ];
        for (case, expected) in table {
            assert_eq!(case.decide(), expected);
        }
    }
}
