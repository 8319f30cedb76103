//! Importing certificates and keys, and what every new issuer goes through.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::{Secret, fields};
use chancery_issuance::{Certificate, ImportedBundle, KeyUsage, PrivateKey, Signer, build_chains};
use jiff::Timestamp;
use serde::Serialize;

use super::Pki;
use super::authorities::Authorities;
use super::authority::NO_AIA;
use super::keys::{adopt_key, check_name, find_same_key, key_record};
use super::records::{IssuerId, IssuerRecord, IssuerUsage, IssuersConfig, KeyId, Urls};
use super::store::Change;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

/// Shorter than any certificate or key: a path, most likely.
const TOO_SHORT: usize = 75;

fields! {
    /// Imports certificates and keys.
    #[derive(Debug)]
    pub(super) struct ImportBundle {
        body {
            /// Certificates and keys in PEM, in any order.
            pem_bundle: Secret = Secret::default(),
            /// The same under another name.
            certificate: Secret = Secret::default(),
        }
    }
}

/// What an import did.
#[derive(Serialize)]
struct ImportAnswer {
    existing_issuers: Option<Vec<String>>,
    existing_keys: Option<Vec<String>>,
    imported_issuers: Option<Vec<String>>,
    imported_keys: Option<Vec<String>>,
    mapping: BTreeMap<String, String>,
}

impl Pki {
    /// POST `config/ca` and `issuers/import/bundle`
    pub(super) async fn import_bundle(
        self: Arc<Self>,
        call: Call,
        body: ImportBundle,
    ) -> Result<Response, Error> {
        self.import(&call, &body, true).await
    }

    /// POST `issuers/import/cert` and `intermediate/set-signed`
    pub(super) async fn import_certificates(
        self: Arc<Self>,
        call: Call,
        body: ImportBundle,
    ) -> Result<Response, Error> {
        self.import(&call, &body, false).await
    }

    async fn import(&self, call: &Call, body: &ImportBundle, keys_allowed: bool) -> Result<Response, Error> {
        let text = if body.pem_bundle.is_empty() { &body.certificate } else { &body.pem_bundle };
        if text.is_empty() {
            return Err(Error::invalid("'pem_bundle' and 'certificate' parameters were empty"));
        }
        if text.expose().len() < TOO_SHORT {
            return Err(Error::invalid(
                "provided data for import was too short; perhaps a path was passed to the API rather than the \
                 contents of a PEM file",
            ));
        }
        let bundle =
            ImportedBundle::from_pem(text.expose()).map_err(|error| Error::invalid(error.to_string()))?;
        if !keys_allowed && !bundle.keys.is_empty() {
            return Err(Error::invalid(
                "private keys found in the PEM bundle but not allowed by the path; use /issuers/import/bundle",
            ));
        }
        if bundle.certificates.is_empty() && bundle.keys.is_empty() {
            return Err(Error::invalid("no certificates or keys were found in the PEM bundle"));
        }

        let mut change = self.store.change().await;
        let keys = import_keys(&mut change, &bundle.keys)?;
        let mut issuers = import_issuers(&mut change.before.clone(), &keys, &bundle.certificates, call.now)?;
        link_orphans(&mut change, &keys)?;
        let fresh = rechain(&mut change, std::mem::take(&mut issuers.fresh))?;
        if !fresh.is_empty() {
            adopt_issuer(&mut change, &fresh)?;
        }
        let no_urls = change.before.urls.value == Urls::default();
        let after = change.commit().await?;

        let texts =
            |ids: &[IssuerId]| (!ids.is_empty()).then(|| ids.iter().map(ToString::to_string).collect());
        let key_texts =
            |ids: &[KeyId]| (!ids.is_empty()).then(|| ids.iter().map(ToString::to_string).collect());
        let imported: Vec<IssuerId> = fresh.iter().map(|(record, _)| record.id).collect();
        let mapping = imported
            .iter()
            .chain(&issuers.known)
            .filter_map(|id| after.issuer(id))
            .map(|issuer| {
                let key = issuer.record.key.map(|key| key.to_string()).unwrap_or_default();
                (issuer.record.id.to_string(), key)
            })
            .collect();
        let response = Response::data(&ImportAnswer {
            existing_issuers: texts(&issuers.known),
            existing_keys: key_texts(&keys.known),
            imported_issuers: texts(&imported),
            imported_keys: key_texts(&keys.fresh),
            mapping,
        })?;
        Ok(if no_urls && !bundle.certificates.is_empty() { response.warn(NO_AIA) } else { response })
    }
}

