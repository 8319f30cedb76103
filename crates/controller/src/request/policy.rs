//! What is to be done with a CertificateRequest, from what is known: no reading, no writing, no clock.

use std::borrow::Cow;

use chancery_kubernetes::cert_manager::{
    APPROVED, CLUSTER_ISSUER, Condition, ConditionStatus, DENIED, INVALID_REQUEST, ISSUER, Issuer,
    IssuerReference, IssuerSpec, READY, condition, is_true,
};

use crate::issuer::IssuerKey;

/// Reason of Ready when it is `True`.
pub(super) const ISSUED: &str = "Issued";
/// Reason of Ready while something is missing that may still come.
pub(super) const PENDING: &str = "Pending";
/// Reason of Ready when it will never be `True`.
pub(super) const FAILED: &str = "Failed";
/// Reason of Ready when somebody denied the request.
pub(super) const REFUSED: &str = "Denied";
/// Message of Ready then.
pub(super) const DENIED_MESSAGE: &str = "The CertificateRequest was denied by an approval controller";
/// Reason of Approved, and of its event, when it is approved here.
pub(super) const APPROVED_REASON: &str = "cert-manager.io";
/// Message of both.
pub(super) const APPROVED_MESSAGE: &str = "Certificate request has been approved by cert-manager.io";
/// Message of Ready, and of the event, when a request was signed.
pub(super) const ISSUED_MESSAGE: &str = "Certificate fetched from issuer successfully";
/// Event's reason when a request was signed.
pub(super) const CERTIFICATE_ISSUED: &str = "CertificateIssued";
/// Event's reason while nobody has approved a request.
pub(super) const WAITING_FOR_APPROVAL: &str = "WaitingForApproval";
/// Message of that event.
pub(super) const WAITING_MESSAGE: &str = "Not signing CertificateRequest until it is Approved";

/// Where events of approval come from.
pub(super) const APPROVER: &str = "cert-manager-certificaterequests-approver";
const VAULT: &str = "cert-manager-certificaterequests-issuer-vault";
const CA: &str = "cert-manager-certificaterequests-issuer-ca";
const SELF_SIGNED: &str = "cert-manager-certificaterequests-issuer-selfsigned";

/// What is known of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// `spec.issuerRef`
    pub(super) issuer_ref: &'a IssuerReference,
    /// `status.conditions`
    pub(super) conditions: &'a [Condition],
    /// Whether `status.failureTime` is there.
    pub(super) has_failure_time: bool,
    /// Whether `status.certificate` is there.
    pub(super) has_certificate: bool,
    /// Whether its deletion has begun.
    pub(super) is_deleting: bool,
}

/// What this controller is there for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mandate {
    /// Whether it approves requests.
    pub(super) approves: bool,
    /// Whether it looks after the whole cluster, ClusterIssuers included, and not after some namespaces only.
    pub(super) is_cluster_wide: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Ignore(Ignored),
    /// Ready becomes `False`: somebody denied it.
    Deny,
    /// Somebody must approve it first; the event comes from this part.
    AwaitApproval(&'static str),
    /// Ready becomes, or stays, `False`: something is missing.
    Wait {
        /// Whether it is approved in the same step.
        approve: bool,
        /// What is missing.
        missing: Missing,
    },
    /// The issuer signs.
    Sign {
        /// Whether it is approved in the same step.
        approve: bool,
        /// Who signs.
        issuer: IssuerKey,
        /// The part that events come from.
        component: &'static str,
    },
}

/// Why nothing is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ignored {
    /// The issuer is of another API group.
    Foreign,
    /// It is being deleted.
    Deleting,
    /// It was denied, and says so.
    Denied,
    /// Somebody found it invalid.
    Invalid,
    /// It was issued or has failed.
    Ended,
    /// There is a certificate already.
    HasCertificate,
    /// The issuer is a ClusterIssuer, and only some namespaces are looked after: another controller's, perhaps.
    ClusterIssuer,
    /// The issuer's type is left to other controllers.
    OtherType,
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// The part that the event comes from.
    pub(super) component: &'static str,
    /// The event's reason.
    pub(super) reason: &'static str,
    /// Message of the event and of Ready.
    pub(super) message: Cow<'static, str>,
}

