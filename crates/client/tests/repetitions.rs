//! What is asked again, how often and after how long.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::time::{Duration, Instant};

use chancery_client::{Client, Config, Loss, Request};
use server::{Reply, Server, loss};

fn write() -> Request {
    Request::write("x", &serde_json::json!({ "a": "b" })).unwrap()
}

/// How often a server that always says `status` is asked.
async fn times_asked(status: u16, request: &Request, max_retries: u32) -> usize {
    let server = Server::start(move |_, _| Reply::status(status));
    let client = Client::new(Config { max_retries, ..server.config() }).unwrap();
    let error = client.send(request).await.unwrap_err();
    assert_eq!(error.status(), Some(status));
    assert!(error.to_string().ends_with("* told so"), "{error}");
    server.seen().len()
}

#[tokio::test]
async fn statuses_that_may_pass_are_asked_again_and_others_are_final() {
    for status in [412, 429, 500, 502, 503, 504] {
        for read in [Request::read("x"), Request::list("x"), Request::scan("x")] {
            assert_eq!(times_asked(status, &read, 2).await, 3, "{status} {read:?}");
        }
        assert_eq!(times_asked(status, &Request::read("x"), 0).await, 1, "{status}");
    }
    for status in [400, 403, 404, 405, 501] {
        assert_eq!(times_asked(status, &Request::read("x"), 2).await, 1, "{status}");
        assert_eq!(times_asked(status, &write(), 2).await, 1, "{status}");
    }
}

#[tokio::test]
async fn a_write_is_asked_again_only_if_the_server_said_that_it_did_not_act() {
    let body = serde_json::json!({ "a": "b" });
    let writes = [
        write(),
        Request::post("x", &body).unwrap(),
        Request::patch("x", &body).unwrap(),
        Request::delete("x"),
    ];
    for request in writes {
        for status in [412, 429, 503] {
            assert_eq!(times_asked(status, &request, 2).await, 3, "{status} {request:?}");
        }
        // It may have worked: a proxy says 502 or 504 of an answer that it lost, too.
        for status in [500, 502, 504, 507] {
            assert_eq!(times_asked(status, &request, 2).await, 1, "{status} {request:?}");
        }
    }
}

#[tokio::test]
async fn what_is_repeated_is_sent_in_full_and_its_success_counts() {
    let server = Server::start(|number, _| if number < 2 { Reply::status(503) } else { Reply::ok() });
    let answer = server.client().answer(&write()).await.unwrap().unwrap();
    assert_eq!(answer.text("ok"), Some("yes"));
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for request in seen {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/v1/x"));
        assert_eq!(
            (request.body.as_str(), request.header("x-vault-token")),
            (r#"{"a":"b"}"#, Some("sekrit"))
        );
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_repeated_and_a_read_is() {
    let server = Server::start(|_, _| Reply::Cut);
    let (kind, sentence) = loss(server.client().send(&write()).await);
    assert_eq!((kind, server.seen().len()), (Loss::Other, 1), "{sentence}");
    assert!(sentence.starts_with(&format!("Put \"{}/v1/x\": ", server.address)), "{sentence}");

    let server = Server::start(|number, _| if number == 0 { Reply::Cut } else { Reply::ok() });
    server.client().send(&Request::read("x")).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_asked_again() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config =
        Config { max_retries: 1, ..Config::new(format!("http://127.0.0.1:{port}").parse().unwrap()) };
    let begin = Instant::now();
    let (kind, sentence) = loss(Client::new(config).unwrap().send(&write()).await);
    assert_eq!(kind, Loss::Connect);
    let expected = format!(
        "Put \"http://127.0.0.1:{port}/v1/x\": dial tcp 127.0.0.1:{port}: connect: connection refused"
    );
    assert_eq!(sentence, expected);
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn pauses_are_as_long_as_the_server_asks_or_a_second_and_a_half_at_most() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Answer(500, String::new(), ""),
        1 => Reply::Answer(503, "retry-after: 2\r\n".to_owned(), ""),
        _ => Reply::ok(),
    });
    server.client().send(&Request::read("x")).await.unwrap();
    let at: Vec<Instant> = server.seen().iter().map(|seen| seen.at).collect();
    let (first, second) = (at[1] - at[0], at[2] - at[1]);
    // The upper bounds are wide, for machines that are busy with other things.
    assert!(first >= Duration::from_secs(1) && first < Duration::from_millis(1900), "{first:?}");
    assert!(second >= Duration::from_secs(2) && second < Duration::from_secs(10), "{second:?}");
}

#[tokio::test]
async fn the_timeout_holds_for_all_attempts_together() {
    let timeout = Duration::from_millis(300);
    let server = Server::start(|_, _| Reply::Late(5_000));
    let client = Client::new(Config { timeout, ..server.config() }).unwrap();
    let begin = Instant::now();
    let (kind, sentence) = loss(client.send(&Request::read("x")).await);
    assert_eq!((kind, sentence.as_str()), (Loss::Timeout, "context deadline exceeded"));
    assert_eq!(server.seen().len(), 1);

    let server = Server::start(|_, _| Reply::Answer(503, "retry-after: 60\r\n".to_owned(), ""));
    let client = Client::new(Config { timeout, ..server.config() }).unwrap();
    assert_eq!(loss(client.send(&Request::read("x")).await).0, Loss::Timeout);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_timeout_of_zero_is_none() {
    let server = Server::start(|_, _| Reply::Late(200));
    let client = Client::new(Config { timeout: Duration::ZERO, ..server.config() }).unwrap();
    client.send(&Request::read("x")).await.unwrap();
}

#[tokio::test]
async fn the_rate_limit_spaces_requests_after_a_first_burst() {
    let server = Server::start(|_, _| Reply::ok());
    let client = Client::new(Config { rate_limit: Some((20.0, 3)), ..server.config() }).unwrap();
    let begin = Instant::now();
    for _ in 0..3 {
        client.send(&Request::read("x")).await.unwrap();
    }
    let burst = begin.elapsed();
    for _ in 0..4 {
        // Clones share the limit.
        client.clone().send(&Request::read("x")).await.unwrap();
    }
    let all = begin.elapsed();
    assert!(all >= Duration::from_millis(200), "{all:?}");
    assert!(burst < all, "{burst:?} {all:?}");

    // Repetitions are requests too.
    let server = Server::start(|number, _| if number < 2 { Reply::status(503) } else { Reply::ok() });
    let client = Client::new(Config { rate_limit: Some((10.0, 1)), ..server.config() }).unwrap();
    client.send(&Request::read("x")).await.unwrap();
    let seen = server.seen();
    assert!(seen[2].at - seen[0].at >= Duration::from_millis(190), "{:?}", seen[2].at - seen[0].at);
}
