//! Response wrapping: an answer kept in the cubbyhole of a token that can be used once.
//!
//! The wrapping token is an orphan with the one policy `response-wrapping`, one use and a hard end.
//! Token and content are written with one commit. Unwrapping spends the use before it reads the
//! content, so of two who try only one sees it, and the other learns that somebody was there.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_api::envelope::WrapInfo;
use chancery_api::{RawValue, Secret, Ttl};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::cubbyhole::{self, RESPONSE};
use crate::error::{Error, Kind};
use crate::response::{Answer, Raw, Response};
use crate::token::store::RESPONSE_WRAPPING;
use crate::token::{Authorized, NewToken, Spend, TokenEntry, TokenState, TokenStore};

/// What the wrapping token keeps: the whole answer as text, as clients that read
/// `cubbyhole/response` themselves expect it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    response: String,
}

/// Noted with the token when the answer was no JSON. What is kept does not tell: a client may wrap an
/// object of the same look itself, which must come out as an object.
const RAW: &str = "raw";

/// An answer that is no JSON, as the peer keeps it: inside one.
#[derive(Debug, Serialize, Deserialize)]
struct KeptRaw {
    http_content_type: String,
    /// In base64; absent when there are no bytes.
    http_raw_body: Option<String>,
    http_status_code: u16,
}

impl KeptRaw {
    fn of(raw: &Raw, status: Option<u16>) -> Self {
        let empty = raw.body.is_empty();
        Self {
            http_content_type: raw.content_type.clone().into_owned(),
            http_raw_body: (!empty).then(|| STANDARD.encode(&raw.body)),
            http_status_code: status.unwrap_or(if empty { 204 } else { 200 }),
        }
    }

    fn into_response(self) -> Result<Response, Error> {
        let body = STANDARD
            .decode(self.http_raw_body.unwrap_or_default())
            .map_err(|error| Error::internal("internal error", error))?;
        let raw = Raw { content_type: self.http_content_type.into(), body: body.into(), last_modified: None };
        Ok(Response { raw: Some(Box::new(raw)), status: Some(self.http_status_code), ..Response::default() })
    }
}

/// Keeps `answer` and gives out what leads to it.
pub async fn wrap(
    tokens: &TokenStore,
    answer: &Answer,
    ttl: Ttl,
    creation_path: &str,
    now: Timestamp,
) -> Result<WrapInfo, Error> {
    let accessor = match &answer.auth {
        Some(auth) => auth.accessor.clone(),
        None => answer.response.accessor.clone().unwrap_or_default(),
    };
    let content = match &answer.response.raw {
        None => answer.to_kept()?,
        Some(raw) => {
            let response = Response::data(&KeptRaw::of(raw, answer.response.status))?;
            Answer { request_id: answer.request_id.clone(), response, ..Answer::default() }.to_json()?
        }
    };
    let response =
        String::from_utf8(content).map_err(|error| Error::internal("internal error", error.utf8_error()))?;
    let noted = answer.response.raw.iter().map(|_| (RAW.to_owned(), String::new())).collect();
    keep(tokens, response, noted, accessor, ttl, creation_path, now).await
}

async fn keep(
    tokens: &TokenStore,
    response: String,
    noted: BTreeMap<String, String>,
    wrapped_accessor: String,
    ttl: Ttl,
    creation_path: &str,
    now: Timestamp,
) -> Result<WrapInfo, Error> {
    let kept = serde_json::to_vec(&Kept { response })?;
    let new = NewToken {
        policies: vec![RESPONSE_WRAPPING.to_owned()],
        path: creation_path.to_owned(),
        display_name: "token".to_owned(),
        num_uses: 1,
        ttl,
        explicit_max_ttl: ttl,
        internal: noted,
        ..NewToken::default()
    };
    let created = tokens
        .create_with(new, now, |writes, key| cubbyhole::put(&tokens.root, key, RESPONSE, &kept, writes))
        .await?;
    Ok(WrapInfo {
        token: created.text.expose().to_owned(),
        accessor: created.accessor,
        ttl: ttl.as_secs(),
        creation_time: created.entry.created.to_string(),
        creation_path: creation_path.to_owned(),
        wrapped_accessor,
    })
}

