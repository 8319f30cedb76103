//! What an HTTP request asks of the pipeline, by Vault's rules.

use bytes::Bytes;
use chancery_api::{Secret, Ttl};
use chancery_secrets::audit::{AuditedHeaders, HeaderName};
use chancery_secrets::{Operation, Request};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value};

use super::answer::Refused;
use super::path::escapes_are_whole;

/// The request that head and path describe; body and connection are still missing.
///
/// # Errors
/// The response, if the request means nothing.
pub(super) fn request(head: &Parts, path: String) -> Result<Request, Refused> {
    let mut query = match head.uri.query() {
        Some(query) => parameters(query),
        None => Vec::new(),
    };
    let operation = operation(head, &path, &mut query)?;
    namespace(&head.headers)?;
    let mut request = Request::new(operation, path);
    // The names under a path are asked for at the path with a slash, whoever forgot it.
    if matches!(operation, Operation::List | Operation::Scan) && !request.path.ends_with('/') {
        request.path.push('/');
    }
    request.token = token(&head.headers);
    request.wrap_ttl = wrap_ttl(&head.headers)?;
    // As the peer does: the parameters of a write are in its body, and only there.
    if !matches!(operation, Operation::Update | Operation::Patch) {
        request.query = query;
    }
    if request.path == "sys/metrics" && wants_open_metrics(&head.headers) {
        // Scrapers name the format in a header. What the query says comes first.
        request.query.push(("format".to_owned(), "prometheus".to_owned()));
    }
    Ok(request)
}

/// OpenMetrics is what Prometheus asks for; its own text format will do.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).map(|value| value.as_bytes()).unwrap_or_default();
    accepted.starts_with(b"application/openmetrics-text")
}

/// The parameters of a query. As on the peer, one that is not properly encoded does not count.
fn parameters(query: &str) -> Vec<(String, String)> {
    let sound = |pair: &&str| !pair.contains(';') && escapes_are_whole(pair);
    let pairs = query.split('&').filter(sound);
    pairs.flat_map(|pair| url::form_urlencoded::parse(pair.as_bytes()).into_owned()).collect()
}

/// The operation; its own parameters are taken out of the query.
fn operation(head: &Parts, path: &str, query: &mut Vec<(String, String)>) -> Result<Operation, Refused> {
    // As the peer has it, any value asks for help, even 0.
    if query.iter().any(|(name, value)| name == "help" && !value.is_empty()) {
        query.retain(|(name, _)| name != "help");
        return Ok(Operation::Help);
    }
    match head.method {
        Method::GET => {
            let (list, scan) = (flag(query, "list")?, flag(query, "scan")?);
            Ok(match (list, scan) {
                (true, _) => Operation::List,
                (false, true) => Operation::Scan,
                (false, false) => Operation::Read,
            })
        }
        Method::POST | Method::PUT => Ok(Operation::Update),
        Method::DELETE => Ok(Operation::Delete),
        Method::PATCH => merge_patch(&head.headers).map(|()| Operation::Patch),
        // Load balancers ask for the status alone.
        Method::HEAD if path == "sys/health" => Ok(Operation::Read),
        // RFC 8555, 7.2: clients of ACME ask for a nonce in this way.
        Method::HEAD if path.ends_with("/acme/new-nonce") => Ok(Operation::Read),
        Method::HEAD => Err(Refused::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "1 error occurred:\n\t* unsupported operation\n\n",
        )),
        Method::OPTIONS => Err(Refused::bad_request("cannot handle internal-only request operation")),
        _ => match head.method.as_str() {
            "LIST" => Ok(Operation::List),
            "SCAN" => Ok(Operation::Scan),
            "HELP" => Ok(Operation::Help),
            _ => Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "")),
        },
    }
}

/// A boolean of the query, in Go's words, which is taken out if it is true.
fn flag(query: &mut Vec<(String, String)>, name: &str) -> Result<bool, Refused> {
    let Some((_, value)) = query.iter().find(|(given, _)| given == name) else { return Ok(false) };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => {
            query.retain(|(given, _)| given != name);
            Ok(true)
        }
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Refused::bad_request("")),
    }
}

/// RFC 7396 is the only form in which a PATCH may come.
fn merge_patch(headers: &HeaderMap) -> Result<(), Refused> {
    const WANTED: &str = "application/merge-patch+json";
    let Some(given) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return Err(Refused::bad_request("mime: no media type"));
    };
    let given = given.split(';').next().unwrap_or("").trim();
    if given.eq_ignore_ascii_case(WANTED) {
        return Ok(());
    }
    let message = format!("PATCH requires Content-Type of {WANTED}, provided {given}");
    Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

/// `X-Vault-Token`, or `Authorization: Bearer`.
fn token(headers: &HeaderMap) -> Option<Secret> {
    let token = match headers.get("x-vault-token") {
        Some(token) => token.to_str().ok()?,
        None => headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?,
    };
    let token = token.trim();
    (!token.is_empty()).then(|| Secret::new(token))
}

