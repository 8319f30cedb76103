//! When certificates are asked for: at once, then at a part of each one's life, for ever.

use std::time::Duration;

use chancery_api::Clock;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::issue::{IssueError, Issued};

/// When to renew, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Renewal {
    /// The part of its life before its end at which a certificate is renewed.
    pub ratio: f64,
    /// How far this part is moved at random, either way, so that what began together does not renew together.
    pub jitter: f64,
}

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// A process that was stopped, or a machine that slept, notices that its time has come after this at the latest.
const LOOK: Duration = Duration::from_secs(60);

impl Renewal {
    /// How long after `now` a certificate that was received at `received` and ends at `not_after` is renewed.
    /// `random` is between 0 and 1.
    ///
    /// At least half a second: a CA that gives out certificates which are as good as over is not asked without end.
    pub fn delay(&self, received: Timestamp, not_after: Timestamp, now: Timestamp, random: f64) -> Duration {
        let ratio = (self.ratio + self.jitter * (2.0 * random - 1.0)).clamp(0.0, 1.0);
        let life = seconds(received, not_after);
        let left = seconds(now, not_after);
        Duration::try_from_secs_f64((left - ratio * life).max(0.0)).unwrap_or_default().max(FIRST_RETRY)
    }

    /// How long to wait after so many failures in a row, with `left` of the current certificate's life: doubled each
    /// time, never more than a minute, and never so much of what is left that it would not be tried again. Once nothing
    /// is left there is no hurry any more that would justify to burden a CA that is in trouble.
    pub fn retry(failures: u32, left: Option<Duration>, random: f64) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
        let left = left.filter(|left| !left.is_zero());
        let most = left.map_or(LAST_RETRY, |left| (left / 10).clamp(FIRST_RETRY, LAST_RETRY));
        doubled.min(most).mul_f64(1.0 + 0.1 * (2.0 * random - 1.0))
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Issues and keeps issuing. What was issued goes to `put`; a failure leaves what is there, and is tried again. Who
/// notifies `early` has it done before its time.
/// There is never more than one issuance at a time.
pub async fn keep_current<F, Fut>(
    renewal: Renewal,
    clock: &dyn Clock,
    mut random: impl FnMut() -> f64,
    mut issue: F,
    mut put: impl FnMut(Issued),
    early: &Notify,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Issued, IssueError>>,
{
    let mut failures = 0;
    let mut end: Option<Timestamp> = None;
    loop {
        let wait = match issue().await {
            Ok(issued) => {
                failures = 0;
                end = Some(issued.not_after);
                let wait = renewal.delay(issued.received, issued.not_after, clock.now(), random());
                tracing::info!(not_after = %issued.not_after, renewal_in = ?wait, "a certificate was issued");
                put(issued);
                wait
            }
            Err(error) => {
                failures += 1;
                let left =
                    end.map(|end| Duration::try_from_secs_f64(seconds(clock.now(), end)).unwrap_or_default());
                let wait = Renewal::retry(failures, left, random());
                tracing::warn!(%error, failures, again_in = ?wait, current_left = ?left, "no certificate was issued");
                wait
            }
        };
        tokio::select! {
            () = sleep_until(clock, wait) => {}
            () = early.notified() => tracing::info!("a certificate is asked for before its time"),
        }
    }
}

/// Waits by the clock that certificates are dated by, which notices that the machine slept, and by one that nobody can
/// set back.
async fn sleep_until(clock: &dyn Clock, wait: Duration) {
    let begin = Instant::now();
    let due = clock.now().checked_add(wait).unwrap_or(Timestamp::MAX);
    loop {
        let left = Duration::try_from_secs_f64(seconds(clock.now(), due)).unwrap_or_default();
        let left = left.min(wait.saturating_sub(begin.elapsed()));
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use chancery_api::FixedClock;

    use super::super::secret::{KeyPair, TrustBundle};
    use super::super::test_ca::{Ca, now};
    use super::*;

    #[derive(Debug)]
    struct Paused(Timestamp, Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            self.0 + self.1.elapsed()
        }
    }

    const RENEWAL: Renewal = Renewal { ratio: 0.5, jitter: 0.01 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_at_its_part_moved_by_the_jitter() {
        let delay = |random| RENEWAL.delay(at(1000), at(11_000), at(1000), random).as_secs_f64();
        assert!((delay(0.5) - 5000.0).abs() < 0.1);
        assert!((delay(0.0) - 5100.0).abs() < 0.1);
        assert!((delay(1.0) - 4900.0).abs() < 0.1);
        // Part of the wait is over.
        let later = RENEWAL.delay(at(1000), at(11_000), at(4000), 0.5).as_secs_f64();
        assert!((later - 2000.0).abs() < 0.1);
        // The time has come already, or the certificate is over.
        for now in [at(7000), at(20_000)] {
            assert_eq!(RENEWAL.delay(at(1000), at(11_000), now, 0.5), FIRST_RETRY);
        }
        let always = Renewal { ratio: 1.0, jitter: 1.0 };
        assert_eq!(always.delay(at(1000), at(11_000), at(1000), 1.0), FIRST_RETRY);
        let never = Renewal { ratio: 0.0, jitter: 0.5 };
        assert_eq!(never.delay(at(1000), at(11_000), at(1000), 0.0), Duration::from_secs(10_000));
    }

    #[test]
    fn retries_begin_at_half_a_second_double_and_end_at_a_minute() {
        let retry = |failures| Renewal::retry(failures, None, 0.5);
        assert_eq!(retry(1), Duration::from_millis(500));
        assert_eq!(retry(2), Duration::from_secs(1));
        assert_eq!(retry(7), Duration::from_secs(32));
        for failures in [8, 9, 100, u32::MAX] {
            assert_eq!(retry(failures), Duration::from_secs(60));
        }
        assert_eq!(Renewal::retry(1, None, 0.0), Duration::from_millis(450));
        // With 50 s left it is tried every 5 s.
        assert_eq!(Renewal::retry(100, Some(Duration::from_secs(50)), 0.5), Duration::from_secs(5));
        assert_eq!(Renewal::retry(100, Some(Duration::from_secs(1)), 0.5), Duration::from_millis(500));
        assert_eq!(Renewal::retry(100, Some(Duration::ZERO), 0.5), Duration::from_secs(60));
    }

    /// For an hour.
    fn issued(ca: &Ca, received: Timestamp) -> Issued {
        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        Issued {
            key_pair: KeyPair::new(&[leaf, ca.root_pem()], key).unwrap(),
            roots: TrustBundle::from_pem(&ca.root_pem()).unwrap(),
            not_after: received + Duration::from_secs(3600),
            received,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_though_nobody_asks_and_failures_keep_what_is_there() {
        let ca = Ca::new("root");
        let clock = Paused(now(), Instant::now());
        let begin = clock.1;
        let calls = RefCell::new(Vec::new());
        let kept = Cell::new(0);
        let issue = || {
            let call = calls.borrow().len();
            calls.borrow_mut().push(begin.elapsed().as_secs_f64());
            // The first two fail, then one is issued, then the CA is away for three calls.
            let fails = matches!(call, 0 | 1 | 3..=5);
            let issued = issued(&ca, clock.now());
            async move { if fails { Err(IssueError::Elements(0)) } else { Ok(issued) } }
        };
        let early = Notify::new();
        let put = |_| kept.set(kept.get() + 1);
        let keep = keep_current(RENEWAL, &clock, || 0.5, issue, put, &early);
        let _ = tokio::time::timeout(Duration::from_secs(3700), keep).await;
        let expected = [0.0, 0.5, 1.5, 1801.5, 1802.0, 1803.0, 1805.0, 3605.0];
        let calls = calls.into_inner();
        assert_eq!(calls.len(), expected.len(), "{calls:?}");
        for (call, expected) in calls.iter().zip(expected) {
            assert!((call - expected).abs() < 0.1, "{calls:?}");
        }
        assert_eq!(kept.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_or_on_keeps_nobody_waiting() {
        let begin = Instant::now();
        let clock = FixedClock::at(now());
        // It stands still, which is to be set back again and again.
        sleep_until(&clock, Duration::from_secs(1000)).await;
        assert_eq!(begin.elapsed().as_secs(), 1000);

        let begin = Instant::now();
        let set_on = async {
            sleep(Duration::from_secs(90)).await;
            clock.advance(Duration::from_secs(5000));
        };
        tokio::join!(sleep_until(&clock, Duration::from_secs(1000)), set_on);
        assert_eq!(begin.elapsed().as_secs(), 120);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_reason_has_it_renewed_before_its_time() {
        let ca = Ca::new("root");
        let clock = Paused(now(), Instant::now());
        let calls = RefCell::new(Vec::new());
        let issue = || {
            calls.borrow_mut().push(clock.1.elapsed().as_secs());
            let issued = issued(&ca, clock.now());
            async move { Ok(issued) }
        };
        let early = Notify::new();
        let keep = keep_current(RENEWAL, &clock, || 0.5, issue, |_| (), &early);
        let reason = async {
            sleep(Duration::from_secs(100)).await;
            early.notify_one();
        };
        let _ = tokio::join!(tokio::time::timeout(Duration::from_secs(2000), keep), reason);
        assert_eq!(calls.into_inner(), [0, 100, 1900]);
    }
}
