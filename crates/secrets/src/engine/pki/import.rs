//! Importing certificates and keys, and what every new issuer goes through.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::{Secret, fields};
use chancery_issuance::{Certificate, ImportedBundle, KeyUsage, PrivateKey, Signer, build_chains};
use jiff::Timestamp;
use serde::Serialize;

use super::Pki;
use super::authorities::{Authorities, Authority};
use super::authority::NO_AIA;
use super::keys::{adopt_key, check_name, find_same_key, key_record};
use super::records::{IssuerId, IssuerRecord, IssuerUsage, IssuersConfig, KeyId};
use super::store::Change;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

/// Shorter than any certificate or key: a path, most likely.
const TOO_SHORT: usize = 75;

/// Issuers in a mount at most. Each change finds the chains of all of them anew and reads all of them
/// again, so a mount with very many would keep everybody waiting.
const ISSUERS_AT_MOST: usize = 1_000;

/// Said where the default issuer is one that cannot sign.
const KEYLESS_DEFAULT: &str = "The default issuer has no key associated with it. Some operations like issuing \
    certificates and signing CRLs will be unavailable with the requested default issuer until a key is imported or the \
    default issuer is changed.";

/// Said where the new default is the first of several that could have become it.
const SEVERAL_CHOICES: &str = "The imported bundle contained multiple certs matching keys, the default issuer that was \
    selected should be verified and manually changed if incorrect.";

/// Said where the default should follow the latest issuer and several came at once.
const NOT_FOLLOWED: &str = "Default issuer left unchanged: could not select new issuer automatically as multiple \
    imported issuers had key material in Vault.";

fields! {
    /// Imports certificates and keys.
    #[derive(Debug)]
    pub(super) struct ImportBundle {
        body {
            /// Certificates and keys in PEM, in any order.
            pem_bundle: Secret = Secret::default(),
        }
    }
}

