//! URIs for subject alternative names (RFC 3986), in the one form that goes into certificates.

/// The URI with its scheme in lower case and every character that a URI may not hold
/// percent-encoded; `None` if it is not a URI at all.
///
/// A relative reference passes, as on the peer: what is allowed is for the profile to say.
pub(crate) fn normal_form(uri: &str) -> Option<String> {
    if uri.is_empty() || uri.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (scheme, rest) = split_scheme(uri)?;
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (rest, None),
    };
    let (hierarchy, query) = match rest.split_once('?') {
        Some((hierarchy, query)) => (hierarchy, Some(query)),
        None => (rest, None),
    };

    let mut normal = String::with_capacity(uri.len());
    if let Some(scheme) = scheme {
        normal.push_str(&scheme.to_ascii_lowercase());
        normal.push(':');
    }
    if let Some(after) = hierarchy.strip_prefix("//") {
        let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        check_authority(authority)?;
        normal.push_str("//");
        encode(&mut normal, authority)?;
        encode(&mut normal, path)?;
    } else {
        // RFC 3986, 4.2: a first segment with a colon would be read as a scheme.
        if scheme.is_none() && hierarchy.split('/').next().is_some_and(|first| first.contains(':')) {
            return None;
        }
        encode(&mut normal, hierarchy)?;
    }
    if let Some(query) = query {
        normal.push('?');
        encode(&mut normal, query)?;
    }
    if let Some(fragment) = fragment {
        normal.push('#');
        encode(&mut normal, fragment)?;
    }
    Some(normal)
}

/// The scheme, if there is one, and what follows its colon. `None` for a colon with nothing
/// before it.
fn split_scheme(uri: &str) -> Option<(Option<&str>, &str)> {
    for (index, byte) in uri.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if index > 0 => {}
            b':' if index > 0 => return Some((uri.get(..index), uri.get(index + 1..)?)),
            b':' => return None,
            _ => break,
        }
    }
    Some((None, uri))
}

/// `[user@]host[:port]` with a numeric port and no blanks in the host.
fn check_authority(authority: &str) -> Option<()> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_host = match host.strip_prefix('[') {
        Some(literal) => literal.split_once(']')?.1,
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            // Name constraints compare hosts label by label (RFC 5280, 4.2.1.10): no empty ones.
            if name.split('.').any(str::is_empty) && !name.is_empty() {
                return None;
            }
            port
        }
    };
    let port_is_numeric = match after_host.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()),
        None => after_host.is_empty(),
    };
    let characters = host
        .bytes()
        .all(|byte| !matches!(byte, b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'));
    (port_is_numeric && characters).then_some(())
}

/// `None` for a `%` that does not begin an encoded byte.
fn encode(into: &mut String, part: &str) -> Option<()> {
    let bytes = part.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => {
                let digits = bytes.get(index + 1..index + 3)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                into.push('%');
            }
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                into.push_str(&format!("%{byte:02X}"));
            }
            byte => into.push(char::from(*byte)),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_uri_may_not_hold_is_percent_encoded() {
        for (uri, normal) in [
            ("spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/b"),
            ("SPIFFE://td/a b", "spiffe://td/a%20b"),
            ("spiffe://td/ü", "spiffe://td/%C3%BC"),
            ("urn:uuid:1", "urn:uuid:1"),
            ("relative/path", "relative/path"),
            ("http://[::1]:80/x?y#z", "http://[::1]:80/x?y#z"),
            ("http://user:pw@host/", "http://user:pw@host/"),
        ] {
            assert_eq!(normal_form(uri).as_deref(), Some(normal));
        }
    }

    #[test]
    fn what_is_not_a_uri_is_refused() {
        for uri in [
            "",
            ":bad",
            "1a:b",
            "spiffe://td/%zz",
            "spiffe://td/%2",
            "http://h:port/",
            "http://a b/",
            "http://[::1/",
            "http://fo..o/",
            "a\0b",
            "a\nb",
        ] {
            assert_eq!(normal_form(uri), None, "{uri}");
        }
    }
}
