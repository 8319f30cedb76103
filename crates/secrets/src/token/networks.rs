//! Networks as clients write them: `10.0.0.0/8`, or an address alone.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads networks; an address alone is the network of just that address.
///
/// # Errors
/// The sentence for the client.
pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Vec<IpNet>, String> {
    texts
        .iter()
        .map(|text| text.as_ref().trim())
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                format!(
                    "error parsing address {text:?}: Unable to convert {text:?} to an IPv4 or IPv6 address, or a UNIX Socket"
                )
            })
        })
        .collect()
}

/// Networks as answers show them: one of a single address without its length.
pub fn show(networks: &[IpNet]) -> Vec<String> {
    networks
        .iter()
        .map(|network| {
            if network.prefix_len() == network.max_prefix_len() {
                network.addr().to_string()
            } else {
                network.to_string()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_come_back_as_they_went_in() {
        let texts = ["10.0.0.0/8", "127.0.0.1", "2001:db8::/32", "::1"];
        assert_eq!(show(&parse(&texts).unwrap()), texts);
        assert_eq!(show(&parse(&["127.0.0.1/32", ""]).unwrap()), ["127.0.0.1"]);
    }

    #[test]
    fn what_is_no_network_is_refused_by_name() {
        assert_eq!(
            parse(&["x"]).unwrap_err(),
            "error parsing address \"x\": Unable to convert \"x\" to an IPv4 or IPv6 address, or a UNIX Socket"
        );
    }
}
