//! The whole API as one document, and its help.

mod common;

use std::path::Path;

use chancery_secrets::Operation;
use common::Server;
use serde_json::{Value, json};

/// A server with every kind of engine and auth method, and its OpenAPI document.
async fn document(generic: bool) -> (Server, Value) {
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let document =
        server.write("sys/internal/specs/openapi", json!({ "generic_mount_paths": generic })).await;
    (server, document)
}

/// Changes here are changes that clients see. `UPDATE_GOLDEN=1` writes the file anew.
#[tokio::test]
async fn the_api_is_the_one_that_was_checked_in() {
    let (_, mut document) = document(true).await;
    // What changes with each release is no change of the API.
    document["info"]["version"] = json!("any");
    let text = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let differs = text.lines().zip(golden.lines()).position(|(ours, theirs)| ours != theirs);
    assert!(
        text == golden,
        "the API differs from tests/openapi.json from line {} on; if that is meant: UPDATE_GOLDEN=1",
        differs.unwrap_or(text.lines().count().min(golden.lines().count())) + 1
    );
}

#[tokio::test]
async fn every_path_has_help_for_people_and_for_programs() {
    let (server, document) = document(false).await;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 150, "{} paths", paths.len());
    for (path, item) in paths {
        let asked: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let asked: Vec<&str> =
            asked.into_iter().map(|segment| if segment.starts_with('{') { "x1" } else { segment }).collect();
        let help = server.json(server.ask(Operation::Help, &asked.join("/"), "root", Value::Null).await);
        let text = help["help"].as_str().unwrap();
        for method in ["get", "post", "patch", "delete"] {
            if let Some(summary) = item[method]["summary"].as_str() {
                assert!(!summary.is_empty(), "{method} {path} says what it does");
                assert!(text.contains(summary), "{path}: {summary:?} in {text}");
            }
        }
        let pattern = text.lines().find_map(|line| line.strip_prefix("Matching Route: ")).unwrap();
        assert!(!pattern.is_empty(), "{path}");
        assert_eq!(&help["openapi"]["paths"][path], item, "{path}");
    }
}

#[tokio::test]
async fn a_mount_has_help_and_a_path_that_is_not_there_has_none() {
    let (server, _) = document(false).await;
    for path in ["sys/", "sys", "pki", "pki/", "auth/approle", "auth/token/"] {
        let help = server.json(server.ask(Operation::Help, path, "root", Value::Null).await);
        assert!(help["help"].as_str().unwrap().starts_with("## PATHS"), "{path}");
        assert!(help["openapi"]["paths"].as_object().unwrap().len() > 5, "{path}");
    }
    for path in ["sys/nonsense", "pki/nonsense/x", "nowhere"] {
        assert!(server.ask(Operation::Help, path, "root", Value::Null).await.is_err(), "{path}");
    }
}