/// The keys of a bundle, here by now.
struct ImportedKeys {
    fresh: Vec<KeyId>,
    known: Vec<KeyId>,
    /// Public halves of the fresh ones, with their ids.
    halves: Vec<(Vec<u8>, KeyId)>,
}

fn import_keys(change: &mut Change<'_>, keys: &[PrivateKey]) -> Result<ImportedKeys, Error> {
    let mut imported = ImportedKeys { fresh: Vec::new(), known: Vec::new(), halves: Vec::new() };
    for key in keys {
        let half = key.public_key().spki_der().to_vec();
        if let Some(held) = find_same_key(&change.before, key)? {
            if !imported.known.contains(&held.record.id) {
                imported.known.push(held.record.id);
            }
            continue;
        }
        if imported.halves.iter().any(|(known, _)| *known == half) {
            continue;
        }
        let record = key_record(key, "");
        if imported.fresh.is_empty() {
            adopt_key(change, &record)?;
        } else {
            change.put_key(&record)?;
        }
        imported.fresh.push(record.id);
        imported.halves.push((half, record.id));
    }
    Ok(imported)
}

/// The certificates of a bundle as issuers.
struct ImportedIssuers {
    fresh: Vec<(IssuerRecord, Certificate)>,
    known: Vec<IssuerId>,
}

fn import_issuers(
    before: &mut Arc<Authorities>,
    keys: &ImportedKeys,
    certificates: &[Certificate],
    now: Timestamp,
) -> Result<ImportedIssuers, Error> {
    let mut imported = ImportedIssuers { fresh: Vec::new(), known: Vec::new() };
    for certificate in certificates {
        if !certificate.is_ca() {
            return Err(Error::invalid(format!(
                "the certificate with the serial number {} is not an authority's: its basic constraints do not say CA, so \
                 it cannot be imported as an issuer",
                certificate.serial_number()
            )));
        }
        if let Some(issuer) = before.issuers().find(|issuer| issuer.certificate.der() == certificate.der()) {
            if !imported.known.contains(&issuer.record.id) {
                imported.known.push(issuer.record.id);
            }
            continue;
        }
        if imported.fresh.iter().any(|(_, known)| known.der() == certificate.der()) {
            continue;
        }
        let key = key_for(before, keys, certificate)?;
        imported.fresh.push((new_issuer(certificate, "", key, now), certificate.clone()));
    }
    Ok(imported)
}

/// The key of a certificate, old or just imported.
fn key_for(
    before: &Authorities,
    keys: &ImportedKeys,
    certificate: &Certificate,
) -> Result<Option<KeyId>, Error> {
    let Some(public) = certificate.public_key() else { return Ok(None) };
    if let Some((_, id)) = keys.halves.iter().find(|(half, _)| half == public.spki_der()) {
        return Ok(Some(*id));
    }
    for held in before.keys() {
        if held.private_key()?.public_key() == public {
            return Ok(Some(held.record.id));
        }
    }
    Ok(None)
}

/// Issuers that were here before their key.
fn link_orphans(change: &mut Change<'_>, keys: &ImportedKeys) -> Result<(), Error> {
    let before = Arc::clone(&change.before);
    for issuer in before.issuers().filter(|issuer| issuer.record.key.is_none()) {
        let half = issuer.certificate.public_key().map(|key| key.spki_der().to_vec());
        if let Some((_, id)) = keys.halves.iter().find(|(known, _)| Some(known) == half.as_ref()) {
            change.put_issuer(&IssuerRecord { key: Some(*id), ..issuer.record.clone() })?;
        }
    }
    Ok(())
}