fields! {
    /// Imports the certificate of an intermediate.
    #[derive(Debug)]
    pub(super) struct SetSigned {
        body {
            /// The certificate in PEM, and as much of its chain as there is.
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
        self.import(&call, &body.pem_bundle, true).await
    }

    /// POST `issuers/import/cert`
    pub(super) async fn import_certificates(
        self: Arc<Self>,
        call: Call,
        body: ImportBundle,
    ) -> Result<Response, Error> {
        self.import(&call, &body.pem_bundle, false).await
    }

    /// POST `intermediate/set-signed`
    pub(super) async fn set_signed(self: Arc<Self>, call: Call, body: SetSigned) -> Result<Response, Error> {
        self.import(&call, &body.certificate, false).await
    }

    async fn import(&self, call: &Call, text: &Secret, keys_allowed: bool) -> Result<Response, Error> {
        if text.is_empty() {
            return Err(Error::invalid("'pem_bundle' and 'certificate' parameters were empty"));
        }
        if text.expose().len() < TOO_SHORT {
            return Err(Error::invalid(
                "provided data for import was too short; perhaps a path was passed to the API rather than the \
                 contents of a PEM file",
            ));
        }
        let bundle = ImportedBundle::from_pem(text.expose(), keys_allowed)
            .map_err(|error| Error::invalid(error.to_string()))?;

        let mut change = self.store.change().await?;
        let keys = import_keys(&mut change, &bundle.keys)?;
        let mut issuers = import_issuers(&change.before, &keys, &bundle.certificates, call.now)?;
        check_room(change.before.issuers().count(), issuers.fresh.len())?;
        let linked = orphans(&change.before, &keys.halves);
        let fates = Fates { linked: &linked, ..Fates::default() };
        let fresh = rechain(&mut change, &fates, std::mem::take(&mut issuers.fresh))?;
        let mut warnings = adopt_imported(&mut change, &linked, &fresh)?;
        let no_urls = change.before.urls.value.say_nothing();
        let after = change.commit().await?;

        let imported: Vec<IssuerId> = fresh.iter().map(|(record, _)| record.id).collect();
        let of_bundle: Vec<_> =
            imported.iter().chain(&issuers.known).filter_map(|id| after.issuer(id)).collect();
        let default = after.issuers_config.value.default;
        if of_bundle.iter().any(|issuer| Some(issuer.record.id) == default && issuer.record.key.is_none()) {
            warnings.push(KEYLESS_DEFAULT.to_owned());
        }
        let with_key = fresh.iter().filter(|(record, _)| record.key.is_some()).count();
        if with_key > 1 && imported.iter().any(|id| Some(*id) == default) {
            warnings.push(SEVERAL_CHOICES.to_owned());
        }
        if no_urls {
            warnings.push(NO_AIA.to_owned());
        }
        if !imported.is_empty() {
            warnings.extend(after.crl_warnings());
        }
        let key = |issuer: &Authority| issuer.record.key.map(|key| key.to_string()).unwrap_or_default();
        let mut response = Response::data(&ImportAnswer {
            existing_issuers: texts(&issuers.known),
            existing_keys: texts(&keys.known),
            imported_issuers: texts(&imported),
            imported_keys: texts(&keys.fresh),
            mapping: of_bundle.iter().map(|issuer| (issuer.record.id.to_string(), key(issuer))).collect(),
        })?;
        response.warnings = warnings;
        Ok(response)
    }
}

/// Ids as answers carry them: null if there are none.
fn texts<T: ToString>(ids: &[T]) -> Option<Vec<String>> {
    (!ids.is_empty()).then(|| ids.iter().map(ToString::to_string).collect())
}

/// Makes an issuer the default after an import, in the peer's order, and answers what to warn about.
///
/// Without a default, the first issuer that has a key becomes it: one that was here and whose key came
/// now, or else the first of the new ones. One without a key never does. Where the default is to
/// follow the latest, it does so only if there is no choice.
fn adopt_imported(
    change: &mut Change<'_>,
    linked: &[(IssuerId, KeyId)],
    fresh: &[(IssuerRecord, Certificate)],
) -> Result<Vec<String>, Error> {
    let before = change.before.issuers_config.value.clone();
    let with_key: Vec<IssuerId> = fresh
        .iter()
        .map(|(record, _)| record)
        .filter(|record| record.key.is_some())
        .map(|record| record.id)
        .collect();
    let mut default =
        before.default.or_else(|| linked.first().map(|(id, _)| id).or(with_key.first()).copied());
    let mut warnings = Vec::new();
    if before.default_follows_latest_issuer {
        match with_key.as_slice() {
            [] => {}
            [only] => default = Some(*only),
            _ => warnings.push(NOT_FOLLOWED.to_owned()),
        }
    }
    if default != before.default {
        change.put_issuers_config(&IssuersConfig { default, ..before })?;
    }
    Ok(warnings)
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
        // Given twice in one bundle, it is known the second time.
        let given = imported.halves.iter().find(|(given, _)| *given == half).map(|(_, id)| *id);
        let known = match given {
            Some(id) => Some(id),
            None => find_same_key(&change.before, key)?.map(|held| held.record.id),
        };
        if let Some(id) = known {
            imported.known.push(id);
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
    before: &Authorities,
    keys: &ImportedKeys,
    certificates: &[Certificate],
    now: Timestamp,
) -> Result<ImportedIssuers, Error> {
    let mut imported = ImportedIssuers { fresh: Vec::new(), known: Vec::new() };
    for certificate in certificates {
        let given =
            imported.fresh.iter().find(|(_, given)| given == certificate).map(|(record, _)| record.id);
        let known = given.or_else(|| {
            before.issuers().find(|issuer| *issuer.certificate == *certificate).map(|issuer| issuer.record.id)
        });
        if let Some(id) = known {
            if !imported.known.contains(&id) {
                imported.known.push(id);
            }
            continue;
        }
        let key = key_for(before, keys, certificate)?;
        imported.fresh.push((new_issuer(certificate, "", key, now), certificate.clone()));
    }
    Ok(imported)
}

/// Refuses more issuers than a mount may have.
fn check_room(held: usize, fresh: usize) -> Result<(), Error> {
    if fresh == 0 || held.saturating_add(fresh) <= ISSUERS_AT_MOST {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a mount has at most {ISSUERS_AT_MOST} issuers: this one has {held}, and {fresh} more would be imported"
    )))
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

/// The issuers that were here before their key, with that key; `halves` are the new keys' public halves.
pub(super) fn orphans(before: &Authorities, halves: &[(Vec<u8>, KeyId)]) -> Vec<(IssuerId, KeyId)> {
    let mut found = Vec::new();
    for (half, key) in halves {
        let theirs = |issuer: &Authority| {
            issuer.record.key.is_none()
                && issuer.certificate.public_key().is_some_and(|public| public.spki_der() == half)
        };
        found.extend(before.issuers().filter(|issuer| theirs(issuer)).map(|issuer| (issuer.record.id, *key)));
    }
    found
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

/// What becomes of the issuers that are here.
#[derive(Default)]
pub(super) struct Fates<'a> {
    /// Those whose key has come.
    pub(super) linked: &'a [(IssuerId, KeyId)],
    /// One that is deleted.
    pub(super) gone: Option<IssuerId>,
}

/// Finds every issuer's chain anew, now that `fresh` ones are among them, and writes them and those
/// of the old ones that changed.
pub(super) fn rechain(
    change: &mut Change<'_>,
    fates: &Fates<'_>,
    fresh: Vec<(IssuerRecord, Certificate)>,
) -> Result<Vec<(IssuerRecord, Certificate)>, Error> {
    let before = Arc::clone(&change.before);
    let old: Vec<_> = before.issuers().filter(|issuer| Some(issuer.record.id) != fates.gone).collect();
    let certificates: Vec<&Certificate> =
        old.iter().map(|issuer| &*issuer.certificate).chain(fresh.iter().map(|(_, one)| one)).collect();
    let ids: Vec<IssuerId> =
        old.iter().map(|issuer| issuer.record.id).chain(fresh.iter().map(|(record, _)| record.id)).collect();
    let mut chains = build_chains(&certificates).into_iter().map(|chain| {
        chain.into_iter().filter_map(|index| ids.get(index).copied()).collect::<Vec<IssuerId>>()
    });
    for Authority { record, .. } in old.into_iter().map(Arc::as_ref) {
        let link = fates.linked.iter().find(|(id, _)| *id == record.id).map(|(_, key)| *key);
        let chain = chains.next().unwrap_or_default();
        let mut manual_chain = record.manual_chain.clone();
        manual_chain.retain(|id| Some(*id) != fates.gone);
        if link.is_some() || chain != record.chain || manual_chain != record.manual_chain {
            let key = link.or(record.key);
            change.put_issuer(&IssuerRecord { key, chain, manual_chain, ..record.clone() })?;
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

/// Makes a new issuer, which has a key, the default if there is none yet or it is to follow the latest.
pub(super) fn adopt_issuer(change: &mut Change<'_>, id: IssuerId) -> Result<(), Error> {
    let config = change.before.issuers_config.value.clone();
    if config.default.is_none() || config.default_follows_latest_issuer {
        change.put_issuers_config(&IssuersConfig { default: Some(id), ..config })?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_takes_no_more_issuers_than_its_limit_and_says_so() {
        for (held, fresh) in [(0, 1_000), (999, 1), (1_000, 0), (2_000, 0)] {
            assert!(check_room(held, fresh).is_ok(), "{held} {fresh}");
        }
        assert_eq!(
            check_room(998, 3).unwrap_err().message(),
            "a mount has at most 1000 issuers: this one has 998, and 3 more would be imported"
        );
    }
}
