//! Issuers: listed, read in every form, changed, removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Strings, fields};
use chancery_issuance::{KeySpec, KeyType, PublicKey, SignatureAlgorithm};
use serde_json::{Value, json};

use super::Pki;
use super::authorities::{Authorities, Authority, DEFAULT, Unresolved, one_error, trimmed};
use super::config::{check_urls, may_fail};
use super::import::{Fates, check_issuer_name, rechain, signs_lists};
use super::records::{IssuerId, IssuerRecord, IssuerUsage, IssuersConfig, LeafNotAfterBehavior, Urls};
use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;

const DER: &str = "application/pkix-cert";
const PEM: &str = "application/pem-certificate-chain";

fields! {
    /// Names an issuer.
    #[derive(Debug)]
    pub(super) struct IssuerReference {
        path {
            /// `default`, an id or a name.
            issuer_ref: String,
        }
    }
}

fields! {
    /// What an operator sets on an issuer.
    #[derive(Debug)]
    pub(super) struct UpdateIssuer {
        path {
            /// `default`, an id or a name.
            issuer_ref: String,
        }
        body {
            /// Its name; empty for none.
            issuer_name: Option<String>,
            /// What becomes of leaves that would outlive it: `err`, `truncate` or `permit`.
            leaf_not_after_behavior: Option<String>,
            /// Its chain, itself first; empty for the one that is found.
            manual_chain: Option<Strings>,
            /// What it may be used for: `read-only`, `issuing-certificates`, `crl-signing`, `ocsp-signing`.
            usage: Option<Strings>,
            /// How it signs revocation lists.
            revocation_signature_algorithm: Option<String>,
            /// caIssuers; empty for the mount's.
            issuing_certificates: Option<Strings>,
            /// CRL distribution points; empty for the mount's.
            crl_distribution_points: Option<Strings>,
            /// Freshest CRL; empty for the mount's.
            delta_crl_distribution_points: Option<Strings>,
            /// OCSP; empty for the mount's.
            ocsp_servers: Option<Strings>,
            /// `{{issuer_id}}`, `{{cluster_path}}` and `{{cluster_aia_path}}` are filled in.
            enable_aia_url_templating: Option<bool>,
        }
    }
}

impl Pki {
    /// LIST `issuers`
    pub(super) async fn list_issuers(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let default = authorities.issuers_config.value.default;
        let mut names = Vec::new();
        let mut info = BTreeMap::new();
        for issuer in authorities.issuers() {
            let IssuerRecord { id, name, key, .. } = &issuer.record;
            names.push(id.to_string());
            let shown = json!({
                "is_default": default == Some(*id),
                "issuer_name": name,
                "key_id": key.map(|key| key.to_string()).unwrap_or_default(),
                "serial_number": issuer.certificate.serial_number().to_string(),
            });
            info.insert(id.to_string(), shown);
        }
        Response::list_with_info(&names, &info)
    }

    /// GET `issuer/{issuer_ref}`
    pub(super) async fn read_issuer(
        self: Arc<Self>,
        _: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        shown(authorities.find_issuer(&body.issuer_ref)?)
    }

    /// GET `issuer/{issuer_ref}/json`
    pub(super) async fn read_issuer_json(
        self: Arc<Self>,
        _: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_issuer(&body.issuer_ref)?;
        Response::data(&json!({
            "ca_chain": chain(issuer),
            "certificate": issuer.certificate.pem(),
            "issuer_id": issuer.record.id.to_string(),
            "issuer_name": issuer.record.name,
        }))
    }

    /// GET `issuer/{issuer_ref}/der`
    pub(super) async fn read_issuer_der(
        self: Arc<Self>,
        _: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_issuer(&body.issuer_ref).map_err(bare)?;
        Ok(Response::raw(DER, issuer.certificate.der().to_vec()))
    }

