//! Authorizations and their challenges (RFC 8555, 7.5): what can be proved how, and a client's word that the proof is there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chancery_storage::{StorageError, Writes};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Pki;
use super::account::payload;
use super::directory::Directory;
use super::eab::seconds;
use super::problem::{Failure, Outcome, Problem, ProblemKind};
use super::records::{
    ATTEMPTS, AccountRecord, AuthorizationRecord, AuthorizationStatus, ChallengeKind, ChallengeRecord,
    ChallengeStatus, Identifier, Stored, ValidationRecord, collection, fresh_id, name_of, named, put_changed,
    random, read, too_busy,
};
use super::validation::MOST_PROCESSING;
use super::{Request, json_answer};
use crate::engine::Call;
use crate::error::Error;
use crate::response::{Header, Response};

/// The authorization for an identifier of a new order.
pub(super) fn new_authorization(
    account: &AccountRecord,
    identifier: &Identifier,
    expires: Timestamp,
    now: Timestamp,
) -> Result<AuthorizationRecord, Error> {
    let (identifier, wildcard) = match identifier {
        Identifier::Dns(name) => match name.strip_prefix("*.") {
            Some(below) => (Identifier::Dns(below.to_owned()), true),
            None => (identifier.clone(), false),
        },
        Identifier::Ip(_) => (identifier.clone(), false),
    };
    let kinds: &[ChallengeKind] = match (&identifier, wildcard) {
        // A host says nothing about its neighbours.
        (_, true) => &[ChallengeKind::Dns01],
        (Identifier::Dns(_), false) => {
            &[ChallengeKind::Http01, ChallengeKind::Dns01, ChallengeKind::TlsAlpn01]
        }
        // As the peer has it. RFC 8738 has tls-alpn-01 too.
        (Identifier::Ip(_), false) => &[ChallengeKind::Http01],
    };
    let challenge = |kind: &ChallengeKind| {
        Ok(ChallengeRecord {
            kind: *kind,
            // RFC 8555, 8.1: at least 128 bits that nobody can guess.
            token: BASE64URL.encode(random::<24>()?),
            status: ChallengeStatus::Pending,
            validated: None,
            error: None,
        })
    };
    Ok(AuthorizationRecord {
        id: fresh_id(now)?,
        account: account.id.clone(),
        identifier,
        wildcard,
        status: AuthorizationStatus::Pending,
        expires,
        challenges: kinds.iter().map(challenge).collect::<Result<_, Error>>()?,
    })
}

impl AuthorizationRecord {
    /// What counts at `now`.
    pub(super) fn status_at(&self, now: Timestamp) -> AuthorizationStatus {
        match self.status {
            AuthorizationStatus::Pending | AuthorizationStatus::Valid if self.expires <= now => {
                AuthorizationStatus::Expired
            }
            status => status,
        }
    }

    /// The challenge of this kind.
    pub(super) fn challenge_mut(&mut self, kind: ChallengeKind) -> Option<&mut ChallengeRecord> {
        self.challenges.iter_mut().find(|challenge| challenge.kind == kind)
    }

    fn shown(&self, directory: &Directory, now: Timestamp) -> Value {
        let challenges: Vec<Value> =
            self.challenges.iter().map(|challenge| self.shown_challenge(challenge, directory)).collect();
        let mut shown = Map::new();
        shown.insert("challenges".to_owned(), challenges.into());
        shown.insert("expires".to_owned(), seconds(self.expires).into());
        shown.insert("identifier".to_owned(), json!(self.identifier));
        shown.insert("status".to_owned(), json!(self.status_at(now)));
        // RFC 8555, 7.1.4: there only if it is true.
        if self.wildcard {
            shown.insert("wildcard".to_owned(), true.into());
        }
        Value::Object(shown)
    }

    fn url(&self, directory: &Directory) -> String {
        directory.url(&format!("authorization/{}", self.id))
    }

    fn shown_challenge(&self, challenge: &ChallengeRecord, directory: &Directory) -> Value {
        let ChallengeRecord { kind, token, status, validated, error } = challenge;
        let mut shown = Map::new();
        if let Some(error) = error {
            // As the peer has it: with the status here, where none of HTTP says so.
            let mut document = error.document();
            document.insert("status".to_owned(), error.kind.status().into());
            shown.insert("error".to_owned(), document.into());
        }
        shown.insert("status".to_owned(), json!(status));
        shown.insert("token".to_owned(), token.clone().into());
        shown.insert("type".to_owned(), kind.name().into());
        let url = directory.url(&format!("challenge/{}/{}", self.id, kind.name()));
        shown.insert("url".to_owned(), url.into());
        if let Some(validated) = validated {
            shown.insert("validated".to_owned(), seconds(*validated).into());
        }
        Value::Object(shown)
    }
}

#[derive(Deserialize)]
struct ChangeAuthorization {
    status: Option<String>,
}

