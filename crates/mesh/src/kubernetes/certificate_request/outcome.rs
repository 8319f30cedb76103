//! What became of a CertificateRequest.

use crate::ca::signer::{SignedChain, SigningError};
use chancery_kubernetes::cert_manager::{
    Bytes, CertificateRequest, Condition, ConditionStatus, DENIED, INVALID_REQUEST, READY,
};

/// The end of a request.
pub(super) type Outcome = Result<SignedChain, SigningError>;

/// What became of a request; `None` while nothing has.
///
/// As istio-csr has it: a denial or a failure counts before a certificate, and a certificate counts whatever else the
/// conditions say. `InvalidRequest` is an end too: cert-manager turns it into `Failed`, other issuers may not.
pub(super) fn outcome(request: &CertificateRequest) -> Option<Outcome> {
    let status = request.status.as_ref()?;
    for condition in &status.conditions {
        let is_end = match condition.kind.as_str() {
            DENIED | INVALID_REQUEST => condition.status == ConditionStatus::True,
            READY => {
                condition.status == ConditionStatus::False
                    && matches!(condition.reason.as_str(), "Failed" | "Denied")
            }
            _ => false,
        };
        if is_end {
            return Some(Err(SigningError::Refused(sentence(condition))));
        }
    }
    let text = |bytes: &Bytes| bytes.as_str().map(str::to_owned);
    let certificate = status.certificate.as_ref().filter(|certificate| !certificate.is_empty())?;
    let Some(chain) = text(certificate) else {
        let reason = "status.certificate of the CertificateRequest is not PEM in base64";
        return Some(Err(SigningError::Refused(reason.into())));
    };
    let root = status.ca.as_ref().filter(|root| !root.is_empty()).and_then(text);
    Some(Ok(SignedChain { chain, root }))
}

/// What a request waits for, as far as its issuer says so.
pub(super) fn pending(request: &CertificateRequest) -> Option<String> {
    let conditions = request.status.as_ref()?.conditions.iter();
    conditions.filter(|condition| condition.kind == READY).map(sentence).next_back()
}

fn sentence(condition: &Condition) -> String {
    let Condition { kind, status, reason, message, .. } = condition;
    format!("{kind}={status} ({reason}): {message}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(status: Value) -> CertificateRequest {
        serde_json::from_value(json!({
            "metadata": { "name": "istio-csr-x" },
            "spec": { "request": "", "issuerRef": { "name": "istio-ca" } },
            "status": status,
        }))
        .expect("a request")
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({ "type": kind, "status": status, "reason": reason, "message": "because" })
    }

    fn refused(request: &CertificateRequest) -> bool {
        matches!(outcome(request), Some(Err(SigningError::Refused(reason))) if reason.contains("because"))
    }

    #[test]
    fn denied_invalid_and_failed_requests_are_refused_even_with_a_certificate() {
        for end in [
            condition("Denied", "True", "policy"),
            condition("InvalidRequest", "True", "BadCSR"),
            condition("Ready", "False", "Failed"),
            condition("Ready", "False", "Denied"),
        ] {
            assert!(refused(&request(json!({ "conditions": [end] }))), "{end}");
            assert!(refused(&request(json!({ "conditions": [end], "certificate": "Y2VydA==" }))), "{end}");
        }
    }

    #[test]
    fn a_certificate_is_success_whatever_ready_says() {
        let signed = SignedChain { chain: "cert".into(), root: Some("ca".into()) };
        for conditions in [json!([]), json!([condition("Ready", "False", "Pending")])] {
            let status = json!({ "conditions": conditions, "certificate": "Y2VydA==", "ca": "Y2E=" });
            assert_eq!(outcome(&request(status)), Some(Ok(signed.clone())));
        }
        let rootless = outcome(&request(json!({ "certificate": "Y2VydA==" })));
        assert_eq!(rootless, Some(Ok(SignedChain { chain: "cert".into(), root: None })));
    }

    #[test]
    fn what_is_pending_has_no_outcome_and_says_why() {
        let waiting = request(json!({ "conditions": [condition("Ready", "False", "Pending")] }));
        assert_eq!(outcome(&waiting), None);
        assert_eq!(pending(&waiting).as_deref(), Some("Ready=False (Pending): because"));
        let approved = request(json!({ "conditions": [condition("Approved", "True", "policy")] }));
        assert_eq!((outcome(&approved), pending(&approved)), (None, None));
        assert_eq!(outcome(&request(Value::Null)), None);
        assert_eq!(outcome(&request(json!({ "certificate": "" }))), None);
    }

    #[test]
    fn a_certificate_that_is_no_text_is_refused() {
        let outcome = outcome(&request(json!({ "certificate": "//8=" })));
        assert!(matches!(outcome, Some(Err(SigningError::Refused(_)))));
    }
}
