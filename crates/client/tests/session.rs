//! A token kept alive, against a server that forgets tokens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chancery_api::Secret;
use chancery_client::{Client, Config, Login, Session};
use server::{Reply, Server};

fn login() -> Login {
    let (role_id, secret_id) = (Secret::from("r").into(), Secret::from("s").into());
    Login::AppRole { mount: "approle".into(), role_id, secret_id }
}

/// One that lets everybody in, while told so.
fn server(open: Arc<AtomicBool>) -> Server {
    const TOKEN: &str = r#"{"auth":{"client_token":"fresh","lease_duration":3600,"renewable":true}}"#;
    Server::start(move |_, _| match open.load(Ordering::SeqCst) {
        true => Reply::Answer(200, String::new(), TOKEN),
        false => Reply::Answer(400, String::new(), r#"{"errors":["invalid role or secret ID"]}"#),
    })
}

fn client(server: &Server) -> Client {
    Client::new(Config { token: None, max_retries: 0, ..server.config() }).unwrap()
}

#[tokio::test]
async fn of_many_that_were_refused_one_logs_in_for_all() {
    let server = server(Arc::new(AtomicBool::new(true)));
    let session = Arc::new(Session::new(client(&server), login()));
    assert_eq!(session.generation(), 0);
    let mut refused = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let session = Arc::clone(&session);
        refused.spawn(async move { session.refresh(0).await });
    }
    while let Some(refreshed) = refused.join_next().await {
        assert!(refreshed.unwrap().unwrap());
    }
    assert_eq!((server.seen().len(), session.generation()), (1, 1));
    assert_eq!(session.client().token().unwrap().expose(), "fresh");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_and_not_again_at_once() {
    let server = server(Arc::new(AtomicBool::new(true)));
    let session = Session::open(client(&server), login()).await.unwrap();
    assert!(session.refresh(session.generation()).await.unwrap());
    for _ in 0..5 {
        assert!(!session.refresh(session.generation()).await.unwrap());
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_login_that_failed_is_not_repeated_by_everybody() {
    let open = Arc::new(AtomicBool::new(false));
    let server = server(Arc::clone(&open));
    let session = Session::new(client(&server), login());
    for _ in 0..20 {
        let error = session.refresh(0).await.unwrap_err().to_string();
        assert!(error.contains("invalid role or secret ID"), "{error}");
    }
    assert!(server.seen().len() <= 2, "{}", server.seen().len());
    // A second later it is tried again, also by those who were refused with an older token.
    open.store(true, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(session.refresh(0).await.unwrap());
}

#[tokio::test]
async fn a_login_is_finished_for_others_when_who_began_it_gives_up() {
    let server = Server::start(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Reply::Answer(200, String::new(), r#"{"auth":{"client_token":"late","lease_duration":3600}}"#)
    });
    let session = Session::new(client(&server), login());
    let patience = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(patience, session.refresh(0)).await.is_err());
    assert!(session.refresh(0).await.unwrap());
    assert_eq!((server.seen().len(), session.generation()), (1, 1));
}

#[tokio::test]
async fn a_token_of_a_login_is_revoked_and_one_that_was_given_is_not() {
    let server = server(Arc::new(AtomicBool::new(true)));
    let session = Session::open(client(&server), login()).await.unwrap();
    session.revoke().await.unwrap();
    session.revoke().await.unwrap();
    let revoked: Vec<_> =
        server.seen().into_iter().filter(|seen| seen.target.ends_with("revoke-self")).collect();
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].header("X-Vault-Token"), Some("fresh"));
    let client = client(&server);
    client.set_token(Some("given".into()));
    Session::new(client, Login::Token(Secret::from("given").into())).revoke().await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_read_and_not_asked_for_again() {
    let server = Server::start(|_, _| Reply::ok());
    let config = Config { max_answer: 10, ..server.config() };
    let error = Client::new(config).unwrap().send(&chancery_client::Request::read("x")).await.unwrap_err();
    assert!(error.to_string().ends_with("/v1/x is longer than 10 bytes"), "{error}");
    assert_eq!(server.seen().len(), 1);
}
