//! One among several replicas leads (coordination.k8s.io/v1, Lease).
//!
//! Whoever holds the lease writes its name and the time into it again and again. Whoever does not watches whether that
//! happens, by its own clock: clocks of different machines are never compared. Two cannot write the same version.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{ApiError, optional, request};

/// How often a candidate looks at a lease that is another's, at least: that is one read, and whoever gives a lease back leaves
/// all work undone until somebody sees it.
const LOOK: Duration = Duration::from_secs(2);

/// How leadership is kept and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimings {
    /// How long the others wait after the last sign of life.
    pub lease: Duration,
    /// How long the leader goes on without being able to give one: shorter than `lease`.
    pub renew_deadline: Duration,
    /// How often it is tried. Whether another gave the lease back is looked at every two seconds in any case.
    pub retry: Duration,
}

impl Default for LeaseTimings {
    fn default() -> Self {
        let [lease, renew_deadline, retry] = [15, 10, 2].map(Duration::from_secs);
        Self { lease, renew_deadline, retry }
    }
}

/// A candidate.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    timings: LeaseTimings,
    clock: Arc<dyn Clock>,
    leads: watch::Sender<bool>,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The lease as it was last seen to change, by our clock.
#[derive(Debug, Default)]
struct Seen {
    version: Option<String>,
    at: Option<Instant>,
}

/// What is to be done about a lease.
#[derive(Debug, Clone, PartialEq)]
enum Decision {
    Create(LeaseSpec),
    Take(LeaseSpec),
    Renew(LeaseSpec),
    /// It is somebody else's.
    Leave(String),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Held,
    /// Somebody else has it.
    Other(String),
    /// Somebody wrote at the same time.
    Conflict,
}

impl Elector {
    /// A candidate for a lease. `identity` must be of this process alone.
    pub fn new(
        client: Client,
        namespace: &str,
        name: impl Into<String>,
        identity: impl Into<String>,
        timings: LeaseTimings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (name, identity) = (name.into(), identity.into());
        let api = Api::namespaced(client, namespace);
        Self { api, name, identity, timings, clock, leads: watch::Sender::new(false) }
    }