/// There is one namespace, the root.
fn namespace(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(given) = headers.get("x-vault-namespace") else { return Ok(()) };
    match given.as_bytes() {
        b"" | b"/" | b"root" | b"root/" => Ok(()),
        _ => Err(Refused::new(StatusCode::NOT_FOUND, "namespace not found")),
    }
}

fn wrap_ttl(headers: &HeaderMap) -> Result<Option<Ttl>, Refused> {
    let Some(given) = headers.get("x-vault-wrap-ttl") else { return Ok(None) };
    let text = given.to_str().unwrap_or("").trim();
    let wrong =
        |reason: &str| Refused::bad_request(format!("error parsing X-Vault-Wrap-TTL header: {reason}"));
    if text.starts_with('-') {
        return Err(wrong("requested wrap ttl cannot be negative"));
    }
    match chancery_api::duration::parse(text) {
        Ok(ttl) if ttl.is_zero() => Ok(None),
        Ok(ttl) => Ok(Some(Ttl(ttl))),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// The headers that audit records carry, with each of their values.
pub(super) fn audited_headers(head: &Parts, audited: &AuditedHeaders) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in audited.keys().map(HeaderName::as_str) {
        let values = head.headers.get_all(name);
        found.extend(
            values
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .map(|value| (name.to_owned(), value)),
        );
        // RFC 9113, 8.3.1: HTTP/2 says the host elsewhere.
        if name == "host"
            && found.iter().all(|(found, _)| found != "host")
            && let Some(authority) = head.uri.authority()
        {
            found.push((name.to_owned(), authority.to_string()));
        }
    }
    found
}

/// The body as the pipeline wants it: JSON, whatever the content type says, except that a form becomes
/// an object of strings. `curl --data` sends JSON under a form's name.
pub fn body_as_json(headers: &HeaderMap, body: Bytes) -> Bytes {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    if !content_type.starts_with(b"application/x-www-form-urlencoded") || body.first() == Some(&b'{') {
        return body;
    }
    let mut object: Map<String, Value> = Map::new();
    for (name, value) in url::form_urlencoded::parse(&body) {
        let value = Value::from(value.into_owned());
        match object.get_mut(&*name) {
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
            None => {
                object.insert(name.into_owned(), value);
            }
        }
    }
    Bytes::from(Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    fn ask(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Request, u16> {
        let head = head(method, uri, headers);
        let path = head.uri.path().trim_start_matches("/v1/").to_owned();
        request(&head, path).map_err(|refused| refused.response().status().as_u16())
    }

    #[test]
    fn methods_and_queries_name_the_operation() {
        use Operation::{Delete, Help, List, Patch, Read, Scan, Update};
        let cases = [
            ("GET", "/v1/a", Ok(Read)),
            ("POST", "/v1/a", Ok(Update)),
            ("PUT", "/v1/a", Ok(Update)),
            ("POST", "/v1/a?list=true", Ok(Update)),
            ("DELETE", "/v1/a", Ok(Delete)),
            ("LIST", "/v1/a", Ok(List)),
            ("SCAN", "/v1/a", Ok(Scan)),
            ("GET", "/v1/a?list=true", Ok(List)),
            ("GET", "/v1/a?list=1", Ok(List)),
            ("GET", "/v1/a?list=True", Ok(List)),
            ("GET", "/v1/a?list=t", Ok(List)),
            ("GET", "/v1/a?list=false", Ok(Read)),
            ("GET", "/v1/a?list=", Ok(Read)),
            ("GET", "/v1/a?list=x", Err(400)),
            ("GET", "/v1/a?scan=true", Ok(Scan)),
            ("GET", "/v1/a?help=1", Ok(Help)),
            ("GET", "/v1/a?help=0", Ok(Help)),
            ("GET", "/v1/a?help=", Ok(Read)),
            ("HELP", "/v1/a", Ok(Help)),
            ("HEAD", "/v1/a", Err(405)),
            ("HEAD", "/v1/sys/health", Ok(Read)),
            ("HEAD", "/v1/a/acme/new-nonce", Ok(Read)),
            ("HEAD", "/v1/a/acme/directory", Err(405)),
            ("OPTIONS", "/v1/a", Err(400)),
            ("TRACE", "/v1/a", Err(405)),
            ("FOO", "/v1/a", Err(405)),
            ("PATCH", "/v1/a", Err(400)),
        ];
        for (method, uri, expected) in cases {
            assert_eq!(ask(method, uri, &[]).map(|request| request.operation), expected, "{method} {uri}");
        }
        let patch =
            |media| ask("PATCH", "/v1/a", &[("content-type", media)]).map(|request| request.operation);
        assert_eq!(patch("application/merge-patch+json"), Ok(Patch));
        assert_eq!(patch("application/merge-patch+json; charset=utf-8"), Ok(Patch));
        assert_eq!(patch("application/json"), Err(415));
    }

    #[test]
    fn listings_are_asked_for_with_a_slash_and_without_their_own_parameter() {
        let ways =
            [("LIST", "/v1/a/b?after=x"), ("GET", "/v1/a/b/?list=1&after=x"), ("SCAN", "/v1/a/b?after=x")];
        for (method, uri) in ways {
            let request = ask(method, uri, &[]).expect(uri);
            assert_eq!(request.path, "a/b/", "{method}");
            assert_eq!(request.query, [("after".to_owned(), "x".to_owned())], "{method}");
        }
        let request = ask("GET", "/v1/a?list=false&x=%zz+y&z=1;w=2&v=%20+y", &[]).expect("valid");
        assert_eq!(
            request.query,
            [("list".to_owned(), "false".to_owned()), ("v".to_owned(), "  y".to_owned())]
        );
    }

    #[test]
    fn the_query_of_a_write_says_nothing() {
        let request = ask("POST", "/v1/a?x=1", &[]).expect("valid");
        assert_eq!(request.query, []);
    }

    #[test]
    fn scrapers_name_their_format_in_a_header() {
        let format = |uri: &str, accept: &str| {
            let request = ask("GET", uri, &[("accept", accept)]).expect("valid");
            request.query.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
        };
        let scraper = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5";
        assert_eq!(format("/v1/sys/metrics", scraper), ["prometheus"]);
        assert!(format("/v1/sys/metrics", "*/*").is_empty());
        assert!(format("/v1/sys/mounts", scraper).is_empty());
        assert_eq!(format("/v1/sys/metrics?format=x", scraper)[0], "x");
    }

    #[test]
    fn tokens_come_in_two_headers() {
        type Case = (&'static [(&'static str, &'static str)], Option<&'static str>);
        let cases: &[Case] = &[
            (&[], None),
            (&[("x-vault-token", "a")], Some("a")),
            (&[("x-vault-token", " a ")], Some("a")),
            (&[("x-vault-token", "")], None),
            (&[("authorization", "Bearer a")], Some("a")),
            (&[("authorization", "bearer a")], None),
            (&[("authorization", "Basic a")], None),
            (&[("x-vault-token", "a"), ("authorization", "Bearer b")], Some("a")),
            (&[("x-vault-token", "a"), ("x-vault-token", "b")], Some("a")),
        ];
        for (headers, expected) in cases {
            let request = ask("GET", "/v1/a", headers).expect("valid");
            let token = request.token.as_ref().map(|token| token.expose());
            assert_eq!(token, *expected, "{headers:?}");
        }
    }

    #[test]
    fn headers_are_handed_over_only_if_they_are_audited() {
        use chancery_secrets::audit::AuditedHeader;
        let audited: AuditedHeaders = ["X-Test", "Host", "x-absent"]
            .map(|name| (HeaderName::parse(name).expect("valid"), AuditedHeader { hmac: false }))
            .into();
        let given =
            head("GET", "https://example.org/v1/a", &[("x-test", "a"), ("X-Test", "b"), ("x-other", "c")]);
        let found = audited_headers(&given, &audited);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, [("host", "example.org"), ("x-test", "a"), ("x-test", "b")]);
        let given = head("GET", "/v1/a", &[("host", "localhost")]);
        assert_eq!(audited_headers(&given, &audited), [("host".to_owned(), "localhost".to_owned())]);
    }

    #[test]
    fn wrapping_is_asked_for_in_a_header() {
        let ttl = |text| ask("GET", "/v1/a", &[("x-vault-wrap-ttl", text)]).map(|request| request.wrap_ttl);
        assert_eq!(ttl("60"), Ok(Some(Ttl(Duration::from_secs(60)))));
        assert_eq!(ttl("5m"), Ok(Some(Ttl(Duration::from_secs(300)))));
        assert_eq!(ttl("0"), Ok(None));
        assert_eq!(ttl("-10"), Err(400));
        assert_eq!(ttl("10x"), Err(400));
    }

    #[test]
    fn there_is_one_namespace() {
        let status = |name| ask("GET", "/v1/a", &[("x-vault-namespace", name)]).map(|_| ());
        for name in ["", "/", "root", "root/"] {
            assert_eq!(status(name), Ok(()), "{name}");
        }
        assert_eq!(status("team"), Err(404));
    }

    #[test]
    fn a_form_becomes_an_object_of_strings() {
        let form = head("POST", "/v1/a", &[("content-type", "application/x-www-form-urlencoded")]).headers;
        let json = |body: &'static str| body_as_json(&form, Bytes::from_static(body.as_bytes()));
        assert_eq!(json("x=1&y=a+b%21&x=2&x=3"), r#"{"x":["1","2","3"],"y":"a b!"}"#);
        assert_eq!(json(r#"{"x": 1}"#), r#"{"x": 1}"#);
        assert_eq!(body_as_json(&HeaderMap::new(), Bytes::from_static(b"x=1")), "x=1");
    }
}
