//! Namespaces that need looking after: each once, a bounded number at a time, failures again after a pause.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use chancery_kubernetes::Pauses;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who was just looked after waits so long before it is again: somebody who undoes what is done, over and over, must not
/// take all the time there is.
const REST: Duration = Duration::from_secs(1);

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    at_once: usize,
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each once, first come, first served.
    due: VecDeque<String>,
    /// Being looked after; added again meanwhile, they come again.
    busy: BTreeSet<String>,
    /// Looked after just now.
    resting: BTreeSet<String>,
    pauses: HashMap<String, Pauses>,
}

/// What a task of the queue came back from.
enum Back {
    Work { name: String, is_done: bool },
    Pause { name: String },
    Rest { name: String },
}

impl Queue {
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once, state: Mutex::default(), bell: Notify::new() }
    }

    pub(super) fn add(&self, name: String) {
        self.state().add(name);
        self.bell.notify_one();
    }

    /// Looks after what is due; `work` says whether it succeeded. It does not return.
    pub(super) async fn run<Work>(&self, work: impl Fn(String) -> Work)
    where
        Work: Future<Output = bool> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        loop {
            while let Some(name) = self.next() {
                let working = work(name.clone());
                tasks.spawn(async move { Back::Work { is_done: working.await, name } });
            }
            tokio::select! {
                () = self.bell.notified() => {}
                Some(back) = tasks.join_next() => match back {
                    Ok(Back::Pause { name }) => {
                        self.state().add(name);
                    }
                    Ok(Back::Rest { name }) => {
                        self.state().resting.remove(&name);
                    }
                    Ok(Back::Work { name, is_done }) => {
                        let pause = self.finish(&name, is_done);
                        tasks.spawn(async move {
                            sleep(pause.unwrap_or(REST)).await;
                            if pause.is_some() { Back::Pause { name } } else { Back::Rest { name } }
                        });
                    }
                    // Only a panic ends here, and work does not panic.
                    Err(error) => tracing::error!(%error, "a task ended unexpectedly"),
                },
            }
        }
    }

    /// What is due and not being looked after already, if there is room.
    fn next(&self) -> Option<String> {
        let mut state = self.state();
        if state.busy.len() >= self.at_once {
            return None;
        }
        let is_free = |name: &String| !state.busy.contains(name) && !state.resting.contains(name);
        let position = state.due.iter().position(is_free)?;
        let name = state.due.remove(position)?;
        state.busy.insert(name.clone());
        Some(name)
    }

    /// The pause after which it is due again, if it failed.
    fn finish(&self, name: &str, is_done: bool) -> Option<Duration> {
        let mut state = self.state();
        state.busy.remove(name);
        if is_done {
            state.pauses.remove(name);
            state.resting.insert(name.to_owned());
            return None;
        }
        let pauses =
            state.pauses.entry(name.to_owned()).or_insert_with(|| Pauses::new(FIRST_PAUSE, LONGEST_PAUSE));
        Some(pauses.pause())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, name: String) {
        if !self.due.contains(&name) {
            self.due.push_back(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_come_again_after_growing_pauses_and_no_more_run_at_once_than_may() {
        let queue = Queue::new(2);
        (0..6).for_each(|number| queue.add(number.to_string()));
        queue.add("0".into());
        let (runs, now, most) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let work = |name: String| {
            let (runs, now, most) = (Arc::clone(&runs), Arc::clone(&now), Arc::clone(&most));
            async move {
                let run = runs.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                name != "5" || run > 7
            }
        };
        let _ = timeout(Duration::from_secs(10), queue.run(work)).await;
        // Six at first; the last of them twice more until it is content.
        assert_eq!(runs.load(Ordering::SeqCst), 9);
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert!(queue.state().pauses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_comes_again_and_again_does_not_keep_others_waiting() {
        let queue = Arc::new(Queue::new(1));
        ["z", "a", "b"].into_iter().for_each(|name| queue.add(name.into()));
        let runs = Arc::<Mutex<Vec<String>>>::default();
        let work = |name: String| {
            let (queue, runs) = (Arc::clone(&queue), Arc::clone(&runs));
            async move {
                // Undone at once.
                if name == "a" {
                    queue.add(name.clone());
                }
                runs.lock().expect("a lock").push(name);
                true
            }
        };
        let _ = timeout(Duration::from_millis(2500), queue.run(work)).await;
        assert_eq!(*runs.lock().expect("a lock"), ["z", "a", "b", "a", "a"]);
    }
}
