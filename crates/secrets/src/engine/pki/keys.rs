//! Keys: made, imported, named, removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chancery_api::fields;
use chancery_api::fields::NoFields;
use chancery_issuance::{KeyForm, KeySpec, PrivateKey, Signer};
use serde_json::json;
use zeroize::Zeroizing;

use super::Pki;
use super::authorities::{Authorities, DEFAULT, HeldKey, Unresolved, one_error};
use super::authority::{KeyHome, WantedKey};
use super::heavy;
use super::import::{Fates, orphans, rechain};
use super::leaf::Format;
use super::records::{IssuersConfig, KeyId, KeyRecord, KeysConfig};
use super::store::Change;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

/// Shorter than any key: a path, most likely.
const TOO_SHORT: usize = 64;

fields! {
    /// Makes a key.
    #[derive(Debug)]
    pub(super) struct GenerateKey {
        body {
            /// Its name.
            key_name: String = String::new(),
            /// `rsa`, `ec`, `ed25519` or `mldsa`.
            key_type: String = "rsa".to_owned(),
            /// Its size; 0 is the type's usual one.
            key_bits: i64 = 0,
            /// Keys outside of this server are not offered.
            external_key_ref: String = String::new(),
        }
    }
}

fields! {
    /// Imports a key.
    #[derive(Debug)]
    pub(super) struct ImportKey {
        body {
            /// Its name.
            key_name: String = String::new(),
            /// The key in PEM.
            pem_bundle: chancery_api::Secret = chancery_api::Secret::default(),
        }
    }
}

fields! {
    /// Names a key.
    #[derive(Debug)]
    pub(super) struct KeyReference {
        path {
            /// `default`, an id or a name.
            key_ref: String,
        }
    }
}

fields! {
    /// Gives a key another name.
    #[derive(Debug)]
    pub(super) struct UpdateKey {
        path {
            /// `default`, an id or a name.
            key_ref: String,
        }
        body {
            /// The name; empty for none.
            key_name: String = String::new(),
        }
    }
}

/// A key for a new authority.
pub(super) struct AuthorityKey {
    /// Its record; to be written if it is new.
    pub(super) record: KeyRecord,
    /// The key itself.
    pub(super) key: Arc<PrivateKey>,
    /// Whether it was here before.
    pub(super) known: bool,
}

impl Pki {
    /// Makes or finds the key that a new authority asks for.
    pub(super) async fn authority_key(
        &self,
        home: KeyHome,
        wanted: &WantedKey,
    ) -> Result<AuthorityKey, Error> {
        let authorities = self.store.authorities().await?;
        if home == KeyHome::Existing {
            if wanted.described {
                return Err(Error::invalid(
                    "invalid parameter for the kms/existing path parameter, key_type nor key_bits arguments can be \
                     set in this mode",
                ));
            }
            let held = authorities.find_key(&wanted.key_ref).map_err(|unresolved| {
                Error::invalid(format!("failed to lookup public key from existing key: {unresolved}"))
            })?;
            return Ok(AuthorityKey {
                record: held.record.clone(),
                key: Arc::clone(held.private_key()?),
                known: true,
            });
        }
        check_key_name(&wanted.key_name, &authorities, None)?;
        let spec = wanted.spec()?;
        let key = generate(spec).await?;
        Ok(AuthorityKey { record: key_record(&key, &wanted.key_name), key: Arc::new(key), known: false })
    }

    /// LIST `keys`
    pub(super) async fn list_keys(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let default = authorities.keys_config.value.default;
        let mut names = Vec::new();
        let mut info = BTreeMap::new();
        for held in authorities.keys() {
            let KeyRecord { id, name, .. } = &held.record;
            names.push(id.to_string());
            info.insert(id.to_string(), json!({ "is_default": default == Some(*id), "key_name": name }));
        }
        Response::list_with_info(&names, &info)
    }

    /// POST `keys/generate/internal`
    pub(super) async fn generate_internal_key(
        self: Arc<Self>,
        _: Call,
        body: GenerateKey,
    ) -> Result<Response, Error> {
        self.generate_key(KeyHome::Internal, body).await
    }

    /// POST `keys/generate/exported`
    pub(super) async fn generate_exported_key(
        self: Arc<Self>,
        _: Call,
        body: GenerateKey,
    ) -> Result<Response, Error> {
        self.generate_key(KeyHome::Exported, body).await
    }

