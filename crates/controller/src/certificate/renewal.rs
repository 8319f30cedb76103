//! When a certificate is renewed, and when a failed issuance is tried again.

use std::time::Duration;

use chancery_kubernetes::cert_manager::{CertificateSpec, CertificateStatus, RenewalPolicy};
use jiff::Timestamp;

/// Lifetime that is asked for where none is written.
pub(crate) const DEFAULT_DURATION: Duration = Duration::from_secs(2160 * 3600);

/// No retry comes sooner, however little is left of a certificate.
const SOONEST: Duration = Duration::from_secs(10);

/// When a certificate is renewed; `None`: never.
///
/// A `renewBefore` that leaves less than a twentieth of the lifetime, as when the issuer cut it, would renew in a loop: it
/// counts as if there were none.
pub(crate) fn renewal_time(
    not_before: Timestamp,
    not_after: Timestamp,
    spec: &CertificateSpec,
) -> Option<Timestamp> {
    if spec.renewal.as_ref().and_then(|renewal| renewal.policy) == Some(RenewalPolicy::Disabled) {
        return None;
    }
    let life = not_after.as_second() - not_before.as_second();
    let before = match spec.renew_before_percentage {
        _ if honours_renew_before(life, spec) => seconds_before(spec),
        Some(percentage @ 1..=99) if spec.renew_before.is_none() => life * i64::from(percentage) / 100,
        _ => life / 3,
    };
    Timestamp::from_second(not_after.as_second() - before).ok()
}

/// Whether `renewBefore` can be kept to with a certificate of this life, in seconds.
fn honours_renew_before(life: i64, spec: &CertificateSpec) -> bool {
    let before = seconds_before(spec);
    before > 0 && before <= life - life / 20
}

fn seconds_before(spec: &CertificateSpec) -> i64 {
    spec.renew_before.map_or(0, |before| i64::try_from(before.0.as_secs()).unwrap_or(i64::MAX))
}

/// What to tell of a certificate whose life is much shorter than what was asked for; `None`: it is not.
pub(crate) fn cut(not_before: Timestamp, not_after: Timestamp, spec: &CertificateSpec) -> Option<String> {
    let life = not_after.as_second() - not_before.as_second();
    let asked = spec.duration.map_or(DEFAULT_DURATION, |asked| asked.0);
    let wanted = i64::try_from(asked.as_secs()).unwrap_or(i64::MAX);
    let said = |seconds: i64| {
        chancery_kubernetes::cert_manager::GoDuration::seconds(u64::try_from(seconds).unwrap_or(0))
    };
    if life >= wanted - wanted / 20 {
        return None;
    }
    let mut message = format!(
        "The issuer cut the lifetime from {} to {}; raise the limit of its role, or ask for less in spec.duration",
        said(wanted),
        said(life)
    );
    if spec.renew_before.is_some() && !honours_renew_before(life, spec) {
        message += &format!(
            ". spec.renewBefore of {} cannot be kept to: the certificate is renewed when a third of its life is left",
            said(seconds_before(spec))
        );
    }
    Some(message)
}

/// When the next try is due after failures; `None`: at once.
///
/// The pause doubles from `first` up to `max`. While there is a certificate that is still good, it is never more than a
/// third of what was left of it at the failure: there are always tries left before it ends.
pub(crate) fn retry_time(
    status: &CertificateStatus,
    certificate_end: Option<Timestamp>,
    first: Duration,
    max: Duration,
) -> Option<Timestamp> {
    let failed = status.last_failure_time?.0;
    if first.is_zero() {
        return None;
    }
    let doublings = u32::try_from(status.failed_issuance_attempts.unwrap_or(1).max(1) - 1).unwrap_or(0);
    let mut pause = first.saturating_mul(2_u32.saturating_pow(doublings)).min(max);
    let left = certificate_end.map_or(0, |end| end.as_second() - failed.as_second());
    if let Ok(left) = u64::try_from(left)
        && left > 0
    {
        pause = pause.min(Duration::from_secs(left / 3).max(SOONEST));
    }
    failed.checked_add(pause).ok()
}

#[cfg(test)]
mod tests {
    use chancery_kubernetes::cert_manager::{GoDuration, Renewal, Time};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn spec(renew_before: Option<u64>, percentage: Option<i32>) -> CertificateSpec {
        CertificateSpec {
            renew_before: renew_before.map(GoDuration::seconds),
            renew_before_percentage: percentage,
            ..CertificateSpec::default()
        }
    }

    #[test]
    fn a_certificate_is_renewed_as_long_before_its_end_as_is_said_or_at_two_thirds_of_its_life() {
        for (life, before, percentage, expected) in [
            (3630, Some(1800), None, 1830),
            (3630, None, None, 2420),
            (3600, None, Some(25), 2700),
            (3600, None, Some(100), 2400),
            (3600, Some(3420), None, 180),
            (3600, Some(3421), None, 2400),
            (3600, Some(3600), None, 2400),
            (3600, Some(7200), None, 2400),
            (0, None, None, 0),
        ] {
            let due = renewal_time(at(0), at(life), &spec(before, percentage));
            assert_eq!(due, Some(at(expected)), "{life} {before:?} {percentage:?}");
        }
        let disabled = Renewal { policy: Some(RenewalPolicy::Disabled), windows: Vec::new() };
        let never = CertificateSpec { renewal: Some(disabled), ..CertificateSpec::default() };
        assert_eq!(renewal_time(at(0), at(3600), &never), None);
    }

    #[test]
    fn a_life_that_was_cut_is_told_with_what_becomes_of_the_renewal() {
        let asked = CertificateSpec { duration: Some(GoDuration::seconds(3600)), ..spec(Some(1800), None) };
        assert_eq!(cut(at(0), at(3630), &asked), None);
        assert_eq!(cut(at(0), at(3420), &asked), None);
        let told = cut(at(0), at(2400), &asked).expect("a message");
        assert!(told.contains("from 1h0m0s to 40m0s") && !told.contains("renewBefore"), "{told}");
        let told = cut(at(0), at(1800), &asked).expect("a message");
        assert!(told.contains("spec.renewBefore of 30m0s cannot be kept to"), "{told}");
    }

    #[test]
    fn retries_come_later_and_later_but_never_after_a_third_of_what_is_left() {
        let (first, max) = (Duration::from_secs(60), Duration::from_secs(32 * 3600));
        for (attempts, end, expected) in [
            (1, None, 60),
            (2, None, 120),
            (5, None, 960),
            (40, None, 32 * 3600),
            (5, Some(1800), 600),
            (5, Some(60), 20),
            (5, Some(3), 10),
            (5, Some(-10), 960),
        ] {
            let status = CertificateStatus {
                failed_issuance_attempts: Some(attempts),
                last_failure_time: Some(Time(at(1000))),
                ..CertificateStatus::default()
            };
            let due = retry_time(&status, end.map(|end: i64| at(1000 + end)), first, max);
            assert_eq!(due, Some(at(1000 + expected)), "{attempts} {end:?}");
            assert_eq!(retry_time(&status, None, Duration::ZERO, max), None);
        }
        assert_eq!(retry_time(&CertificateStatus::default(), None, first, max), None);
    }
}
