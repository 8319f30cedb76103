//! Callers whose token the Kubernetes API vouches for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chancery_issuance::TrustDomain;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;

use super::{Authenticator, Caller, ClusterIds, Credentials, Denial, bearer_token, caller_of};
use crate::token::service_account;

/// The group of all service accounts.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What the API says of the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The word of [`Denial::reason`] for: the API could not be asked now.
pub(in crate::ca) const REVIEW_UNAVAILABLE: &str = "token_review_unavailable";

/// How long to wait before an API that did not answer is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// Why there is no verdict on a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The caller names a cluster that we have no client for.
    #[error("the caller claims to be in cluster {0:?}, which is none of ours")]
    UnknownCluster(String),
    /// The API server could not be asked; later it may be.
    #[error("TokenReview could not be asked: {0}")]
    Unavailable(String),
    /// The API server will not review tokens for us, however often it is asked: RBAC, most likely.
    #[error("TokenReview was refused to us: {0}")]
    Refused(String),
    /// The answer has no status.
    #[error("the API server answered a TokenReview without a status")]
    NoStatus,
}

/// Something that has tokens reviewed (`authentication.k8s.io/v1`).
#[async_trait]
pub trait TokenReviewer: Send + Sync {
    /// Has one token reviewed, for any of these audiences, by the API server of a cluster; `None` is the cluster that we
    /// belong to. The token is never to be logged.
    ///
    /// # Errors
    /// There is no such cluster here, or its API server gave no verdict. That a token is not good is a verdict.
    async fn review(
        &self,
        cluster: Option<&str>,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenReviewStatus, ReviewError>;
}

/// Knows callers by a TokenReview.
#[derive(Clone)]
pub struct TokenReviewAuthenticator {
    reviewer: Arc<dyn TokenReviewer>,
    audiences: Vec<String>,
    domain: TrustDomain,
    clusters: Arc<ClusterIds>,
}

impl TokenReviewAuthenticator {
    /// For tokens for one of these audiences, of workloads that get their names in this trust domain.
    pub fn new(
        reviewer: Arc<dyn TokenReviewer>,
        audiences: Vec<String>,
        domain: TrustDomain,
        clusters: Arc<ClusterIds>,
    ) -> Self {
        Self { reviewer, audiences, domain, clusters }
    }

    /// Asks up to three times, if the API could not be asked.
    async fn review(&self, cluster: Option<&str>, token: &str) -> Result<TokenReviewStatus, ReviewError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            match (self.reviewer.review(cluster, token, &self.audiences).await, pauses.next()) {
                (Err(error @ ReviewError::Unavailable(_)), Some(pause)) => {
                    tracing::debug!(%error, "a token could not be reviewed; it is tried again");
                    tokio::time::sleep(pause).await;
                }
                (outcome, _) => return outcome,
            }
        }
    }

    /// What an answer means.
    fn read(&self, status: TokenReviewStatus) -> Result<Caller, Denial> {
        let denied = |detail: String| Denial::new("token_review", detail);
        if let Some(error) = status.error.filter(|error| !error.is_empty()) {
            return Err(denied(format!("token review: {error}")));
        }
        if status.authenticated != Some(true) {
            return Err(denied("token is not authenticated".to_owned()));
        }
        // An API server that knows nothing of audiences would take its own tokens, whatever they are for. Every one that
        // does names those that matched.
        let matched = status.audiences.unwrap_or_default();
        if !matched.iter().any(|audience| self.audiences.contains(audience)) {
            let wanted = &self.audiences;
            let detail = format!("token review matched audiences {matched:?}, none of {wanted:?}");
            return Err(Denial::new("audience", detail));
        }
        let user = status.user.unwrap_or_default();
        if !user.groups.iter().flatten().any(|group| group == SERVICE_ACCOUNTS) {
            return Err(denied(format!("user is not in the group {SERVICE_ACCOUNTS}")));
        }
        let username = user.username.unwrap_or_default();
        let workload = service_account(&username).ok_or_else(|| {
            denied(format!("username {username:?} is not system:serviceaccount:NAMESPACE:NAME"))
        })?;
        let extra = user.extra.unwrap_or_default();
        let value = |key| extra.get(key).and_then(|values| values.first()).filter(|value| !value.is_empty());
        let pod = value(POD_NAME).cloned().zip(value(POD_UID).cloned());
        caller_of(workload, pod, &self.domain, self.name())
    }
}

