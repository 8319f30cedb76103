//! HTTP behaviour as text scripts: each file in `tests/api` is sent to a fresh development server.
//!
//! A script is a list of requests with what is expected of each:
//!
//! ```text
//! # Why this is so.
//! POST /v1/sys/policies/acl/mine
//! > x-vault-token: root
//! {"policy": "path \"a\" {}"}
//! code == 204
//! header cache-control == no-store
//! body ==
//! body contains "keys"
//! json data.keys == ["default","root"]
//! ```
//!
//! Whatever the script says of headers, every response is held against one list of permitted names, so
//! that nothing gets out by accident.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use chancery_server::config::StorageConfig;
use chancery_server::listener::Address;
use chancery_server::{Config, DevOptions, start_dev};

const PERMITTED_HEADERS: [&str; 10] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "link",
    "location",
    "replay-nonce",
    "retry-after",
    "strict-transport-security",
];

#[test]
fn every_script_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api");
    let mut scripts: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for script in scripts {
        let text = std::fs::read_to_string(&script).expect("readable");
        let name = script.file_name().expect("a name").to_string_lossy().into_owned();
        let options = DevOptions {
            root_token_id: Some("root".to_owned()),
            listen_address: "127.0.0.1:0".to_owned(),
            no_store_token: true,
            ..DevOptions::default()
        };
        let server =
            runtime.block_on(start_dev(&options, Config::new(StorageConfig::Memory))).expect("a server");
        let Address::Tcp(address) = server.running.addresses()[0].clone() else { panic!("a port") };
        for step in steps(&text) {
            step.run(address, &name);
        }
        runtime.block_on(server.running.shutdown());
        assert!(TcpStream::connect(address).is_err(), "{name}: the port is still open");
    }
}

/// A request and what is expected of its answer.
#[derive(Default)]
struct Step {
    line: usize,
    request: String,
    headers: Vec<String>,
    body: String,
    expectations: Vec<(usize, String)>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let first = line.split(' ').next().unwrap_or("");
        if first.len() > 2 && first.chars().all(|c| c.is_ascii_uppercase()) {
            steps.push(Step { line: number, request: line.to_owned(), ..Step::default() });
            continue;
        }
        let step = steps.last_mut().unwrap_or_else(|| panic!("line {number}: no request above"));
        if let Some(header) = line.strip_prefix("> ") {
            step.headers.push(header.to_owned());
        } else if let Some(body) = line.strip_prefix("< ") {
            // `< 1000 x` is a body of so many letters.
            let (count, letter) = body.split_once(' ').expect("a count and a letter");
            step.body = letter.repeat(count.parse().expect("a count"));
        } else if line.starts_with(['{', '[', '"']) {
            step.body = line.to_owned();
        } else {
            step.expectations.push((number, line.to_owned()));
        }
    }
    steps
}

impl Step {
    fn run(&self, address: SocketAddr, script: &str) {
        let Self { line, request, headers, body, expectations } = self;
        let answer = send(address, request, headers, body);
        for (name, _) in &answer.headers {
            assert!(PERMITTED_HEADERS.contains(&name.as_str()), "{script}:{line}: {request}: header {name}");
        }
        assert!(!expectations.is_empty(), "{script}:{line}: nothing is expected");
        for (number, expectation) in expectations {
            let found = answer.holds(expectation);
            assert!(found.is_ok(), "{script}:{number}: {request}: {expectation}: {}", found.unwrap_err());
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

fn send(address: SocketAddr, request: &str, headers: &[String], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut head = format!("{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    // A server that has seen enough may answer and close before it has read all.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}: no answer: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Answer { status: status.expect("a status"), headers, body: body.to_owned() }
}

impl Answer {
    /// The error is what was found instead.
    fn holds(&self, expectation: &str) -> Result<(), String> {
        let body = self.body.trim_end_matches('\n');
        let same = |found: &str, wanted: &str| if found == wanted { Ok(()) } else { Err(found.to_owned()) };
        if let Some(code) = expectation.strip_prefix("code == ") {
            return same(&self.status.to_string(), code).map_err(|found| format!("{found} {body}"));
        }
        if let Some(rest) = expectation.strip_prefix("header ") {
            let (name, wanted) = rest.split_once(" == ").expect("name == value");
            let found = self.headers.iter().find(|(given, _)| given == name);
            return same(found.map_or("absent", |(_, value)| value), wanted);
        }
        if let Some(wanted) = expectation.strip_prefix("body contains ") {
            return if body.contains(wanted) { Ok(()) } else { Err(body.to_owned()) };
        }
        if let Some(wanted) = expectation.strip_prefix("body ==") {
            return same(body, wanted.trim_start());
        }
        if let Some(rest) = expectation.strip_prefix("json ") {
            let (path, wanted) = rest.split_once(" == ").expect("path == value");
            let whole: serde_json::Value =
                serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
            let found = path.split('.').try_fold(&whole, |value, key| value.get(key));
            let wanted: serde_json::Value = serde_json::from_str(wanted).expect("JSON");
            return if found == Some(&wanted) { Ok(()) } else { Err(format!("{found:?} in {body}")) };
        }
        panic!("{expectation}: what is expected?")
    }
}
