//! From a ready order to a certificate (RFC 8555, 7.4), on the ordinary way of a leaf.
//!
//! The CSR brings the key, and must say the same names as the order; the names in the certificate are the order's. The
//! certificate, its owner, and the order's end are one commit. If that fails, nobody has seen the certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use chancery_api::Ttl;
use chancery_issuance::{
    IssuedCertificate, KeyPolicy, LeafNotAfter, Profile, ProfileConfig, RequestedNames, SerialNumber,
    VerifiedCsr,
};
use chancery_storage::{Name, StorageError, Version, Writes};
use jiff::Timestamp;
use serde::Deserialize;

use super::super::Pki;
use super::super::authorities::trimmed;
use super::super::leaf::{KeySource, Making};
use super::super::requests::Leaf;
use super::super::store::certificate_name;
use super::Request;
use super::account::payload;
use super::directory::Directory;
use super::jws::Jwk;
use super::order::{OrderStatus, answer, no_order};
use super::problem::{Failure, Outcome, Problem, ProblemKind};
use super::records::{
    ATTEMPTS, AccountRecord, Identifier, IssuedRecord, OrderRecord, Stored, collection, name_of, put_changed,
    read, too_busy,
};
use crate::engine::Call;
use crate::error::{Error, Kind};
use crate::response::Response;

/// As the peer has it, what no role bounds lives for 90 days at most.
const LONGEST_VERBATIM: Duration = Duration::from_secs(90 * 24 * 3600);

/// The longest common name (RFC 5280, appendix A.1: ub-common-name).
const LONGEST_COMMON_NAME: usize = 64;

#[derive(Deserialize)]
struct Finalize {
    csr: Option<String>,
}

/// What a certificate stands on, as it was read: whose order it is, and what proved the names.
pub(super) struct Standing {
    account: Stored<AccountRecord>,
    order: Stored<OrderRecord>,
    proofs: Vec<(Name, Version)>,
}