    /// Whether this one leads now.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Stands for election until `shutdown` says true or is dropped; `work` makes what runs while this one leads. That is
    /// dropped the moment leadership is lost or the shutdown begins; then the lease is given back.
    pub async fn run<Work: Future<Output = ()>>(
        &self,
        mut shutdown: watch::Receiver<bool>,
        work: impl Fn() -> Work,
    ) {
        let stop = async move {
            // An error means that nobody is left who could say it.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stop);
        loop {
            let mut seen = Seen::default();
            let renewed = tokio::select! {
                renewed = self.acquire(&mut seen) => renewed,
                () = &mut stop => {
                    // The write that made it ours may have been under way.
                    self.release().await;
                    return;
                }
            };
            tracing::info!(lease = self.name, identity = self.identity, "this replica leads");
            self.leads.send_replace(true);
            let is_stopped = tokio::select! {
                () = self.keep(&mut seen, renewed) => false,
                () = work() => true,
                () = &mut stop => true,
            };
            self.leads.send_replace(false);
            if is_stopped {
                self.release().await;
                return;
            }
            tracing::warn!(lease = self.name, identity = self.identity, "this replica no longer leads");
        }
    }

    /// Tries until it holds the lease; the moment before the write that made it so.
    async fn acquire(&self, seen: &mut Seen) -> Instant {
        let mut holder = String::new();
        loop {
            let begun = Instant::now();
            let mut pause = self.timings.retry;
            match self.attempt(seen).await {
                Ok(Attempt::Held) => return begun,
                Ok(Attempt::Other(other)) => {
                    if other != holder {
                        tracing::info!(lease = self.name, leader = other, "another replica leads");
                        holder = other;
                    }
                    pause = pause.min(LOOK);
                }
                Ok(Attempt::Conflict) => {}
                Err(error) => tracing::warn!(lease = self.name, %error, "the lease cannot be asked for"),
            }
            sleep(pause).await;
        }
    }

    /// Renews until it is lost.
    async fn keep(&self, seen: &mut Seen, mut renewed: Instant) {
        loop {
            sleep(self.timings.retry).await;
            let begun = Instant::now();
            let left = self.timings.renew_deadline.saturating_sub(begun.duration_since(renewed));
            match timeout(left, self.attempt(seen)).await {
                Ok(Ok(Attempt::Held)) => renewed = begun,
                Ok(Ok(Attempt::Other(other))) => {
                    tracing::warn!(lease = self.name, leader = other, "another replica took the lease");
                    return;
                }
                Ok(Ok(Attempt::Conflict)) => {}
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the lease could not be renewed"),
                Err(_) => return,
            }
            if renewed.elapsed() >= self.timings.renew_deadline {
                return;
            }
        }
    }

    async fn attempt(&self, seen: &mut Seen) -> Result<Attempt, ApiError> {
        let lease = optional(self.api.get(&self.name)).await?;
        let age = seen.age(lease.as_ref(), Instant::now());
        let decision = decide(lease.as_ref(), age, &self.identity, self.timings.lease, self.clock.now());
        let written = match decision {
            Decision::Leave(other) => return Ok(Attempt::Other(other)),
            Decision::Create(spec) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                request(self.api.create(&PostParams::default(), &lease)).await
            }
            Decision::Take(spec) | Decision::Renew(spec) => {
                let lease = Lease { spec: Some(spec), ..lease.unwrap_or_default() };
                request(self.api.replace(&self.name, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                seen.age(Some(&lease), Instant::now());
                Ok(Attempt::Held)
            }
            Err(error) if error.is_conflict() => Ok(Attempt::Conflict),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back, if it is still ours, so that another need not wait for its end.
    async fn release(&self) {
        let released = async {
            let Some(lease) = optional(self.api.get(&self.name)).await? else { return Ok(false) };
            let Some(spec) = given_back(&lease, &self.identity, self.clock.now()) else {
                return Ok(false);
            };
            let lease = Lease { spec: Some(spec), ..lease };
            request(self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(|_| true)
        };
        let released: Result<bool, ApiError> = released.await;
        match released {
            Ok(false) => {}
            Ok(true) => tracing::info!(lease = self.name, "the lease was given back"),
            Err(error) => tracing::warn!(lease = self.name, %error, "the lease could not be given back"),
        }
    }
}

impl Seen {
    /// For how long the lease has not changed.
    fn age(&mut self, lease: Option<&Lease>, now: Instant) -> Duration {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
        match self.at {
            Some(at) if self.version == version => now.duration_since(at),
            _ => {
                *self = Self { version, at: Some(now) };
                Duration::ZERO
            }
        }
    }
}

fn decide(
    lease: Option<&Lease>,
    age: Duration,
    identity: &str,
    length: Duration,
    now: Timestamp,
) -> Decision {
    let now = micro(now);
    let ours = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(length.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: now.clone(),
        renew_time: now,
        lease_transitions: Some(0),
        ..LeaseSpec::default()
    };
    let Some(lease) = lease else { return Decision::Create(ours) };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Decision::Renew(LeaseSpec {
            acquire_time: spec.acquire_time.or(ours.acquire_time),
            lease_transitions: spec.lease_transitions,
            ..ours
        });
    }
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    if !holder.is_empty() && age < seconds.map_or(length, Duration::from_secs) {
        return Decision::Leave(holder.to_owned());
    }
    let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
    Decision::Take(LeaseSpec { lease_transitions: Some(transitions), ..ours })
}

/// What stands in a lease that its holder gives back, as client-go writes it; `None` if it is not ours to give.
fn given_back(lease: &Lease, identity: &str, now: Timestamp) -> Option<LeaseSpec> {
    let spec = lease.spec.clone()?;
    if spec.holder_identity.as_deref() != Some(identity) {
        return None;
    }
    Some(LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        acquire_time: micro(now),
        renew_time: micro(now),
        ..spec
    })
}

fn micro(now: Timestamp) -> Option<MicroTime> {
    k8s_openapi::jiff::Timestamp::from_microsecond(now.as_microsecond()).ok().map(MicroTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(15);

    fn lease(holder: &str, transitions: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    fn decided(lease: Option<&Lease>, age: u64) -> Decision {
        decide(lease, Duration::from_secs(age), "us", LENGTH, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_lease_that_is_not_there_is_created() {
        assert!(matches!(decided(None, 0), Decision::Create(spec) if spec.lease_transitions == Some(0)));
    }

    #[test]
    fn a_lease_of_somebody_else_is_taken_only_after_its_time() {
        let theirs = lease("them", 4);
        assert_eq!(decided(Some(&theirs), 14), Decision::Leave("them".into()));
        let Decision::Take(spec) = decided(Some(&theirs), 15) else { panic!("not taken") };
        assert_eq!(spec.holder_identity.as_deref(), Some("us"));
        assert_eq!(spec.lease_transitions, Some(5));
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let spec = given_back(&lease("us", 1), "us", Timestamp::UNIX_EPOCH).expect("ours");
        let free = Lease { spec: Some(spec), ..Lease::default() };
        assert!(matches!(decided(Some(&free), 0), Decision::Take(_)));
        assert_eq!(given_back(&lease("them", 1), "us", Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn our_own_lease_is_renewed_and_counts_no_transition() {
        let decision = decided(Some(&lease("us", 4)), 0);
        assert!(matches!(decision, Decision::Renew(spec) if spec.lease_transitions == Some(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_a_lease_counts_from_its_last_change() {
        let mut seen = Seen::default();
        let mut lease = lease("them", 0);
        lease.metadata.resource_version = Some("1".into());
        let start = Instant::now();
        assert_eq!(seen.age(Some(&lease), start), Duration::ZERO);
        assert_eq!(seen.age(Some(&lease), start + LENGTH), LENGTH);
        lease.metadata.resource_version = Some("2".into());
        assert_eq!(seen.age(Some(&lease), start + LENGTH), Duration::ZERO);
    }
}