    /// GET `issuer/{issuer_ref}/pem`
    pub(super) async fn read_issuer_pem(
        self: Arc<Self>,
        _: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_issuer(&body.issuer_ref).map_err(bare)?;
        Ok(Response::raw(PEM, issuer.certificate.pem().to_owned()))
    }

    /// POST `issuer/{issuer_ref}`: what is not given takes its default.
    pub(super) async fn update_issuer(
        self: Arc<Self>,
        call: Call,
        body: UpdateIssuer,
    ) -> Result<Response, Error> {
        let body = UpdateIssuer {
            issuer_name: Some(body.issuer_name.unwrap_or_default()),
            leaf_not_after_behavior: Some(body.leaf_not_after_behavior.unwrap_or_else(|| "err".to_owned())),
            manual_chain: Some(body.manual_chain.unwrap_or_default()),
            usage: Some(body.usage.unwrap_or_else(every_usage)),
            revocation_signature_algorithm: Some(body.revocation_signature_algorithm.unwrap_or_default()),
            issuing_certificates: Some(body.issuing_certificates.unwrap_or_default()),
            crl_distribution_points: Some(body.crl_distribution_points.unwrap_or_default()),
            delta_crl_distribution_points: Some(body.delta_crl_distribution_points.unwrap_or_default()),
            ocsp_servers: Some(body.ocsp_servers.unwrap_or_default()),
            enable_aia_url_templating: Some(body.enable_aia_url_templating.unwrap_or_default()),
            ..body
        };
        self.change_issuer(call, body).await
    }

    /// PATCH `issuer/{issuer_ref}`: what is not given stays.
    pub(super) async fn patch_issuer(
        self: Arc<Self>,
        call: Call,
        body: UpdateIssuer,
    ) -> Result<Response, Error> {
        self.change_issuer(call, body).await
    }

