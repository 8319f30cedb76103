//! The load client: 32 connections kept alive, each sending the next request when its answer is there.
//!
//! It shares the machine with the server it measures, so it does as little as it can: one thread, the request
//! prepared once, the answer's head searched for its status and its end, the body only sampled. Its thread is scheduled
//! as a batch (`SCHED_BATCH`): it gets its share of the processors, but an answer that comes in does not throw the server
//! off one of them, as a client on a machine of its own would not.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::Api;
use crate::tools::must;

/// How many requests are under way at any time.
pub(crate) const CONNECTIONS: usize = 32;

/// The media type of the API's bodies.
pub(crate) const JSON: &str = "application/json";

/// Every so many answers, one is searched for the text that it must hold.
const SAMPLE: usize = 64;

/// What to send, and a text that every answer must hold.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// The body's media type.
    pub(crate) media: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) holds: &'static str,
}

impl Work {
    /// As it goes over the wire.
    fn request(&self, api: &Api) -> Vec<u8> {
        let mut request = format!(
            "{} /v1/{} HTTP/1.1\r\nHost: {}\r\nX-Vault-Token: {}\r\nX-Vault-Request: true\r\n\
             Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
            self.method,
            self.path,
            api.address,
            api.token,
            self.media,
            self.body.len(),
        )
        .into_bytes();
        request.extend_from_slice(&self.body);
        request
    }
}

/// What one run measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Outcome {
    fn of(mut latencies: Vec<Duration>, time: Duration) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a length"
            )]
            let index = (latencies.len() as f64 * share) as usize;
            // Without any answer all that is known is that one takes longer than that.
            latencies.get(index).copied().unwrap_or(time)
        };
        Self { per_second: latencies.len() as f64 / time.as_secs_f64(), p50: at(0.5), p99: at(0.99) }
    }
}

/// Sends the work over and over, first for `warm_up`, then for `time`, which is measured.
pub(crate) fn run(api: &Api, work: &Work, warm_up: Duration, time: Duration) -> Result<Outcome> {
    let request: Arc<[u8]> = work.request(api).into();
    let from = Instant::now() + warm_up;
    let until = from + time;
    let latencies = on_connections(CONNECTIONS, || {
        let (address, request, holds) = (api.address, Arc::clone(&request), work.holds);
        async move {
            let mut connection = Connection::open(address, holds).await?;
            let mut latencies = Vec::new();
            loop {
                let start = Instant::now();
                if start >= until {
                    return Ok(latencies);
                }
                connection.exchange(&request).await?;
                let end = Instant::now();
                // What was answered within the measured time counts.
                if end >= from && end <= until {
                    latencies.push(end - start);
                }
            }
        }
    })?;
    Ok(Outcome::of(latencies, time))
}

/// Sends `make(0)` to `make(count - 1)`, each once, over so many connections.
pub(crate) fn each(
    api: &Api,
    connections: usize,
    count: usize,
    make: impl Fn(usize) -> Work + Send + Sync + 'static,
) -> Result<Outcome> {
    let (make, next) = (Arc::new(make), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let latencies = on_connections(connections, || {
        let (api, make, next) = (api.clone(), Arc::clone(&make), Arc::clone(&next));
        async move {
            let mut connection = Connection::open(api.address, "").await?;
            let mut latencies = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(latencies);
                }
                let work = make(index);
                connection.holds = work.holds;
                let request = work.request(&api);
                let start = Instant::now();
                connection.exchange(&request).await?;
                latencies.push(start.elapsed());
            }
        }
    })?;
    Ok(Outcome::of(latencies, start.elapsed()))
}

/// Runs one future for each connection and joins what they measured.
fn on_connections<F>(connections: usize, mut connection: impl FnMut() -> F) -> Result<Vec<Duration>>
where
    F: Future<Output = Result<Vec<Duration>>> + Send + 'static,
{
    let connections: Vec<F> = (0..connections).map(|_| connection()).collect();
    let client = thread::spawn(move || {
        schedule_as_batch()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let tasks: Vec<_> = connections.into_iter().map(tokio::spawn).collect();
            let mut latencies = Vec::new();
            for task in tasks {
                latencies.extend(task.await.context("a connection's task must not panic")??);
            }
            Ok(latencies)
        })
    });
    client.join().map_err(|_| anyhow!("the load client panicked"))?
}

/// Schedules this thread, and no other of this process, with `SCHED_BATCH`.
fn schedule_as_batch() -> Result<()> {
    let me = fs::read_link("/proc/thread-self").context("finding out which thread this is")?;
    let id = me.file_name().context("a thread without an id")?;
    must(Command::new("chrt").args(["--batch", "--pid", "0"]).arg(id), "scheduling the load client").map(drop)
}

/// A connection that is kept alive.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    answers: usize,
    holds: &'static str,
}

impl Connection {
    async fn open(address: SocketAddr, holds: &'static str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024), answers: 0, holds })
    }

    /// Sends a request and reads its answer, which must be a success.
    async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        let Self { stream, buffer, answers, holds } = self;
        stream.write_all(request).await?;
        buffer.clear();
        while !complete(buffer)? {
            if stream.read_buf(buffer).await? == 0 {
                bail!("the server closed a connection after {answers} answers");
            }
        }
        let sampled = answers.is_multiple_of(SAMPLE);
        *answers += 1;
        if !buffer.starts_with(b"HTTP/1.1 200") || (sampled && !contains(buffer, holds.as_bytes())) {
            bail!("an answer is not 200 with {holds:?}: {}", String::from_utf8_lossy(buffer));
        }
        Ok(())
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
    if needle.is_empty() {
        return true;
    }
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
