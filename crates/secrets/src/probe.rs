//! What the server asks the outside world so that a stranger can show that a name is theirs.
//!
//! Engines speak no HTTP, TLS or DNS. What ACME validation (RFC 8555, 8) needs of them is this trait; whoever runs the
//! server hands an implementation in, and with it the decision which addresses may be asked at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;

/// The host that a proof is looked for at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name in ASCII, without a dot behind it.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What a server presented in a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Its certificate in DER: the first one, not judged.
    pub certificate: Vec<u8>,
    /// Whether `acme-tls/1` was negotiated (RFC 8737, 3).
    pub acme: bool,
}

/// Why nothing came back; the kinds are those of RFC 8555, 6.7.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A name could not be looked up.
    #[error("{0}")]
    Dns(String),
    /// No connection, or it broke off.
    #[error("{0}")]
    Connection(String),
    /// The handshake failed.
    #[error("{0}")]
    Tls(String),
    /// An answer that cannot be the proof.
    #[error("{0}")]
    Response(String),
    /// The server is not permitted to ask there.
    #[error("{0}")]
    Forbidden(String),
}

/// Asks the outside world. `resolver` is the DNS server that the mount names, in place of the system's.
#[async_trait]
pub trait Prober: fmt::Debug + Send + Sync {
    /// The body at `http://{host}/.well-known/acme-challenge/{token}` (RFC 8555, 8.3); no more of it than a proof needs.
    async fn http(
        &self,
        host: &Host,
        token: &str,
        resolver: Option<SocketAddr>,
    ) -> Result<Vec<u8>, ProbeError>;

    /// The TXT records of a name (RFC 8555, 8.4), the strings of each joined.
    async fn texts(&self, name: &str, resolver: Option<SocketAddr>) -> Result<Vec<String>, ProbeError>;

    /// What `host` presents when it is asked for `acme-tls/1` (RFC 8737).
    async fn tls(&self, host: &Host, resolver: Option<SocketAddr>) -> Result<Presented, ProbeError>;
}

/// Asks nobody: what a server has that was given nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProber;

impl NoProber {
    fn refusal<T>() -> Result<T, ProbeError> {
        Err(ProbeError::Forbidden("this server asks nobody outside".to_owned()))
    }
}

#[async_trait]
impl Prober for NoProber {
    async fn http(&self, _: &Host, _: &str, _: Option<SocketAddr>) -> Result<Vec<u8>, ProbeError> {
        Self::refusal()
    }

    async fn texts(&self, _: &str, _: Option<SocketAddr>) -> Result<Vec<String>, ProbeError> {
        Self::refusal()
    }

    async fn tls(&self, _: &Host, _: Option<SocketAddr>) -> Result<Presented, ProbeError> {
        Self::refusal()
    }
}