/// Decides. `find` says what is known of an issuer.
pub(super) fn decide<I: AsRef<Issuer>>(
    known: &Known<'_>,
    mandate: Mandate,
    find: impl FnOnce(&IssuerKey) -> Option<I>,
) -> Decision {
    let Known { namespace, issuer_ref, conditions, has_failure_time, has_certificate, is_deleting } = *known;
    if !issuer_ref.is_ours() {
        return Decision::Ignore(Ignored::Foreign);
    }
    if is_deleting {
        return Decision::Ignore(Ignored::Deleting);
    }
    let ready = condition(conditions, READY);
    if is_true(conditions, DENIED) {
        let says_so = ready.is_some_and(|ready| {
            (ready.status, ready.reason.as_str(), ready.message.as_str())
                == (ConditionStatus::False, REFUSED, DENIED_MESSAGE)
        });
        return if says_so && has_failure_time { Decision::Ignore(Ignored::Denied) } else { Decision::Deny };
    }
    if is_true(conditions, INVALID_REQUEST) {
        return Decision::Ignore(Ignored::Invalid);
    }
    if ready.is_some_and(|ready| matches!(ready.reason.as_str(), FAILED | ISSUED)) {
        return Decision::Ignore(Ignored::Ended);
    }
    if has_certificate {
        return Decision::Ignore(Ignored::HasCertificate);
    }
    let key = IssuerKey::of(issuer_ref, namespace);
    if !mandate.is_cluster_wide && matches!(key, Some(IssuerKey::Cluster { .. })) {
        return Decision::Ignore(Ignored::ClusterIssuer);
    }
    let issuer = key.as_ref().and_then(find);
    let issuer = issuer.as_ref().map(AsRef::as_ref);
    let component = match issuer.map(|issuer| component(&issuer.spec)) {
        Some(Component::Other) => return Decision::Ignore(Ignored::OtherType),
        Some(Component::Ours(component)) => component,
        // Of which type the issuer would be, nobody knows. It is said once, by the part that is used most.
        Some(Component::None) | None => VAULT,
    };
    let is_approved = is_true(conditions, APPROVED);
    if !is_approved && !mandate.approves {
        return Decision::AwaitApproval(component);
    }
    let approve = !is_approved;
    let wait = |reason, message| Decision::Wait { approve, missing: Missing { component, reason, message } };
    let kind = issuer_ref.kind();
    let Some(key) = key else {
        let message = format!(
            "Referenced {kind:?} not found: invalid value {kind:?} for issuerRef.kind: must be empty, \
             {ISSUER:?} or {CLUSTER_ISSUER:?}"
        );
        return wait("IssuerNotFound", message.into());
    };
    let Some(issuer) = issuer else {
        let resource = kind.to_lowercase();
        let name = &issuer_ref.name;
        let message = format!("Referenced {kind:?} not found: {resource}.cert-manager.io {name:?} not found");
        return wait("IssuerNotFound", message.into());
    };
    if let Component::None = self::component(&issuer.spec) {
        let home = issuer.metadata.namespace.as_deref().unwrap_or_default();
        let name = &issuer_ref.name;
        let message = format!("Missing issuer type: no issuer specified for Issuer '{home}/{name}'");
        return wait("IssuerTypeMissing", message.into());
    }
    if !is_true(issuer.conditions(), READY) {
        let message = "Referenced issuer does not have a Ready status condition";
        return wait("IssuerNotReady", message.into());
    }
    Decision::Sign { approve, issuer: key, component }
}

/// The part that signs for an issuer.
enum Component {
    Ours(&'static str),
    /// A type that is left to other controllers.
    Other,
    /// The issuer has no type.
    None,
}

fn component(spec: &IssuerSpec) -> Component {
    // An issuer with two types is invalid; this is the order in which the first counts.
    let IssuerSpec { acme, ca, vault, self_signed, venafi } = spec;
    if acme.is_some() {
        Component::Other
    } else if ca.is_some() {
        Component::Ours(CA)
    } else if vault.is_some() {
        Component::Ours(VAULT)
    } else if self_signed.is_some() {
        Component::Ours(SELF_SIGNED)
    } else if venafi.is_some() {
        Component::Other
    } else {
        Component::None
    }
}

/// Whether Ready says that something is missing.
pub(super) fn is_pending(conditions: &[Condition]) -> bool {
    condition(conditions, READY)
        .is_some_and(|ready| ready.status == ConditionStatus::False && ready.reason == PENDING)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
