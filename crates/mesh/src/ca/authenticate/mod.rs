//! Who calls.
//!
//! Each way to know a caller is an [`Authenticator`]; [`Authenticators`] tries them in order. What is not known here gets
//! no further, and learns nothing of why.

mod certificate;
mod jwks;
mod token_review;

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use chancery_issuance::TrustDomain;
use rustls::pki_types::CertificateDer;

pub use certificate::{CertificateAuthenticator, TrustDomains};
pub use jwks::{JwksAuthenticator, JwksOptions, JwksSource};
pub(super) use token_review::REVIEW_UNAVAILABLE;
pub use token_review::{ReviewError, TokenReviewAuthenticator, TokenReviewer};

use crate::Workload;

/// What a caller brings.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The call's metadata.
    pub metadata: &'a http::HeaderMap,
    /// The client's certificates, the leaf first, if it showed any; TLS has verified them against the mesh's roots.
    pub certificates: &'a [CertificateDer<'static>],
}

/// A caller that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The names that its certificate may and must carry, each a SPIFFE ID.
    pub identities: Vec<String>,
    /// The pod that the token was made for.
    pub pod: Option<CallerPod>,
    /// How it is known: `token_review`, `jwks`, `certificate`.
    pub by: &'static str,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerPod {
    /// Its service account.
    pub workload: Workload,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Why a caller is not known. The caller itself learns nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Denial {
    /// For metrics: a word.
    pub reason: &'static str,
    /// For the log: a sentence.
    pub detail: String,
}

/// One way to know a caller.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// As [`Caller::by`].
    fn name(&self) -> &'static str;

    /// Who calls; `Ok(None)` if there is nothing here that this way could look at.
    ///
    /// # Errors
    /// What was brought is not good enough.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, Denial>;
}

/// The certificates that the peer of a connection showed, the leaf first; TLS has verified them.
///
/// The listener puts it among each request's [`http::Extensions`]; without it there were none.
#[derive(Debug, Clone, Default)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// The ids of the clusters whose workloads are served: the metadata `clusterid`.
#[derive(Debug, Clone, Default)]
pub struct ClusterIds(Vec<String>);

impl ClusterIds {
    /// These, each of them.
    pub fn new(ids: impl IntoIterator<Item = String>) -> Self {
        Self(ids.into_iter().filter(|id| !id.is_empty()).collect())
    }

