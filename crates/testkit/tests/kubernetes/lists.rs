//! Lists at versions, pages, selections, metadata only; watches that begin in every way.

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};

use crate::bed::{Events, MAPS, REQUESTS, ask, map, patch};

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn pages_show_what_was_at_the_version_of_the_first() {
    let server = ApiServer::start().await;
    for name in ["a", "b", "c", "d"] {
        ask("POST", MAPS).body(map(name, "1")).good(&server).await;
    }
    let first = ask("GET", format!("{MAPS}?limit=2")).good(&server).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".into(), "b".into()], &json!(2))
    );
    ask("DELETE", format!("{MAPS}/c")).good(&server).await;
    ask("POST", MAPS).body(map("bb", "1")).good(&server).await;
    patch(&format!("{MAPS}/d"), "merge-patch", json!({ "data": { "k": "2" } })).good(&server).await;
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    let second = ask("GET", format!("{MAPS}?limit=2&continue={token}")).good(&server).await;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][1]["data"]["k"], "1");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"]["continue"].is_null());
    server.compact();
    let late = ask("GET", format!("{MAPS}?limit=2&continue={token}")).refused(&server).await;
    assert_eq!((late.0, late.1.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn lists_are_of_the_version_asked_for() {
    let server = ApiServer::start().await;
    let made = ask("POST", MAPS).body(map("a", "1")).good(&server).await;
    let version = made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    ask("POST", MAPS).body(map("b", "1")).good(&server).await;
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(names(&ask("GET", &exact).good(&server).await), ["a"]);
    let newer = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&ask("GET", newer).good(&server).await), ["a", "b"]);
    assert_eq!(ask("GET", format!("{MAPS}?resourceVersion=99999")).refused(&server).await.0, 504);
    server.compact();
    assert_eq!(ask("GET", &exact).refused(&server).await.0, 410);
}

#[tokio::test]
async fn metadata_is_all_that_is_sent_when_no_more_is_asked_for() {
    let server = ApiServer::start().await;
    ask("POST", MAPS).body(map("a", "secret")).good(&server).await;
    let list = ask("GET", MAPS).with("accept", METADATA_LIST).good(&server).await;
    assert_eq!((list["kind"].as_str(), names(&list)), (Some("PartialObjectMetadataList"), vec!["a".into()]));
    let one = ask("GET", format!("{MAPS}/a")).with("accept", METADATA).good(&server).await;
    assert_eq!(one["kind"], "PartialObjectMetadata");
    let mut events = Events::open(&server, &format!("{MAPS}?watch=1"), METADATA).await;
    let first = events.next().await.expect("an event");
    assert_eq!(
        (&first["type"], &first["object"]["kind"]),
        (&json!("ADDED"), &json!("PartialObjectMetadata"))
    );
    patch(&format!("{MAPS}/a"), "merge-patch", json!({ "data": { "k": "secret too" } })).good(&server).await;
    let second = events.next().await.expect("an event");
    assert_eq!(second["type"], "MODIFIED");
    assert!(![list, one, first, second].iter().any(|seen| seen.to_string().contains("secret")));
}

#[tokio::test]
async fn fields_select_where_the_kind_lets_them() {
    let server = ApiServer::start().await;
    let event =
        |name: &str, of: &str| json!({ "metadata": { "name": name }, "involvedObject": { "name": of } });
    let events = "/api/v1/namespaces/default/events";
    for (name, of) in [("a", "x"), ("b", "y")] {
        ask("POST", events).body(event(name, of)).good(&server).await;
    }
    let list = |path: &str, fields: &str| ask("GET", format!("{path}?fieldSelector={fields}"));
    assert_eq!(names(&list(events, "involvedObject.name%3Dy").good(&server).await), ["b"]);
    assert_eq!(names(&list(events, "metadata.name!%3Da").good(&server).await), ["b"]);
    let refused = list(REQUESTS, "spec.issuerRef.name%3Dx").refused(&server).await;
    assert_eq!((refused.0, refused.2.as_str()), (400, "field label not supported: spec.issuerRef.name"));
}

#[tokio::test]
async fn a_watch_begins_with_all_with_a_mark_behind_it_or_with_what_comes() {
    let server = ApiServer::start().await;
    ask("POST", MAPS).body(map("a", "1")).good(&server).await;
    let marked = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&server, &format!("{MAPS}?{marked}"), "application/json").await;
    assert_eq!(events.next().await.expect("an event")["type"], "ADDED");
    let mark = events.next().await.expect("an event");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let now = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut events = Events::open(&server, &format!("{MAPS}?{now}"), "application/json").await;
    ask("POST", MAPS).body(map("b", "1")).good(&server).await;
    assert_eq!(events.next_change().await, ("ADDED".into(), "b".into()));
    ask("DELETE", format!("{MAPS}/b")).good(&server).await;
    assert_eq!(events.next_change().await, ("DELETED".into(), "b".into()));
    assert_eq!(ask("GET", format!("{MAPS}?watch=1&sendInitialEvents=true")).refused(&server).await.0, 422);
}

#[tokio::test]
async fn a_watch_resumes_behind_its_version_and_is_told_when_that_is_forgotten() {
    let server = ApiServer::start().await;
    let made = ask("POST", MAPS).body(map("a", "1")).good(&server).await;
    let version = made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    patch(&format!("{MAPS}/a"), "merge-patch", json!({ "data": { "k": "2" } })).good(&server).await;
    let path = format!("{MAPS}?watch=1&resourceVersion={version}");
    let mut events = Events::open(&server, &path, "application/json").await;
    assert_eq!(events.next_change().await, ("MODIFIED".into(), "a".into()));
    server.compact();
    let mut events = Events::open(&server, &path, "application/json").await;
    let error = events.next().await.expect("an event");
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(events.next().await.is_none());
}
