//! With the clock standing still: time passes when everybody waits for it.

use tokio::sync::mpsc;
use tokio::time::{advance, sleep, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> Queue<u32> {
    Queue::new(Backoff { first: SECOND, max: 8 * SECOND })
}

/// A queue at work, that tells which keys it works on; each takes this long and ends like this.
struct Works {
    queue: Queue<u32>,
    begun: mpsc::Receiver<(u32, Instant)>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Works {
    fn new(queue: &Queue<u32>, workers: usize, takes: Duration, verdict: Verdict) -> Self {
        let (sender, begun) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let running = queue.clone();
        let task = tokio::spawn(async move {
            let work = |key| {
                let _ = sender.try_send((key, Instant::now()));
                async move {
                    sleep(takes).await;
                    verdict
                }
            };
            running.run(workers, stopped, work).await;
        });
        Self { queue: queue.clone(), begun, stop, task }
    }

    async fn next(&mut self) -> (u32, Instant) {
        timeout(3600 * SECOND, self.begun.recv()).await.expect("something is worked on").expect("it runs")
    }

    async fn is_quiet(&mut self, time: Duration) -> bool {
        timeout(time, self.begun.recv()).await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_added_twice_is_worked_on_once() {
    let queue = queue();
    for key in [1, 2, 1, 2, 1] {
        queue.add(key);
    }
    assert_eq!(queue.len(), 2);
    let mut works = Works::new(&queue, 1, SECOND, Verdict::Done);
    assert_eq!([works.next().await.0, works.next().await.0], [1, 2]);
    assert!(works.is_quiet(60 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_added_while_it_is_worked_on_is_worked_on_once_more_afterwards() {
    let mut works = Works::new(&queue(), 5, 10 * SECOND, Verdict::Done);
    works.queue.add(1);
    let (_, begun) = works.next().await;
    works.queue.add(1);
    works.queue.add(1);
    let (key, again) = works.next().await;
    assert_eq!(key, 1);
    assert!(again - begun >= 10 * SECOND, "never two workers at one key");
    assert!(works.is_quiet(60 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_longest_and_begin_anew_when_they_are_forgotten() {
    let mut works = Works::new(&queue(), 1, Duration::ZERO, Verdict::Failed);
    works.queue.add(1);
    let (_, mut last) = works.next().await;
    for pause in [1, 2, 4, 8, 8] {
        let (_, at) = works.next().await;
        let waited = (at - last).as_secs_f64();
        assert!((waited - f64::from(pause)).abs() < 0.1, "{waited} of {pause}");
        last = at;
    }
    works.queue.forget(&1);
    let _ = works.next().await;
    let (_, before) = works.next().await;
    let (_, at) = works.next().await;
    assert!(at - before < 3 * SECOND, "{:?}", at - before);
}

#[tokio::test(start_paused = true)]
async fn of_several_times_the_earliest_counts() {
    let queue = queue();
    let begun = Instant::now();
    queue.add_after(1, 60 * SECOND);
    queue.add_after(1, 10 * SECOND);
    queue.add_after(1, 30 * SECOND);
    queue.add_after(2, 5 * SECOND);
    queue.add_after(3, Duration::MAX);
    let mut works = Works::new(&queue, 1, Duration::ZERO, Verdict::Done);
    let (first, second) = (works.next().await, works.next().await);
    assert_eq!((first.0, (first.1 - begun).as_secs()), (2, 5));
    assert_eq!((second.0, (second.1 - begun).as_secs()), (1, 10));
    assert!(works.is_quiet(600 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_for_its_time_is_worked_on_at_once_when_it_is_added() {
    let queue = queue();
    let mut works = Works::new(&queue, 1, Duration::ZERO, Verdict::After(60 * SECOND));
    queue.add(1);
    let (_, first) = works.next().await;
    queue.add(1);
    let (_, second) = works.next().await;
    assert!(second - first < SECOND);
    let (_, third) = works.next().await;
    assert!(third - second <= 61 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn times_that_move_leave_nothing_behind() {
    let queue = queue();
    for seconds in (1..100_000).rev() {
        queue.add_after(1, seconds * SECOND);
    }
    assert!(queue.state().by_time.len() <= 65, "{}", queue.state().by_time.len());
    let mut works = Works::new(&queue, 1, Duration::ZERO, Verdict::Done);
    let _ = works.next().await;
    assert!(works.is_quiet(200_000 * SECOND).await);
    assert!(queue.state().by_time.is_empty() && queue.state().later.is_empty());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_is_worked_on_is_finished_and_nothing_more_is_begun() {
    let mut works = Works::new(&queue(), 1, 10 * SECOND, Verdict::Done);
    works.queue.add(1);
    works.queue.add(2);
    let (_, begun) = works.next().await;
    works.stop.send_replace(true);
    works.task.await.expect("it ends");
    assert!(begun.elapsed() >= 10 * SECOND);
    assert!(works.begun.try_recv().is_err());
    assert_eq!(works.queue.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_aborted_is_begun_anew_by_whoever_runs_next() {
    let mut works = Works::new(&queue(), 2, 10 * SECOND, Verdict::Done);
    works.queue.add(1);
    works.queue.add(2);
    let _ = (works.next().await, works.next().await);
    // Added while it was worked on: still once.
    works.queue.add(2);
    works.task.abort();
    let _ = works.task.await;
    let mut again = Works::new(&works.queue, 2, SECOND, Verdict::Done);
    let mut keys = [again.next().await.0, again.next().await.0];
    keys.sort_unstable();
    assert_eq!(keys, [1, 2]);
    assert!(again.is_quiet(60 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_again_and_again_keeps_nobody_else_waiting() {
    let queue = queue();
    let (stop, stopped) = watch::channel(false);
    let running = queue.clone();
    let turns = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&turns);
    let task = tokio::spawn(async move {
        let work = |key| {
            taken.lock().expect("turns").push(key);
            let again = running.clone();
            async move {
                if key == 1 {
                    again.add(1);
                }
                sleep(SECOND).await;
                Verdict::Done
            }
        };
        running.run(1, stopped, work).await;
    });
    for key in 1..=4 {
        queue.add(key);
    }
    sleep(Duration::from_millis(4500)).await;
    stop.send_replace(true);
    task.await.expect("it ends");
    assert_eq!(*turns.lock().expect("turns"), [1, 2, 3, 4, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_a_failure_of_its_key() {
    let queue = queue();
    let (_stop, stopped) = watch::channel(false);
    let running = queue.clone();
    let (sender, mut begun) = mpsc::channel(64);
    let task = tokio::spawn(async move {
        let work = |key| {
            let first = sender.try_send(key).is_ok() && key == 1;
            async move {
                assert!(!first, "the first key is a bad one");
                Verdict::Done
            }
        };
        running.run(1, stopped, work).await;
    });
    queue.add(1);
    queue.add(2);
    assert_eq!((begun.recv().await, begun.recv().await), (Some(1), Some(2)));
    assert_eq!(begun.recv().await, Some(1), "again, after a pause");
    advance(SECOND).await;
    task.abort();
}
