//! Watches that never end: resumed where they broke, begun anew where history is gone (410).

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt;

/// Pauses that double, each shortened by up to a quarter at random, so that many replicas do not ask at once.
#[derive(Debug, Clone)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// Pauses that begin with `first` and end with `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        // A number that nobody can guess is not needed here, one that differs between processes is.
        let off = RandomState::new().hash_one(0) % 256;
        pause - pause / 1024 * u32::try_from(off).unwrap_or(0)
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// After so many failures in a row the version that the watch stood at is given up, and everything is read anew. A server
/// whose store was restored from a backup knows that version no longer, and does not always say so with 410.
const FAILURES: u32 = 4;

/// Failures further apart than this are not in a row.
const CALM: Duration = Duration::from_secs(30);

/// A watch that broke and says nothing for so long is read anew: it may have nothing to say, or be broken still.
const SILENCE: Duration = Duration::from_secs(60);

/// What a watch tells.
#[derive(Debug)]
pub enum Told<K> {
    /// Something has happened, or it is read anew.
    Event(Event<K>),
    /// Until the next event that is not [`Event::Init`] it is not known what happens.
    Broken,
}

/// Follows what a watch tells. `what` names it in the log. It does not return.
pub async fn follow<K>(api: Api<K>, config: Config, what: &str, mut on: impl FnMut(Event<K>) + Send)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let on = |told| {
        if let Told::Event(event) = told {
            on(event);
        }
    };
    follow_closely(api, config, what, on).await;
}

/// The same for those who must know whether it is broken.
pub async fn follow_closely<K>(api: Api<K>, config: Config, what: &str, mut on: impl FnMut(Told<K>) + Send)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut failures = 0;
    let mut last_failure: Option<Instant> = None;
    let mut is_broken = false;
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        loop {
            let next = if is_broken {
                timeout(SILENCE, events.next()).await.unwrap_or_default()
            } else {
                events.next().await
            };
            let Some(next) = next else { break };
            let error = match next {
                Ok(event) => {
                    // A list that only begins proves nothing.
                    if is_broken && !matches!(event, Event::Init) {
                        is_broken = false;
                        tracing::info!(watch = what, "the watch goes on");
                    }
                    on(Told::Event(event));
                    continue;
                }
                Err(error) => error,
            };
            if last_failure.is_none_or(|last| last.elapsed() > CALM) {
                pauses.reset();
                failures = 0;
            }
            // The first failure tells it all; the others only say that it is still so.
            on(Told::Broken);
            if is_broken {
                tracing::debug!(watch = what, %error, "the watch is still broken");
            } else {
                is_broken = true;
                tracing::warn!(watch = what, %error, "the watch is broken and will be taken up again");
            }
            sleep(pauses.pause()).await;
            last_failure = Some(Instant::now());
            failures += 1;
            if failures % FAILURES == 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_begin_anew() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(4));
        for whole in [1.0, 2.0, 4.0, 4.0] {
            let pause = pauses.pause().as_secs_f64();
            assert!((whole * 0.74..=whole).contains(&pause), "{pause} of {whole}");
        }
        pauses.reset();
        assert!(pauses.pause() <= Duration::from_secs(1));
    }
}
