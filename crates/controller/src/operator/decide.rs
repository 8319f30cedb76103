//! `approve` and `deny`: whether a CertificateRequest may be signed.

use chancery_kubernetes::cert_manager::{APPROVED, Condition, DENIED, condition, set_condition};
use jiff::Timestamp;
use kube::Client;

use super::{Error, change_conditions, objects};
use crate::Key;

/// A decision about a CertificateRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be signed.
    Approve,
    /// It must not be signed.
    Deny,
}

impl Decision {
    fn kind(self) -> &'static str {
        match self {
            Self::Approve => APPROVED,
            Self::Deny => DENIED,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Approve => Self::Deny,
            Self::Deny => Self::Approve,
        }
    }
}

/// Decides about one. A decision stands: the same again changes nothing (`false`), the other is refused.
///
/// # Errors
/// There is no such request, it is decided otherwise, or it cannot be written.
pub async fn decide(
    client: &Client,
    key: &Key,
    decision: Decision,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> Result<bool, Error> {
    let api = objects(client, "CertificateRequest", &key.namespace);
    let what = format!("CertificateRequest {key}");
    change_conditions(&api, &what, &key.name, |_, conditions| {
        if let Some(decided) = condition(conditions, decision.other().kind()) {
            let (Condition { reason, message, .. }, word) = (decided, decision.other().kind().to_lowercase());
            return Err(Error::Content(format!(
                "{what} is {word} already, and that stands: {reason}, {message}"
            )));
        }
        if condition(conditions, decision.kind()).is_some() {
            return Ok(false);
        }
        Ok(set_condition(conditions, Condition::new(decision.kind(), true, reason, message), now))
    })
    .await
}
