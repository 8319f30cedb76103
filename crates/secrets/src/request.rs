//! What a client asks, without a trace of HTTP.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::Bytes;
use chancery_api::{Secret, Ttl};

/// What is to be done at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// GET.
    Read,
    /// PUT or POST, where nothing was there before.
    Create,
    /// PUT or POST.
    Update,
    /// PATCH: a JSON merge patch (RFC 7396).
    Patch,
    /// DELETE.
    Delete,
    /// LIST, or GET with `list=true`: the names directly below.
    List,
    /// SCAN, or GET with `scan=true`: all names below.
    Scan,
    /// GET with `help=1`: what the path is for.
    Help,
}

impl Operation {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;

    /// The operation's name as audit records and policies have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Scan => "scan",
            Self::Help => "help",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The caller's address; absent on a unix socket.
    pub address: Option<IpAddr>,
    /// The caller's port.
    pub port: u16,
    /// The certificates of the TLS handshake in DER, leaf first. Possession of the leaf's key was
    /// proved; nothing else about them was judged.
    pub certificates: Arc<[Vec<u8>]>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether the listener shows measurements to everybody.
    pub open_measurements: bool,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// A UUID: the name of this request in logs, audit records and the answer.
    pub id: String,
    /// What is to be done.
    pub operation: Operation,
    /// Where: without `/v1/`, percent-decoded once, without a leading slash.
    pub path: String,
    /// The caller's token, if any was given.
    pub token: Option<Secret>,
    /// The body as it came: a JSON object, or empty; anything at all on a route that takes it raw.
    pub body: Bytes,
    /// The query's parameters in order, decoded, without those that named the operation.
    pub query: Vec<(String, String)>,
    /// The answer shall be wrapped for this long.
    pub wrap_ttl: Option<Ttl>,
    /// The other end.
    pub connection: Connection,
    /// The request's headers that an audit device may be told to record, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A random UUID. The randomness of many comes by one call of the system.
fn fresh_id() -> String {
    const AT_ONCE: usize = 64;
    thread_local! {
        static IDS: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    let random = IDS.with_borrow_mut(|ids| {
        if ids.is_empty() {
            let mut fresh = [[0; 16]; AT_ONCE];
            // A system without randomness has made no keys either; the next line tells.
            if rand::fill(fresh.as_flattened_mut()).is_ok() {
                ids.extend_from_slice(&fresh);
            }
        }
        ids.pop()
    });
    let id =
        random.map_or_else(uuid::Uuid::new_v4, |random| uuid::Builder::from_random_bytes(random).into_uuid());
    id.to_string()
}

impl Request {
    /// A request with nothing but an operation and a path; the id is fresh.
    pub fn new(operation: Operation, path: impl Into<String>) -> Self {
        Self {
            id: fresh_id(),
            operation,
            path: path.into(),
            token: None,
            body: Bytes::new(),
            query: Vec::new(),
            wrap_ttl: None,
            connection: Connection::default(),
            headers: Vec::new(),
        }
    }

    /// The same with a token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(Secret::new(token));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self
    }
}