/// What `sys/wrapping/lookup` says of a wrapping token, without using it.
pub async fn lookup(tokens: &TokenStore, text: &Secret, now: Timestamp) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Shown<'a> {
        creation_path: &'a str,
        creation_time: Timestamp,
        creation_ttl: Ttl,
    }
    let entry = find(tokens, text, now).await?;
    Response::data(&Shown {
        creation_path: &entry.path,
        creation_time: entry.created,
        creation_ttl: entry.ttl,
    })
}

/// `sys/wrapping/unwrap`: the kept answer, once.
///
/// `given` is the token in the body. Without one the caller's own token is meant; the pipeline has
/// spent its use already, and revokes it when the request is done.
pub async fn unwrap(
    tokens: &TokenStore,
    given: Option<&Secret>,
    caller: &Authorized,
    now: Timestamp,
) -> Result<Response, Error> {
    #[derive(Deserialize)]
    struct Inner {
        data: KeptRaw,
    }
    let (entry, content) = open(tokens, given, caller, now).await?;
    if entry.internal.contains_key(RAW) {
        return serde_json::from_str::<Inner>(&content)?.data.into_response();
    }
    Ok(Response { unwrapped: Some(RawValue::from_string(content)?), ..Response::default() })
}

/// `sys/wrapping/rewrap`: the same content under a fresh token, for as long as at first. The old one
/// is used up.
pub async fn rewrap(
    tokens: &TokenStore,
    given: Option<&Secret>,
    caller: &Authorized,
    now: Timestamp,
) -> Result<Response, Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        auth: Option<InnerAuth>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct InnerAuth {
        accessor: String,
    }
    let (entry, content) = open(tokens, given, caller, now).await?;
    let inner: Inner = serde_json::from_str(&content)?;
    let accessor = inner.auth.unwrap_or_default().accessor;
    let noted = entry.internal.clone();
    let info = keep(tokens, content, noted, accessor, entry.ttl, &entry.path, now).await?;
    Ok(Response { wrap_info: Some(Box::new(info)), ..Response::default() })
}

/// Uses a wrapping token up and takes out what it keeps.
async fn open(
    tokens: &TokenStore,
    given: Option<&Secret>,
    caller: &Authorized,
    now: Timestamp,
) -> Result<(Arc<TokenEntry>, String), Error> {
    let text = given.filter(|text| !text.is_empty() && text.expose() != caller.text().expose());
    let entry = match text {
        None => {
            let entry = tokens.record(caller.token().key).await?.filter(|entry| is_wrapping(entry));
            // Its one use is the one that this request spent.
            entry.filter(|entry| entry.state == TokenState::Spent).ok_or_else(invalid)?
        }
        Some(text) => {
            let entry = find(tokens, text, now).await?;
            if tokens.spend(&entry, now).await? != Spend::Last {
                return Err(invalid());
            }
            entry
        }
    };
    let kept = cubbyhole::get(&tokens.root, entry.key, RESPONSE).await?;
    if text.is_some() {
        tokens.revoke_tree(entry.key, now).await?;
    }
    let kept: Kept = kept.ok_or_else(invalid)?.json()?;
    Ok((entry, kept.response))
}

/// The wrapping token with this text, if it has not been used.
async fn find(tokens: &TokenStore, text: &Secret, now: Timestamp) -> Result<Arc<TokenEntry>, Error> {
    if text.is_empty() {
        return Err(Error::of(Kind::PermissionDenied, "error validating wrapping token: token is empty"));
    }
    tokens.lookup(text, now).await?.filter(|entry| is_wrapping(entry)).ok_or_else(invalid)
}

/// Whether a token is there to unwrap something.
pub fn is_wrapping(entry: &TokenEntry) -> bool {
    matches!(entry.policies.as_slice(), [only] if only == RESPONSE_WRAPPING)
}

