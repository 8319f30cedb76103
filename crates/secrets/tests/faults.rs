//! Writes that are made to fail, and to fail after they worked; then the server is restarted.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests fails as tests do"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chancery_api::Ttl;
use chancery_secrets::{Answer, Error, Operation, Request};
use chancery_storage::Memory;
use chancery_storage::memory::Fault;
use common::Server;
use serde_json::{Value, json};

const FAULTS: [Fault; 2] = [Fault::Fails, Fault::FailsAfterPersisting];

/// Says which commit fails: the next but so many. It does so once.
#[derive(Clone)]
struct Fuse(Arc<AtomicUsize>);

impl Fuse {
    const UNARMED: usize = usize::MAX;

    fn arm(&self, commits: usize) {
        self.0.store(commits, Ordering::Relaxed);
    }

    /// Whether the commit was never reached; unarmed afterwards.
    fn is_left(&self) -> bool {
        self.0.swap(Self::UNARMED, Ordering::Relaxed) != Self::UNARMED
    }
}

/// A server with one commit that fails once the fuse is armed.
async fn faulty(fault: Fault) -> (Server, Fuse) {
    let fuse = Fuse(Arc::new(AtomicUsize::new(Fuse::UNARMED)));
    let left = fuse.clone();
    let memory = Memory::new().with_faults(move |_| match left.0.load(Ordering::Relaxed) {
        Fuse::UNARMED => Fault::None,
        0 => {
            left.0.store(Fuse::UNARMED, Ordering::Relaxed);
            fault
        }
        more => {
            left.0.store(more - 1, Ordering::Relaxed);
            Fault::None
        }
    });
    (Server::start_over(Arc::new(memory)).await, fuse)
}

/// Lets everything end that has an end; what is left then was there from the start.
async fn left_in_the_end(server: &Server) -> usize {
    server.clock.advance(Duration::from_secs(1_000_000));
    // Twice: what the first round releases is due in the second.
    for _ in 0..2 {
        let errors = server.core.upkeep().await;
        assert!(errors.is_empty(), "{errors:?}");
    }
    server.memory.dump().len()
}

async fn wrap(server: &Server) -> Result<Answer, Error> {
    let mut request = Request::new(Operation::Update, "sys/wrapping/wrap").token("root");
    request.body = r#"{"secret": 1}"#.into();
    request.wrap_ttl = Some(Ttl::seconds(600));
    server.core.handle(request).await
}

/// How often the content of a wrapping token comes out when it is asked for by three ways, twice each.
async fn unwrapped(server: &Server, wrapping: &str) -> usize {
    let mut seen = 0;
    for _ in 0..2 {
        for (operation, path, token, body) in [
            (Operation::Update, "sys/wrapping/unwrap", "root", json!({ "token": wrapping })),
            (Operation::Update, "sys/wrapping/unwrap", wrapping, Value::Null),
            (Operation::Read, "cubbyhole/response", wrapping, Value::Null),
        ] {
            seen += usize::from(server.ask(operation, path, token, body).await.is_ok());
        }
    }
    seen
}

#[tokio::test]
async fn a_wrapped_answer_comes_out_at_most_once_whatever_fails() {
    /// The content, if it came out; the wrapping tokens that were given out, by the way.
    async fn story(server: &Server, given: &mut Vec<String>, seen: &mut usize) -> Result<(), Error> {
        let info = server.json(Ok(wrap(server).await?))["wrap_info"].clone();
        given.push(info["token"].as_str().unwrap().to_owned());
        let body = json!({ "token": given[0] });
        let rewrapped = server.ask(Operation::Update, "sys/wrapping/rewrap", "root", body).await?;
        given.push(server.json(Ok(rewrapped))["wrap_info"]["token"].as_str().unwrap().to_owned());
        let body = json!({ "token": given[1] });
        let answer = server.ask(Operation::Update, "sys/wrapping/unwrap", "root", body).await?;
        assert_eq!(server.json(Ok(answer))["data"], json!({ "secret": 1 }));
        *seen += 1;
        Ok(())
    }
    let mut position = 0;
    loop {
        for fault in FAULTS {
            let (server, fuse) = faulty(fault).await;
            let before = server.memory.dump().len();
            let (mut given, mut seen) = (Vec::new(), 0);
            fuse.arm(position);
            let outcome = story(&server, &mut given, &mut seen).await;
            if fuse.is_left() {
                assert!(outcome.is_ok() && position >= 5, "{position} commits");
                return;
            }
            assert!(outcome.is_err(), "commit {position} failed and nobody noticed");

            let again = server.restarted().await;
            for wrapping in &given {
                seen += unwrapped(&again, wrapping).await;
            }
            assert!(seen <= 1, "after commit {position} the content came out {seen} times");
            if position == 0 && fault == Fault::Fails {
                assert_eq!(again.memory.dump().len(), before, "nothing was kept");
            }
            assert_eq!(left_in_the_end(&again).await, before, "after commit {position}");
        }
        position += 1;
    }
}

#[tokio::test]
async fn a_wrapped_answer_that_could_not_be_unwrapped_is_still_there_unless_its_use_is_spent() {
    for fault in FAULTS {
        let (server, fuse) = faulty(fault).await;
        let info = server.json(wrap(&server).await)["wrap_info"].clone();
        let wrapping = info["token"].as_str().unwrap();
        fuse.arm(0);
        let body = json!({ "token": wrapping });
        assert!(server.ask(Operation::Update, "sys/wrapping/unwrap", "root", body).await.is_err());
        let seen = unwrapped(&server.restarted().await, wrapping).await;
        // Seen never is better than seen twice: who finds it used knows that something happened.
        assert_eq!(seen, usize::from(fault == Fault::Fails), "{fault:?}");
    }
}