    /// The id that a caller names. Only a single value counts; an empty one is none.
    pub fn named(metadata: &http::HeaderMap) -> Option<Cow<'_, str>> {
        let mut values = metadata.get_all("clusterid").iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        Some(String::from_utf8_lossy(value.as_bytes())).filter(|id| !id.is_empty())
    }

    /// Refuses callers that name another cluster; those that name none are taken.
    ///
    /// # Errors
    /// The cluster named is not among the accepted ones.
    pub fn check(&self, metadata: &http::HeaderMap) -> Result<(), Denial> {
        match Self::named(metadata) {
            Some(id) if !self.0.iter().any(|accepted| *accepted == id) => {
                let known = &self.0;
                Err(Denial::new(
                    "cluster_id",
                    format!("client claims to be in cluster {id:?}; accepted cluster ids: {known:?}"),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The caller's token: the first value of `authorization` that begins with exactly `Bearer `.
///
/// # Errors
/// It is too long.
pub fn bearer_token(metadata: &http::HeaderMap) -> Result<Option<&str>, Denial> {
    let mut values = metadata.get_all(http::header::AUTHORIZATION).iter();
    let token = values.find_map(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match token {
        Some(token) if token.len() > MAX_TOKEN_BYTES => {
            let length = token.len();
            let detail =
                format!("token has {length} bytes, more than the {MAX_TOKEN_BYTES} that are looked at");
            Err(Denial::new("token_size", detail))
        }
        token => Ok(token),
    }
}

/// The ways to know a caller, in the order in which they are tried. The first that knows it wins.
#[derive(Clone)]
pub struct Authenticators(Vec<Arc<dyn Authenticator>>);

impl Authenticators {
    /// These, in this order.
    pub fn new(ways: Vec<Arc<dyn Authenticator>>) -> Self {
        Self(ways)
    }

    /// Who calls.
    ///
    /// # Errors
    /// No way knows the caller. The detail joins what each of them said; the reason is the last one's, for that is
    /// mostly the one that was meant.
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Caller, Denial> {
        let mut denials: Vec<(&str, Denial)> = Vec::new();
        for way in &self.0 {
            match way.authenticate(credentials).await {
                Ok(Some(caller)) if caller.identities.is_empty() => {
                    denials.push((way.name(), Denial::new("no_identity", "no identity".to_owned())));
                }
                Ok(Some(caller)) => return Ok(caller),
                Ok(None) => {}
                Err(denial) => denials.push((way.name(), denial)),
            }
        }
        let reason = denials.last().map_or("no_credentials", |(_, denial)| denial.reason);
        if denials.is_empty() {
            return Err(Denial::new(reason, "no credentials that anybody here looks at".to_owned()));
        }
        let all: Vec<String> = denials.iter().map(|(name, denial)| format!("{name}: {denial}")).collect();
        Err(Denial::new(reason, all.join("; ")))
    }
}

impl std::fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|way| way.name())).finish()
    }
}

impl Denial {
    /// For a reason, with the whole story.
    pub fn new(reason: &'static str, detail: String) -> Self {
        Self { reason, detail }
    }
}

/// The caller that a service account's token names.
///
/// # Errors
/// The namespace or the service account has a character that no SPIFFE ID may have.
fn caller_of(
    workload: Workload,
    pod: Option<(String, String)>,
    domain: &TrustDomain,
    by: &'static str,
) -> Result<Caller, Denial> {
    let id = workload.spiffe_id(domain).map_err(|error| {
        Denial::new("identity", format!("service account {workload:?} has no SPIFFE ID: {error}"))
    })?;
    let pod = pod.map(|(name, uid)| CallerPod { workload, name, uid });
    Ok(Caller { identities: vec![id.as_str().to_owned()], pod, by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &str)]) -> http::HeaderMap {
        let mut metadata = http::HeaderMap::new();
        for (name, value) in pairs {
            metadata.append(*name, value.parse().expect("a value"));
        }
        metadata
    }

    #[test]
    fn the_first_value_that_begins_with_bearer_and_one_blank_is_the_token() {
        let token = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            bearer_token(&metadata(&pairs)).expect("short").map(str::to_owned)
        };
        assert_eq!(token(&["Basic x", "Bearer a", "Bearer b"]), Some("a".to_owned()));
        assert_eq!(token(&["Bearer  a"]), Some(" a".to_owned()));
        for none in [&[][..], &["bearer a"], &["BEARER a"], &["Bearer"], &["Bearer\ta"], &["xBearer a"]] {
            assert_eq!(token(none), None, "{none:?}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        let denial = bearer_token(&metadata(&[("authorization", &long)])).expect_err("too long");
        assert_eq!(denial.reason, "token_size");
    }

    #[test]
    fn callers_name_an_accepted_cluster_or_none() {
        let accepted = ClusterIds::new(["Kubernetes".to_owned(), "east".to_owned(), String::new()]);
        let with = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|value| ("clusterid", *value)).collect();
            accepted.check(&metadata(&pairs))
        };
        for good in [&[][..], &[""], &["Kubernetes"], &["east"], &["west", "north"]] {
            assert_eq!(with(good), Ok(()), "{good:?}");
        }
        let denial = with(&["west"]).expect_err("another cluster");
        assert_eq!(denial.reason, "cluster_id");
        assert_eq!(
            denial.detail,
            "client claims to be in cluster \"west\"; accepted cluster ids: [\"Kubernetes\", \"east\"]"
        );
        assert!(with(&["kubernetes"]).is_err());
        assert!(ClusterIds::default().check(&metadata(&[("clusterid", "x")])).is_err());
    }

    struct Says(&'static str, Result<Option<Vec<String>>, &'static str>);

    #[async_trait]
    impl Authenticator for Says {
        fn name(&self) -> &'static str {
            self.0
        }

        async fn authenticate(&self, _: &Credentials<'_>) -> Result<Option<Caller>, Denial> {
            let identities = self.1.clone().map_err(|word| Denial::new(word, format!("said {word}")))?;
            Ok(identities.map(|identities| Caller { identities, pod: None, by: self.0 }))
        }
    }

    async fn outcome(ways: Vec<Says>) -> Result<&'static str, Denial> {
        let ways = ways.into_iter().map(|way| Arc::new(way) as Arc<dyn Authenticator>).collect();
        let credentials = Credentials { metadata: &http::HeaderMap::new(), certificates: &[] };
        Authenticators::new(ways).authenticate(&credentials).await.map(|caller| caller.by)
    }

    #[tokio::test]
    async fn the_first_way_that_knows_the_caller_wins() {
        let known = || Ok(Some(vec!["spiffe://d/ns/a/sa/b".to_owned()]));
        let ways = vec![
            Says("one", Err("no")),
            Says("two", Ok(None)),
            Says("three", known()),
            Says("four", known()),
        ];
        assert_eq!(outcome(ways).await, Ok("three"));
    }

    #[tokio::test]
    async fn all_denials_are_told_together() {
        let ways = vec![Says("one", Err("early")), Says("two", Ok(None)), Says("three", Err("late"))];
        let denial = outcome(ways).await.expect_err("denied");
        assert_eq!(denial, Denial::new("late", "one: said early; three: said late".to_owned()));
        assert_eq!(outcome(vec![Says("one", Ok(None))]).await.expect_err("denied").reason, "no_credentials");
        assert_eq!(outcome(vec![]).await.expect_err("denied").reason, "no_credentials");
    }

    #[tokio::test]
    async fn a_caller_without_identities_is_not_known() {
        let denial = outcome(vec![Says("one", Ok(Some(vec![])))]).await.expect_err("denied");
        assert_eq!(denial.reason, "no_identity");
    }
}
