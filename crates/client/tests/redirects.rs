//! The one redirect that is followed, with which a standby names the active node.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod server;

use chancery_client::{Client, Config, Loss, Request};
use server::{Reply, Server, loss, testdata};

#[tokio::test]
async fn a_redirect_is_followed_with_method_body_and_token() {
    for status in [301, 302, 307, 308] {
        let active = Server::start(|_, _| Reply::ok());
        let location = format!("{}/v1/x", active.address);
        let standby = Server::start(move |_, _| Reply::redirect(status, &location));
        let request = Request::write("x", &serde_json::json!({ "a": "b" })).unwrap();
        let answer = standby.client().answer(&request).await.unwrap().unwrap();
        assert_eq!(answer.text("ok"), Some("yes"), "{status}");
        let seen = active.seen();
        let seen = &seen[0];
        assert_eq!((seen.method.as_str(), seen.body.as_str()), ("PUT", r#"{"a":"b"}"#), "{status}");
        // As the peer's client does: the active node needs the token, and who can redirect has it already.
        assert_eq!(seen.header("x-vault-token"), Some("sekrit"), "{status}");
        let host = active.address.trim_start_matches("http://");
        assert_eq!(seen.header("host"), Some(host), "{status}");
    }
}

#[tokio::test]
async fn a_relative_location_means_the_same_server() {
    let server = Server::start(|_, seen| match seen.target.as_str() {
        "/v1/a?list=true" => Reply::redirect(307, "/v1/b?list=true"),
        _ => Reply::ok(),
    });
    server.client().send(&Request::list("a")).await.unwrap();
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/v1/a?list=true", "/v1/b?list=true"]);
}

#[tokio::test]
async fn a_second_redirect_is_handed_to_the_caller() {
    let server = Server::start(|number, _| Reply::redirect(307, &format!("/v1/{}", number + 1)));
    let response = server.client().send(&Request::read("0")).await.unwrap();
    assert_eq!((response.status, server.seen().len()), (307, 2));
    assert_eq!(response.headers["location"], "/v1/2");
}

#[tokio::test]
async fn other_answers_of_the_three_hundreds_are_not_followed() {
    for (status, location) in [(303, "/v1/b"), (300, "/v1/b"), (304, "/v1/b"), (307, "http://[")] {
        let server = Server::start(move |_, _| Reply::redirect(status, location));
        let response = server.client().send(&Request::read("a")).await.unwrap();
        assert_eq!((response.status, server.seen().len()), (status, 1));
    }
}

#[tokio::test]
async fn redirects_can_be_switched_off() {
    let server = Server::start(|_, _| Reply::redirect(307, "/v1/b"));
    let client = Client::new(Config { disable_redirects: true, ..server.config() }).unwrap();
    assert_eq!(client.send(&Request::read("a")).await.unwrap().status, 307);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_out_of_tls_is_refused_before_the_token_is_sent() {
    let plain = Server::start(|_, _| Reply::ok());
    let location = format!("{}/v1/x", plain.address);
    let secure = Server::tls_with("server", move |_, _| Reply::redirect(307, &location));
    let config = Config { ca_cert: Some(testdata("authority.pem")), max_retries: 0, ..secure.config() };
    let (kind, sentence) = loss(Client::new(config).unwrap().send(&Request::read("x")).await);
    assert_eq!(kind, Loss::Other);
    assert_eq!(sentence, format!("Get \"{}/v1/x\": redirect would cause protocol downgrade", secure.address));
    assert_eq!((secure.seen().len(), plain.seen().len()), (1, 0));
}
