//! What an engine answers, and what the pipeline makes of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use chancery_api::envelope::{Auth, Envelope, WrapInfo};
use chancery_api::{RawValue, Ttl};
use serde::Serialize;

use crate::error::Error;
use crate::token::TokenKind;

/// An engine's answer.
#[derive(Debug, Default)]
pub struct Response {
    /// What was asked for, serialised once.
    pub data: Option<Box<RawValue>>,
    /// The token to make; only auth methods may answer one.
    pub login: Option<Box<Login>>,
    /// A token that the token mount made or renewed itself; no other engine may answer one.
    pub auth: Option<Box<Auth>>,
    /// The lease to register.
    pub lease: Option<Box<LeaseTerms>>,
    /// What the client should know although its request succeeded.
    pub warnings: Vec<String>,
    /// A body that is not JSON.
    pub raw: Option<Box<Raw>>,
    /// Headers that the answer carries besides the usual ones.
    pub headers: Vec<(Header, String)>,
    /// A status other than 200 (with a body) and 204 (without), e.g. 202.
    pub status: Option<u16>,
    /// The fields of `data` stand beside the envelope's own too, as in `sys/mounts`.
    pub flatten: bool,
    /// `data` is the whole body, without an envelope, as in `sys/health`.
    pub bare: bool,
    /// Where the content is kept instead; only `sys/wrapping/` may answer it.
    pub wrap_info: Option<Box<WrapInfo>>,
    /// The lease that was renewed.
    pub renewed: Option<Box<Lease>>,
    /// The accessor of the credential in `data`; whoever wraps the answer is told of it.
    pub accessor: Option<String>,
    /// The answer is an unwrapped one: a whole envelope, sent as it was stored.
    pub unwrapped: Option<Box<RawValue>>,
}

/// A header that an engine may put into its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// `Link` (RFC 8288)
    Link,
    /// `Location`
    Location,
    /// `Replay-Nonce` (RFC 8555, 6.5.1)
    ReplayNonce,
    /// `Retry-After`
    RetryAfter,
}

impl Header {
    /// The header's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Location => "location",
            Self::ReplayNonce => "replay-nonce",
            Self::RetryAfter => "retry-after",
        }
    }
}

/// A body that is not JSON.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Its media type.
    pub content_type: Cow<'static, str>,
    /// Its bytes.
    pub body: Bytes,
    /// Seconds since the epoch at which the content last changed, for `If-Modified-Since`.
    pub last_modified: Option<i64>,
}

impl Response {
    /// 204.
    pub fn empty() -> Self {
        Self::default()
    }

    /// 200 with `data`.
    pub fn data<T: Serialize + ?Sized>(data: &T) -> Result<Self, Error> {
        Ok(Self { data: Some(serde_json::value::to_raw_value(data)?), ..Self::default() })
    }

    /// 200 with a list of names; 404 when it is empty, as the peer answers.
    pub fn list(keys: &[String]) -> Result<Self, Error> {
        if keys.is_empty() {
            return Err(Error::nothing_there());
        }
        Self::data(&serde_json::json!({ "keys": keys }))
    }

    /// 200 with a list of names and something about each; 404 when it is empty.
    pub fn list_with_info<T: Serialize>(keys: &[String], info: &BTreeMap<String, T>) -> Result<Self, Error> {
        #[derive(Serialize)]
        struct Listing<'a, T> {
            key_info: &'a BTreeMap<String, T>,
            keys: &'a [String],
        }
        if keys.is_empty() {
            return Err(Error::nothing_there());
        }
        Self::data(&Listing { key_info: info, keys })
    }

    /// A body that is not JSON.
    pub fn raw(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            raw: Some(Box::new(Raw {
                content_type: content_type.into(),
                body: body.into(),
                last_modified: None,
            })),
            ..Self::default()
        }
    }

    /// The same with one more warning.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, header: Header, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    /// The same with another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same with its fields at the top level too.
    #[must_use]
    pub fn flattened(mut self) -> Self {
        self.flatten = true;
        self
    }

    /// The same without an envelope.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// How many bytes its content has, without the frame around it.
    pub(crate) fn size(&self) -> usize {
        let data = self.data.as_ref().map_or(0, |data| data.get().len());
        data + self.raw.as_ref().map_or(0, |raw| raw.body.len())
    }

    /// Whether this is an envelope with something in it, so that a warning can stand beside it.
    pub(crate) fn takes_warnings(&self) -> bool {
        let Self {
            data,
            login,
            auth,
            lease,
            warnings,
            raw,
            headers: _,
            status,
            flatten: _,
            bare,
            wrap_info,
            renewed,
            accessor: _,
            unwrapped,
        } = self;
        let says_something = data.is_some()
            || login.is_some()
            || auth.is_some()
            || lease.is_some()
            || !warnings.is_empty()
            || renewed.is_some();
        let other_form = raw.is_some() || unwrapped.is_some() || wrap_info.is_some() || *bare;
        says_something && !other_form && status.is_none()
    }
}