/// The record of a new issuer; its chain is [`rechain`]'s to find.
pub(super) fn new_issuer(
    certificate: &Certificate,
    name: &str,
    key: Option<KeyId>,
    now: Timestamp,
) -> IssuerRecord {
    let id = IssuerId::fresh();
    let crl_signing = signs_lists(certificate);
    IssuerRecord {
        id,
        name: name.to_owned(),
        key,
        certificate: certificate.pem().to_owned(),
        chain: vec![id],
        manual_chain: Vec::new(),
        leaf_not_after_behavior: super::records::LeafNotAfterBehavior::default(),
        usage: IssuerUsage { crl_signing, ..IssuerUsage::default() },
        revocation_signature_algorithm: String::new(),
        urls: None,
        revoked: None,
        last_modified: now,
    }
}

/// Whether a certificate allows its key to sign revocation lists (RFC 5280, 4.2.1.3).
pub(super) fn signs_lists(certificate: &Certificate) -> bool {
    let needed = KeyUsage::from_names(&["CRLSign"]);
    certificate.key_usage().is_some_and(|usage| usage.contains(needed))
}

/// Finds every issuer's chain anew, now that `fresh` ones are among them, and writes them and those
/// of the old ones whose chain grew.
pub(super) fn rechain(
    change: &mut Change<'_>,
    fresh: Vec<(IssuerRecord, Certificate)>,
) -> Result<Vec<(IssuerRecord, Certificate)>, Error> {
    let before = Arc::clone(&change.before);
    let old: Vec<_> = before.issuers().collect();
    let certificates: Vec<&Certificate> =
        old.iter().map(|issuer| &issuer.certificate).chain(fresh.iter().map(|(_, one)| one)).collect();
    let ids: Vec<IssuerId> =
        old.iter().map(|issuer| issuer.record.id).chain(fresh.iter().map(|(record, _)| record.id)).collect();
    let mut chains = build_chains(&certificates).into_iter().map(|chain| {
        chain.into_iter().filter_map(|index| ids.get(index).copied()).collect::<Vec<IssuerId>>()
    });
    for issuer in &old {
        let chain = chains.next().unwrap_or_default();
        if chain != issuer.record.chain {
            change.put_issuer(&IssuerRecord { chain, ..issuer.record.clone() })?;
        }
    }
    let mut chained = Vec::with_capacity(fresh.len());
    for (record, certificate) in fresh {
        let record = IssuerRecord { chain: chains.next().unwrap_or_default(), ..record };
        change.put_issuer(&record)?;
        chained.push((record, certificate));
    }
    Ok(chained)
}

/// Makes one of the new issuers the default, if there is none yet or it is to follow the latest:
/// the first that has a key, or else the first. Answers that one.
pub(super) fn adopt_issuer(
    change: &mut Change<'_>,
    fresh: &[(IssuerRecord, Certificate)],
) -> Result<IssuerId, Error> {
    let mut with_key = fresh.iter().map(|(record, _)| record).filter(|record| record.key.is_some());
    let (first, more) = (with_key.next(), with_key.next());
    let candidate = first.or_else(|| fresh.first().map(|(record, _)| record));
    let candidate = candidate.ok_or_else(|| Error::internal("internal error", "no issuer to adopt"))?.id;
    let config = change.before.issuers_config.value.clone();
    let follows = config.default_follows_latest_issuer && first.is_some() && more.is_none();
    if config.default.is_none() || follows {
        change.put_issuers_config(&IssuersConfig { default: Some(candidate), ..config })?;
    }
    Ok(candidate)
}

/// Whether an issuer may have this name.
pub(super) fn check_issuer_name(
    name: &str,
    authorities: &Authorities,
    own: Option<IssuerId>,
) -> Result<(), Error> {
    check_name("issuer", name)?;
    match authorities.find_issuer(name) {
        Ok(issuer) if !name.is_empty() && Some(issuer.record.id) != own => {
            Err(Error::invalid("issuer name already in use"))
        }
        _ => Ok(()),
    }
}