    async fn generate_key(&self, home: KeyHome, body: GenerateKey) -> Result<Response, Error> {
        if !body.external_key_ref.is_empty() {
            return Err(Error::invalid("keys outside of this server (external_key_ref) are not supported"));
        }
        let wanted = WantedKey {
            key_type: body.key_type,
            key_bits: body.key_bits,
            key_name: body.key_name,
            key_ref: String::new(),
            described: true,
        };
        check_key_name(&wanted.key_name, &*self.store.authorities().await?, None)?;
        if wanted.key_type == "any" {
            return Err(one_error(&"unknown key type: any"));
        }
        wanted.spec().map_err(|error| {
            Error::invalid(format!("Validation for key_type, key_bits failed: {}", error.message()))
        })?;
        let made = self.authority_key(home, &wanted).await?;
        let mut change = self.store.change().await?;
        adopt_key(&mut change, &made.record)?;
        change.commit().await?;
        let mut shown = json!({
            "key_id": made.record.id.to_string(),
            "key_name": made.record.name,
            "key_type": made.record.key_type,
        });
        if let (KeyHome::Exported, Some(object)) = (home, shown.as_object_mut()) {
            let pem = made.key.to_pem(KeyForm::Traditional);
            object.insert("private_key".to_owned(), pem.trim_ascii_end().into());
        }
        Response::data(&shown)
    }

    /// POST `keys/import`
    pub(super) async fn import_key(self: Arc<Self>, _: Call, body: ImportKey) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        check_key_name(&body.key_name, &change.before, None)?;
        let text = body.pem_bundle.expose();
        if text.len() < TOO_SHORT {
            return Err(Error::invalid(
                "provided data for import was too short; perhaps a path was passed to the API rather than the \
                 contents of a PEM file",
            ));
        }
        let key = PrivateKey::only_one_from_pem(text).map_err(|error| Error::invalid(error.to_string()))?;
        if let Some(held) = find_same_key(&change.before, &key)? {
            return Ok(
                shown_key(&held.record)?.warn("Key already imported, use key/ endpoint to update name.")
            );
        }
        let record = key_record(&key, &body.key_name);
        adopt_key(&mut change, &record)?;
        let linked = orphans(&change.before, &[(key.public_key().spki_der().to_vec(), record.id)]);
        rechain(&mut change, &Fates { linked: &linked, ..Fates::default() }, Vec::new())?;
        let config = change.before.issuers_config.value.clone();
        if let (None, Some((issuer, _))) = (config.default, linked.first()) {
            change.put_issuers_config(&IssuersConfig { default: Some(*issuer), ..config })?;
        }
        change.commit().await?;
        shown_key(&record)
    }

    /// GET `key/{key_ref}`
    pub(super) async fn read_key(self: Arc<Self>, _: Call, body: KeyReference) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let held = find(&authorities, &body.key_ref)?;
        let KeyRecord { id, name, key_type, .. } = &held.record;
        let identifier = held.private_key()?.public_key().subject_key_id();
        Response::data(&json!({
            "key_id": id.to_string(),
            "key_name": name,
            "key_type": key_type,
            "subject_key_id": colons(&identifier),
        }))
    }

    /// POST `key/{key_ref}`
    pub(super) async fn update_key(self: Arc<Self>, _: Call, body: UpdateKey) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let held = Arc::clone(find(&change.before, &body.key_ref)?);
        if !is_name(&body.key_name) {
            return Err(Error::invalid("new key name outside of valid character limits"));
        }
        check_key_name(&body.key_name, &change.before, Some(held.record.id))?;
        let record = KeyRecord { name: body.key_name, ..held.record.clone() };
        change.put_key(&record)?;
        change.commit().await?;
        let response = shown_key(&record)?;
        Ok(if record.name.is_empty() {
            response.warn(format!(
                "Name successfully deleted, you will now need to reference this key by it's Id: {}",
                record.id
            ))
        } else {
            response
        })
    }

    /// DELETE `key/{key_ref}`
    pub(super) async fn delete_key(self: Arc<Self>, _: Call, body: KeyReference) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let held = match change.before.find_key(&body.key_ref) {
            Ok(held) => Arc::clone(held),
            Err(Unresolved::Key(_) | Unresolved::NoDefaultKey) => return Ok(Response::empty()),
            Err(unresolved) => return Err(unresolved.into()),
        };
        let id = held.record.id;
        if let Some(issuer) = change.before.issuers().find(|issuer| issuer.record.key == Some(id)) {
            return Err(Error::invalid(format!(
                "Failed to Delete Key.  Key in Use by Issuer: {}",
                issuer.record.id
            )));
        }
        let was_default = change.before.keys_config.value.default == Some(id);
        change.delete_key(&id)?;
        if was_default {
            change.put_keys_config(&KeysConfig { default: None })?;
        }
        change.commit().await?;
        let response = Response::empty();
        Ok(if was_default {
            response.warn(format!("Deleted key {id} (via key_ref {}); this was configured as the default key. Operations without an explicit key will not work until a new default is configured.", body.key_ref))
        } else {
            response
        })
    }
}

