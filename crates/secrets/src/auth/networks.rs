//! Networks that a login or a token is bound to.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Error;

/// Reads the networks of a secret id or role, where each needs its prefix length: `10.0.0.0/8`.
pub fn parse_cidrs(texts: &[String]) -> Result<Vec<IpNet>, Error> {
    texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse().map_err(|_| {
                Error::invalid(format!("failed to validate CIDR blocks: invalid CIDR address: {text}"))
            })
        })
        .collect()
}

/// Reads the networks of a token, where a bare address stands for itself: `10.0.0.0/8`, `192.0.2.1`.
pub fn parse_networks(texts: &[String]) -> Result<Vec<IpNet>, Error> {
    texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Error::invalid(format!(
                    "error parsing address {text:?}: Unable to convert {text:?} to an IPv4 or IPv6 address, or a UNIX Socket"
                ))
            })
        })
        .collect()
}

/// A network as answers show it: one of a single address without its prefix length.
pub fn shown(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// Whether a caller at `address` may come in. No networks let everyone in; a caller without an address
/// (a unix socket) is in no network.
pub fn admit(networks: &[IpNet], address: Option<IpAddr>) -> bool {
    networks.is_empty()
        || address.is_some_and(|address| {
            let address = address.to_canonical();
            networks.iter().any(|network| network.contains(&address))
        })
}

/// The first of `inner` that lies in none of `outer`. No outer networks contain everything.
pub fn outside<'a>(inner: &'a [IpNet], outer: &[IpNet]) -> Option<&'a IpNet> {
    inner.iter().find(|inner| !outer.is_empty() && !outer.iter().any(|outer| outer.contains(*inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_bare_address_is_a_network_for_tokens_only() {
        let networks = parse_networks(&texts(&["10.1.2.3/8", "192.0.2.1", "::1", ""])).unwrap();
        assert_eq!(networks.iter().map(shown).collect::<Vec<_>>(), ["10.1.2.3/8", "192.0.2.1", "::1"]);
        let error = parse_cidrs(&texts(&["192.0.2.1"])).unwrap_err();
        assert_eq!(error.message(), "failed to validate CIDR blocks: invalid CIDR address: 192.0.2.1");
    }

    #[test]
    fn callers_are_admitted_by_any_network_and_mapped_addresses_count_as_ipv4() {
        let networks = parse_networks(&texts(&["10.0.0.0/8", "192.0.2.1"])).unwrap();
        for (address, admitted) in [
            ("10.9.9.9", true),
            ("::ffff:10.9.9.9", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("::1", false),
        ] {
            assert_eq!(admit(&networks, address.parse().ok()), admitted, "{address}");
        }
        assert!(!admit(&networks, None));
        assert!(admit(&[], None));
    }

    #[test]
    fn a_wider_network_lies_outside_a_narrower_one() {
        let outer = parse_cidrs(&texts(&["127.0.0.0/16"])).unwrap();
        let inner = parse_cidrs(&texts(&["127.0.0.0/24", "127.0.0.0/8"])).unwrap();
        assert_eq!(outside(&inner, &outer).map(ToString::to_string), Some("127.0.0.0/8".to_owned()));
        assert_eq!(outside(&inner, &[]), None);
    }
}
