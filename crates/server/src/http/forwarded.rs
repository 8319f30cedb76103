//! On whose behalf a proxy asks: `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

use crate::config::Forwarded;

/// The caller's address, after what the header says, if its sender may say so.
///
/// # Errors
/// The sentence for the client, if the header must not be there, or must be and is not.
pub(super) fn caller(
    rules: &Forwarded,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Option<IpAddr>, String> {
    let mut given = headers.get_all("x-forwarded-for").iter().peekable();
    // A unix socket is guarded by its file's permissions.
    let authorized = peer.is_none_or(|peer| rules.authorized.iter().any(|network| network.contains(&peer)));
    if given.peek().is_none() {
        return if authorized && rules.reject_not_present {
            Err("missing x-forwarded-for header and configured to reject when not present".to_owned())
        } else {
            Ok(peer)
        };
    }
    if !authorized {
        return if rules.reject_not_authorized {
            Err("client address not authorized for x-forwarded-for and connection rejected".to_owned())
        } else {
            Ok(peer)
        };
    }
    let chain: Vec<&str> =
        given.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect();
    let (skips, length) = (rules.hop_skips, chain.len());
    let wanted = length.checked_sub(skips.saturating_add(1)).and_then(|index| chain.get(index));
    let Some(text) = wanted else {
        return Err(format!(
            "malformed x-forwarded-for configuration or request, hops to skip ({skips}) would skip before \
             earliest chain link (chain length {length})"
        ));
    };
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.map(Some).map_err(|_| "malformed x-forwarded-for header".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(skips: usize, strict: bool, peer: &str, given: &[&str]) -> Result<String, String> {
        let rules = Forwarded {
            authorized: vec!["10.0.0.0/8".parse().unwrap()],
            hop_skips: skips,
            reject_not_present: strict,
            reject_not_authorized: strict,
        };
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let caller = caller(&rules, peer.parse().ok(), &headers)?;
        Ok(caller.map_or("none".to_owned(), |address| address.to_string()))
    }

    #[test]
    fn the_address_is_taken_from_the_end_of_the_chain() {
        assert_eq!(ask(0, true, "10.1.1.1", &["1.1.1.1, 2.2.2.2"]).as_deref(), Ok("2.2.2.2"));
        assert_eq!(ask(1, true, "10.1.1.1", &["1.1.1.1", "2.2.2.2"]).as_deref(), Ok("1.1.1.1"));
        assert_eq!(ask(0, true, "10.1.1.1", &["[::1]:99"]).as_deref(), Ok("::1"));
        assert!(ask(2, true, "10.1.1.1", &["1.1.1.1, 2.2.2.2"]).unwrap_err().contains("chain length 2"));
        assert!(ask(0, true, "10.1.1.1", &["x"]).is_err());
    }

    #[test]
    fn strangers_and_silent_proxies_are_refused_or_taken_for_themselves() {
        assert!(ask(0, true, "9.9.9.9", &["1.1.1.1"]).unwrap_err().contains("not authorized"));
        assert_eq!(ask(0, false, "9.9.9.9", &["1.1.1.1"]).as_deref(), Ok("9.9.9.9"));
        assert!(ask(0, true, "10.1.1.1", &[]).unwrap_err().contains("missing"));
        assert_eq!(ask(0, false, "10.1.1.1", &[]).as_deref(), Ok("10.1.1.1"));
        assert_eq!(ask(0, true, "9.9.9.9", &[]).as_deref(), Ok("9.9.9.9"));
    }
}
