//! Requests as values.

use std::time::Duration;

use bytes::Bytes;
use chancery_api::Secret;
use serde::Serialize;
use url::Url;

use crate::{Config, Error, format_duration};

/// The verbs of the API. Lists and scans are reads with a query, as Vault's own client sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`, as JSON merge-patch.
    Patch,
    /// `DELETE`
    Delete,
}

impl Method {
    /// The verb on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What is asked of the server; sending it is another matter.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Option<Bytes>,
    token: Option<Secret>,
    anonymous: bool,
    wrap_ttl: Option<Duration>,
    plain: bool,
    namespaceless: bool,
}

impl Request {
    /// A request without body. `path` is below `/v1/`.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            token: None,
            anonymous: false,
            wrap_ttl: None,
            plain: false,
            namespaceless: false,
        }
    }

    /// Reads a path.
    pub fn read(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path)
    }

    /// Lists what is directly below a path.
    pub fn list(path: impl Into<String>) -> Self {
        Self::read(path).query("list", "true")
    }

    /// Lists what is below a path, at any depth.
    pub fn scan(path: impl Into<String>) -> Self {
        Self::read(path).query("scan", "true")
    }

    /// Writes `body` to a path.
    pub fn write(path: impl Into<String>, body: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Self::new(Method::Put, path).json(body)
    }

    /// Posts `body` to a path; the server takes `POST` and `PUT` alike.
    pub fn post(path: impl Into<String>, body: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Self::new(Method::Post, path).json(body)
    }

    /// Changes the fields that `body` names.
    pub fn patch(path: impl Into<String>, body: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Self::new(Method::Patch, path).json(body)
    }

    /// Removes what is at a path.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::Delete, path)
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let json = serde_json::to_vec(body).map_err(|error| Error::Decode(error.to_string()))?;
        self.body = Some(json.into());
        Ok(self)
    }

    /// Uses this token instead of the client's.
    #[must_use]
    pub fn token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    /// Sends no token at all, as a login must.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Asks for the answer to be wrapped.
    #[must_use]
    pub fn wrap_ttl(mut self, ttl: Duration) -> Self {
        self.wrap_ttl = Some(ttl);
        self
    }

    /// Asks for a plain answer, even from a client that asks for wrapped ones.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Names no namespace, even for a client that is set up with one: some paths are those of the whole server, and
    /// answered in no other.
    #[must_use]
    pub fn without_namespace(mut self) -> Self {
        self.namespaceless = true;
        self
    }

    /// The verb.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The path below `/v1/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the request may be sent again although its first sending may have worked.
    pub fn is_read(&self) -> bool {
        self.method == Method::Get
    }

    /// Whether this asks for a list.
    pub fn is_list(&self) -> bool {
        self.query.iter().any(|(name, _)| name == "list")
    }

    /// Whether this asks for a scan.
    pub fn is_scan(&self) -> bool {
        self.query.iter().any(|(name, _)| name == "scan")
    }

    /// The exact URL, headers and bytes, for a client with this configuration and token.
    pub fn prepare(&self, config: &Config, token: Option<&Secret>) -> Prepared {
        let mut headers = Headers::default();
        headers.plain("X-Vault-Request", "true");
        let namespace = config.namespace.as_deref().filter(|name| !name.is_empty() && !self.namespaceless);
        if let Some(namespace) = namespace {
            headers.plain("X-Vault-Namespace", format!("{}/", namespace.trim_matches('/')));
        }
        if let Some(ttl) = self.wrapping(config) {
            headers.plain("X-Vault-Wrap-Ttl", format_duration(ttl));
        }
        if self.method == Method::Patch {
            headers.plain("Content-Type", "application/merge-patch+json");
        }
        for (name, value) in &config.headers {
            headers.plain(name.clone(), value.clone());
        }
        let token = self.token.as_ref().or(token).filter(|token| !token.is_empty() && !self.anonymous);
        headers.token = token.cloned();
        Prepared {
            method: self.method,
            url: config.address.url(&self.path, &self.query),
            headers,
            body: self.body.clone(),
        }
    }

    /// `sys/wrapping/wrap` exists to wrap: without another wish its answer is kept for five minutes.
    fn wrapping(&self, config: &Config) -> Option<Duration> {
        if self.plain {
            return None;
        }
        let wished = self.wrap_ttl.or(config.wrap_ttl).filter(|ttl| !ttl.is_zero());
        let writes = matches!(self.method, Method::Post | Method::Put);
        let wraps = writes && self.path.trim_matches('/') == "sys/wrapping/wrap";
        wished.or(wraps.then_some(Duration::from_secs(300)))
    }
}