    async fn change_issuer(&self, call: Call, body: UpdateIssuer) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let issuer = Arc::clone(change.before.find_issuer(&body.issuer_ref)?);
        let mut record = issuer.record.clone();
        let mut warnings = Vec::new();
        if let Some(name) = body.issuer_name {
            check_issuer_name(&name, &change.before, Some(record.id))?;
            if record.name != name {
                let old = std::mem::replace(&mut record.name, name);
                warnings.extend(self.roles_naming(&old).await?);
            }
        }
        if let Some(word) = body.leaf_not_after_behavior {
            record.leaf_not_after_behavior = LeafNotAfterBehavior::from_name(&word).ok_or_else(|| {
                Error::invalid("Unknown value for field `leaf_not_after_behavior`. Possible values are `err`, `truncate`, and `permit`.")
            })?;
        }
        if let Some(words) = body.usage {
            record.usage = usage(&words.non_empty(), &issuer)?;
            if record.revoked.is_some() && record.usage.issuing_certificates {
                return Err(Error::invalid(REVOKED));
            }
        }
        if let Some(word) = body.revocation_signature_algorithm {
            record.revocation_signature_algorithm = algorithm(&word, &issuer)?;
        }
        if let Some(references) = body.manual_chain {
            record.manual_chain = manual_chain(&references.non_empty(), record.id, &change.before)?;
        }
        record.urls = urls(
            record.urls.take(),
            [
                body.issuing_certificates,
                body.crl_distribution_points,
                body.delta_crl_distribution_points,
                body.ocsp_servers,
            ],
            body.enable_aia_url_templating,
        )?;
        if let Some(own) = record.urls.as_ref().filter(|own| own.enable_templating)
            && let Err(problem) = own.filled_in(&change.before.cluster.value, Some(record.id))
        {
            warnings.push(may_fail(&problem));
        }
        record.last_modified = call.now;
        let id = record.id;
        change.put_issuer(&record)?;
        let after = change.commit().await?;
        let issuer =
            after.issuer(&id).ok_or_else(|| Error::internal("internal error", "the issuer is gone"))?;
        let mut response = shown(issuer)?;
        response.warnings.splice(0..0, warnings);
        Ok(response)
    }

    /// DELETE `issuer/{issuer_ref}`. The key stays.
    pub(super) async fn delete_issuer(
        self: Arc<Self>,
        _: Call,
        body: IssuerReference,
    ) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let issuer = match change.before.find_issuer(&body.issuer_ref) {
            Ok(issuer) => Arc::clone(issuer),
            Err(Unresolved::Issuer(_) | Unresolved::NoDefaultIssuer) => return nothing(),
            Err(unresolved) => return Err(unresolved.into()),
        };
        let id = issuer.record.id;
        let mut warnings = Vec::new();
        for name in [&issuer.record.name, &id.to_string()] {
            warnings.extend(self.roles_naming(name).await?);
        }
        change.delete_issuer(&id)?;
        let config = change.before.issuers_config.value.clone();
        let was_default = config.default == Some(id);
        if was_default {
            change.put_issuers_config(&IssuersConfig { default: None, ..config })?;
        }
        // Nobody's chain may lead to one that is gone.
        rechain(&mut change, &Fates { gone: &[id], ..Fates::default() }, Vec::new())?;
        let after = change.commit().await?;
        if was_default {
            warnings.push(format!(
                "Deleted issuer {id} (via issuer_ref {}); this was configured as the default issuer. Operations without an explicit issuer will not work until a new default is configured.",
                body.issuer_ref
            ));
            warnings.extend(self.roles_naming(DEFAULT).await?);
        }
        warnings.extend(after.crl_warnings());
        Ok(Response { warnings, ..nothing()? })
    }

    /// What to say of the roles that name an issuer so, which is not called that any more.
    async fn roles_naming(&self, issuer: &str) -> Result<Option<String>, Error> {
        const PAGE: usize = 1_000;

        if issuer.is_empty() {
            return Ok(None);
        }
        let (mut count, mut after) = (0_usize, None);
        loop {
            let names = self.store.role_names(after.as_deref(), PAGE).await?;
            for name in &names {
                // One that was deleted since names nobody.
                let role = self.store.role(name).await?;
                count += usize::from(role.is_some_and(|role| role.record.issuer_ref == issuer));
            }
            after = match names.into_iter().nth(PAGE - 1) {
                Some(last) => Some(last),
                None => break,
            };
        }
        Ok((count > 0).then(|| format!("{count} roles reference {issuer}")))
    }

    /// GET `ca`
    pub(super) async fn ca_der(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        Ok(match authorities.default_issuer() {
            Some(issuer) => Response::raw(DER, issuer.certificate.der().to_vec()),
            None => Response::raw(DER, Vec::new()).status(204),
        })
    }

    /// GET `ca/pem`
    pub(super) async fn ca_pem(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        Ok(match authorities.default_issuer() {
            Some(issuer) => Response::raw(PEM, trimmed(&issuer.certificate).to_owned()),
            None => Response::raw(PEM, Vec::new()).status(204),
        })
    }

    /// GET `ca_chain`: its media type is the peer's, although the text is PEM.
    pub(super) async fn ca_chain(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        Ok(match authorities.default_issuer() {
            Some(issuer) => Response::raw(DER, chain_text(issuer)),
            None => Response::raw(DER, Vec::new()).status(204),
        })
    }

    /// GET `cert/ca`
    pub(super) async fn cert_ca(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_issuer(DEFAULT).map_err(|error| Error::invalid(error.to_string()))?;
        Response::data(&json!({
            "certificate": trimmed(&issuer.certificate),
            "revocation_time": 0,
            "revocation_time_rfc3339": "",
        }))
    }

    /// GET `cert/ca_chain`
    pub(super) async fn cert_ca_chain(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let authorities = self.store.authorities().await?;
        let issuer = authorities.find_issuer(DEFAULT).map_err(|error| Error::invalid(error.to_string()))?;
        let text = chain_text(issuer);
        Response::data(&json!({
            "ca_chain": text,
            "certificate": text,
            "revocation_time": 0,
            "revocation_time_rfc3339": "",
        }))
    }
}

