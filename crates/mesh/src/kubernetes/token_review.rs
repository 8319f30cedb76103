//! Asking API servers whose token this is (authentication.k8s.io/v1, TokenReview).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest;
use chancery_api::Clock;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroize;

use crate::ca::authenticate::{ReviewError, TokenReviewer};
use chancery_kubernetes::{AT_ONCE, ApiError, request};

/// The longest time that an answer is remembered.
pub const LONGEST_MEMORY: Duration = Duration::from_secs(60);

/// How many answers are remembered.
const MOST_ANSWERS: usize = 4096;

/// The API servers of one or several clusters.
pub struct ClusterReviewer {
    home: String,
    clusters: HashMap<String, Client>,
    asking: Semaphore,
    memory: Option<Memory>,
}

impl std::fmt::Debug for ClusterReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterReviewer")
            .field("home", &self.home)
            .field("clusters", &self.clusters.keys())
            .finish_non_exhaustive()
    }
}

impl ClusterReviewer {
    /// A reviewer for the cluster that we belong to.
    pub fn new(cluster: impl Into<String>, client: Client) -> Self {
        let home = cluster.into();
        let clusters = HashMap::from([(home.clone(), client)]);
        Self { clusters, home, asking: Semaphore::new(AT_ONCE), memory: None }
    }

    /// Another cluster, or another name of one.
    #[must_use]
    pub fn with_cluster(mut self, cluster: impl Into<String>, client: Client) -> Self {
        self.clusters.insert(cluster.into(), client);
        self
    }

    /// Remembers that a token was good: for this long, at most [`LONGEST_MEMORY`], and never beyond the token's own end.
    /// Whoever deletes a pod or a service account waits as long before its tokens are worth nothing here.
    #[must_use]
    pub fn remembering(mut self, time: Duration, clock: Arc<dyn Clock>) -> Self {
        let time = time.min(LONGEST_MEMORY);
        self.memory = (!time.is_zero()).then(|| Memory { time, clock, answers: Mutex::default() });
        self
    }
}

#[async_trait]
impl TokenReviewer for ClusterReviewer {
    async fn review(
        &self,
        cluster: Option<&str>,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenReviewStatus, ReviewError> {
        let cluster = cluster.filter(|cluster| !cluster.is_empty()).unwrap_or(&self.home);
        let client =
            self.clusters.get(cluster).ok_or_else(|| ReviewError::UnknownCluster(cluster.to_owned()))?;
        let key = Memory::key(cluster, token, audiences);
        if let Some(status) = self.memory.as_ref().and_then(|memory| memory.recall(&key)) {
            return Ok(status);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(audiences.to_vec()) };
        let question = Wiped(TokenReview { spec, ..TokenReview::default() });
        let api: Api<TokenReview> = Api::all(client.clone());
        let mut answer = {
            // It is never closed, so there always is a permit in the end.
            let _permit = self.asking.acquire().await;
            request(api.create(&PostParams::default(), &question.0))
                .await
                .map(Wiped)
                .map_err(ReviewError::from)?
        };
        let status = answer.0.status.take().ok_or(ReviewError::NoStatus)?;
        if let Some(memory) = &self.memory
            && status.authenticated == Some(true)
            && status.error.as_ref().is_none_or(String::is_empty)
        {
            memory.keep(key, token, &status);
        }
        Ok(status)
    }
}

impl From<ApiError> for ReviewError {
    fn from(error: ApiError) -> Self {
        if error.is_transient() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

/// A review whose token does not stay in memory; the answer repeats it.
struct Wiped(TokenReview);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.spec.token.zeroize();
    }
}

type Key = [u8; 32];

/// An answer, and for how long it counts.
struct Remembered {
    /// By a clock that nobody sets.
    until: Instant,
    /// The token's own end.
    end: Timestamp,
    status: TokenReviewStatus,
}

impl Remembered {
    fn counts(&self, now: Timestamp) -> bool {
        now < self.end && Instant::now() < self.until
    }
}

/// Good tokens, by their hash: the tokens themselves are not kept.
struct Memory {
    time: Duration,
    clock: Arc<dyn Clock>,
    answers: Mutex<HashMap<Key, Remembered>>,
}

impl Memory {
    /// SHA-256 over all that was asked, each part with its length.
    fn key(cluster: &str, token: &str, audiences: &[String]) -> Key {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [cluster, token].into_iter().chain(audiences.iter().map(String::as_str)) {
            hash.update(&part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finish().as_ref().try_into().unwrap_or_default()
    }

    fn recall(&self, key: &Key) -> Option<TokenReviewStatus> {
        let now = self.clock.now();
        let answers = self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        answers.get(key).filter(|answer| answer.counts(now)).map(|answer| answer.status.clone())
    }

    fn keep(&self, key: Key, token: &str, status: &TokenReviewStatus) {
        // A token that does not say when it ends might end at once.
        let Some(end) = end_of(token) else { return };
        let now = self.clock.now();
        if end <= now {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if answers.len() >= MOST_ANSWERS {
            answers.retain(|_, answer| answer.counts(now));
        }
        if answers.len() < MOST_ANSWERS {
            let until = Instant::now() + self.time;
            answers.insert(key, Remembered { until, end, status: status.clone() });
        }
    }
}

/// What a JWT says of its end (RFC 7519, 4.1.4). Its signature is not looked at: the API server has done that.
fn end_of(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = token.split('.').nth(1)?;
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.exp).ok()
}

#[cfg(test)]
mod tests {
    use chancery_api::FixedClock;

    use super::*;

    fn token(end: i64) -> String {
        let claims = data_encoding::BASE64URL_NOPAD.encode(format!("{{\"exp\":{end}}}").as_bytes());
        format!("e30.{claims}.c2ln")
    }

    fn memory(clock: &Arc<FixedClock>) -> Memory {
        let clock: Arc<dyn Clock> = clock.clone();
        Memory { time: Duration::from_secs(60), clock, answers: Mutex::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_is_remembered_for_a_minute_and_not_beyond_its_own_end() {
        let start = Timestamp::from_second(1_000_000).expect("an instant");
        let clock = Arc::new(FixedClock::at(start));
        let memory = memory(&clock);
        let (long, short) = (token(2_000_000), token(1_000_010));
        for token in [&long, &short] {
            memory.keep(Memory::key("c", token, &[]), token, &TokenReviewStatus::default());
        }
        let known = |token: &str| memory.recall(&Memory::key("c", token, &[])).is_some();
        assert!(known(&long) && known(&short));
        clock.advance(Duration::from_secs(10));
        assert!(known(&long) && !known(&short));
        // Its own time is not that of the wall.
        clock.advance(Duration::from_secs(3600));
        assert!(known(&long));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(known(&long));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!known(&long));
    }

    #[test]
    fn a_token_that_names_no_end_is_not_remembered() {
        let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH));
        let memory = memory(&clock);
        let key = Memory::key("c", "opaque", &[]);
        memory.keep(key, "opaque", &TokenReviewStatus::default());
        assert!(memory.recall(&key).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_tells_questions_apart() {
        let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH));
        let memory = memory(&clock);
        let end = token(1000);
        for number in 0..MOST_ANSWERS + 10 {
            memory.keep(Memory::key("c", &number.to_string(), &[]), &end, &TokenReviewStatus::default());
        }
        assert_eq!(memory.answers.lock().expect("a lock").len(), MOST_ANSWERS);
        let keys =
            [Memory::key("a", "bc", &[]), Memory::key("ab", "c", &[]), Memory::key("a", "b", &["c".into()])];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }
}
