//! What goes wrong, and how often it was tried.

use std::time::{Duration, Instant};

use chancery_testkit::kubernetes::{ApiServer, Fault};
use serde_json::json;

use crate::bed::{MAPS, ask, map};

#[tokio::test]
async fn faults_hit_the_object_they_are_meant_for() {
    let server = ApiServer::start().await;
    server.inject_for("create", "configmaps", "b", Fault::Code(409), 1);
    ask("POST", MAPS).body(map("a", "1")).good(&server).await;
    assert_eq!(ask("POST", MAPS).body(map("b", "1")).refused(&server).await.1, "Conflict");
    ask("POST", MAPS).body(map("b", "1")).good(&server).await;
}

#[tokio::test]
async fn every_fault_is_as_it_is_in_clusters() {
    let server = ApiServer::start().await;
    for (code, reason) in [(409, "Conflict"), (410, "Expired"), (500, "InternalError"), (403, "Forbidden")] {
        server.inject("get", "configmaps", Fault::Code(code), 1);
        let refused = ask("GET", format!("{MAPS}/m")).refused(&server).await;
        assert_eq!((refused.0, refused.1.as_str()), (code, reason));
    }
    server.inject("get", "configmaps", Fault::RetryAfter(7), 1);
    let answer = ask("GET", format!("{MAPS}/m")).open(&server).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["retry-after"].as_bytes()),
        (429, b"7".as_slice())
    );
    server.inject("get", "configmaps", Fault::Refuse(json!({ "code": 418, "reason": "Tea" })), 1);
    assert_eq!(ask("GET", format!("{MAPS}/m")).refused(&server).await.1, "Tea");
    server.inject("create", "configmaps", Fault::Drop, 1);
    assert!(ask("POST", MAPS).body(map("m", "1")).open(&server).await.is_none());
    assert!(server.get("configmaps", "default", "m").is_none());
    server.inject("create", "configmaps", Fault::LoseAnswer, 1);
    assert!(ask("POST", MAPS).body(map("m", "1")).open(&server).await.is_none());
    assert!(server.get("configmaps", "default", "m").is_some());
    server.inject("get", "configmaps", Fault::Hang, 1);
    let hangs =
        tokio::time::timeout(Duration::from_millis(50), ask("GET", format!("{MAPS}/m")).open(&server));
    assert!(hangs.await.is_err());
    server.latency(Duration::from_millis(30));
    let begun = Instant::now();
    ask("GET", format!("{MAPS}/m")).good(&server).await;
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() {
    let server = ApiServer::start().await;
    ask("POST", MAPS).body(map("a", "1")).good(&server).await;
    ask("GET", MAPS).good(&server).await;
    ask("DELETE", format!("{MAPS}/a")).good(&server).await;
    assert_eq!((server.count("list", "configmaps"), server.count("*", "*")), (1, 3));
    assert_eq!((server.writes("configmaps"), server.writes("secrets")), (2, 0));
    server.forget_requests();
    assert_eq!(server.count("*", "*"), 0);
}