/// Said where a revoked issuer shall issue again.
const REVOKED: &str = "This issuer was revoked; unable to modify its usage to include certificate signing again. Reissue this certificate (preferably with a new key) and modify that entry instead.";

/// A reference that leads nowhere, on paths whose answers are not JSON.
pub(super) fn bare(unresolved: Unresolved) -> Error {
    Error::of(Kind::Internal, unresolved.to_string())
}

fn chain(issuer: &Authority) -> Vec<Value> {
    issuer.chain.iter().map(|one| Value::from(one.pem())).collect()
}

fn chain_text(issuer: &Authority) -> String {
    issuer.chain.iter().map(|one| trimmed(one)).collect::<Vec<&str>>().join("\n")
}

/// 200 with an envelope that holds nothing, as the peer answers where an issuer is gone.
pub(super) fn nothing() -> Result<Response, Error> {
    Response::data(&Value::Null)
}

/// An issuer as it is answered, with what there is to be warned of.
fn shown(issuer: &Authority) -> Result<Response, Error> {
    let response = Response::data(&describe(issuer))?;
    let lists = SignatureAlgorithm::from_name(&issuer.record.revocation_signature_algorithm);
    Ok(match lists {
        Some(SignatureAlgorithm::RsaPss(_)) => response.warn("Issuer uses a PSS Revocation Signature Algorithm. This algorithm will be downgraded to PKCS#1v1.5 signature scheme on OCSP responses, due to limitations in the OCSP library."),
        _ => response,
    })
}

/// An issuer as reading it shows it.
pub(super) fn describe(issuer: &Authority) -> Value {
    let record = &issuer.record;
    let own_urls = record.urls.as_ref().filter(|own| !own.say_nothing());
    let urls = own_urls.cloned().unwrap_or_default();
    // As on the peer, lists are null beside others that are not empty.
    let list = |urls: &Vec<String>| -> Value {
        if own_urls.is_some() && urls.is_empty() { Value::Null } else { urls.clone().into() }
    };
    let manual: Vec<String> = record.manual_chain.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "ca_chain": chain(issuer),
        "certificate": issuer.certificate.pem(),
        "crl_distribution_points": list(&urls.crl_distribution_points),
        "delta_crl_distribution_points": list(&urls.delta_crl_distribution_points),
        "issuer_id": record.id.to_string(),
        "issuer_name": record.name,
        "issuing_certificates": list(&urls.issuing_certificates),
        "key_id": record.key.map(|key| key.to_string()).unwrap_or_default(),
        "leaf_not_after_behavior": record.leaf_not_after_behavior.name(),
        "manual_chain": if manual.is_empty() { Value::Null } else { manual.into() },
        "ocsp_servers": list(&urls.ocsp_servers),
        "revocation_signature_algorithm": record.revocation_signature_algorithm,
        "revoked": record.revoked.is_some(),
        "usage": record.usage.to_string(),
    });
    if let Some(object) = shown.as_object_mut() {
        if own_urls.is_some() {
            object.insert("enable_aia_url_templating".to_owned(), urls.enable_templating.into());
        }
        if let Some(revoked) = record.revoked {
            object.insert("revocation_time".to_owned(), revoked.as_second().into());
            object.insert("revocation_time_rfc3339".to_owned(), revoked.to_string().into());
        }
    }
    shown
}

