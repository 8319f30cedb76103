//! Slow cryptography: off the worker threads, and bounded.
//!
//! A signature with a small key takes microseconds and runs where the request runs. RSA with large
//! keys, and every RSA key that is made, takes from tens of milliseconds to seconds; such work runs on
//! blocking threads, as many at a time as the machine has cores, with a short queue before them.
//! Beyond that the client is told to come back: a queue without end would only make everybody wait.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use chancery_issuance::KeySpec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Kind};

/// RSA keys up to this size sign on the worker thread itself: about a quarter of a millisecond for
/// 2048 bits, with as many workers as cores. 0 sends every RSA signature to the blocking threads.
const INLINE_RSA_BITS: u32 = 2048;

/// How many pieces of work may wait for each one that runs.
const WAITING_PER_CORE: usize = 32;

/// How many of all these may be for those who need no token: few enough that they take nobody else's place.
const FOR_ANYBODY_PER_CORE: usize = 8;

struct Benches {
    /// Work that runs.
    running: Arc<Semaphore>,
    /// Work that runs or waits.
    admitted: Arc<Semaphore>,
    /// Work that runs or waits for those who need no token.
    anybody: Arc<Semaphore>,
}

/// One set for the process: cores are what is short, whatever the mount.
static BENCHES: LazyLock<Benches> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, NonZero::get);
    Benches {
        running: Arc::new(Semaphore::new(cores)),
        admitted: Arc::new(Semaphore::new(cores * (1 + WAITING_PER_CORE))),
        anybody: Arc::new(Semaphore::new(cores * FOR_ANYBODY_PER_CORE)),
    }
});

/// Whether a signature with such a key is fast enough for the worker thread.
pub(super) fn signs_inline(key: KeySpec) -> bool {
    !matches!(key, KeySpec::Rsa(bits) if bits > INLINE_RSA_BITS)
}

/// Whether such a key is made fast enough for the worker thread.
pub(super) fn generates_inline(key: KeySpec) -> bool {
    !matches!(key, KeySpec::Rsa(_))
}

/// Signs with a key of this kind: here if that is fast, else as [`run`] does.
pub(super) async fn sign<T: Send + 'static>(
    key: KeySpec,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if signs_inline(key) { Ok(work()) } else { run(work).await }
}

/// As [`sign`], for those who need no token.
pub(super) async fn sign_for_anybody<T: Send + 'static>(
    key: KeySpec,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if signs_inline(key) { Ok(work()) } else { run_for_anybody(work).await }
}

/// As [`run`], for those who need no token: however many of them ask, others are not refused.
pub(super) async fn run_for_anybody<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let admitted = Arc::clone(&BENCHES.anybody).try_acquire_owned().map_err(|_| busy())?;
    run(move || {
        let outcome = work();
        drop(admitted);
        outcome
    })
    .await
}

/// Runs `work` on a blocking thread; refuses at once if too much waits already.
///
/// Work that was begun is finished even if the request is given up meanwhile: its place is freed
/// when it ends, not before.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let admitted = Arc::clone(&BENCHES.admitted).try_acquire_owned().map_err(|_| busy())?;
    #[cfg(test)]
    BEGUN.with(|begun| begun.set(begun.get() + 1));
    let running = Arc::clone(&BENCHES.running).acquire_owned().await.map_err(|_| busy())?;
    run_with(work, (admitted, running)).await
}

async fn run_with<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
) -> Result<T, Error> {
    let task = tokio::task::spawn_blocking(move || {
        let outcome = work();
        drop(permits);
        outcome
    });
    task.await.map_err(|error| Error::internal("internal error", error))
}

fn busy() -> Error {
    Error::of(Kind::Busy, "too many signatures and keys are being made at the moment; try again shortly")
}

#[cfg(test)]
thread_local! {
    /// How many pieces of work were admitted for those who run on this thread.
    static BEGUN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Waits until somebody on this thread, as all of a test are, has work that waits or runs.
#[cfg(test)]
pub(super) async fn begun_here() {
    let before = BEGUN.get();
    while BEGUN.get() == before {
        tokio::task::yield_now().await;
    }
}

/// Has all that comes wait until what this answers is dropped.
#[cfg(test)]
pub(super) async fn held_up() -> OwnedSemaphorePermit {
    let cores = available_parallelism().map_or(1, NonZero::get);
    Arc::clone(&BENCHES.running).acquire_many_owned(u32::try_from(cores).unwrap()).await.unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chancery_issuance::Curve;

    #[tokio::test]
    async fn those_without_a_token_take_nobody_elses_place() {
        let all = u32::try_from(BENCHES.anybody.available_permits()).unwrap();
        let taken = Arc::clone(&BENCHES.anybody).try_acquire_many_owned(all).unwrap();
        let large = KeySpec::Rsa(4096);
        assert_eq!(sign_for_anybody(large, || 1).await.unwrap_err().kind, Kind::Busy);
        assert_eq!(sign(large, || 1).await.unwrap(), 1);
        drop(taken);
        assert_eq!(sign_for_anybody(large, || 1).await.unwrap(), 1);
        const { assert!(FOR_ANYBODY_PER_CORE < WAITING_PER_CORE) };
    }

    #[test]
    fn only_large_rsa_keys_leave_the_worker_thread_to_sign() {
        assert!(signs_inline(KeySpec::Ec(Curve::P384)));
        assert!(signs_inline(KeySpec::Rsa(2048)));
        assert!(!signs_inline(KeySpec::Rsa(3072)));
        assert!(generates_inline(KeySpec::Ed25519));
        assert!(!generates_inline(KeySpec::Rsa(2048)));
    }

    #[tokio::test]
    async fn a_signature_with_a_large_key_is_made_on_another_thread() {
        let here = std::thread::current().id();
        let there = |key| sign(key, || std::thread::current().id());
        assert_eq!(there(KeySpec::Ed25519).await.unwrap(), here);
        assert_ne!(there(KeySpec::Rsa(4096)).await.unwrap(), here);
    }

    #[tokio::test]
    async fn work_beyond_the_bound_is_refused_at_once() {
        let taken = BENCHES.admitted.available_permits();
        let all =
            Arc::clone(&BENCHES.admitted).try_acquire_many_owned(u32::try_from(taken).unwrap()).unwrap();
        assert_eq!(run(|| 1).await.unwrap_err().kind, Kind::Busy);
        drop(all);
        assert_eq!(run(|| 1).await.unwrap(), 1);
    }
}
