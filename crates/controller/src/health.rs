//! Probes: whether the controller lives and is ready, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;

/// A watch that is broken for so long makes the controller unready; what is shorter happens whenever an API server is
/// restarted.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the controller lives and is ready.
#[derive(Debug)]
pub struct Health {
    watches: Mutex<BTreeMap<String, Watch>>,
    is_filled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Watch {
    is_filled: bool,
    broken: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self { watches: Mutex::default(), is_filled: watch::Sender::new(false) }
    }
}

impl Health {
    /// There is a watch, that says nothing yet. All are named before the first begins.
    pub fn expect(&self, watch: &str) {
        self.watches().insert(watch.to_owned(), Watch::default());
    }

    /// A watch was read once, or goes on.
    pub fn set_filled(&self, watch: &str) {
        let mut watches = self.watches();
        watches.insert(watch.to_owned(), Watch { is_filled: true, broken: None });
        // Under the lock: whoever looked before the last one was filled must not say so after it.
        if watches.values().all(|watch| watch.is_filled) {
            self.is_filled.send_if_modified(|known| !std::mem::replace(known, true));
        }
    }

    /// A watch broke.
    pub fn set_broken(&self, watch: &str) {
        let mut watches = self.watches();
        let watch = watches.entry(watch.to_owned()).or_default();
        watch.broken = watch.broken.or_else(|| Some(Instant::now()));
    }

    /// A watch says something.
    pub fn set_working(&self, watch: &str) {
        if let Some(watch) = self.watches().get_mut(watch) {
            watch.broken = None;
        }
    }

    /// Waits until all watches were read once.
    pub async fn filled(&self) {
        // It cannot fail: the sender is here.
        let _ = self.is_filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// Whether all watches were read once, and none has been broken for long.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// What is missing for that, in words.
    pub fn missing(&self) -> Vec<String> {
        let watches = self.watches();
        if watches.is_empty() {
            return vec!["the controller has not begun to read the cluster".to_owned()];
        }
        let missing = watches.iter().filter_map(|(name, watch)| {
            let broken = watch.broken.map(|since| since.elapsed());
            match broken {
                Some(_) if !watch.is_filled => Some(format!(
                    "{name} could not be read yet: the API server refuses, or is out of reach (see the log)"
                )),
                None if !watch.is_filled => Some(format!("{name} are being read")),
                Some(broken) if broken >= PATIENCE => Some(format!(
                    "the watch of {name} has been broken for {} s (see the log)",
                    broken.as_secs()
                )),
                _ => None,
            }
        });
        missing.collect()
    }

    /// What `/readyz` says.
    pub(crate) fn ready(&self) -> (StatusCode, String) {
        let missing = self.missing();
        if missing.is_empty() {
            return (StatusCode::OK, "ok".to_owned());
        }
        let lines: String = missing.iter().map(|what| format!("[-]{what}\n")).collect();
        (StatusCode::SERVICE_UNAVAILABLE, format!("{lines}readyz check failed\n"))
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<String, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn watches_that_are_filled_at_the_same_moment_are_all_seen() {
        const ROUNDS: usize = 50_000;
        let all: Vec<Health> = (0..ROUNDS).map(|_| Health::default()).collect();
        for health in &all {
            health.expect("a");
            health.expect("b");
        }
        let together = Barrier::new(2);
        std::thread::scope(|scope| {
            for watch in ["a", "b"] {
                let (all, together) = (&all, &together);
                scope.spawn(move || {
                    for health in all {
                        together.wait();
                        health.set_filled(watch);
                    }
                });
            }
        });
        let missed = all.iter().filter(|health| !*health.is_filled.borrow()).count();
        assert_eq!(missed, 0, "of {ROUNDS}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_said_in_words() {
        let health = Health::default();
        assert!(!health.is_ready());
        assert_eq!(health.ready().0, StatusCode::SERVICE_UNAVAILABLE);
        health.expect("Issuers");
        health.expect("Secrets");
        assert_eq!(health.missing(), ["Issuers are being read", "Secrets are being read"]);
        health.set_filled("Issuers");
        health.set_broken("Secrets");
        assert!(health.missing().iter().all(|word| word.starts_with("Secrets could not be read yet")));
        health.set_filled("Secrets");
        health.filled().await;
        assert!(health.is_ready());
        health.set_broken("Secrets");
        assert!(health.is_ready(), "a break that may be short is none");
        tokio::time::advance(PATIENCE).await;
        health.set_broken("Secrets");
        assert_eq!(health.missing(), ["the watch of Secrets has been broken for 15 s (see the log)"]);
        health.set_working("Secrets");
        assert!(health.is_ready());
    }
}