#[async_trait]
impl Authenticator for TokenReviewAuthenticator {
    fn name(&self) -> &'static str {
        "token_review"
    }

    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, Denial> {
        let Some(token) = bearer_token(credentials.metadata)? else { return Ok(None) };
        self.clusters.check(credentials.metadata)?;
        let cluster = ClusterIds::named(credentials.metadata);
        let status = self.review(cluster.as_deref(), token).await.map_err(|error| {
            let reason = match error {
                ReviewError::Unavailable(_) => REVIEW_UNAVAILABLE,
                ReviewError::UnknownCluster(_) | ReviewError::Refused(_) | ReviewError::NoStatus => {
                    "token_review_refused"
                }
            };
            Denial::new(reason, format!("token could not be reviewed: {error}"))
        })?;
        self.read(status).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;
    use crate::Workload;

    /// Answers the same to whatever it is asked, and notes what that was.
    struct Always(Result<TokenReviewStatus, ReviewError>, Mutex<Vec<(String, Vec<String>)>>);

    #[async_trait]
    impl TokenReviewer for Always {
        async fn review(
            &self,
            _: Option<&str>,
            token: &str,
            audiences: &[String],
        ) -> Result<TokenReviewStatus, ReviewError> {
            self.1.lock().expect("unpoisoned").push((token.to_owned(), audiences.to_vec()));
            self.0.clone()
        }
    }

    fn good() -> TokenReviewStatus {
        let extra = [(POD_NAME, "pod-1"), (POD_UID, "uid-1")];
        let extra = extra.map(|(key, value)| (key.to_owned(), vec![value.to_owned(), "other".to_owned()]));
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec!["istio-ca".to_owned()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:sandbox:httpbin".to_owned()),
                groups: Some(vec!["system:authenticated".to_owned(), SERVICE_ACCOUNTS.to_owned()]),
                extra: Some(BTreeMap::from(extra)),
                uid: None,
            }),
        }
    }

    fn authenticator(
        answer: Result<TokenReviewStatus, ReviewError>,
    ) -> (Arc<Always>, TokenReviewAuthenticator) {
        let reviewer = Arc::new(Always(answer, Mutex::default()));
        let authenticator = TokenReviewAuthenticator::new(
            Arc::<Always>::clone(&reviewer),
            vec!["istio-ca".to_owned()],
            Workload::trust_domain("cluster@local").expect("a trust domain"),
            Arc::new(ClusterIds::new(["Kubernetes".to_owned()])),
        );
        (reviewer, authenticator)
    }

    async fn outcome(
        authenticator: &TokenReviewAuthenticator,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<Option<Caller>, Denial> {
        let metadata: http::HeaderMap = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect();
        authenticator.authenticate(&Credentials { metadata: &metadata, certificates: &[] }).await
    }

    const TOKEN: (&str, &str) = ("authorization", "Bearer t");

    #[tokio::test]
    async fn a_reviewed_token_names_its_service_account_and_pod() {
        let (reviewer, authenticator) = authenticator(Ok(good()));
        let caller = outcome(&authenticator, &[TOKEN]).await.expect("known").expect("a token");
        assert_eq!(caller.identities, ["spiffe://cluster.local/ns/sandbox/sa/httpbin"]);
        let pod = caller.pod.expect("a pod");
        assert_eq!((pod.name.as_str(), pod.uid.as_str()), ("pod-1", "uid-1"));
        assert_eq!(pod.workload.to_string(), "sandbox/httpbin");
        assert_eq!(caller.by, "token_review");
        assert_eq!(*reviewer.1.lock().expect("unpoisoned"), [("t".to_owned(), vec!["istio-ca".to_owned()])]);
    }

    #[tokio::test]
    async fn without_a_token_or_from_another_cluster_nothing_is_reviewed() {
        let (reviewer, authenticator) = authenticator(Ok(good()));
        assert_eq!(outcome(&authenticator, &[]).await, Ok(None));
        let denial =
            outcome(&authenticator, &[TOKEN, ("clusterid", "west")]).await.expect_err("another cluster");
        assert_eq!(denial.reason, "cluster_id");
        assert!(reviewer.1.lock().expect("unpoisoned").is_empty());
    }

    #[tokio::test]
    async fn each_fault_of_an_answer_is_a_denial() {
        let with = |change: fn(&mut TokenReviewStatus, &mut UserInfo)| {
            let mut status = good();
            let mut user = status.user.take().expect("a user");
            change(&mut status, &mut user);
            TokenReviewStatus { user: Some(user), ..status }
        };
        for (name, status, reason) in [
            ("error", with(|status, _| status.error = Some("expired".into())), "token_review"),
            ("not authenticated", with(|status, _| status.authenticated = Some(false)), "token_review"),
            ("no word of it", with(|status, _| status.authenticated = None), "token_review"),
            ("other audience", with(|status, _| status.audiences = Some(vec!["api".into()])), "audience"),
            ("no audience", with(|status, _| status.audiences = None), "audience"),
            (
                "group",
                with(|_, user| user.groups = Some(vec!["system:authenticated".into()])),
                "token_review",
            ),
            ("no groups", with(|_, user| user.groups = None), "token_review"),
            ("no name", with(|_, user| user.username = None), "token_review"),
            ("a user", with(|_, user| user.username = Some("jane".into())), "token_review"),
            (
                "five parts",
                with(|_, user| user.username = Some("system:serviceaccount:a:b:c".into())),
                "token_review",
            ),
            (
                "no namespace",
                with(|_, user| user.username = Some("system:serviceaccount::b".into())),
                "token_review",
            ),
            (
                "not a SPIFFE ID",
                with(|_, user| user.username = Some("system:serviceaccount:a:b%2f".into())),
                "identity",
            ),
        ] {
            let (_, authenticator) = authenticator(Ok(status));
            let denial = outcome(&authenticator, &[TOKEN]).await.expect_err(name);
            assert_eq!(denial.reason, reason, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_does_not_answer_is_asked_three_times() {
        let (reviewer, authenticator) =
            authenticator(Err(ReviewError::Unavailable("connection refused".into())));
        let denial = outcome(&authenticator, &[TOKEN]).await.expect_err("no answer");
        assert_eq!(denial.reason, "token_review_unavailable");
        assert_eq!(reviewer.1.lock().expect("unpoisoned").len(), 3);
    }

    #[tokio::test]
    async fn a_token_without_a_pod_is_a_caller_without_one() {
        let mut status = good();
        if let Some(user) = &mut status.user {
            user.extra.as_mut().expect("extra").remove(POD_UID);
        }
        let (_, authenticator) = authenticator(Ok(status));
        assert_eq!(outcome(&authenticator, &[TOKEN]).await.expect("known").expect("a token").pod, None);
    }
}
