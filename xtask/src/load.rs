//! The load client: 32 connections kept alive, each sending the next request when its answer is there.
//!
//! It shares the machine with the server it measures, so it does as little as it can: one thread, the request
//! prepared once, the answer's head searched for its status and its end, the body only sampled.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::Api;

/// How many requests are under way at any time.
pub(crate) const CONNECTIONS: usize = 32;

/// Every so many answers, one is searched for the text that it must hold.
const SAMPLE: usize = 64;

/// What to send, and a text that every answer must hold.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
    pub(crate) holds: &'static str,
}

/// What one run measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Sends the work over and over, first for `warm_up`, then for `time`, which is measured.
pub(crate) fn run(api: &Api, work: &Work, warm_up: Duration, time: Duration) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = format!(
        "{} /v1/{} HTTP/1.1\r\nHost: {}\r\nX-Vault-Token: {}\r\nX-Vault-Request: true\r\nContent-Length: {}\r\n\r\n{}",
        work.method,
        work.path,
        api.address,
        api.token,
        work.body.len(),
        work.body
    );
    let request: std::sync::Arc<str> = request.into();
    let from = Instant::now() + warm_up;
    let until = from + time;
    let mut latencies: Vec<Duration> = Vec::new();
    runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let (address, request, holds) = (api.address, request.clone(), work.holds);
            connections.push(tokio::spawn(connection(address, request, holds, from, until)));
        }
        for connection in connections {
            latencies.extend(connection.await.context("a connection's task must not panic")??);
        }
        anyhow::Ok(())
    })?;
    latencies.sort_unstable();
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let index = (latencies.len() as f64 * share) as usize;
        // Without any answer all that is known is that one takes longer than that.
        latencies.get(index).copied().unwrap_or(time)
    };
    Ok(Outcome { per_second: latencies.len() as f64 / time.as_secs_f64(), p50: at(0.5), p99: at(0.99) })
}

async fn connection(
    address: SocketAddr,
    request: std::sync::Arc<str>,
    holds: &'static str,
    from: Instant,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut buffer: Vec<u8> = Vec::with_capacity(64 * 1024);
    let mut answers: usize = 0;
    loop {
        let start = Instant::now();
        if start >= until {
            return Ok(latencies);
        }
        stream.write_all(request.as_bytes()).await?;
        buffer.clear();
        while !complete(&buffer)? {
            if stream.read_buf(&mut buffer).await? == 0 {
                bail!("the server closed a connection after {answers} answers");
            }
        }
        let end = Instant::now();
        // What was answered within the measured time counts.
        if end >= from && end <= until {
            latencies.push(end - start);
        }
        let sampled = answers.is_multiple_of(SAMPLE);
        answers += 1;
        if !buffer.starts_with(b"HTTP/1.1 200") || (sampled && !contains(&buffer, holds.as_bytes())) {
            bail!("an answer is not 200 with {holds:?}: {}", String::from_utf8_lossy(&buffer));
        }
    }
}

/// Whether the buffer holds a whole answer, of a stated length or in chunks.
fn complete(buffer: &[u8]) -> Result<bool> {
    let Some(end) = find(buffer, b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = buffer.split_at(end + 4);
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value)?.trim_start_matches(':').trim();
            return Ok(body.len() >= value.parse::<usize>()?);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(body.ends_with(b"\r\n0\r\n\r\n"));
        }
    }
    bail!("an answer states neither its length nor chunks: {}", String::from_utf8_lossy(head))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    find(haystack, needle).is_some()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn an_answer_is_complete_when_its_last_byte_is_there() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"[..], false),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", true),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true),
            (b"HTTP/1.1 200 OK\r\nConte", false),
        ] {
            assert_eq!(complete(answer).ok(), Some(expected));
        }
        assert!(complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
