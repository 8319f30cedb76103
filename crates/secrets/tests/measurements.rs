//! What is measured of requests, and who may see it.

mod common;

use chancery_secrets::error::Kind;
use chancery_secrets::{Operation, Request, Response};
use common::Server;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

/// Through a listener that shows measurements to everybody.
fn through_an_open_listener() -> Request {
    let mut request = Request::new(Operation::Read, "sys/metrics");
    request.connection.open_measurements = true;
    request
}

#[tokio::test]
async fn requests_are_measured_by_mount_operation_and_outcome() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
    let role = json!({ "allow_any_name": true, "key_type": "ec", "generate_lease": true, "ttl": "1h" });
    server.write("pki/roles/web", role).await;
    server.write("pki/issue/web", json!({ "common_name": "a.example" })).await;
    server.refusal(Operation::Update, "pki/issue/absent", "root", json!({})).await;
    server.refusal(Operation::Read, "pki/roles/web", "forged", Value::Null).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    server
        .write("sys/audit/file", json!({ "type": "file", "options": { "file_path": file.to_str() } }))
        .await;
    server.write("auth/token/create", json!({ "policies": ["default"] })).await;
    // Leases are counted a page a round: markers, then records.
    for _ in 0..2 {
        assert!(server.core.upkeep().await.is_empty());
    }

    let text = recorder.handle().render();
    for line in [
        "pki_issue_count{mount_point=\"pki/\"} 1",
        "pki_issue_failure{mount_point=\"pki/\"} 1",
        "pki_sign_failure{mount_point=\"pki/\"} 0",
        "route_update_sys__count 2",
        "token_creation{auth_method=\"token\",mount_point=\"auth/token/\",token_type=\"service\"} 1",
        "token_create_count{mount_point=\"auth/token/\"} 1",
        "audit_log_request_count 1",
        "audit_log_request_failure 0",
        "core_mount_table_num_entries{type=\"logical\"} 3",
        "core_mount_table_num_entries{type=\"auth\"} 1",
        "expire_num_leases 2",
        "expire_num_irrevocable_leases 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    for series in
        ["core_handle_request_count", "core_check_token_count", "barrier_put_count", "barrier_get_count"]
    {
        assert!(
            text.lines().any(|line| line.starts_with(series) && !line.ends_with(" 0")),
            "{series} in {text}"
        );
    }
    assert!(!text.contains("route_read_pki"), "what was refused at the door never reached the mount: {text}");
}

#[tokio::test]
async fn measurements_are_for_those_who_may_read_them() {
    let server = Server::start().await;
    let (kind, _) = server.refusal(Operation::Read, "sys/metrics", "root", Value::Null).await;
    assert_eq!(kind, Kind::InvalidRequest, "nobody records anything");
    server.core.show_measurements(|format| Response::raw("text/plain", format!("measured as {format:?}")));

    let shown = server.ask(Operation::Read, "sys/metrics", "root", Value::Null).await.unwrap();
    assert_eq!(shown.response.raw.unwrap().body, "measured as \"\"");
    let made = server.write("auth/token/create", json!({ "policies": ["default"] })).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    for token in [token, "", "forged"] {
        let (kind, _) = server.refusal(Operation::Read, "sys/metrics", token, Value::Null).await;
        assert_eq!(kind, Kind::PermissionDenied, "{token:?}");
    }
    let mut request = Request::new(Operation::Read, "sys/metrics").token("root");
    request.query.push(("format".to_owned(), "prometheus".to_owned()));
    let shown = server.core.handle(request).await.unwrap();
    assert_eq!(shown.response.raw.unwrap().body, "measured as \"prometheus\"");
}

#[tokio::test]
async fn an_open_listener_shows_measurements_to_everybody_and_while_sealed() {
    let server = Server::start().await;
    server.core.show_measurements(|_| Response::raw("text/plain", "measured"));
    assert!(server.core.handle(through_an_open_listener()).await.is_ok());
    // Only these are open.
    let other = Request { path: "sys/mounts".to_owned(), ..through_an_open_listener() };
    assert_eq!(server.core.handle(other).await.unwrap_err().kind, Kind::PermissionDenied);

    server.core.seal().await;
    assert!(server.core.handle(through_an_open_listener()).await.is_ok());
    let (kind, _) = server.refusal(Operation::Read, "sys/metrics", "root", Value::Null).await;
    assert_eq!(kind, Kind::Sealed);
}

#[tokio::test]
async fn a_look_at_the_measurements_is_audited_for_what_it_is() {
    let server = Server::start().await;
    server.core.show_measurements(|_| Response::raw("text/plain", "measured"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    server
        .write("sys/audit/file", json!({ "type": "file", "options": { "file_path": file.to_str() } }))
        .await;
    server.ask(Operation::Read, "sys/metrics", "root", Value::Null).await.unwrap();
    server.core.handle(through_an_open_listener()).await.unwrap();
    server.refusal(Operation::Read, "sys/metrics", "forged", Value::Null).await;

    let text = std::fs::read_to_string(&file).unwrap();
    let answers: Vec<(String, Value)> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["type"] == "response")
        .map(|mut record| (record["request"]["path"].to_string(), record["error"].take()))
        .collect();
    let path = "\"sys/metrics\"".to_owned();
    assert_eq!(
        answers,
        [(path.clone(), Value::Null), (path.clone(), Value::Null), (path, json!("permission denied"))]
    );
}
