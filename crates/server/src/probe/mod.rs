//! Asking strangers' hosts for the proofs that ACME wants (RFC 8555, 8), on our terms.
//!
//! Whoever orders a certificate chooses whom we ask, so that each question is bounded in time and size, and goes to public
//! addresses only, unless the configuration permits more (`addresses.rs`). A name is looked up once (`dns.rs`) and the
//! address that was judged is the one connected to; redirects (`http.rs`) are judged like the first host.

mod addresses;
mod dns;
mod http;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use chancery_secrets::probe::{Host, Presented, ProbeError, Prober};
use ipnet::IpNet;
use tokio::net::TcpStream;

use addresses::is_public;

/// The longest time that one question takes, look-ups and redirects included.
const WHOLE: Duration = Duration::from_secs(20);

/// The longest time for one connection to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How many addresses of a host are tried.
const ADDRESSES: usize = 4;

/// How strangers' hosts are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Networks that may be asked beside public addresses.
    pub permitted_networks: Vec<IpNet>,
    /// Where `http-01` asks: 80, but for tests.
    pub http_port: u16,
    /// Where `tls-alpn-01` asks: 443, but for tests.
    pub tls_port: u16,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { permitted_networks: Vec::new(), http_port: 80, tls_port: 443 }
    }
}

/// Asks the real world.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    config: ProbeConfig,
}

impl Outside {
    pub(crate) fn new(config: ProbeConfig) -> Self {
        Self { config }
    }

    /// The address itself, or those of the name: the ones that may be asked.
    async fn addresses(&self, host: &Host, resolver: Option<SocketAddr>) -> Result<Vec<IpAddr>, ProbeError> {
        let all = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => dns::addresses(name, resolver).await?,
        };
        let permitted: Vec<IpAddr> =
            all.iter().map(IpAddr::to_canonical).filter(|address| self.permits(*address)).collect();
        match (permitted.is_empty(), all.first()) {
            (false, _) => Ok(permitted.into_iter().take(ADDRESSES).collect()),
            (true, None) => Err(ProbeError::Dns(format!("{host} has no address"))),
            (true, Some(address)) => {
                // Strangers do not learn what this network looks like.
                tracing::info!(%host, %address, "not asked for a proof of ACME: the address is not public");
                Err(ProbeError::Forbidden(format!(
                    "{host} leads to an address that is not public, and the server is not configured to ask there"
                )))
            }
        }
    }

    fn permits(&self, address: IpAddr) -> bool {
        is_public(address) || self.config.permitted_networks.iter().any(|network| network.contains(&address))
    }

    /// A connection to the first address that answers.
    async fn connect(
        &self,
        host: &Host,
        port: u16,
        resolver: Option<SocketAddr>,
    ) -> Result<TcpStream, ProbeError> {
        let mut last = String::new();
        for address in self.addresses(host, resolver).await? {
            match tokio::time::timeout(CONNECT, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    tracing::info!(%host, %address, port, %error, "no connection for a proof of ACME");
                    last = format!("connecting to {host} port {port}: {error}");
                }
                Err(_) => {
                    tracing::info!(%host, %address, port, "a connection for a proof of ACME took too long");
                    last = format!("connecting to {host} port {port} took too long");
                }
            }
        }
        Err(ProbeError::Connection(last))
    }
}

/// Ends a question that takes too long.
async fn bounded<T>(
    host: impl std::fmt::Display,
    asking: impl Future<Output = Result<T, ProbeError>>,
) -> Result<T, ProbeError> {
    tokio::time::timeout(WHOLE, asking).await.unwrap_or_else(|_| {
        Err(ProbeError::Connection(format!("asking {host} took longer than {} seconds", WHOLE.as_secs())))
    })
}

#[async_trait]
impl Prober for Outside {
    async fn http(
        &self,
        host: &Host,
        token: &str,
        resolver: Option<SocketAddr>,
    ) -> Result<Vec<u8>, ProbeError> {
        bounded(host, http::proof(self, host, token, resolver)).await
    }

    async fn texts(&self, name: &str, resolver: Option<SocketAddr>) -> Result<Vec<String>, ProbeError> {
        bounded(name, dns::texts(name, resolver)).await
    }

    async fn tls(&self, host: &Host, resolver: Option<SocketAddr>) -> Result<Presented, ProbeError> {
        let asking = async {
            let stream = self.connect(host, self.config.tls_port, resolver).await?;
            tls::presented(stream, host).await
        };
        bounded(host, asking).await
    }
}

#[cfg(test)]
mod tests;