/// What an auth method says of a caller it has recognised; the pipeline makes the token.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// A name for people, e.g. `approle` or `userpass-bob`; the mount's name is put before it.
    pub display_name: String,
    /// The policies of the token, without `default`, which is added unless `no_default_policy`.
    pub policies: Vec<String>,
    /// No `default` policy.
    pub no_default_policy: bool,
    /// Shown to clients and audit records.
    pub metadata: BTreeMap<String, String>,
    /// The name of the caller within the auth mount; identifies the entity.
    pub alias: Option<String>,
    /// First lifetime; zero is the mount's default.
    pub ttl: Ttl,
    /// Longest lifetime with renewals; zero is the mount's maximum.
    pub max_ttl: Ttl,
    /// A hard end that no renewal moves; zero is none.
    pub explicit_max_ttl: Ttl,
    /// Renewals set the lifetime to this, without an end; zero is none.
    pub period: Ttl,
    /// How often the token can be used; zero is without limit.
    pub num_uses: u64,
    /// Networks the token may be used from; empty is all.
    pub bound_cidrs: Vec<ipnet::IpNet>,
    /// Service or batch; `None` is the mount's setting, then service.
    pub kind: Option<TokenKind>,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// What the auth method needs to judge a renewal; kept with the token, never shown.
    pub internal: BTreeMap<String, String>,
}

/// What an engine asks of the lease manager.
#[derive(Debug, Clone, Default)]
pub struct LeaseTerms {
    /// First lifetime; zero is the mount's default.
    pub ttl: Ttl,
    /// Longest lifetime with renewals; zero is the mount's maximum.
    pub max_ttl: Ttl,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// What the engine needs to revoke; kept with the lease, never shown.
    pub internal: BTreeMap<String, String>,
}

/// A registered lease, as the envelope shows it.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    /// `<path>/<id>`.
    pub id: String,
    /// Until it expires.
    pub ttl: Ttl,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// The pipeline's answer: all that a front end needs to write it down.
#[derive(Debug, Default)]
pub struct Answer {
    /// The request it answers.
    pub request_id: String,
    /// What the engine said; its `login` and `lease` have become the fields below.
    pub response: Response,
    /// The token that was made.
    pub auth: Option<Auth>,
    /// The lease that was registered.
    pub lease: Lease,
    /// Where the content is kept instead.
    pub wrap_info: Option<WrapInfo>,
    /// Whether the operation was a read or list, where an answer without data is a 404.
    pub reads: bool,
}

impl Answer {
    /// Whether there is anything to put into a body.
    pub fn has_body(&self) -> bool {
        let Response {
            data,
            login: _,
            auth: _,
            lease: _,
            wrap_info: _,
            renewed: _,
            warnings,
            raw,
            headers: _,
            status: _,
            flatten: _,
            bare: _,
            accessor: _,
            unwrapped,
        } = &self.response;
        data.is_some()
            || raw.is_some()
            || unwrapped.is_some()
            || !warnings.is_empty()
            || self.auth.is_some()
            || self.wrap_info.is_some()
            || !self.lease.id.is_empty()
    }

    /// The JSON body. A raw answer has none.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        let body = self.to_kept()?;
        let Some(data) = self.response.data.as_ref().filter(|_| self.response.flatten) else {
            return Ok(body);
        };
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body)?;
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(data.get())?;
        for (name, value) in fields {
            object.entry(name).or_insert(value);
        }
        Ok(serde_json::to_vec(&object)?)
    }

    /// The JSON body as a wrapping token keeps it: the fields of `data` stand there alone. A raw answer
    /// has none.
    pub(crate) fn to_kept(&self) -> Result<Vec<u8>, Error> {
        if let Some(whole) = &self.response.unwrapped {
            return Ok(whole.get().as_bytes().to_vec());
        }
        if self.response.bare {
            return Ok(self
                .response
                .data
                .as_ref()
                .map(|data| data.get().as_bytes().to_vec())
                .unwrap_or_default());
        }
        let envelope = Envelope {
            request_id: &self.request_id,
            lease_id: &self.lease.id,
            renewable: self.lease.renewable,
            lease_duration: self.lease.ttl.as_secs(),
            data: self.response.data.as_deref().map(Cow::Borrowed),
            wrap_info: self.wrap_info.clone(),
            warnings: (!self.response.warnings.is_empty()).then_some(&*self.response.warnings),
            auth: self.auth.as_ref(),
        };
        // Room for the frame and a login from the start, so that the data is copied once.
        let size = envelope.data.as_ref().map_or(0, |data| data.get().len());
        let mut text = Vec::with_capacity(size.saturating_add(1024));
        serde_json::to_writer(&mut text, &envelope)?;
        Ok(text)
    }
}