/// The refusal of a wrapping token that is used, expired, or none.
pub fn invalid() -> Error {
    Error::invalid("wrapping token is not valid or does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::{after, count_all, start, store};
    use serde_json::{Value, json};

    fn answer() -> Answer {
        let response = Response::data(&json!({"x": 1})).unwrap();
        Answer { request_id: "r-1".to_owned(), response, ..Answer::default() }
    }

    async fn caller(tokens: &TokenStore, text: &Secret) -> Authorized {
        let entry = tokens.lookup(text, start()).await.unwrap().unwrap();
        Authorized::new(entry, text.clone(), false)
    }

    async fn somebody(tokens: &TokenStore) -> Authorized {
        let created = tokens.create(NewToken::root(), start()).await.unwrap();
        caller(tokens, &created.text).await
    }

    fn content(response: &Response) -> Value {
        serde_json::from_str(response.unwrapped.as_ref().unwrap().get()).unwrap()
    }

    async fn wrapped(tokens: &TokenStore) -> (Secret, WrapInfo) {
        let info = wrap(tokens, &answer(), Ttl::seconds(60), "secret/a", start()).await.unwrap();
        (Secret::new(info.token.as_str()), info)
    }

    #[tokio::test]
    async fn a_wrapped_answer_comes_out_whole_and_once() {
        let tokens = store().await;
        let me = somebody(&tokens).await;
        let (text, info) = wrapped(&tokens).await;
        assert_eq!(
            (info.ttl, info.creation_path.as_str(), info.wrapped_accessor.as_str()),
            (60, "secret/a", "")
        );
        let unwrapped = unwrap(&tokens, Some(&text), &me, after(1)).await.unwrap();
        assert_eq!(
            (&content(&unwrapped)["data"], &content(&unwrapped)["request_id"]),
            (&json!({"x": 1}), &json!("r-1"))
        );
        let again = unwrap(&tokens, Some(&text), &me, after(1)).await.unwrap_err();
        assert_eq!(again.message(), "wrapping token is not valid or does not exist");
        // Only our own token is left, and nothing in any cubbyhole.
        assert_eq!(count_all(&tokens).await, (1, 0, 0));
        assert!(
            cubbyhole::get(&tokens.root, tokens.keys.key(text.expose()), RESPONSE).await.unwrap().is_none()
        );
    }

    #[tokio::test]
    async fn bytes_come_out_as_bytes_also_when_they_were_rewrapped() {
        let tokens = store().await;
        let me = somebody(&tokens).await;
        for (body, status) in [(&b"\x30\x82"[..], 200), (b"", 204)] {
            let response = Response::raw("application/pkix-cert", body);
            let answer = Answer { response, ..Answer::default() };
            let info = wrap(&tokens, &answer, Ttl::seconds(60), "pki/ca", start()).await.unwrap();
            let text = Secret::new(info.token);
            let info = rewrap(&tokens, Some(&text), &me, after(1)).await.unwrap().wrap_info.unwrap();
            let text = Secret::new(info.token);
            let response = unwrap(&tokens, Some(&text), &me, after(2)).await.unwrap();
            let raw = response.raw.unwrap();
            assert_eq!((&*raw.content_type, &*raw.body), ("application/pkix-cert", body));
            assert_eq!((response.status, response.unwrapped.is_some()), (Some(status), false));
        }
    }

    #[tokio::test]
    async fn an_object_that_looks_like_bytes_stays_an_object() {
        let tokens = store().await;
        let me = somebody(&tokens).await;
        let data =
            json!({"http_content_type": "text/html", "http_raw_body": "PGI+", "http_status_code": 200});
        let answer = Answer { response: Response::data(&data).unwrap(), ..Answer::default() };
        let info = wrap(&tokens, &answer, Ttl::seconds(60), "sys/wrapping/wrap", start()).await.unwrap();
        let text = Secret::new(info.token);
        let unwrapped = unwrap(&tokens, Some(&text), &me, after(1)).await.unwrap();
        assert_eq!(content(&unwrapped)["data"], data);
    }

    #[tokio::test]
    async fn the_callers_own_token_is_meant_when_none_is_given() {
        let tokens = store().await;
        let (text, _) = wrapped(&tokens).await;
        let me = caller(&tokens, &text).await;
        let early = unwrap(&tokens, None, &me, after(1)).await;
        assert!(early.is_err(), "its use must have been spent first");
        assert_eq!(tokens.spend(me.token(), after(1)).await.unwrap(), Spend::Last);
        for given in [None, Some(&text)] {
            let unwrapped = unwrap(&tokens, given, &me, after(1)).await.unwrap();
            assert_eq!(content(&unwrapped)["data"], json!({"x": 1}));
        }
    }

    #[tokio::test]
    async fn of_two_who_unwrap_at_once_one_sees_the_content() {
        let tokens = Arc::new(store().await);
        let me = somebody(&tokens).await;
        let (text, _) = wrapped(&tokens).await;
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let (tokens, me, text) = (Arc::clone(&tokens), me.clone(), text.clone());
                tokio::spawn(async move { unwrap(&tokens, Some(&text), &me, after(1)).await.is_ok() })
            })
            .collect();
        let mut seen = 0;
        for attempt in tries {
            seen += usize::from(attempt.await.unwrap());
        }
        assert_eq!(seen, 1);
    }

    #[tokio::test]
    async fn look_ups_do_not_use_the_token_and_refuse_any_other() {
        let tokens = store().await;
        let me = somebody(&tokens).await;
        let (text, _) = wrapped(&tokens).await;
        for _ in 0..2 {
            let shown = lookup(&tokens, &text, after(1)).await.unwrap();
            let shown: Value = serde_json::from_str(shown.data.unwrap().get()).unwrap();
            assert_eq!(
                shown,
                json!({"creation_path": "secret/a", "creation_time": "2026-11-24T02:33:39Z", "creation_ttl": 60})
            );
        }
        for (wrong, refusal) in [
            (Secret::default(), "error validating wrapping token: token is empty"),
            (Secret::new("nope"), "wrapping token is not valid or does not exist"),
            (me.text().clone(), "wrapping token is not valid or does not exist"),
        ] {
            assert_eq!(lookup(&tokens, &wrong, after(1)).await.unwrap_err().message(), refusal);
        }
        assert!(lookup(&tokens, &text, after(60)).await.is_err());
        assert!(unwrap(&tokens, Some(&text), &me, after(60)).await.is_err());
    }

    #[tokio::test]
    async fn rewrapping_moves_the_content_to_a_fresh_token() {
        let tokens = store().await;
        let me = somebody(&tokens).await;
        let (old, _) = wrapped(&tokens).await;
        let response = rewrap(&tokens, Some(&old), &me, after(30)).await.unwrap();
        let info = response.wrap_info.unwrap();
        assert_eq!((info.ttl, info.creation_path.as_str()), (60, "secret/a"));
        assert!(unwrap(&tokens, Some(&old), &me, after(31)).await.is_err());
        let fresh = Secret::new(info.token.as_str());
        let unwrapped = unwrap(&tokens, Some(&fresh), &me, after(89)).await.unwrap();
        assert_eq!(content(&unwrapped)["data"], json!({"x": 1}));
    }

    #[tokio::test]
    async fn a_wrapped_login_says_whose_accessor_it_hides() {
        let tokens = store().await;
        let created = tokens.create(NewToken::root(), start()).await.unwrap();
        let login = Answer { auth: Some(created.auth()), ..Answer::default() };
        let info = wrap(&tokens, &login, Ttl::seconds(60), "auth/a/login", start()).await.unwrap();
        assert_eq!(info.wrapped_accessor, created.accessor);
        let me = somebody(&tokens).await;
        let again = rewrap(&tokens, Some(&Secret::new(info.token.as_str())), &me, after(1)).await.unwrap();
        assert_eq!(again.wrap_info.unwrap().wrapped_accessor, created.accessor);
    }
}