impl Pki {
    /// `authorization/{auth_id}`
    pub(super) async fn authorization(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, call, jws, account } = request;
        let wish = match jws.payload.is_empty() {
            true => None,
            false => payload::<ChangeAuthorization>(&jws.payload)?.status,
        };
        let view = &self.mount.view;
        for _ in 0..ATTEMPTS {
            let mut stored = self.own_authorization(call, &account.value).await?;
            match wish.as_deref() {
                None => return Ok(json_answer(&stored.value.shown(directory, call.now))),
                Some("deactivated") => {}
                Some(other) => {
                    let detail = format!("an authorization can be 'deactivated', not {other:?}");
                    return Err(Problem::malformed(detail).into());
                }
            }
            let status = stored.value.status_at(call.now);
            if !matches!(status, AuthorizationStatus::Pending | AuthorizationStatus::Valid) {
                let word = json!(status);
                return Err(Problem::malformed(format!(
                    "unable to deactivate authorization in '{}' status",
                    word.as_str().unwrap_or_default()
                ))
                .into());
            }
            stored.value.status = AuthorizationStatus::Deactivated;
            for challenge in &mut stored.value.challenges {
                if challenge.status != ChallengeStatus::Valid {
                    challenge.status = ChallengeStatus::Invalid;
                }
            }
            let mut writes = Writes::new();
            let name = name_of(&stored.value.id);
            put_changed(&mut writes, view, collection::AUTHORIZATIONS, &name, &stored)?;
            match view.commit(writes).await {
                Ok(()) => return Ok(json_answer(&stored.value.shown(directory, call.now))),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(too_busy())
    }

    /// `challenge/{auth_id}/{challenge_type}`: with a payload, the client's word that the proof is there.
    ///
    /// That it is being looked at is durable before the answer says so; the looking goes on in the background.
    pub(super) async fn challenge(self: &std::sync::Arc<Self>, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, call, jws, account } = request;
        if !jws.payload.is_empty() {
            // RFC 8555, 7.5.1: an object, which says nothing more.
            payload::<Map<String, Value>>(&jws.payload)?;
        }
        let view = &self.mount.view;
        for _ in 0..ATTEMPTS {
            let mut stored = self.own_authorization(call, &account.value).await?;
            let wanted = call.captures.iter().find(|(name, _)| *name == "challenge_type");
            let wanted = wanted.map_or("", |(_, name)| name.as_str());
            let found = stored.value.challenges.iter().find(|challenge| challenge.kind.name() == wanted);
            let Some(&ChallengeRecord { kind, status, .. }) = found else {
                let detail = format!("unknown challenge of type '{wanted}' in authorization");
                return Err(Problem::malformed(detail).into());
            };
            let open = stored.value.status_at(call.now) == AuthorizationStatus::Pending;
            if jws.payload.is_empty() || status != ChallengeStatus::Pending || !open {
                // Said before, or decided already: the client sees how it stands.
                return Ok(challenge_answer(&stored.value, kind, directory));
            }
            self.check_processing(&account.value).await?;
            if let Some(challenge) = stored.value.challenge_mut(kind) {
                challenge.status = ChallengeStatus::Processing;
            }
            let validation = ValidationRecord {
                account: account.value.id.clone(),
                authorization: stored.value.id.clone(),
                kind,
                attempts: 0,
            };
            let validation_name = validation.name(call.now);
            let mut writes = Writes::new();
            let name = name_of(&stored.value.id);
            put_changed(&mut writes, view, collection::AUTHORIZATIONS, &name, &stored)?;
            writes.put_json(view, collection::VALIDATIONS, &validation_name, &validation)?;
            writes.put(view, &collection::validations_of(&validation.account), &validation.place(), &[])?;
            match view.commit(writes).await {
                Ok(()) => {
                    self.validate_soon(validation_name, &validation.account, call.now);
                    return Ok(challenge_answer(&stored.value, kind, directory));
                }
                Err(StorageError::Conflict) => {}
                Err(error) => {
                    // Perhaps it is there all the same: the next tick looks.
                    self.acme.validations.due(call.now);
                    return Err(error.into());
                }
            }
        }
        Err(too_busy())
    }

    /// Whether one more challenge of the account may be looked at.
    async fn check_processing(&self, account: &AccountRecord) -> Outcome<()> {
        let waiting = collection::validations_of(&account.id);
        let waiting = self.mount.view.list(&waiting, None, MOST_PROCESSING).await?;
        if waiting.len() < MOST_PROCESSING {
            return Ok(());
        }
        let detail = format!("at most {MOST_PROCESSING} challenges of an account are looked at at a time");
        Err(Problem::new(ProblemKind::RateLimited, detail).into())
    }

    /// The authorization in the path, if it is the account's.
    async fn own_authorization(
        &self,
        call: &Call,
        account: &AccountRecord,
    ) -> Outcome<Stored<AuthorizationRecord>> {
        let capture = call.captures.iter().find(|(name, _)| *name == "auth_id");
        let name = capture.and_then(|(_, id)| named(id)).ok_or_else(no_authorization)?;
        let stored: Option<Stored<AuthorizationRecord>> =
            read(&self.mount.view, collection::AUTHORIZATIONS, &name).await?;
        // Somebody else's looks like none.
        stored.filter(|stored| stored.value.account == account.id).ok_or_else(no_authorization)
    }
}

fn no_authorization() -> Failure {
    Problem::malformed("failed to load authorization: authorization does not exist").into()
}

fn challenge_answer(
    authorization: &AuthorizationRecord,
    kind: ChallengeKind,
    directory: &Directory,
) -> Response {
    let challenge = authorization.challenges.iter().find(|challenge| challenge.kind == kind);
    let shown = challenge.map(|challenge| authorization.shown_challenge(challenge, directory));
    // RFC 8555, 7.5.1
    let up = format!("<{}>;rel=\"up\"", authorization.url(directory));
    let response = json_answer(&shown.unwrap_or_default()).header(Header::Link, up);
    match challenge.map(|challenge| challenge.status) {
        Some(ChallengeStatus::Processing) => response.header(Header::RetryAfter, "1"),
        _ => response,
    }
}
