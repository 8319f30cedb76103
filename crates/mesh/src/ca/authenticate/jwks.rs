//! Callers whose token verifies with keys that are known here: of clusters whose API cannot be reached, and of virtual
//! machines.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::digest;
use chancery_api::Clock;
use chancery_issuance::TrustDomain;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Authenticator, Caller, ClusterIds, Credentials, Denial, bearer_token, caller_of};
use crate::token::ISTIO_CA;
use crate::token::keys::{Jwks, JwksError};
use crate::token::verify::{ServiceAccountToken, TokenError, TokenRules};

/// How often the file is looked at. Its bytes are compared, so that however it is replaced is seen.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon a token that names an unknown key makes us look again. Tokens of strangers do, too.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The longest set of keys that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// Here. Whoever loaded it, from a URL perhaps, brings a newer one by [`JwksAuthenticator::replace`].
    Text(String),
}

/// What tokens are good for.
#[derive(Debug, Clone)]
pub struct JwksOptions {
    /// What a token must say.
    pub rules: TokenRules,
    /// Where workloads get their names.
    pub domain: TrustDomain,
    /// The clusters that callers may name.
    pub clusters: Arc<ClusterIds>,
    /// How many verified tokens are remembered until they expire; 0 for none.
    pub remembered: usize,
}

impl JwksOptions {
    /// For tokens of these issuers, for the audience `istio-ca`, with the clocks at most ten seconds apart.
    pub fn new(issuers: Vec<String>, domain: TrustDomain, clusters: Arc<ClusterIds>) -> Self {
        let rules =
            TokenRules { issuers, audiences: vec![ISTIO_CA.to_owned()], leeway: Duration::from_secs(10) };
        Self { rules, domain, clusters, remembered: 10_000 }
    }
}

/// The keys of the moment.
struct Keys {
    keys: Jwks,
    bytes: Vec<u8>,
    /// Distinguishes them from those before.
    generation: u64,
}

/// A token that was good.
#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    expires: Timestamp,
    generation: u64,
}

/// Knows callers by keys that their tokens' issuer published.
///
/// Nobody is asked: a token is good until it expires, also if its pod or its service account is gone before.
pub struct JwksAuthenticator {
    source: JwksSource,
    options: JwksOptions,
    clock: Arc<dyn Clock>,
    keys: ArcSwap<Keys>,
    generations: AtomicU64,
    /// When the file was last looked at.
    looked: Mutex<Instant>,
    /// By the SHA-256 of the token.
    remembered: Cache<[u8; 32], Remembered>,
}

impl JwksAuthenticator {
    /// Reads the keys.
    ///
    /// # Errors
    /// There are none.
    pub fn new(source: JwksSource, options: JwksOptions, clock: Arc<dyn Clock>) -> Result<Self, JwksError> {
        let bytes = match &source {
            JwksSource::File(path) => {
                std::fs::read(path).map_err(|error| unreadable(path, &error.to_string()))?
            }
            JwksSource::Text(text) => text.clone().into_bytes(),
        };
        let keys = Keys { keys: Jwks::parse(&bytes)?, bytes, generation: 0 };
        Ok(Self {
            remembered: Cache::new(options.remembered),
            looked: Mutex::new(Instant::now()),
            source,
            options,
            clock,
            keys: ArcSwap::from_pointee(keys),
            generations: AtomicU64::new(0),
        })
    }

    /// Goes on with other keys. What the old ones had vouched for is forgotten.
    ///
    /// # Errors
    /// They are none; then the old ones stay.
    pub fn replace(&self, bytes: Vec<u8>) -> Result<(), JwksError> {
        let keys = Jwks::parse(&bytes)?;
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(keys = keys.len(), "other keys for service accounts' tokens");
        self.keys.store(Arc::new(Keys { keys, bytes, generation }));
        self.remembered.clear();
        Ok(())
    }

