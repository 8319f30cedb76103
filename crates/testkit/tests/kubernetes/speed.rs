//! What the double itself costs, so that it is not what a benchmark measures. Prints; judges nothing.

use std::time::Instant;

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Events, REQUESTS};

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn request(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "annotations": { "cert-manager.io/private-key-secret-name": name } },
        "spec": { "request": "L".repeat(1400), "issuerRef": { "name": "i", "kind": "Issuer" }, "usages": ["any"] },
    })
}

// One thread: server, watches and the client that writes share a core.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn writes_with_five_watches_and_sixty_thousand_objects() {
    let server = ApiServer::start().await;
    let mut watches = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let mut events =
            Events::open(&server, "/apis/cert-manager.io/v1/certificaterequests?watch=1", "*/*").await;
        watches.spawn(async move { while events.skip().await {} });
    }
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.expect("connected");
    stream.set_nodelay(true).expect("no delay");
    const WRITES: u32 = 5000;
    let begun = Instant::now();
    let mut answer = vec![0; 1 << 16];
    for at in 0..WRITES {
        let body = request(&format!("r{at}")).to_string();
        let head = format!("POST {REQUESTS} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
        // Answers end where their object ends.
        let mut read = 0;
        while !answer[..read].ends_with(b"}}") && !answer[..read].ends_with(b"}\n") {
            read += stream.read(&mut answer[read..]).await.expect("read");
        }
        assert!(answer.starts_with(b"HTTP/1.1 201"));
    }
    println!("{:.0} writes/s", f64::from(WRITES) / begun.elapsed().as_secs_f64());
    let before = resident();
    for at in 0..60_000 {
        let data = json!({ "tls.crt": "x".repeat(1000), "tls.key": "x".repeat(300) });
        server.put("secrets", "default", json!({ "metadata": { "name": format!("s{at}") }, "data": data }));
    }
    println!("60,000 Secrets of 1.3 kB: {} MB", (resident() - before) >> 20);
}