/// What a token keeps, by path.
type Kept = BTreeMap<&'static str, Value>;

async fn kept(server: &Server, token: &str) -> Kept {
    let mut kept = Kept::new();
    for path in ["cubbyhole/a", "cubbyhole/a/b", "cubbyhole/c"] {
        match server.ask(Operation::Read, path, token, Value::Null).await {
            Ok(answer) => {
                kept.insert(path, server.json(Ok(answer))["data"].clone());
            }
            Err(error) => assert!(error.messages.is_empty(), "{error:?}"),
        }
    }
    kept
}

#[tokio::test]
async fn what_is_kept_in_a_cubbyhole_is_what_was_or_what_should_be() {
    let steps = [
        (Operation::Update, "cubbyhole/a", json!({ "x": 1 })),
        (Operation::Update, "cubbyhole/a/b", json!({ "y": [2] })),
        (Operation::Update, "cubbyhole/a", json!({ "x": 2, "z": "three" })),
        (Operation::Delete, "cubbyhole/a", Value::Null),
        (Operation::Update, "cubbyhole/c", json!({ "x": 4 })),
        (Operation::Delete, "cubbyhole/a/b", Value::Null),
    ];
    for failing in 0..steps.len() {
        for fault in FAULTS {
            let (server, fuse) = faulty(fault).await;
            let before = server.memory.dump().len();
            let policy = r#"path "cubbyhole/*" { capabilities = ["read", "update", "delete"] }"#;
            server.write("sys/policies/acl/keeper", json!({ "policy": policy })).await;
            let made =
                server.write("auth/token/create", json!({ "policies": ["keeper"], "ttl": "1h" })).await;
            let token = made["auth"]["client_token"].as_str().unwrap();
            let mut states = vec![Kept::new()];
            for (operation, path, body) in &steps[..=failing] {
                let mut state = states.last().unwrap().clone();
                match operation {
                    Operation::Delete => state.remove(path),
                    _ => state.insert(path, body.clone()),
                };
                states.push(state);
            }
            for (operation, path, body) in &steps[..failing] {
                server.ask(*operation, path, token, body.clone()).await.unwrap();
            }
            let (operation, path, body) = &steps[failing];
            fuse.arm(0);
            let outcome = server.ask(*operation, path, token, body.clone()).await;
            assert!(outcome.is_err() && !fuse.is_left(), "{operation} {path} failed and nobody noticed");

            let again = server.restarted().await;
            let happened = fault == Fault::FailsAfterPersisting;
            let expected = &states[failing + usize::from(happened)];
            assert_eq!(kept(&again, token).await, *expected, "{operation} {path}, {fault:?}");
            again.ask(*operation, path, token, body.clone()).await.unwrap();
            assert_eq!(kept(&again, token).await, states[failing + 1], "{operation} {path}, repeated");
            let policies = again.ask(Operation::Delete, "sys/policies/acl/keeper", "root", Value::Null).await;
            assert!(policies.is_ok());
            assert_eq!(left_in_the_end(&again).await, before, "the cubbyhole goes with its token");
        }
    }
}

#[tokio::test]
async fn a_cubbyhole_goes_with_its_token_whatever_fails() {
    async fn story(server: &Server, token: &str) -> Result<(), Error> {
        server.ask(Operation::Update, "cubbyhole/a", token, json!({ "x": 1 })).await?;
        server.ask(Operation::Update, "cubbyhole/b", token, json!({ "x": 2 })).await?;
        server.ask(Operation::Update, "auth/token/revoke-self", token, Value::Null).await?;
        Ok(())
    }
    let mut position = 0;
    loop {
        for fault in FAULTS {
            let (server, fuse) = faulty(fault).await;
            let before = server.memory.dump().len();
            let made =
                server.write("auth/token/create", json!({ "policies": ["default"], "ttl": "1h" })).await;
            let token = made["auth"]["client_token"].as_str().unwrap();
            fuse.arm(position);
            let outcome = story(&server, token).await;
            if fuse.is_left() {
                assert!(outcome.is_ok() && position >= 4, "{position} commits");
                assert_eq!(server.memory.dump().len(), before);
                return;
            }
            assert!(outcome.is_err(), "commit {position} failed and nobody noticed");
            assert_eq!(left_in_the_end(&server.restarted().await).await, before, "after commit {position}");
        }
        position += 1;
    }
}

#[tokio::test]
async fn an_audited_header_is_recorded_or_not_and_can_be_written_again() {
    let all = "sys/config/auditing/request-headers";
    let one = format!("{all}/x-trace");
    let none = json!({ "headers": {} });
    let hashed = json!({ "headers": { "x-trace": { "hmac": true } } });
    for fault in FAULTS {
        let happened = fault == Fault::FailsAfterPersisting;
        let (server, fuse) = faulty(fault).await;
        fuse.arm(0);
        assert!(server.ask(Operation::Update, &one, "root", json!({ "hmac": true })).await.is_err());
        let shown = server.restarted().await.read(all).await["data"].clone();
        assert_eq!(shown, if happened { hashed.clone() } else { none.clone() }, "{fault:?}");
        server.write(&one, json!({ "hmac": true })).await;
        assert_eq!(server.read(all).await["data"], hashed);

        fuse.arm(0);
        assert!(server.ask(Operation::Delete, &one, "root", Value::Null).await.is_err());
        let shown = server.restarted().await.read(all).await["data"].clone();
        assert_eq!(shown, if happened { none.clone() } else { hashed.clone() }, "{fault:?}");
        server.ask(Operation::Delete, &one, "root", Value::Null).await.unwrap();
        assert_eq!(server.read(all).await["data"], none);
    }
}