    /// Looks at the file, unless that was done within `apart`. Whether there are other keys now.
    async fn look(&self, looked: &mut Instant, apart: Duration) -> bool {
        let JwksSource::File(path) = &self.source else { return false };
        if looked.elapsed() < apart {
            return false;
        }
        // By a clock that nobody sets: one that was set back would keep keys that have been withdrawn.
        *looked = Instant::now();
        let read = async {
            let length = tokio::fs::metadata(path).await?.len();
            if length > MAX_BYTES {
                return Err(std::io::Error::other(format!("{length} bytes, more than {MAX_BYTES}")));
            }
            tokio::fs::read(path).await
        };
        let outcome = match read.await {
            Ok(bytes) if bytes == self.keys.load().bytes => return false,
            Ok(bytes) => self.replace(bytes),
            Err(error) => Err(unreadable(path, &error.to_string())),
        };
        match outcome {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the keys for service accounts' tokens stay as they were");
                false
            }
        }
    }

    async fn know(&self, token: &str) -> Result<Caller, Denial> {
        let now = self.clock.now();
        // Only one looks; the others go on with what there is.
        if let Ok(mut looked) = self.looked.try_lock() {
            self.look(&mut looked, LOOK_EVERY).await;
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let mut keys = self.keys.load_full();
        if let Some(known) = self.remembered.get(&hash)
            && known.generation == keys.generation
            && now < known.expires
        {
            return Ok(Caller::clone(&known.caller));
        }
        let rules = &self.options.rules;
        let mut verified = ServiceAccountToken::verify(token, &keys.keys, rules, now);
        if matches!(verified, Err(TokenError::UnknownKey(_))) {
            let mut looked = self.looked.lock().await;
            let changed = self.look(&mut looked, LOOK_AGAIN).await;
            let newer = self.keys.load_full();
            if changed || newer.generation != keys.generation {
                verified = ServiceAccountToken::verify(token, &newer.keys, rules, now);
                keys = newer;
            }
        }
        let token = verified.map_err(|error| Denial::new(error.reason(), error.to_string()))?;
        let caller = caller_of(token.workload, token.pod, &self.options.domain, self.name())?;
        if self.options.remembered > 0 {
            let (caller, generation) = (Arc::new(caller.clone()), keys.generation);
            self.remembered.insert(hash, Remembered { caller, expires: token.expires, generation });
        }
        Ok(caller)
    }
}

fn unreadable(path: &std::path::Path, reason: &str) -> JwksError {
    JwksError::File { path: path.display().to_string(), reason: reason.to_owned() }
}

