//! From a URL's path to the path of a request.

use percent_encoding::percent_decode_str;

/// What the path of a URL leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The API, with the path behind `/v1/`, percent-decoded exactly once.
    Api(String),
    /// The same in a cleaner form; the client shall ask there.
    Redirect(String),
    /// The UI's front door.
    Root,
    /// Nothing that we have.
    Nothing,
    /// A path that no request may have.
    Refused(&'static str),
}

/// Judges the path of a URL as it came, still encoded.
pub(super) fn target(raw: &str) -> Target {
    if raw == "/" {
        return Target::Root;
    }
    let Some(rest) = raw.strip_prefix("/v1/") else { return Target::Nothing };
    if rest == "sys" || !is_clean(rest) {
        let mut cleaned = clean(raw);
        if cleaned == "/v1/sys" {
            // The server's own paths are a folder, as the peer has it.
            cleaned.push('/');
        }
        return Target::Redirect(cleaned);
    }
    if rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
        return Target::Api(rest.to_owned());
    }
    if !escapes_are_whole(rest) {
        return Target::Refused("malformed percent-encoding in the path");
    }
    let Ok(decoded) = percent_decode_str(rest).decode_utf8() else {
        return Target::Refused("the path is not UTF-8");
    };
    // What was decoded is not decoded or cleaned again: a second look would see another path than the
    // policies do.
    if decoded.split('/').any(|segment| segment == "..") {
        return Target::Refused("relative paths not supported");
    }
    if decoded.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' ')) {
        return Target::Refused("the path has characters that cannot be printed");
    }
    Target::Api(decoded.into_owned())
}

/// Whether each `%` begins an escape.
pub(super) fn escapes_are_whole(path: &str) -> bool {
    path.split('%').skip(1).all(|part| {
        let mut bytes = part.bytes();
        let digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        digit(bytes.next()) && digit(bytes.next())
    })
}

/// No empty segment but the last, and none that is `.` or `..`.
fn is_clean(path: &str) -> bool {
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if matches!(segment, "." | "..") || (segment.is_empty() && !last) {
            return false;
        }
    }
    true
}

/// The path without empty segments and with `.` and `..` resolved; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        for (raw, expected) in [
            ("/v1/a/b", "a/b"),
            ("/v1/", ""),
            ("/v1/a/b/", "a/b/"),
            ("/v1/a%2Fb", "a/b"),
            ("/v1/a/%2562", "a/%62"),
            ("/v1/a/b%20c", "a/b c"),
            ("/v1/a/b+c;d=e", "a/b+c;d=e"),
            ("/v1/pki/cert/1a%3A2b", "pki/cert/1a:2b"),
            ("/v1/a/%C3%A9", "a/é"),
            ("/v1/a/..b", "a/..b"),
        ] {
            assert_eq!(target(raw), Target::Api(expected.to_owned()), "{raw}");
        }
    }

    #[test]
    fn unclean_paths_are_sent_to_their_clean_form() {
        for (raw, expected) in [
            ("/v1/a//b", "/v1/a/b"),
            ("/v1//a/b", "/v1/a/b"),
            ("/v1/a/../a/b", "/v1/a/b"),
            ("/v1/a/./b", "/v1/a/b"),
            ("/v1/a//b//", "/v1/a/b/"),
            ("/v1/sys", "/v1/sys/"),
            ("/v1/./sys", "/v1/sys/"),
            ("/v1/../../x", "/x"),
            ("/v1/../..", "/"),
        ] {
            assert_eq!(target(raw), Target::Redirect(expected.to_owned()), "{raw}");
        }
    }

    #[test]
    fn disguised_traversal_and_odd_bytes_are_refused() {
        for raw in [
            "/v1/a/%2e%2e/b",
            "/v1/a%2f..%2fb",
            "/v1/%2E%2E",
            "/v1/a/%00",
            "/v1/a/%0a",
            "/v1/a%zz",
            "/v1/a%",
            "/v1/%ff",
        ] {
            assert!(matches!(target(raw), Target::Refused(_)), "{raw}");
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for raw in ["/v1", "/v2/a", "/foo/v1/a", "//v1/a", "/nope"] {
            assert_eq!(target(raw), Target::Nothing, "{raw}");
        }
        assert_eq!(target("/"), Target::Root);
    }
}
