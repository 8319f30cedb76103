//! Watches that never end: resumed where they broke, begun anew where history is gone (410).

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::time::Duration;

use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Error, Event};
use tokio_stream::{Stream, StreamExt};

/// Pauses that double, each shortened by up to a quarter at random, so that many replicas do not ask at once.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        // A number that nobody can guess is not needed here, one that differs between processes is.
        let off = RandomState::new().hash_one(0) % 256;
        Some(pause - pause / 1024 * u32::try_from(off).unwrap_or(0))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Follows a watch and hands on what it tells. `what` names it in the log. It does not return.
pub(crate) async fn follow<K: Debug + Send>(
    stream: impl Stream<Item = Result<Event<K>, Error>> + Send,
    what: &str,
    mut on: impl FnMut(Event<K>) + Send,
) {
    let mut stream = pin!(stream.backoff(Pauses::new(Duration::from_millis(200), Duration::from_secs(10))));
    let mut is_broken = false;
    while let Some(next) = stream.next().await {
        match next {
            Ok(event) => {
                if is_broken && !matches!(event, Event::Init) {
                    is_broken = false;
                    tracing::info!(watch = what, "the watch goes on");
                }
                on(event);
            }
            // The first failure tells it all; the others only say that it is still so.
            Err(error) if is_broken => tracing::debug!(watch = what, %error, "the watch is still broken"),
            Err(error) => {
                is_broken = true;
                tracing::warn!(watch = what, %error, "the watch is broken and will be taken up again");
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
            let pause = pauses.next().expect("a pause").as_secs_f64();
            assert!((whole * 0.74..=whole).contains(&pause), "{pause} of {whole}");
        }
        pauses.reset();
        assert!(pauses.next().expect("a pause") <= Duration::from_secs(1));
    }
}