#[async_trait]
impl Authenticator for JwksAuthenticator {
    fn name(&self) -> &'static str {
        "jwks"
    }

    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, Denial> {
        let Some(token) = bearer_token(credentials.metadata)? else { return Ok(None) };
        self.options.clusters.check(credentials.metadata)?;
        self.know(token).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use chancery_api::FixedClock;

    use super::*;
    use crate::Workload;
    use crate::token::dev::{DevIssuer, TokenRequest};

    const NOW: i64 = 1_795_000_000;

    fn request() -> TokenRequest {
        TokenRequest {
            workload: Workload { namespace: "sandbox".to_owned(), service_account: "httpbin".to_owned() },
            audiences: vec![ISTIO_CA.to_owned()],
            ttl: Duration::from_secs(600),
            pod: Some(("pod-1".to_owned(), "uid-1".to_owned())),
            node: None,
        }
    }

    struct Bench {
        clock: Arc<FixedClock>,
        authenticator: JwksAuthenticator,
    }

    impl Bench {
        fn new(source: JwksSource) -> Self {
            let clock = Arc::new(FixedClock::at(Timestamp::from_second(NOW).expect("a time")));
            let domain = TrustDomain::new("cluster.local").expect("a trust domain");
            let clusters = Arc::new(ClusterIds::new(["Kubernetes".to_owned()]));
            let options = JwksOptions::new(vec!["https://issuer.example".to_owned()], domain, clusters);
            let authenticator = JwksAuthenticator::new(source, options, Arc::<FixedClock>::clone(&clock));
            Self { clock, authenticator: authenticator.expect("keys") }
        }

        fn token(&self, issuer: &DevIssuer) -> String {
            issuer.token(&request(), self.clock.now()).expect("a token").expose().to_owned()
        }

        async fn with(&self, metadata: &[(&'static str, &str)]) -> Result<Option<Caller>, Denial> {
            let mut headers = http::HeaderMap::new();
            for (name, value) in metadata {
                headers.insert(*name, value.parse().expect("a value"));
            }
            self.authenticator.authenticate(&Credentials { metadata: &headers, certificates: &[] }).await
        }

        async fn reason(&self, token: &str) -> Option<&'static str> {
            let outcome = self.with(&[("authorization", &format!("Bearer {token}"))]).await;
            outcome.err().map(|denial| denial.reason)
        }
    }

    fn issuer() -> DevIssuer {
        DevIssuer::generate("https://issuer.example").expect("an issuer")
    }

    #[tokio::test]
    async fn a_good_token_names_its_service_account_and_pod() {
        let issuer = issuer();
        let bench = Bench::new(JwksSource::Text(issuer.jwks().to_owned()));
        let token = format!("Bearer {}", bench.token(&issuer));
        let caller = bench.with(&[("authorization", &token)]).await.expect("known").expect("a token");
        assert_eq!(caller.identities, ["spiffe://cluster.local/ns/sandbox/sa/httpbin"]);
        assert_eq!(caller.pod.expect("a pod").uid, "uid-1");
        assert_eq!(caller.by, "jwks");
        assert_eq!(bench.with(&[]).await, Ok(None));
        let west = bench.with(&[("authorization", &token), ("clusterid", "west")]).await;
        assert_eq!(west.expect_err("another cluster").reason, "cluster_id");
    }

    #[tokio::test]
    async fn a_token_that_was_good_is_remembered_until_it_expires() {
        let issuer = issuer();
        let bench = Bench::new(JwksSource::Text(issuer.jwks().to_owned()));
        let token = bench.token(&issuer);
        assert_eq!(bench.reason(&token).await, None);
        assert_eq!(bench.authenticator.remembered.len(), 1);
        assert_eq!(bench.reason(&token).await, None);
        bench.clock.advance(Duration::from_secs(611));
        assert_eq!(bench.reason(&token).await, Some("token_expired"));
        // One that was not good is not.
        assert_eq!(bench.reason("a.b.c").await, Some("token_malformed"));
        assert_eq!(bench.authenticator.remembered.len(), 1);
    }

    #[tokio::test]
    async fn other_keys_end_what_the_old_ones_had_vouched_for() {
        let (old, new) = (issuer(), issuer());
        let bench = Bench::new(JwksSource::Text(old.jwks().to_owned()));
        let token = bench.token(&old);
        assert_eq!(bench.reason(&token).await, None);
        assert!(bench.authenticator.replace(b"{}".to_vec()).is_err());
        assert_eq!(bench.reason(&token).await, None);
        bench.authenticator.replace(new.jwks().into()).expect("keys");
        assert_eq!(bench.reason(&token).await, Some("token_key"));
        assert_eq!(bench.reason(&bench.token(&new)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_read_again_when_it_changes_or_a_key_is_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("jwks.json");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        let (first, second, third) = (issuer(), issuer(), issuer());
        write(first.jwks());
        let bench = Bench::new(JwksSource::File(path.clone()));
        let old = bench.token(&first);
        assert_eq!(bench.reason(&old).await, None);

        write(second.jwks());
        // Just looked.
        assert_eq!(bench.reason(&bench.token(&second)).await, Some("token_key"));
        assert_eq!(bench.reason(&old).await, None);
        // The clock on the wall does not matter.
        tokio::time::advance(LOOK_AGAIN).await;
        assert_eq!(bench.reason(&bench.token(&second)).await, None);
        assert_eq!(bench.reason(&old).await, Some("token_key"));

        // What cannot be read changes nothing.
        write("nonsense");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(bench.reason(&bench.token(&second)).await, None);
        std::fs::remove_file(&path).expect("removed");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(bench.reason(&bench.token(&second)).await, None);

        // Time alone is enough: what a removed key had vouched for ends.
        let remembered = bench.token(&second);
        assert_eq!(bench.reason(&remembered).await, None);
        write(third.jwks());
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(bench.reason(&remembered).await, Some("token_key"));
    }

    #[test]
    fn without_keys_there_is_no_authenticator() {
        let domain = TrustDomain::new("cluster.local").expect("a trust domain");
        let options = JwksOptions::new(Vec::new(), domain, Arc::default());
        let clock: Arc<dyn Clock> = Arc::new(chancery_api::SystemClock);
        for source in [JwksSource::Text("{}".to_owned()), JwksSource::File("/nowhere/jwks.json".into())] {
            assert!(JwksAuthenticator::new(source, options.clone(), Arc::clone(&clock)).is_err());
        }
    }
}
