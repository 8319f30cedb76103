//! Names and TXT records, asked anew each time: what a stranger changed a moment ago counts, and what they changed since does
//! not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chancery_secrets::probe::ProbeError;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// How long one server is waited for, and how often it is asked.
const TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;

/// The longest text of a record, and the most records, that are looked at.
const LONGEST_TEXT: usize = 1024;
const MOST_TEXTS: usize = 100;

/// The addresses of a name.
pub(super) async fn addresses(name: &str, server: Option<SocketAddr>) -> Result<Vec<IpAddr>, ProbeError> {
    let found = resolver(server)?.lookup_ip(absolute(name)).await;
    let found = found.map_err(|error| ProbeError::Dns(format!("looking up {name}: {error}")))?;
    Ok(found.iter().collect())
}

/// The TXT records of a name, the strings of each joined. None is no error.
pub(super) async fn texts(name: &str, server: Option<SocketAddr>) -> Result<Vec<String>, ProbeError> {
    let found = match resolver(server)?.txt_lookup(absolute(name)).await {
        Ok(found) => found,
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        Err(error) => return Err(ProbeError::Dns(format!("looking up the TXT records of {name}: {error}"))),
    };
    let texts = found.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    });
    let texts = texts.filter(|text| text.len() <= LONGEST_TEXT).take(MOST_TEXTS);
    Ok(texts.filter_map(|text| String::from_utf8(text).ok()).collect())
}

/// With a dot behind it, so that no search list of this machine makes another name of it.
fn absolute(name: &str) -> String {
    format!("{name}.")
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, ProbeError> {
    let failed = |error: hickory_resolver::net::NetError| {
        ProbeError::Dns(format!("the resolver cannot be set up: {error}"))
    };
    let mut builder = match server {
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio().map_err(failed)?,
    };
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    if server.is_some() {
        // That server was named so that it, and nothing on this machine, says where a name leads.
        options.use_hosts_file = ResolveHosts::Never;
    }
    builder.build().map_err(failed)
}
