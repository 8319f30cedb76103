//! While a server is out of reach its requests wait, longer each time, and do not all ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_client::jitter;
use tokio::time::Instant;

use crate::issuer::SignError;

/// The longest pause.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// What is known of a server's failures.
#[derive(Debug, Default)]
pub(super) struct Outage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// No failure counts before this.
    counted: Option<Instant>,
    /// Nobody asks before this, and what they are told.
    shut: Option<(Instant, &'static str, String)>,
}

impl Outage {
    /// # Errors
    /// It is not the time to ask.
    pub(super) fn gate(&self) -> Result<(), SignError> {
        let state = self.state();
        let now = Instant::now();
        match &state.shut {
            Some((until, reason, message)) if now < *until => {
                // Not all at once when it is over.
                let spread = Duration::from_secs_f64(jitter());
                Err(pending(reason, message.clone(), until.duration_since(now) + spread))
            }
            _ => Ok(()),
        }
    }

    /// A request failed. `is_shut`: others would too.
    pub(super) fn begin(&self, reason: &'static str, message: String, is_shut: bool) -> SignError {
        let mut state = self.state();
        let now = Instant::now();
        // Those that fail together count once.
        if state.counted.is_none_or(|until| until <= now) {
            state.failures = state.failures.saturating_add(1);
            state.counted = Some(now + pause(state.failures, 0.5));
        }
        let pause = pause(state.failures, jitter());
        if is_shut {
            let until = state.counted.unwrap_or(now);
            state.shut = Some((until, reason, message.clone()));
        }
        pending(reason, message, pause)
    }

    /// It works again.
    pub(super) fn end(&self) {
        let mut state = self.state();
        if state.failures > 0 {
            *state = State::default();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending(reason: &'static str, message: String, retry_after: Duration) -> SignError {
    SignError::Pending { reason, message, retry_after: Some(retry_after) }
}

/// From a second, doubling to a minute, a quarter more or less.
fn pause(failures: u32, jitter: f64) -> Duration {
    let base = Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST);
    base.mul_f64(0.75 + 0.5 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(error: &SignError) -> Duration {
        let SignError::Pending { retry_after: Some(wait), .. } = error else { panic!("{error:?}") };
        *wait
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_minute_and_those_that_fail_together_count_once() {
        let outage = Outage::default();
        outage.gate().unwrap();
        let mut last = Duration::ZERO;
        for round in 0..10 {
            for _ in 0..50 {
                last = wait(&outage.begin("SigningError", "gone".into(), true));
            }
            let base = Duration::from_secs((1 << round.min(6)).min(60));
            assert!(last >= base.mul_f64(0.75) && last <= base.mul_f64(1.25), "{round}: {last:?}");
            assert_eq!(outage.gate().unwrap_err().to_string(), "gone");
            tokio::time::advance(Duration::from_secs(61)).await;
            outage.gate().unwrap();
        }
        assert!(last >= Duration::from_secs(45));
        outage.end();
        assert!(wait(&outage.begin("SigningError", "gone".into(), true)) < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_concerns_one_request_stops_no_other() {
        let outage = Outage::default();
        outage.begin("SigningError", "500".into(), false);
        outage.gate().unwrap();
    }
}
