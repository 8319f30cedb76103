//! Conditions, and how they are set.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Time, words};

/// `Ready`, of all four kinds.
pub const READY: &str = "Ready";
/// `Issuing`, of Certificates: an issuance is under way.
pub const ISSUING: &str = "Issuing";
/// `Approved`, of CertificateRequests; only ever `True`.
pub const APPROVED: &str = "Approved";
/// `Denied`, of CertificateRequests; only ever `True`.
pub const DENIED: &str = "Denied";
/// `InvalidRequest`, of CertificateRequests.
pub const INVALID_REQUEST: &str = "InvalidRequest";

words! {
    /// Whether a condition holds.
    ConditionStatus {
        /// It does.
        True = "True",
        /// It does not.
        False = "False",
        /// Nobody knows.
        Unknown = "Unknown",
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One aspect of an object's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub kind: String,
    /// Status of the condition: True, False or Unknown.
    pub status: ConditionStatus,
    /// A word for why the condition is as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence about why the condition is as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// The generation of the object that the condition speaks of; CertificateRequests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// A condition of no generation; [`set_condition`] gives it its time.
    pub fn new(
        kind: impl Into<String>,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: None,
            observed_generation: None,
        }
    }

    /// The same of a generation of its object (`metadata.generation`).
    #[must_use]
    pub fn of_generation(self, generation: Option<i64>) -> Self {
        Self { observed_generation: generation, ..self }
    }
}

/// The condition of this type.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether the condition of this type is `True`; one that is not there is not.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// Sets a condition in the place of the one of its type, or at the end. Its `lastTransitionTime` moves only when its status
/// does; whatever stands there in `new` is not looked at. Says whether anything changed.
pub fn set_condition(conditions: &mut Vec<Condition>, new: Condition, now: Timestamp) -> bool {
    let now = Time::new(now);
    let Some(old) = conditions.iter_mut().find(|condition| condition.kind == new.kind) else {
        conditions.push(Condition { last_transition_time: Some(now), ..new });
        return true;
    };
    let kept = old.last_transition_time.filter(|_| old.status == new.status);
    let new = Condition { last_transition_time: kept.or(Some(now)), ..new };
    let changes = *old != new;
    *old = new;
    changes
}

/// Removes a condition. Says whether it was there.
pub fn remove_condition(conditions: &mut Vec<Condition>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.kind != kind);
    conditions.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 500_000_000).expect("an instant")
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        let ready = |status: bool, message: &str| Condition::new(READY, status, "Reason", message);
        assert!(set_condition(&mut conditions, ready(false, "one"), at(10)));
        assert!(set_condition(&mut conditions, Condition::new(ISSUING, true, "", ""), at(11)));
        assert!(!set_condition(&mut conditions, ready(false, "one"), at(20)));
        assert!(set_condition(&mut conditions, ready(false, "two"), at(20)));
        let time = |conditions: &[Condition]| conditions[0].last_transition_time.map(|time| time.0);
        assert_eq!(time(&conditions), Timestamp::from_second(10).ok());
        assert!(set_condition(&mut conditions, ready(true, "two").of_generation(Some(3)), at(30)));
        assert_eq!(time(&conditions), Timestamp::from_second(30).ok());
        assert_eq!(conditions[0].observed_generation, Some(3));
        assert!(is_true(&conditions, READY) && is_true(&conditions, ISSUING));
        assert!(remove_condition(&mut conditions, ISSUING) && !remove_condition(&mut conditions, ISSUING));
        assert_eq!(conditions.len(), 1);
    }
}