/// Headers in the order in which they are sent; the token apart from the rest.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// Names and values.
    pub list: Vec<(String, String)>,
    /// The value of `X-Vault-Token`.
    pub token: Option<Secret>,
}

impl Headers {
    fn plain(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.list.push((name.into(), value.into()));
    }
}

/// A request ready to be sent.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The verb.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// With which headers.
    pub headers: Headers,
    /// With which JSON.
    pub body: Option<Bytes>,
}

impl Prepared {
    /// The same request as a curl command. The token is fetched by `{program} print token`, so that it
    /// stays out of the terminal and of the shell's history.
    pub fn curl(&self, config: &Config, program: &str) -> String {
        let quoted = |text: &str| text.replace('\'', r#"'"'"'"#);
        let mut command = String::from("curl ");
        if config.danger_skip_verify {
            command.push_str("--insecure ");
        }
        if self.method != Method::Get {
            command.push_str(&format!("-X {} ", self.method.as_str()));
        }
        for (flag, path) in [
            ("--cacert", &config.ca_cert),
            ("--capath", &config.ca_path),
            ("--cert", &config.client_cert),
            ("--key", &config.client_key),
        ] {
            if let Some(path) = path {
                command.push_str(&format!("{flag} '{}' ", quoted(&path.to_string_lossy())));
            }
        }
        if let Some(socket) = config.address.socket() {
            command.push_str(&format!("--unix-socket '{}' ", quoted(&socket.to_string_lossy())));
        }
        for (name, value) in &self.headers.list {
            let value = value.replace('"', "\\\"");
            command.push_str(&format!("-H \"{name}: {value}\" "));
        }
        if self.headers.token.is_some() {
            command.push_str(&format!("-H \"X-Vault-Token: $({program} print token)\" "));
        }
        if let Some(body) = &self.body {
            command.push_str(&format!("-d '{}' ", quoted(&String::from_utf8_lossy(body))));
        }
        command.push_str(&format!("\"{}\"", self.url));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn config() -> Config {
        Config::new("http://127.0.0.1:8200".parse().expect("an address"))
    }

    #[test]
    fn a_request_can_be_printed_as_curl_without_its_token() {
        let body = BTreeMap::from([("a", "b"), ("c", "d'e")]);
        let request = Request::write("cubbyhole/k", &body).expect("serialises");
        let prepared = request.prepare(&config(), Some(&Secret::from("s.secret")));
        assert_eq!(
            prepared.curl(&config(), "chancery"),
            "curl -X PUT -H \"X-Vault-Request: true\" -H \"X-Vault-Token: $(chancery print token)\" \
             -d '{\"a\":\"b\",\"c\":\"d'\"'\"'e\"}' \"http://127.0.0.1:8200/v1/cubbyhole/k\""
        );
        assert!(!format!("{prepared:?}").contains("s.secret"));
    }

    #[test]
    fn wrapping_is_asked_for_by_request_by_client_and_by_the_wrapping_endpoint() {
        let header = |request: &Request, config: &Config| {
            let prepared = request.prepare(config, None);
            prepared.headers.list.into_iter().find(|(name, _)| name == "X-Vault-Wrap-Ttl").map(|(_, v)| v)
        };
        let mut wrapping = config();
        wrapping.wrap_ttl = Some(Duration::from_secs(60));
        assert_eq!(header(&Request::read("a"), &config()), None);
        assert_eq!(header(&Request::read("a"), &wrapping).as_deref(), Some("1m0s"));
        assert_eq!(header(&Request::read("a").plain(), &wrapping), None);
        let wrap = Request::write("sys/wrapping/wrap", &()).expect("serialises");
        assert_eq!(header(&wrap, &config()).as_deref(), Some("5m0s"));
    }

    #[test]
    fn a_request_of_the_whole_server_names_no_namespace() {
        let mut config = config();
        config.namespace = Some("team".into());
        let names = |request: &Request| {
            let list = request.prepare(&config, None).headers.list;
            list.iter().any(|(name, value)| name == "X-Vault-Namespace" && value == "team/")
        };
        assert!(names(&Request::read("sys/mounts")));
        assert!(!names(&Request::read("sys/health").without_namespace()));
    }

    #[test]
    fn a_login_carries_no_token() {
        let request = Request::read("x").anonymous();
        assert!(request.prepare(&config(), Some(&Secret::from("t"))).headers.token.is_none());
    }
}
