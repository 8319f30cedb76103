//! Keys of what needs looking after: each once, never two workers at one, failures again after growing pauses.
//!
//! A key that is added while it is worked on is worked on again afterwards. Whoever adds never waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What a worker says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is left to do until somebody adds it again.
    Done,
    /// All went well; it is looked at again after this time.
    After(Duration),
    /// It failed and is tried again after a pause that doubles each time.
    Failed,
}

/// The pause after a first failure, and the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub max: Duration,
}

/// Room for so many keys is kept while none wait.
const SPARE: usize = 256;

/// The queue. Clones are the same queue.
#[derive(Debug)]
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<K> {
    backoff: Backoff,
    state: Mutex<State<K>>,
    bell: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// First come, first served; each once.
    due: VecDeque<Arc<K>>,
    /// What is in `due`, or was added while it is worked on.
    waiting: HashSet<Arc<K>>,
    busy: HashSet<Arc<K>>,
    /// When a key is due of itself: the earliest time that was asked for.
    later: HashMap<Arc<K>, Instant>,
    /// The same by time. A key whose time was moved, or that was worked on meanwhile, leaves an entry behind that no
    /// longer says what `later` says, and is passed over.
    by_time: BinaryHeap<Reverse<Due<K>>>,
    failures: HashMap<Arc<K>, u32>,
}

