//! `issuer/{ref}/resign-crls` and `issuer/{ref}/sign-revocation-list`: lists that the caller brings.
//!
//! What is signed here is handed out and forgotten: number, end and content are the caller's to keep.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::{DecodeError, Engine as _};
use chancery_api::{Json, Strings, duration, fields};
use chancery_issuance::{
    CrlEntry, CrlExtension, CrlHead, ImportedCrl, ImportedEntry, SerialNumber, Time, UnsignedCrl, crl_pem,
    reserved_crl_extension,
};
use data_encoding::HEXLOWER_PERMISSIVE;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Pki;
use super::heavy;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

macro_rules! list_request {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr),* $(,)? }) => {
        fields! {
            $(#[$meta])*
            #[derive(Debug)]
            pub(super) struct $name {
                path {
                    /// Who signs: `default`, an id or a name.
                    issuer_ref: String,
                }
                body {
                    /// The list's number.
                    crl_number: i64 = 0,
                    /// The number of the complete list that it adds to; -1 for a complete one.
                    delta_crl_base_number: i64 = -1,
                    /// How long it is valid.
                    next_update: String = "72h".to_owned(),
                    /// `pem`, or `der` in base64.
                    format: String = "pem".to_owned(),
                    $($(#[doc = $doc])+ $field: $ty = $default,)*
                }
            }
        }

        impl $name {
            fn terms(&self, now: Timestamp) -> Result<Terms, Error> {
                Terms::new(self.crl_number, self.delta_crl_base_number, &self.next_update, &self.format, now)
            }
        }
    };
}

list_request! {
    /// Merges CRLs of one issuer into one.
    ResignRequest {
        /// The CRLs, each in PEM.
        crls: Strings = Strings::default(),
    }
}

list_request! {
    /// Signs a list of revoked certificates that the caller brings.
    SignListRequest {
        /// Objects with `serial_number`, `revocation_time` and `extensions`.
        revoked_certs: Json = Json::default(),
        /// Objects with `id`, `critical` and `value` (in base64).
        extensions: Json = Json::default(),
    }
}

/// What both requests say of the list itself.
struct Terms {
    this_update: Time,
    next_update: Time,
    number: u64,
    delta_base: Option<u64>,
    der: bool,
}

/// The entries of a list, encoded.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    count: usize,
}

impl Pki {
    /// POST `issuer/{issuer_ref}/resign-crls`
    pub(super) async fn resign_crls(
        self: Arc<Self>,
        call: Call,
        body: ResignRequest,
    ) -> Result<Response, Error> {
        let terms = body.terms(call.now)?;
        let mut crls = Vec::new();
        for (index, text) in body.crls.iter().enumerate() {
            let crl = ImportedCrl::from_pem(text)
                .map_err(|error| Error::invalid(format!("failed decoding crl {index}: {error}")))?;
            crls.push(crl);
        }
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_crl_signing(&body.issuer_ref)?;
        if let Some(index) = crls.iter().position(|crl| !crl.is_signed_by(&issuer.certificate)) {
            return Err(Error::invalid(format!("CRL index: {index} was not signed by requested issuer")));
        }
        let (entries, warnings) = merged(&crls)?;
        let mut response = self.sign_list(&body.issuer_ref, terms, Vec::new(), entries).await?;
        response.warnings.extend(warnings);
        Ok(response)
    }

    /// POST `issuer/{issuer_ref}/sign-revocation-list`
    pub(super) async fn sign_revocation_list(
        self: Arc<Self>,
        call: Call,
        body: SignListRequest,
    ) -> Result<Response, Error> {
        let terms = body.terms(call.now)?;
        let entries = revoked(list(body.revoked_certs.0))?;
        let extensions = extensions(&list(body.extensions.0))?;
        self.sign_list(&body.issuer_ref, terms, extensions, entries).await
    }

    async fn sign_list(
        &self,
        reference: &str,
        terms: Terms,
        extensions: Vec<CrlExtension>,
        entries: Entries,
    ) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_crl_signing(reference)?;
        let key = issuer.key.as_ref().ok_or_else(|| {
            let id = issuer.record.id;
            Error::invalid(format!(
                "unable to fetch corresponding key for issuer {id}; unable to use this issuer for signing"
            ))
        })?;
        let key = Arc::clone(key.private_key()?);
        let algorithm = issuer.crl_algorithm()?;
        let certificate = Arc::clone(&issuer.certificate);
        let Terms { this_update, next_update, number, delta_base, der } = terms;
        let spec = key.spec();
        let signed = heavy::sign(spec, move || {
            let head = CrlHead {
                this_update,
                next_update,
                number,
                delta_base,
                freshest: &[],
                extensions: &extensions,
            };
            UnsignedCrl::new(&certificate, algorithm, &head, &[&entries.bytes], entries.count)?.sign(&*key)
        });
        let crl = signed.await?.map_err(|error| Error::internal("the CRL could not be made", error))?;
        let text = if der { BASE64.encode(crl.der()) } else { crl_pem(crl.der()) };
        Response::data(&json!({ "crl": text }))
    }
}

