//! When to renew a certificate.

use jiff::Timestamp;

/// The moment to begin renewing: two thirds into the lifetime, pulled forward by up to a tenth
/// of the lifetime as `jitter` (0 to 1; clamped) says, so that a fleet started together does not
/// come back together.
///
/// A lifetime that has no length (or a negative one) is due at `not_before`.
pub fn renewal_time(not_before: Timestamp, not_after: Timestamp, jitter: f64) -> Timestamp {
    let lifetime = not_after.as_second().saturating_sub(not_before.as_second()).max(0);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a lifetime in seconds is far below 2^52"
    )]
    let ahead = (lifetime as f64 * 0.1 * jitter) as i64;
    let due = not_before.as_second().saturating_add(lifetime / 3 * 2).saturating_sub(ahead);
    Timestamp::from_second(due).unwrap_or(not_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn renewal_is_due_at_two_thirds_and_jitter_only_pulls_it_forward() {
        assert_eq!(renewal_time(at(1000), at(4000), 0.0), at(3000));
        assert_eq!(renewal_time(at(1000), at(4000), 1.0), at(2700));
        assert_eq!(renewal_time(at(1000), at(4000), 17.0), at(2700));
        assert_eq!(renewal_time(at(1000), at(4000), f64::NAN), at(3000));
    }

    #[test]
    fn an_empty_or_inverted_lifetime_is_due_at_once() {
        assert_eq!(renewal_time(at(1000), at(1000), 0.5), at(1000));
        assert_eq!(renewal_time(at(1000), at(10), 0.5), at(1000));
    }
}
