//! Asking whose token this is.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::FixedClock;
use chancery_mesh::ca::authenticate::{ReviewError, TokenReviewer};
use chancery_mesh::kubernetes::ClusterReviewer;
use chancery_testkit::kubernetes::Fault;

use crate::bed::{double, now};

fn audiences() -> Vec<String> {
    vec!["istio-ca".to_owned()]
}

#[tokio::test]
async fn a_token_of_a_service_account_names_its_user_and_its_pod() {
    let (server, client) = double().await;
    server.service_account_token("good", "sandbox", "httpbin", ("httpbin-1", "uid-1"));
    let reviewer = ClusterReviewer::new("Kubernetes", client);
    for cluster in [None, Some(""), Some("Kubernetes")] {
        let status = reviewer.review(cluster, "good", &audiences()).await.expect("a verdict");
        assert_eq!(status.authenticated, Some(true));
        let user = status.user.expect("a user");
        assert_eq!(user.username.as_deref(), Some("system:serviceaccount:sandbox:httpbin"));
        let extra = user.extra.expect("extra");
        assert_eq!(extra["authentication.kubernetes.io/pod-uid"], ["uid-1"]);
    }
}

#[tokio::test]
async fn a_bad_token_is_a_verdict_and_not_an_error() {
    let (server, client) = double().await;
    server.service_account_token("good", "sandbox", "httpbin", ("httpbin-1", "uid-1"));
    let reviewer = ClusterReviewer::new("Kubernetes", client);
    for (token, audience) in [("bad", "istio-ca"), ("good", "vault")] {
        let status = reviewer.review(None, token, &[audience.to_owned()]).await.expect("a verdict");
        assert_ne!(status.authenticated, Some(true));
        assert!(status.error.expect("an error").contains("invalid bearer token"));
    }
}

#[tokio::test]
async fn each_cluster_judges_its_own_tokens() {
    let ((east, to_east), (_west, to_west)) = (double().await, double().await);
    east.service_account_token("of east", "sandbox", "httpbin", ("httpbin-1", "uid-1"));
    let reviewer = ClusterReviewer::new("west", to_west).with_cluster("east", to_east);
    let status = reviewer.review(Some("east"), "of east", &audiences()).await.expect("a verdict");
    assert_eq!(status.authenticated, Some(true));
    let status = reviewer.review(None, "of east", &audiences()).await.expect("a verdict");
    assert_ne!(status.authenticated, Some(true));
    let unknown = reviewer.review(Some("north"), "of east", &audiences()).await;
    assert_eq!(unknown, Err(ReviewError::UnknownCluster("north".into())));
}

#[tokio::test]
async fn an_api_server_in_trouble_is_told_apart_from_one_that_will_not() {
    let (server, client) = double().await;
    let reviewer = ClusterReviewer::new("Kubernetes", client);
    for fault in [Fault::Code(500), Fault::Code(429), Fault::Drop] {
        server.inject("create", "tokenreviews", fault, 1);
        let failed = reviewer.review(None, "t", &audiences()).await;
        assert!(matches!(failed, Err(ReviewError::Unavailable(_))), "{failed:?}");
    }
    server.deny("create", "tokenreviews");
    let Err(ReviewError::Refused(reason)) = reviewer.review(None, "t", &audiences()).await else {
        panic!("not refused")
    };
    assert!(reason.contains("cannot create resource \"tokenreviews\""), "{reason}");
}

#[tokio::test]
async fn a_good_token_is_asked_for_once_a_minute_and_a_bad_one_each_time() {
    let (server, client) = double().await;
    let end = now().as_second() + 600;
    let claims = data_encoding::BASE64URL_NOPAD.encode(format!("{{\"exp\":{end}}}").as_bytes());
    let token = format!("e30.{claims}.c2ln");
    server.service_account_token(&token, "sandbox", "httpbin", ("httpbin-1", "uid-1"));
    let clock = Arc::new(FixedClock::at(now()));
    let reviewer = ClusterReviewer::new("Kubernetes", client).remembering(Duration::from_secs(600), clock);
    let asked = || server.count("create", "tokenreviews");
    for _ in 0..3 {
        let status = reviewer.review(None, &token, &audiences()).await.expect("a verdict");
        assert_eq!(status.authenticated, Some(true));
    }
    assert_eq!(asked(), 1);
    // Other audiences are another question.
    reviewer.review(None, &token, &["vault".to_owned()]).await.expect("a verdict");
    assert_eq!(asked(), 2);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    reviewer.review(None, &token, &audiences()).await.expect("a verdict");
    assert_eq!(asked(), 3);
    for _ in 0..2 {
        reviewer.review(None, "bad", &audiences()).await.expect("a verdict");
    }
    assert_eq!(asked(), 5);
}