impl Terms {
    fn new(
        number: i64,
        delta_base: i64,
        next_update: &str,
        format: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let der = match format.to_ascii_lowercase().as_str() {
            "pem" => false,
            "der" => true,
            _ => return Err(Error::invalid(format!("unknown format value of {format}"))),
        };
        let positive = "next_update parameter must be greater than 0";
        let lifetime = match duration::parse(next_update) {
            Ok(lifetime) if lifetime.as_secs() > 0 => lifetime,
            Ok(_) | Err(duration::ParseError::Negative(_)) => return Err(Error::invalid(positive)),
            Err(error) => return Err(Error::invalid(format!("invalid value for next_update: {error}"))),
        };
        let number =
            u64::try_from(number).map_err(|_| Error::invalid("crl_number parameter must be 0 or greater"))?;
        let delta_base = match delta_base {
            -1 => None,
            base => Some(
                u64::try_from(base)
                    .map_err(|_| Error::invalid("delta_crl_base_number parameter must be -1 or greater"))?,
            ),
        };
        let this_update = Time::from(now);
        Ok(Self { this_update, next_update: this_update.plus(lifetime), number, delta_base, der })
    }
}

impl Entries {
    fn add(&mut self, serial: &[u8], at: Time, extensions: &[CrlExtension]) -> Result<(), Error> {
        if at.as_second() < 0 {
            return Err(Error::invalid(format!("a revocation before 1970, at {at}, cannot be written")));
        }
        CrlEntry { serial, at, reason: 0, extensions }.encode(&mut self.bytes);
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

/// Every certificate of these CRLs once, with the earliest time given for it.
fn merged(crls: &[ImportedCrl]) -> Result<(Entries, Vec<String>), Error> {
    let mut order: Vec<&ImportedEntry> = Vec::new();
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    let mut warnings = Vec::new();
    for entry in crls.iter().flat_map(ImportedCrl::entries) {
        let before = match known.entry(&entry.serial) {
            Entry::Vacant(vacant) => {
                vacant.insert(order.len());
                order.push(entry);
                continue;
            }
            Entry::Occupied(known) => order.get_mut(*known.get()),
        };
        let Some(before) = before.filter(|before| before.at != entry.at) else { continue };
        let serial =
            SerialNumber::from_bytes(&entry.serial).map(|serial| serial.to_string()).unwrap_or_default();
        warnings.push(format!(
            "Duplicate serial {serial} with different revocation times detected, using oldest revocation time"
        ));
        if entry.at < before.at {
            *before = entry;
        }
    }
    let mut entries = Entries::default();
    for ImportedEntry { serial, at } in order {
        entries.add(serial, *at, &[])?;
    }
    Ok((entries, warnings))
}

/// As the peer has it, a single thing is a list of one.
fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        Value::String(text) if text.is_empty() => Vec::new(),
        one => vec![one],
    }
}

