//! What the server says about the mount, asked for once.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use chancery_client::{Answer, Value};
use chancery_issuance::{Certificate, CrlTimes, Time};

use super::finding::{Finding, Status};
use crate::command::Failure;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Question {
    Read(String),
    List(String),
    /// Of the ACME directory at `/v1/path` of a server.
    Directory {
        server: String,
        path: String,
    },
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fetched {
    Data(BTreeMap<String, Value>),
    /// The path is good, and nothing is there.
    Nothing,
    /// The token may not.
    Refused,
    /// The server has no such path.
    Unsupported,
    /// It has the path, but not what it names.
    Missing,
}

impl Fetched {
    pub(super) fn of(answer: Option<Answer>) -> Self {
        answer.map_or(Self::Nothing, |answer| Self::Data(answer.data.unwrap_or_default()))
    }

    pub(super) fn data(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Data(data) => Some(data),
            _ => None,
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.data()?.get(name)
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.field("keys").and_then(Value::as_array).unwrap_or_default();
        keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// Why a check cannot go on; its findings say so.
pub(super) enum Gap {
    /// The server has no such path.
    Unsupported,
    /// The token may not.
    Refused,
    /// There is nothing to look at.
    Nothing,
}

/// Asks a question.
pub(super) type Ask<'a> = dyn FnMut(&Question) -> Result<Fetched, Failure> + 'a;

/// The mount, and what is known of it.
pub(super) struct Facts<'a> {
    pub(super) mount: String,
    pub(super) now: Time,
    has_token: bool,
    ask: &'a mut Ask<'a>,
    known: HashMap<Question, Rc<Fetched>>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(mount: &str, has_token: bool, now: Time, ask: &'a mut Ask<'a>) -> Self {
        Self { mount: mount.to_owned(), now, has_token, ask, known: HashMap::new() }
    }

    /// A path below the mount.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/{}/{rest}", self.mount)
    }

    /// The path of the mount's own settings.
    pub(super) fn tune_path(&self) -> String {
        format!("/sys/mounts/{}/tune", self.mount)
    }

    /// What that question brought, now or before.
    pub(super) fn fetch(&mut self, question: Question) -> Result<Rc<Fetched>, Failure> {
        if let Some(known) = self.known.get(&question) {
            return Ok(Rc::clone(known));
        }
        let fetched = Rc::new((self.ask)(&question)?);
        self.known.insert(question, Rc::clone(&fetched));
        Ok(fetched)
    }

    /// What is at a path below the mount.
    pub(super) fn read(&mut self, rest: &str) -> Result<Rc<Fetched>, Failure> {
        self.fetch(Question::Read(self.path(rest)))
    }

    /// The names below a path of the mount.
    pub(super) fn list(&mut self, rest: &str) -> Result<Result<Vec<String>, Gap>, Failure> {
        let fetched = self.fetch(Question::List(self.path(rest)))?;
        Ok(match &*fetched {
            Fetched::Data(_) => Ok(fetched.keys()),
            Fetched::Unsupported => Err(Gap::Unsupported),
            Fetched::Refused => Err(Gap::Refused),
            Fetched::Nothing | Fetched::Missing => Err(Gap::Nothing),
        })
    }

    /// The ids of the issuers. A mount without any is not worth checking.
    pub(super) fn issuers(&mut self) -> Result<Result<Vec<String>, Gap>, Failure> {
        match self.list("issuers")? {
            Err(Gap::Nothing) => Err(Failure::Local(
                "this mount lacks any configured issuers, limiting health check usefulness".to_owned(),
            )),
            other => Ok(other),
        }
    }

    /// The certificate in the field `certificate` of a path, and what is wrong if it is not there.
    pub(super) fn certificate(
        &mut self,
        rest: &str,
        what: &str,
    ) -> Result<Result<Certificate, Rc<Fetched>>, Failure> {
        let fetched = self.read(rest)?;
        let Some(data) = fetched.data() else { return Ok(Err(fetched)) };
        let pem = data.get("certificate").and_then(Value::as_str).unwrap_or_default();
        let certificate = Certificate::from_pem(pem);
        let unreadable = |error| Failure::Local(format!("unable to parse {what}'s certificate: {error}"));
        certificate.map(Ok).map_err(unreadable)
    }

    /// An issuer's certificate.
    pub(super) fn issuer(&mut self, id: &str) -> Result<Result<Certificate, Rc<Fetched>>, Failure> {
        self.certificate(&format!("issuer/{id}/json"), &format!("issuer {id}"))
    }

    /// The times of an issuer's CRL, complete or delta.
    pub(super) fn crl(&mut self, id: &str, delta: bool) -> Result<Result<CrlTimes, Rc<Fetched>>, Failure> {
        let (end, name) = if delta { ("/delta", "Delta CRL") } else { ("", "CRL") };
        let fetched = self.read(&format!("issuer/{id}/crl{end}"))?;
        let Some(data) = fetched.data() else { return Ok(Err(fetched)) };
        let times = CrlTimes::from_pem(data.get("crl").and_then(Value::as_str).unwrap_or_default());
        times
            .map(Ok)
            .map_err(|error| Failure::Local(format!("unable to parse issuer {id}'s {name}: {error}")))
    }

    /// The settings of the mount.
    pub(super) fn tune(&mut self) -> Result<Rc<Fetched>, Failure> {
        self.fetch(Question::Read(self.tune_path()))
    }

    /// A finding that something may not be read: one sentence with a token, another without, and what follows
    /// from it.
    pub(super) fn refused(&self, endpoint: &str, with: &str, without: &str, so: &str) -> Finding {
        let sentence = if self.has_token { with } else { without };
        Finding::new(Status::InsufficientPermissions, endpoint, format!("{sentence} {so}"))
    }
}