/// Sees to the key of a new authority: one that was made is written, one that was found must be here
/// still.
pub(super) fn settle_key(change: &mut Change<'_>, key: &AuthorityKey) -> Result<(), Error> {
    if !key.known {
        return adopt_key(change, &key.record);
    }
    change.keep_key(&key.record.id)?;
    Ok(())
}

/// Writes a new key, whose name nobody else may have taken meanwhile; the first one becomes the default.
pub(super) fn adopt_key(change: &mut Change<'_>, record: &KeyRecord) -> Result<(), Error> {
    check_key_name(&record.name, &change.before, None)?;
    change.put_key(record)?;
    if change.before.keys_config.value.default.is_none() {
        change.put_keys_config(&KeysConfig { default: Some(record.id) })?;
    }
    Ok(())
}

/// The record of a new key.
pub(super) fn key_record(key: &PrivateKey, name: &str) -> KeyRecord {
    KeyRecord {
        id: KeyId::fresh(),
        name: name.to_owned(),
        key_type: key.spec().key_type().name().to_owned(),
        private_key: key.to_pem(KeyForm::Traditional),
    }
}

/// The key here that has the same public half.
pub(super) fn find_same_key<'a>(
    authorities: &'a Authorities,
    key: &PrivateKey,
) -> Result<Option<&'a Arc<HeldKey>>, Error> {
    for held in authorities.keys() {
        if held.private_key()?.public_key() == key.public_key() {
            return Ok(Some(held));
        }
    }
    Ok(None)
}

/// Makes a key, off the worker thread if it takes long.
pub(super) async fn generate(spec: KeySpec) -> Result<PrivateKey, Error> {
    let made = if heavy::generates_inline(spec) {
        PrivateKey::generate(spec)
    } else {
        heavy::run(move || PrivateKey::generate(spec)).await?
    };
    made.map_err(|error| Error::internal("the key could not be made", error))
}

/// A key as answers carry it.
pub(super) fn key_text(key: &PrivateKey, format: Format, private_key_format: &str) -> Zeroizing<String> {
    let form = if private_key_format == "pkcs8" { KeyForm::Pkcs8 } else { KeyForm::Traditional };
    match format {
        Format::Der => Zeroizing::new(BASE64.encode(&*key.to_der(form))),
        Format::Pem | Format::PemBundle => Zeroizing::new(key.to_pem(form).trim_ascii_end().to_owned()),
    }
}

/// Whether a key may have this name.
fn check_key_name(name: &str, authorities: &Authorities, own: Option<KeyId>) -> Result<(), Error> {
    check_name("key", name)?;
    match authorities.find_key(name) {
        Ok(held) if !name.is_empty() && Some(held.record.id) != own => {
            Err(Error::invalid("key name already in use"))
        }
        _ => Ok(()),
    }
}

/// Whether `name` is one at all: a word, and not the reserved one.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    if name == DEFAULT {
        return Err(Error::invalid(format!("reserved keyword 'default' can not be used as {what} name")));
    }
    if is_name(name) {
        Ok(())
    } else {
        Err(Error::invalid(format!("{what} name contained invalid characters")))
    }
}

/// Letters, digits and `_`, with `.` and `-` between them; or nothing, which is no name.
fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inside = |c: char| word(c) || matches!(c, '.' | '-');
    name.is_empty() || (name.chars().all(inside) && name.starts_with(word) && name.ends_with(word))
}

fn find<'a>(authorities: &'a Authorities, reference: &str) -> Result<&'a Arc<HeldKey>, Error> {
    Ok(authorities.find_key(reference)?)
}

fn shown_key(record: &KeyRecord) -> Result<Response, Error> {
    let KeyRecord { id, name, key_type, .. } = record;
    Response::data(&json!({ "key_id": id.to_string(), "key_name": name, "key_type": key_type }))
}

/// Bytes in hexadecimal, with colons between them.
fn colons(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}