fn revoked(list: Vec<Value>) -> Result<Entries, Error> {
    let mut entries = Entries::default();
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    for (index, entry) in list.iter().enumerate() {
        // As the peer has it, what is no object is passed over.
        let Some(entry) = entry.as_object() else { continue };
        let of = |field: &'static str| {
            move |reason: String| {
                Error::invalid(format!("failed parsing {field} from entry {index}: {reason}"))
            }
        };
        let (text, serial) = serial_number(entry).map_err(of("serial_number"))?;
        if let Some(first) = seen.insert(serial.clone(), index) {
            return Err(Error::invalid(format!(
                "duplicate serial number: {text}, original entry {first} and {index}"
            )));
        }
        let at = revocation_time(entry).map_err(of("revocation_time"))?;
        let extensions = entry_extensions(entry).map_err(of("extensions"))?;
        entries.add(&serial, at, &extensions)?;
    }
    Ok(entries)
}

fn serial_number(entry: &Map<String, Value>) -> Result<(String, Vec<u8>), String> {
    let text = entry.get("serial_number").ok_or("missing 'serial_number' field")?;
    let text = text_of(text).ok_or("'serial_number' field value was not a string")?;
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '.' | '-' | ' ')).collect();
    if let Some(bad) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!(
            "'serial_number' failed converting to bytes: encoding/hex: invalid byte: U+{:04X} '{bad}'",
            u32::from(bad)
        ));
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| {
        "'serial_number' failed converting to bytes: encoding/hex: odd length hex string".to_owned()
    })?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok((text, bytes.get(zeros..).unwrap_or_default().to_vec()))
}

fn revocation_time(entry: &Map<String, Value>) -> Result<Time, String> {
    let value = entry.get("revocation_time").ok_or("missing 'revocation_time' field")?;
    let text = text_of(value).unwrap_or_default();
    text.parse::<i64>()
        .ok()
        .map(Time::from_second)
        .or_else(|| Time::parse(&text).ok())
        .ok_or_else(|| format!("failed parsing time {text}: could not parse string as date and time"))
}

fn entry_extensions(entry: &Map<String, Value>) -> Result<Vec<CrlExtension>, String> {
    match entry.get("extensions") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::Array(list)) => extensions(list).map_err(|error| error.message()),
        Some(_) => Err("'extensions' field did not contain a slice".to_owned()),
    }
}

fn extensions(list: &[Value]) -> Result<Vec<CrlExtension>, Error> {
    let mut extensions: Vec<CrlExtension> = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let entry =
            entry.as_object().ok_or_else(|| Error::invalid(format!("extension entry {index} not a map")))?;
        let (id, extension) = extension(entry)
            .map_err(|reason| Error::invalid(format!("failed parsing extension entry {index}: {reason}")))?;
        if extensions.iter().any(|before| before.is_like(&extension)) {
            return Err(Error::invalid(format!("duplicate extension id: {id}")));
        }
        extensions.push(extension);
    }
    Ok(extensions)
}

fn extension(entry: &Map<String, Value>) -> Result<(String, CrlExtension), String> {
    let id = entry.get("id").ok_or("missing id field")?;
    let id = text_of(id).ok_or("'id' field value was not a string")?;
    if id.is_empty() {
        return Err("zero length object identifier".to_owned());
    }
    for (index, part) in id.split('.').enumerate() {
        if part.parse::<u64>().is_err() {
            return Err(format!(
                "failed parsing asn1 index element {index} value {part}: strconv.Atoi: parsing {part:?}: invalid syntax"
            ));
        }
    }
    if let Some((oid, name)) = reserved_crl_extension(&id) {
        return Err(format!("{name} ({oid}) is reserved"));
    }
    let critical = match entry.get("critical") {
        None | Some(Value::Null) => false,
        Some(value) => critical(value)?,
    };
    let value = entry.get("value").ok_or("missing 'value' field")?;
    let value = text_of(value).ok_or("'value' field value was not a string")?;
    let value = BASE64
        .decode(value)
        .map_err(|error| format!("failed base64 decoding 'value' field: {}", as_go_says(error)))?;
    let extension =
        CrlExtension::new(&id, critical, value).ok_or_else(|| format!("invalid object identifier: {id}"))?;
    Ok((id, extension))
}

fn as_go_says(error: DecodeError) -> String {
    match error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        other => other.to_string(),
    }
}

fn critical(value: &Value) -> Result<bool, String> {
    let text = match value {
        Value::Bool(critical) => return Ok(*critical),
        other => text_of(other).unwrap_or_default(),
    };
    match text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "critical field value failed to be parsed: cannot parse '' as bool: strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