impl Pki {
    /// `order/{order_id}/finalize`
    pub(super) async fn finalize(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { directory, call, jws, account } = request;
        let order = self.own_order(call, &account.value).await?;
        let finalize: Finalize = payload(&jws.payload)?;
        let csr = finalize
            .csr
            .filter(|csr| !csr.is_empty())
            .ok_or_else(|| Problem::malformed("the request message was malformed: missing csr in payload"))?;
        let der = BASE64URL
            .decode(csr)
            .map_err(|error| Problem::malformed(format!("failed base64 decoding csr: {error}")))?;
        let csr = VerifiedCsr::from_der(&der, &KeyPolicy::any())
            .map_err(|refusal| bad_csr(&refusal.to_string()))?;
        let standing = self.standing(account, order, call.now).await?;
        let Standing { account, order, .. } = &standing;
        let key = Jwk::parse(account.value.jwk.as_bytes())
            .map_err(|problem| Error::internal("a stored account key does not parse", problem.detail))?;
        let names = checked_csr(&csr, &order.value, &key)?;
        let profile = profile(directory, self.limits().max_ttl)?;
        let leaf = self.leaf(directory, &profile, names, &order.value, call.now);
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            BASE64.encode(&der)
        );
        let making = Making {
            leaf,
            key: KeySource::Csr(pem),
            profile: Arc::new(profile),
            authority: Arc::clone(&directory.authority),
        };
        let made = self.make(making, call.now).await.map_err(|error| match error.kind {
            Kind::InvalidRequest => Failure::Problem(bad_csr(&error.message())),
            _ => Failure::Error(error),
        })?;
        let order = self.keep(standing, directory, call, made.certificate).await?;
        Ok(answer(directory, &order, OrderStatus::Valid))
    }

    /// What an order's certificate stands on, if it can be made.
    pub(super) async fn standing(
        &self,
        account: Stored<AccountRecord>,
        order: Stored<OrderRecord>,
        now: Timestamp,
    ) -> Outcome<Standing> {
        let (status, proofs) = self.status_and_proofs(&order.value, now).await?;
        if status != OrderStatus::Ready {
            return Err(not_ready(status, OrderStatus::Ready).into());
        }
        Ok(Standing { account, order, proofs })
    }

    /// Certificate, owner and order in one commit, while all holds on which they stand. Answers the order.
    pub(super) async fn keep(
        &self,
        mut standing: Standing,
        directory: &Directory,
        call: &Call,
        certificate: IssuedCertificate,
    ) -> Outcome<OrderRecord> {
        let view = &self.mount.view;
        let serial = certificate.serial_number;
        for _ in 0..ATTEMPTS {
            let Standing { account, order, proofs } = &mut standing;
            let mut writes = Writes::new();
            let issuer = Some(directory.authority.record.id);
            self.store.put_certificate_with(&serial, issuer, &certificate.der, &mut writes)?;
            let issued = IssuedRecord {
                account: account.value.id.clone(),
                order: order.value.id.clone(),
                replaced_by: None,
            };
            writes.put_json(view, collection::CERTIFICATES, &certificate_name(&serial), &issued)?;
            if let Some(replaced) = &order.value.replaces {
                self.mark_replaced(replaced, &order.value, &mut writes).await?;
            }
            let owner = name_of(&account.value.id);
            writes.expect_unchanged(view, collection::ACCOUNTS, &owner, &account.version)?;
            for (name, version) in proofs {
                writes.expect_unchanged(view, collection::AUTHORIZATIONS, name, version)?;
            }
            order.value.serial = Some(serial.to_string());
            put_changed(&mut writes, view, collection::ORDERS, &name_of(&order.value.id), order)?;
            match view.commit(writes).await {
                Ok(()) => {
                    self.store.counts.stored(&serial);
                    return Ok(standing.order.value);
                }
                // Something changed. If it still may be given, the same certificate is: nothing is signed anew.
                Err(StorageError::Conflict) => {
                    let account = self.valid_account(&account.value.id).await?;
                    let order = self.own_order(call, &account.value).await?;
                    standing = self.standing(account, order, call.now).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(too_busy())
    }

    /// `order/{order_id}/cert`: the certificate and the chain of who signed it.
    pub(super) async fn order_certificate(&self, request: Request<'_>) -> Outcome<Response> {
        let Request { call, account, .. } = request;
        let order = self.own_order(call, &account.value).await?;
        let Some(serial) = &order.value.serial else {
            let status = self.status_of(&order.value, call.now).await?;
            return Err(not_ready(status, OrderStatus::Valid).into());
        };
        let serial: SerialNumber = serial
            .parse()
            .map_err(|error| Error::internal("a stored serial number does not parse", error))?;
        // Tidied away, as after its end.
        let record = self.store.certificate(&serial).await?.ok_or_else(no_order)?;
        let leaf = chancery_issuance::Certificate::from_der(&record.der)
            .map_err(|error| Error::internal("a stored certificate does not parse", error))?;
        let mut text = leaf.pem().to_owned();
        let authorities = self.store.authorities().await?;
        if let Some(authority) = record.issuer.and_then(|id| authorities.issuer(&id)) {
            for above in &authority.chain {
                text.push_str(trimmed(above));
                text.push('\n');
            }
        }
        Ok(Response::raw("application/pem-certificate-chain", text))
    }

    /// The leaf to be made: the order's names, and an end that the issuer can vouch for.
    fn leaf(
        &self,
        directory: &Directory,
        profile: &Profile,
        common_name: String,
        order: &OrderRecord,
        now: Timestamp,
    ) -> Leaf {
        let (mut dns, mut ip) = (Vec::new(), Vec::new());
        for identifier in &order.identifiers {
            match identifier {
                Identifier::Dns(name) => dns.push(name.clone()),
                Identifier::Ip(address) => ip.push(address.to_string()),
            }
        }
        let config = profile.config();
        // As the peer has it: a wildcard, else a name, else an address.
        let needed = || {
            let fitting = || dns.iter().filter(|name| name.len() <= LONGEST_COMMON_NAME);
            let name = fitting().find(|name| name.starts_with("*.")).or_else(|| fitting().next());
            name.or_else(|| ip.first()).cloned().unwrap_or_default()
        };
        // Clients of ACME mostly leave the common name out.
        let common_name = if common_name.is_empty() && config.require_cn { needed() } else { common_name };
        Leaf {
            names: RequestedNames {
                common_name,
                alt_names: dns,
                ip_sans: ip,
                // Every name is there already.
                exclude_cn_from_sans: true,
                ..RequestedNames::default()
            },
            ttl: self.shortened(directory, config, now),
            ..Leaf::default()
        }
    }

    /// As the peer does: a client of ACME cannot ask for a shorter time, so that where an issuer refuses leaves that outlive
    /// it, they end with it instead. `None` if nothing needs to be shortened.
    fn shortened(&self, directory: &Directory, config: &ProfileConfig, now: Timestamp) -> Option<Ttl> {
        let behavior: LeafNotAfter = directory.authority.record.leaf_not_after_behavior.into();
        if behavior != LeafNotAfter::Err || !config.not_after.is_empty() {
            return None;
        }
        let limits = self.limits();
        let or = |own: Duration, other: Duration| if own.is_zero() { other } else { own };
        let longest = or(config.max_ttl, limits.max_ttl);
        let wanted = or(config.ttl, limits.default_ttl).min(longest);
        let end = directory.authority.certificate.not_after().as_second();
        let left = Duration::from_secs(u64::try_from(end.saturating_sub(now.as_second())).unwrap_or(0));
        (left < wanted && !left.is_zero()).then_some(Ttl(left))
    }
}

/// What the directory permits: a role's rules, or every name that was proved. Nothing is taken from the CSR but its key.
fn profile(directory: &Directory, mount_max: Duration) -> Outcome<Profile> {
    let mut config = match &directory.role {
        Some(named) => named.role.profile()?.config().clone(),
        None => ProfileConfig {
            use_csr_values: false,
            max_ttl: LONGEST_VERBATIM.min(mount_max),
            ..ProfileConfig::verbatim()
        },
    };
    config.use_csr_common_name = false;
    config.use_csr_sans = false;
    // Nobody proves those.
    config.allowed_serial_numbers.clear();
    config.allowed_user_ids.clear();
    if directory.role.is_none() || !directory.config.allow_role_ext_key_usage {
        // What was proved is the control of a server, and nothing else.
        config.server_flag = true;
        config.client_flag = false;
        config.code_signing_flag = false;
        config.email_protection_flag = false;
        config.ext_key_usage.clear();
        config.ext_key_usage_oids.clear();
    }
    Profile::new(config).map_err(|error| Problem::new(ProblemKind::ServerInternal, error.to_string()).into())
}

/// Holds a CSR against its order. Answers its common name in lower case, or nothing.
fn checked_csr(csr: &VerifiedCsr, order: &OrderRecord, account_key: &Jwk) -> Result<String, Problem> {
    if account_key.is(csr.public_key()) {
        return Err(bad_csr("certificate public key must not match account key"));
    }
    if csr.asks_for_ca() == Some(true) {
        return Err(bad_csr("refusing to accept CSR with Basic Constraints extension with CA set to true"));
    }
    let sans = csr.sans();
    if !sans.email.is_empty() || !sans.uri.is_empty() || !sans.other.is_empty() {
        return Err(bad_csr("CSR included unsupported SAN types"));
    }
    let subject = csr.subject();
    if !subject.serial_number.is_empty() || !subject.user_ids.is_empty() {
        return Err(bad_csr("CSR included a serial number or a user ID in its subject, which nobody proved"));
    }
    let common_name = subject.common_name.to_ascii_lowercase();
    let mut dns: BTreeSet<String> = sans.dns.iter().map(|name| name.to_ascii_lowercase()).collect();
    let mut ip: BTreeSet<IpAddr> = sans.ip.iter().copied().collect();
    // RFC 8555, 7.4: a common name is one of the names too.
    if !common_name.is_empty() {
        match common_name.parse() {
            Ok(address) => drop(ip.insert(address)),
            Err(_) => drop(dns.insert(common_name.clone())),
        }
    }
    let (mut ordered_dns, mut ordered_ip) = (BTreeSet::new(), BTreeSet::new());
    for identifier in &order.identifiers {
        match identifier {
            Identifier::Dns(name) => drop(ordered_dns.insert(name.clone())),
            Identifier::Ip(address) => drop(ordered_ip.insert(*address)),
        }
    }
    let counts = |what: &str, ordered: usize, asked: usize| {
        bad_csr(&format!("Order ({ordered}) and CSR ({asked}) mismatch on number of {what} identifiers"))
    };
    if ordered_dns.len() != dns.len() {
        return Err(counts("DNS", ordered_dns.len(), dns.len()));
    }
    if ordered_ip.len() != ip.len() {
        return Err(counts("IP", ordered_ip.len(), ip.len()));
    }
    if let Some(missing) = ordered_dns.difference(&dns).next() {
        return Err(bad_csr(&format!("CSR is missing order DNS identifier {missing}")));
    }
    if let Some(missing) = ordered_ip.difference(&ip).next() {
        return Err(bad_csr(&format!("CSR is missing order IP identifier {missing}")));
    }
    Ok(common_name)
}

fn bad_csr(why: &str) -> Problem {
    Problem::new(ProblemKind::BadCsr, format!("the CSR is unacceptable: {why}"))
}

fn not_ready(status: OrderStatus, needed: OrderStatus) -> Problem {
    Problem::new(
        ProblemKind::OrderNotReady,
        format!("order is status {}, needs to be in {} state", status.name(), needed.name()),
    )
}

/// Who got the certificate with this serial number.
pub(super) async fn issued(pki: &Pki, serial: &SerialNumber) -> Result<Option<Stored<IssuedRecord>>, Error> {
    read(&pki.mount.view, collection::CERTIFICATES, &certificate_name(serial)).await
}
