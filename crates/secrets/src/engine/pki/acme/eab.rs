//! Bindings of accounts to something outside (RFC 8555, 7.3.4): an operator makes a key, hands it to somebody, and whoever
//! holds it can make one account in the directory that it was made for.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chancery_api::fields;
use chancery_storage::Writes;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::Pki;
use super::super::roles::ListRequest;
use super::directory::{Directory, path_of};
use super::jws::{Algorithm, Envelope, Jwk, Jws, KeyReference};
use super::problem::{Outcome, Problem, ProblemKind};
use super::records::{EabRecord, collection, fresh_id, name_of, named, put_new, random, read};
use super::requests::{Asked, Nothing, Scope};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

/// What every key begins with. It is part of the secret: clients decode all of it.
const PREFIX: &str = "vault-eab-0-";

fields! {
    /// Names a key.
    #[derive(Debug)]
    pub(in super::super) struct EabName {
        path {
            /// The key's id.
            key_id: String,
        }
    }
}

/// What a listing says of a key.
#[derive(Serialize)]
struct Shown {
    acme_directory: String,
    created_on: String,
    key_type: &'static str,
}

impl Shown {
    fn of(record: &EabRecord) -> Self {
        Self {
            acme_directory: format!("{}directory", record.directory),
            created_on: seconds(record.created),
            key_type: "hs",
        }
    }
}

/// RFC 3339 in whole seconds.
pub(super) fn seconds(instant: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(instant.as_second()).unwrap_or(instant).to_string()
}

impl Pki {
    /// `new-eab`
    pub(in super::super) async fn new_eab<S: Scope>(
        self: Arc<Self>,
        call: Call,
        _: Asked<S, Nothing>,
    ) -> Result<Response, Error> {
        let secret = Zeroizing::new(random::<32>()?);
        let record = EabRecord {
            id: fresh_id(call.now)?,
            key: Zeroizing::new(format!("{PREFIX}{}", BASE64URL.encode(secret.as_slice()))),
            directory: path_of(&call),
            created: call.now,
        };
        let view = &self.mount.view;
        let mut writes = Writes::new();
        put_new(&mut writes, view, collection::EAB, &name_of(&record.id), &record)?;
        view.commit(writes).await?;
        let Shown { acme_directory, created_on, key_type } = Shown::of(&record);
        Response::data(&json!({
            "acme_directory": acme_directory,
            "created_on": created_on,
            "id": record.id,
            "key": *record.key,
            "key_type": key_type,
        }))
    }

    /// LIST `eab`
    pub(in super::super) async fn list_eab(
        self: Arc<Self>,
        _: Call,
        body: ListRequest,
    ) -> Result<Response, Error> {
        let view = &self.mount.view;
        let after = (!body.after.is_empty()).then(|| name_of(&body.after));
        let mut keys = Vec::new();
        let mut shown = BTreeMap::new();
        for name in view.list(collection::EAB, after.as_ref(), body.limit()).await? {
            // One that was used since is left out.
            if let Some(stored) = read::<EabRecord>(view, collection::EAB, &name).await? {
                shown.insert(stored.value.id.clone(), Shown::of(&stored.value));
                keys.push(stored.value.id);
            }
        }
        Response::list_with_info(&keys, &shown)
    }

    /// DELETE `eab/{key_id}`
    pub(in super::super) async fn delete_eab(
        self: Arc<Self>,
        _: Call,
        body: EabName,
    ) -> Result<Response, Error> {
        let Some(name) = named_eab(&body.key_id) else { return Err(Error::unsupported_path()) };
        let view = &self.mount.view;
        let known = match name {
            Some(name) => {
                let known = read::<EabRecord>(view, collection::EAB, &name).await?.is_some();
                view.delete(collection::EAB, &name).await?;
                known
            }
            None => false,
        };
        let response = Response::data(&())?;
        Ok(if known { response } else { response.warn(format!("No key id found with id: {}", body.key_id)) })
    }

    /// Holds a binding against the key that it names, and puts that key's end into the batch. Answers the key's id.
    ///
    /// A key that was used, or is another directory's, looks like one that never was.
    pub(super) async fn redeem_binding(
        &self,
        directory: &Directory,
        envelope: &Envelope,
        account_key: &Jwk,
        writes: &mut Writes,
    ) -> Outcome<String> {
        let binding = Jws::parse(envelope)?;
        let KeyReference::Kid(id) = &binding.key else {
            return Err(Problem::malformed("a binding names its key by 'kid'").into());
        };
        if binding.algorithm != Algorithm::Hs256 {
            let detail = "bindings are made with HS256";
            return Err(Problem::new(ProblemKind::BadSignatureAlgorithm, detail).into());
        }
        if binding.nonce.is_some() {
            return Err(Problem::malformed("a binding has no nonce").into());
        }
        let expected = directory.url("new-account");
        if binding.url != expected {
            return Err(Problem::unauthorized(format!(
                "invalid value for 'url' in eab 'protected': got '{}' expected '{expected}'",
                binding.url
            ))
            .into());
        }
        let refused =
            || Problem::unauthorized("the client lacks sufficient authorization: failed to verify eab");
        let view = &self.mount.view;
        let name = named(id).ok_or_else(refused)?;
        let key = read::<EabRecord>(view, collection::EAB, &name).await?.ok_or_else(refused)?;
        let secret = BASE64URL.decode(key.value.key.as_bytes()).map(Zeroizing::new);
        let secret = secret.map_err(|error| Error::internal("a stored key does not decode", error))?;
        if key.value.directory != directory.path || !binding.verify_mac(&secret) {
            return Err(refused().into());
        }
        if Jwk::parse(&binding.payload)? != *account_key {
            return Err(Problem::malformed("eab payload does not match outer JWK key").into());
        }
        writes.expect_unchanged(view, collection::EAB, &name, &key.version)?;
        writes.delete(view, collection::EAB, &name)?;
        Ok(id.clone())
    }
}

/// The name of a key: `None` for a text that is no UUID, `Some(None)` for one that is none of ours.
#[expect(clippy::option_option, reason = "a path that is not there, and a key that is not")]
fn named_eab(id: &str) -> Option<Option<chancery_storage::Name>> {
    uuid::Uuid::try_parse(id).ok()?;
    Some(named(id))
}