/// The algorithm of this name, in the API's spelling; empty for the key's usual one. The issuer's key
/// must know it.
fn algorithm(word: &str, issuer: &Authority) -> Result<String, Error> {
    if word.is_empty() {
        return Ok(String::new());
    }
    let algorithm = SignatureAlgorithm::from_name(word).ok_or_else(|| {
        let known: Vec<String> = SignatureAlgorithm::names().map(str::to_lowercase).collect();
        Error::invalid(format!(
            "Unknown signature algorithm value: {word} - valid values are {}",
            known.join(", ")
        ))
    })?;
    let key = issuer.certificate.public_key().map(PublicKey::spec);
    let key_type = key.map(KeySpec::key_type);
    let fits = match (key, algorithm) {
        (Some(KeySpec::MlDsa(own)), SignatureAlgorithm::MlDsa(set)) => own == set,
        _ => key_type == Some(algorithm.key_type()),
    };
    if !fits {
        return Err(one_error(&format_args!(
            "unable to use issuer of type {} to sign with {} key type",
            family(key_type),
            algorithm.title()
        )));
    }
    Ok(algorithm.name().to_owned())
}

/// A kind of key as the peer's messages name it.
pub(super) fn family(key_type: Option<KeyType>) -> &'static str {
    match key_type {
        Some(KeyType::Rsa) => "RSA",
        Some(KeyType::Ec) => "ECDSA",
        Some(KeyType::Ed25519) => "Ed25519",
        Some(KeyType::MlDsa) => "ML-DSA",
        None => "unknown",
    }
}

fn every_usage() -> Strings {
    let every = ["read-only", "issuing-certificates", "crl-signing", "ocsp-signing"];
    Strings(every.into_iter().map(str::to_owned).collect())
}

fn usage(words: &[String], issuer: &Authority) -> Result<IssuerUsage, Error> {
    let mut usage = IssuerUsage { issuing_certificates: false, crl_signing: false, ocsp_signing: false };
    for word in words {
        match word.as_str() {
            "read-only" => {}
            "issuing-certificates" => usage.issuing_certificates = true,
            "crl-signing" => usage.crl_signing = true,
            "ocsp-signing" => usage.ocsp_signing = true,
            _ => {
                return Err(Error::invalid(format!(
                    "Unable to parse specified usages: [{}] - valid values are crl-signing,issuing-certificates,ocsp-signing,read-only",
                    words.join(" ")
                )));
            }
        }
    }
    if usage.crl_signing && !signs_lists(&issuer.certificate) {
        return Err(Error::invalid(
            "This issuer's underlying certificate lacks the CRLSign KeyUsage value; unable to set CRLSigningUsage on this issuer as a result.",
        ));
    }
    Ok(usage)
}

fn manual_chain(
    references: &[String],
    own: IssuerId,
    authorities: &Authorities,
) -> Result<Vec<IssuerId>, Error> {
    let mut chain = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let id = match reference.as_str() {
            "self" if index == 0 => own,
            reference => authorities.find_issuer(reference)?.record.id,
        };
        if index == 0 && id != own {
            return Err(Error::invalid(format!(
                "expected first cert in chain to be a self-reference, but was: {reference}/{id}"
            )));
        }
        chain.push(id);
    }
    Ok(chain)
}

/// The issuer's own URLs after a change; none if they say nothing.
fn urls(
    before: Option<Urls>,
    given: [Option<Strings>; 4],
    templating: Option<bool>,
) -> Result<Option<Urls>, Error> {
    let before = before.unwrap_or_default();
    let enable_templating = templating.unwrap_or(before.enable_templating);
    let given = given.map(|given| given.map(Strings::non_empty));
    if !enable_templating {
        for (list, (field, _)) in given.iter().zip(before.lists()) {
            check_urls(list.as_ref().map(|list| (field, list)))?;
        }
    }
    let [issuing, crl, delta, ocsp] = given;
    let after = Urls {
        issuing_certificates: issuing.unwrap_or(before.issuing_certificates),
        crl_distribution_points: crl.unwrap_or(before.crl_distribution_points),
        delta_crl_distribution_points: delta.unwrap_or(before.delta_crl_distribution_points),
        ocsp_servers: ocsp.unwrap_or(before.ocsp_servers),
        enable_templating,
    };
    Ok((!after.say_nothing()).then_some(after))
}