impl<K: Clone + Eq + Hash + Debug + Send + 'static> Queue<K> {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        let state = State {
            due: VecDeque::new(),
            waiting: HashSet::new(),
            busy: HashSet::new(),
            later: HashMap::new(),
            by_time: BinaryHeap::new(),
            failures: HashMap::new(),
        };
        Self { shared: Arc::new(Shared { backoff, state: Mutex::new(state), bell: Notify::new() }) }
    }

    /// Adds a key; it is worked on once however often it is added before.
    pub fn add(&self, key: K) {
        self.add_shared(Arc::new(key));
    }

    fn add_shared(&self, key: Arc<K>) {
        self.state().add(key);
        self.shared.bell.notify_one();
    }

    /// Adds a key after a while. Of several such times the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        self.add_shared_after(Arc::new(key), delay);
    }

    fn add_shared_after(&self, key: Arc<K>, delay: Duration) {
        if delay.is_zero() {
            return self.add_shared(key);
        }
        // What is due later than the clock can say is due never.
        let Some(at) = Instant::now().checked_add(delay) else { return };
        self.state().add_at(key, at);
        self.shared.bell.notify_one();
    }

    /// Adds a key after the pause that its failures in a row have earned.
    pub fn add_failed(&self, key: K) {
        self.add_shared_failed(Arc::new(key));
    }

    fn add_shared_failed(&self, key: Arc<K>) {
        let Backoff { first, max } = self.shared.backoff;
        let failures = {
            let mut state = self.state();
            let failures = state.failures.entry(Arc::clone(&key)).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let pause = first.saturating_mul(2_u32.saturating_pow(failures)).min(max);
        self.add_shared_after(key, pause);
    }

    /// Begins the pauses of a key anew; one that has begun goes on.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// How many keys wait to be worked on now.
    pub fn len(&self) -> usize {
        self.state().due.len()
    }

    /// Whether no key waits to be worked on now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Works on what is due, at most `workers` keys at once, until `shutdown` says true or is dropped; then it waits for what
    /// is being worked on. Dropped itself, it aborts that, and those keys wait again.
    pub async fn run<Work>(
        &self,
        workers: usize,
        mut shutdown: watch::Receiver<bool>,
        work: impl Fn(K) -> Work,
    ) where
        Work: Future<Output = Verdict> + Send + 'static,
    {
        let mut tasks: JoinSet<Verdict> = JoinSet::new();
        let mut held = Held { queue: self, keys: HashMap::new() };
        let stop = async move {
            // An error means that nobody is left who could say it.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stop);
        let mut is_stopped = false;
        loop {
            if is_stopped && tasks.is_empty() {
                return;
            }
            let next_time = self.state().ripen(Instant::now());
            while !is_stopped && tasks.len() < workers.max(1) {
                let Some(key) = self.state().take() else { break };
                let task = tasks.spawn(work(K::clone(&key)));
                held.keys.insert(task.id(), key);
            }
            tokio::select! {
                // Nothing that is due is begun any more once it is to stop.
                biased;
                () = &mut stop, if !is_stopped => is_stopped = true,
                Some(ended) = tasks.join_next_with_id() => {
                    let (id, verdict) = match ended {
                        Ok(ended) => ended,
                        // A panic is a failure of that key alone.
                        Err(error) => {
                            tracing::error!(%error, "a worker ended unexpectedly");
                            (error.id(), Verdict::Failed)
                        }
                    };
                    if let Some(key) = held.keys.remove(&id) {
                        self.finish(key, verdict);
                    }
                }
                () = self.shared.bell.notified(), if !is_stopped => {}
                () = sleep_until(next_time.unwrap_or_else(Instant::now)), if next_time.is_some() && !is_stopped => {}
            }
        }
    }

    fn finish(&self, key: Arc<K>, verdict: Verdict) {
        self.state().free(&key);
        match verdict {
            Verdict::Done => self.forget(&key),
            Verdict::After(delay) => {
                self.forget(&key);
                self.add_shared_after(key, delay);
            }
            Verdict::Failed => self.add_shared_failed(key),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that are being worked on. What is left when it is dropped was aborted: whoever runs next begins it anew.
struct Held<'a, K: Clone + Eq + Hash + Debug + Send + 'static> {
    queue: &'a Queue<K>,
    keys: HashMap<tokio::task::Id, Arc<K>>,
}

impl<K: Clone + Eq + Hash + Debug + Send + 'static> Drop for Held<'_, K> {
    fn drop(&mut self) {
        for (_, key) in self.keys.drain() {
            self.queue.state().free(&key);
            self.queue.add_shared(key);
        }
    }
}

/// A key at a time; ordered by the time alone.
#[derive(Debug)]
struct Due<K> {
    at: Instant,
    key: Arc<K>,
}

impl<K> PartialEq for Due<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<K> Eq for Due<K> {}

impl<K> PartialOrd for Due<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Due<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<K: Eq + Hash> State<K> {
    fn add(&mut self, key: Arc<K>) {
        if self.waiting.insert(Arc::clone(&key)) && !self.busy.contains(&key) {
            self.due.push_back(key);
        }
    }

    fn add_at(&mut self, key: Arc<K>, at: Instant) {
        if self.later.get(&key).is_some_and(|earlier| *earlier <= at) {
            return;
        }
        self.later.insert(Arc::clone(&key), at);
        self.by_time.push(Reverse(Due { at, key }));
        // Keys whose times move often must not make it grow without end.
        if self.by_time.len() > 64 && self.by_time.len() > 2 * self.later.len() {
            let due = |(key, at): (&Arc<K>, &Instant)| Reverse(Due { at: *at, key: Arc::clone(key) });
            self.by_time = self.later.iter().map(due).collect();
        }
    }

    fn take(&mut self) -> Option<Arc<K>> {
        let key = self.due.pop_front()?;
        self.waiting.remove(&key);
        self.busy.insert(Arc::clone(&key));
        if self.due.is_empty() {
            // What a burst needed goes back.
            self.due.shrink_to(SPARE);
            self.waiting.shrink_to(SPARE);
        }
        Some(key)
    }

    fn free(&mut self, key: &Arc<K>) {
        self.busy.remove(key);
        if self.waiting.contains(key) {
            self.due.push_back(Arc::clone(key));
        }
    }

    /// Moves what is due by now; when the next one will be.
    fn ripen(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse(due)) = self.by_time.peek() {
            let is_current = self.later.get(&due.key) == Some(&due.at);
            if is_current && due.at > now {
                return Some(due.at);
            }
            let Some(Reverse(Due { key, .. })) = self.by_time.pop() else { break };
            if is_current {
                self.later.remove(&key);
                self.add(key);
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
