//! Roles: what operators write, and the [`Profile`] that it means.

use std::sync::Arc;

use chancery_api::fields::{Kind, Source, Value};
use chancery_api::{Strings, Ttl, fields};
use chancery_issuance::{KeySpec, PolicyIdentifier, Profile, ProfileConfig, ProfileError};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::authorities::{Authorities, DEFAULT, Unresolved};
use crate::error::Error;
use crate::policy::{Identity, Substitution};
use crate::token::TokenEntry;

/// Declares the fields of a role once: the record, the request that writes one (absent fields take
/// their defaults) and the request that patches one (absent fields stay as they are).
macro_rules! role {
    ($($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr),* $(,)?) => {
        /// A role as it is stored and answered.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub(super) struct RoleRecord {
            $($(#[doc = $doc])+ pub(super) $field: $ty,)*
        }

        impl Default for RoleRecord {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        fields! {
            /// Writes a role.
            #[derive(Debug)]
            pub(super) struct WriteRole {
                path {
                    /// The role's name.
                    name: String,
                }
                body {
                    $($(#[doc = $doc])+ $field: $ty = $default,)*
                    /// Accepted and not looked at.
                    backend: Option<String>,
                }
            }
        }

        fields! {
            /// Changes some fields of a role.
            #[derive(Debug, Clone)]
            pub(super) struct PatchRole {
                path {
                    /// The role's name.
                    name: String,
                }
                body {
                    $($(#[doc = $doc])+ $field: Option<$ty>,)*
                    /// Accepted and not looked at.
                    backend: Option<String>,
                }
            }
        }

        impl WriteRole {
            /// The record as the client wrote it, not yet checked.
            pub(super) fn into_record(self) -> RoleRecord {
                let Self { name: _, backend: _, $($field,)* } = self;
                RoleRecord { $($field,)* }
            }
        }

        impl PatchRole {
            /// `record` with the fields that the client gave, not yet checked.
            pub(super) fn apply(self, record: RoleRecord) -> RoleRecord {
                let Self { name: _, backend: _, $($field,)* } = self;
                RoleRecord { $($field: $field.unwrap_or(record.$field),)* }
            }
        }
    };
}

fn words(words: &[&str]) -> Strings {
    Strings(words.iter().map(|word| (*word).to_owned()).collect())
}

role! {
    /// Any name at all is allowed.
    allow_any_name: bool = false,
    /// The allowed domains themselves are allowed as names.
    allow_bare_domains: bool = false,
    /// The allowed domains may hold `*` patterns.
    allow_glob_domains: bool = false,
    /// What an identity template is filled with may hold `*` patterns.
    allow_globs_in_identity_templates: bool = false,
    /// IP addresses are allowed as subject alternative names.
    allow_ip_sans: bool = true,
    /// `localhost` and `localdomain` names are allowed.
    allow_localhost: bool = true,
    /// Names below the allowed domains are allowed, wildcards included.
    allow_subdomains: bool = false,
    /// Wildcard names (RFC 6125) are allowed where the name below is.
    allow_wildcard_certificates: bool = true,
    /// The domains that the other `allow_` fields speak of.
    allowed_domains: Strings = Strings::default(),
    /// The allowed domains may hold identity templates.
    allowed_domains_template: bool = false,
    /// If not empty, the networks that IP addresses must be in.
    allowed_ip_sans_cidr: Strings = Strings::default(),
    /// Allowed other names: `oid;UTF8:pattern`, or a single `*`.
    allowed_other_sans: Strings = Strings::default(),
    /// Patterns for the subject's serial number.
    allowed_serial_numbers: Strings = Strings::default(),
    /// Patterns for URIs.
    allowed_uri_sans: Strings = Strings::default(),
    /// The allowed URIs may hold identity templates.
    allowed_uri_sans_template: bool = false,
    /// Patterns for user ids.
    allowed_user_ids: Strings = Strings::default(),
    /// Leaves carry a basic constraints extension that says they are no authority.
    basic_constraints_valid_for_non_ca: bool = false,
    /// Certificates are good for clients (extended key usage clientAuth).
    client_flag: bool = true,
    /// What a common name must look like: `email`, `hostname`, both, or `disabled`.
    cn_validations: Strings = words(&["email", "hostname"]),
    /// Certificates are good for signing code.
    code_signing_flag: bool = false,
    /// C of the subject.
    country: Strings = Strings::default(),
    /// Certificates are good for protecting e-mail.
    email_protection_flag: bool = false,
    /// Names must look like host names.
    enforce_hostnames: bool = true,
    /// Extended key usages by name.
    ext_key_usage: Strings = Strings::default(),
    /// Extended key usages by identifier.
    ext_key_usage_oids: Strings = Strings::default(),
    /// Each certificate comes with a lease, and is revoked with it.
    generate_lease: bool = false,
    /// The issuer that signs: `default`, a name or an id.
    issuer_ref: String = DEFAULT.to_owned(),
    /// The size of keys; 0 is the type's default.
    key_bits: i64 = 0,
    /// The kind of keys: `rsa`, `ec`, `ed25519`, `mldsa` or `any`.
    key_type: String = "rsa".to_owned(),
    /// Key usages by name.
    key_usage: Strings = words(&["DigitalSignature", "KeyAgreement", "KeyEncipherment"]),
    /// L of the subject.
    locality: Strings = Strings::default(),
    /// Longest lifetime; 0 is the mount's.
    max_ttl: Ttl = Ttl::ZERO,
    /// Certificates are not stored, and so neither listed nor revoked.
    no_store: bool = false,
    /// A fixed end of the lifetime (RFC 3339).
    not_after: String = String::new(),
    /// What clients may ask as end: `permit`, `ttl-limited`, `forbid`, or a time.
    not_after_bound: String = "permit".to_owned(),
    /// A fixed start of the lifetime (RFC 3339).
    not_before: String = String::new(),
    /// What clients may ask as start: `permit`, `duration` or `forbid`.
    not_before_bound: String = "permit".to_owned(),
    /// How far back certificates begin.
    not_before_duration: Ttl = Ttl::seconds(30),
    /// O of the subject.
    organization: Strings = Strings::default(),
    /// OU of the subject.
    ou: Strings = Strings::default(),
    /// Certificate policies: identifiers, or objects with `oid`, `notice` and `cps`.
    policy_identifiers: Policies = Policies::default(),
    /// postalCode of the subject.
    postal_code: Strings = Strings::default(),
    /// ST of the subject.
    province: Strings = Strings::default(),
    /// A common name is needed.
    require_cn: bool = true,
    /// Certificates are good for servers (extended key usage serverAuth).
    server_flag: bool = true,
    /// The hash's size in signatures by RSA issuers; 0 is 256.
    signature_bits: i64 = 0,
    /// street of the subject.
    street_address: Strings = Strings::default(),
    /// Default lifetime; 0 is the mount's.
    ttl: Ttl = Ttl::ZERO,
    /// The common name is the CSR's.
    use_csr_common_name: bool = true,
    /// The subject alternative names are the CSR's.
    use_csr_sans: bool = true,
    /// RSA issuers sign with PSS.
    use_pss: bool = false,
}

/// A role in memory: its record and its profile.
pub(super) struct Role {
    /// As it is stored.
    pub(super) record: RoleRecord,
    /// What it means, unless something in the record means nothing.
    profile: Result<Arc<Profile>, ProfileError>,
}

impl Role {
    /// Reads a record. One that means nothing can still be shown and mended; only signing refuses it.
    pub(super) fn new(record: RoleRecord) -> Self {
        let profile = Profile::new(record.profile_config()).map(Arc::new);
        Self { record, profile }
    }

    /// What the role permits to the holder of `token`: identity templates filled in.
    pub(super) fn profile_for(&self, token: Option<&Arc<TokenEntry>>) -> Result<Arc<Profile>, Error> {
        let profile = self.profile()?;
        let RoleRecord { allowed_domains_template, allowed_uri_sans_template, .. } = self.record;
        if !allowed_domains_template && !allowed_uri_sans_template {
            return Ok(Arc::clone(profile));
        }
        let identity = token.map(|token| Identity::of(token)).unwrap_or_default();
        // `*` in a value would let whoever chose the value choose the rule.
        let allowed =
            Substitution { wildcards: self.record.allow_globs_in_identity_templates, slashes: true };
        let filled = |templates: &[String], templated: bool| -> Vec<String> {
            if !templated {
                return templates.to_vec();
            }
            templates.iter().filter_map(|template| identity.fill_in(template, allowed)).collect()
        };
        Ok(Arc::new(profile.with_names(
            filled(&self.record.allowed_domains, allowed_domains_template),
            filled(&self.record.allowed_uri_sans, allowed_uri_sans_template),
        )))
    }

    /// What the role permits, identity templates as they stand.
    pub(super) fn profile(&self) -> Result<&Arc<Profile>, Error> {
        self.profile.as_ref().map_err(|error| Error::invalid(error.to_string()).caused_by(error.clone()))
    }
}

impl RoleRecord {
    /// The record in its normal form with what to warn about, or the first thing that is wrong with
    /// it in the peer's words.
    pub(super) fn checked(mut self, authorities: &Authorities) -> Result<(Self, Vec<String>), Error> {
        let mut warnings = Vec::new();
        check_other_sans(&self.allowed_other_sans)?;
        self.allowed_ip_sans_cidr = networks(&self.allowed_ip_sans_cidr)?;
        check_bounds(&self.not_before_bound, &self.not_after_bound)?;
        if self.no_store && self.generate_lease {
            self.generate_lease = false;
            warnings.push(
                "mutually exclusive values no_store=true and generate_lease=true were both specified; no_store=true \
                 takes priority"
                    .to_owned(),
            );
        }
        if self.generate_lease {
            warnings.push(
                "it is encouraged to disable generate_lease and rely on PKI's native capabilities when possible; this \
                 option can cause instance-wide issues with large numbers of issued certificates"
                    .to_owned(),
            );
        }
        if !self.max_ttl.is_zero() && self.ttl > self.max_ttl {
            return Err(Error::invalid(ProfileError::TtlAboveMax.to_string()));
        }
        self.key_bits = key_bits(&self.key_type, self.key_bits)?;
        if let Some(oid) = self.ext_key_usage_oids.iter().find(|oid| !is_oid(oid)) {
            let sentence = format!("{oid:?} could not be parsed as a valid oid for an extended key usage");
            return Err(Error::invalid(sentence));
        }
        check_encodable(&self.ext_key_usage_oids, self.policy_identifiers.parse()?)?;
        self.cn_validations = cn_validations(self.cn_validations)?;
        if self.issuer_ref.is_empty() {
            DEFAULT.clone_into(&mut self.issuer_ref);
        }
        match authorities.find_issuer(&self.issuer_ref) {
            Ok(_) => {}
            Err(Unresolved::NoDefaultIssuer) => warnings.push(
                "Issuing Certificate was set to default, but no default issuing certificate (configurable at \
                 /config/issuers) is currently set"
                    .to_owned(),
            ),
            Err(_) => warnings.push(format!(
                "Issuing Certificate was set to {} but no issuing certificate currently has that name",
                self.issuer_ref
            )),
        }
        Ok((self, warnings))
    }

    /// The same in the words of issuance. Identity templates stand as they are: filling them in is
    /// for the request.
    pub(super) fn profile_config(&self) -> ProfileConfig {
        let Self {
            allow_any_name,
            allow_bare_domains,
            allow_glob_domains,
            allow_globs_in_identity_templates: _,
            allow_ip_sans,
            allow_localhost,
            allow_subdomains,
            allow_wildcard_certificates,
            allowed_domains,
            allowed_domains_template: _,
            allowed_ip_sans_cidr,
            allowed_other_sans,
            allowed_serial_numbers,
            allowed_uri_sans,
            allowed_uri_sans_template: _,
            allowed_user_ids,
            basic_constraints_valid_for_non_ca,
            client_flag,
            cn_validations,
            code_signing_flag,
            country,
            email_protection_flag,
            enforce_hostnames,
            ext_key_usage,
            ext_key_usage_oids,
            generate_lease: _,
            issuer_ref: _,
            key_bits,
            key_type,
            key_usage,
            locality,
            max_ttl,
            no_store: _,
            not_after,
            not_after_bound,
            not_before,
            not_before_bound,
            not_before_duration,
            organization,
            ou,
            policy_identifiers,
            postal_code,
            province,
            require_cn,
            server_flag,
            signature_bits,
            street_address,
            ttl,
            use_csr_common_name,
            use_csr_sans,
            use_pss,
        } = self;
        ProfileConfig {
            allow_localhost: *allow_localhost,
            allowed_domains: allowed_domains.to_vec(),
            allow_bare_domains: *allow_bare_domains,
            allow_subdomains: *allow_subdomains,
            allow_glob_domains: *allow_glob_domains,
            allow_wildcard_certificates: *allow_wildcard_certificates,
            allow_any_name: *allow_any_name,
            enforce_hostnames: *enforce_hostnames,
            allow_ip_sans: *allow_ip_sans,
            allow_token_displayname: false,
            allowed_ip_sans_cidr: allowed_ip_sans_cidr.to_vec(),
            allowed_uri_sans: allowed_uri_sans.to_vec(),
            allowed_other_sans: allowed_other_sans.to_vec(),
            allowed_serial_numbers: allowed_serial_numbers.to_vec(),
            allowed_user_ids: allowed_user_ids.to_vec(),
            server_flag: *server_flag,
            client_flag: *client_flag,
            code_signing_flag: *code_signing_flag,
            email_protection_flag: *email_protection_flag,
            key_type: key_type.clone(),
            key_bits: u32::try_from(*key_bits).unwrap_or(0),
            signature_bits: u32::try_from(*signature_bits).unwrap_or(0),
            use_pss: *use_pss,
            key_usage: key_usage.to_vec(),
            ext_key_usage: ext_key_usage.to_vec(),
            ext_key_usage_oids: ext_key_usage_oids.to_vec(),
            use_csr_common_name: *use_csr_common_name,
            use_csr_sans: *use_csr_sans,
            ou: ou.to_vec(),
            organization: organization.to_vec(),
            country: country.to_vec(),
            locality: locality.to_vec(),
            province: province.to_vec(),
            street_address: street_address.to_vec(),
            postal_code: postal_code.to_vec(),
            require_cn: *require_cn,
            cn_validations: cn_validations.to_vec(),
            // They were parsed before the record was stored.
            policy_identifiers: policy_identifiers.parse().unwrap_or_default(),
            basic_constraints_valid_for_non_ca: *basic_constraints_valid_for_non_ca,
            not_before_duration: not_before_duration.0,
            not_before: not_before.clone(),
            not_before_bound: not_before_bound.clone(),
            not_after: not_after.clone(),
            not_after_bound: not_after_bound.clone(),
            ttl: ttl.0,
            max_ttl: max_ttl.0,
            use_csr_values: false,
        }
    }
}

/// The size of a key of this type, the type's default for 0.
pub(super) fn key_bits(key_type: &str, bits: i64) -> Result<i64, Error> {
    if key_type == "rsa" && bits != 0 && bits < 2048 {
        let sentence = format!("RSA keys < 2048 bits are unsafe and not supported: got {bits}");
        return Err(Error::invalid(sentence));
    }
    match key_type {
        // Kept as they were written, as the peer does: they say nothing.
        "any" | "ed25519" => Ok(bits),
        _ => {
            // No key has such a size, so a negative one fails like any other that does not exist.
            let size = u32::try_from(bits).unwrap_or(u32::MAX);
            KeySpec::new(key_type, size).map(|spec| i64::from(spec.bits())).map_err(|error| {
                Error::invalid(error.to_string().replace(&size.to_string(), &bits.to_string()))
            })
        }
    }
}

/// `oid;UTF8:pattern` each, or a single `*`.
fn check_other_sans(allowed: &[String]) -> Result<(), Error> {
    if matches!(allowed, [only] if only == "*") {
        return Ok(());
    }
    for san in allowed {
        let wrong =
            |reason: &str| Error::invalid(format!("error parsing allowed_other_sans: {reason} {san:?}"));
        let (_, value) = san.split_once(';').ok_or_else(|| wrong("expected a semicolon in other SAN"))?;
        let (kind, _) = value.split_once(':').ok_or_else(|| wrong("expected a colon in other SAN"))?;
        if !kind.eq_ignore_ascii_case("utf8") && !kind.eq_ignore_ascii_case("utf-8") {
            return Err(wrong("only utf8 other SANs are supported; found non-supported type in other SAN"));
        }
    }
    Ok(())
}

/// The network without bits of hosts. One of IPv4 addresses that are written as IPv6 (RFC 4291, 2.5.5.2) is the IPv4
/// network, as addresses in certificates are IPv4 then.
fn canonical(network: IpNet) -> IpNet {
    let network = network.trunc();
    let IpNet::V6(mapped) = network else { return network };
    let address = mapped.network().to_ipv4_mapped();
    let length = mapped.prefix_len().checked_sub(96);
    let plain = address.zip(length).and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    plain.map_or(network, IpNet::V4)
}

/// Each network in its normal form: the address without host bits.
fn networks(networks: &[String]) -> Result<Strings, Error> {
    let normal = |network: &String| {
        let wrong =
            || Error::invalid(format!("error parsing allowed_ip_sans_cidr: invalid CIDR address: {network}"));
        network.parse().map(|network| canonical(network).to_string()).map_err(|_| wrong())
    };
    networks.iter().map(normal).collect::<Result<Vec<String>, Error>>().map(Strings)
}

fn check_bounds(not_before: &str, not_after: &str) -> Result<(), Error> {
    if !matches!(not_before, "permit" | "duration" | "forbid") {
        return Err(Error::invalid(
            "Unknown value for field `not_before_bound`. Possible values are `permit` `duration` or `forbid`",
        ));
    }
    let known = matches!(not_after, "permit" | "ttl-limited" | "forbid");
    if !known && not_after.parse::<jiff::Timestamp>().is_err() {
        return Err(Error::invalid(
            "Unknown value for field `not_after_bound`. Possible values are `permit`, `ttl-limited`, `forbid`, or an \
             explicit timestamp.",
        ));
    }
    Ok(())
}

/// The kinds of check in force: both if none is named, and nothing beside `disabled`.
fn cn_validations(kinds: Strings) -> Result<Strings, Error> {
    let kinds = Strings(kinds.iter().map(|kind| kind.to_lowercase()).collect());
    if kinds.is_empty() {
        return Ok(words(&["email", "hostname"]));
    }
    let wrong = |reason: String| {
        Error::invalid(format!("1 error occurred:\n\t* cn_validations value incorrect: {reason}\n\n"))
    };
    let mut seen: Vec<&str> = Vec::new();
    for kind in kinds.iter().map(String::as_str) {
        if !matches!(kind, "disabled" | "email" | "hostname") {
            return Err(wrong(format!("unknown type: `{kind}`")));
        }
        if seen.contains(&kind) {
            return Err(wrong(format!("`{kind}` specified multiple times")));
        }
        seen.push(kind);
    }
    if seen.contains(&"disabled") && seen.len() > 1 {
        return Err(wrong("cannot specify `disabled` along with `email` or `hostname`".to_owned()));
    }
    Ok(kinds)
}

/// Whether an object identifier is written like this: dotted decimals, two at least (X.660, 7.6).
pub(super) fn is_oid(text: &str) -> bool {
    let arcs: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
    match arcs.as_deref() {
        Ok([0 | 1, second, ..]) => *second < 40,
        Ok([2, _, ..]) => true,
        _ => false,
    }
}

/// Refuses identifiers that are written well, but that no certificate made here can carry.
fn check_encodable(
    ext_key_usage_oids: &[String],
    policy_identifiers: Vec<PolicyIdentifier>,
) -> Result<(), Error> {
    let config = ProfileConfig {
        ext_key_usage_oids: ext_key_usage_oids.to_vec(),
        policy_identifiers,
        ..ProfileConfig::default()
    };
    Profile::new(config).map(drop).map_err(|error| Error::invalid(error.to_string()).caused_by(error))
}

/// Certificate policies as operators write them: identifiers, or JSON objects as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Policies(Vec<String>);

/// A policy with its qualifiers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PolicyObject {
    oid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cps: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    notice: String,
}

impl Policies {
    /// Each policy, taken apart.
    fn parse(&self) -> Result<Vec<PolicyIdentifier>, Error> {
        let wrong = |reason: String| Error::invalid(format!("1 error occurred:\n\t* {reason}\n\n"));
        let not_a_number = |oid: &str| {
            let arc = oid.split('.').find(|arc| arc.parse::<u64>().is_err()).unwrap_or(oid);
            format!("strconv.Atoi: parsing {arc:?}: invalid syntax")
        };
        self.0
            .iter()
            .map(|text| {
                if is_oid(text) {
                    return Ok(PolicyIdentifier { oid: text.clone(), ..PolicyIdentifier::default() });
                }
                let PolicyObject { oid, cps, notice } = serde_json::from_str(text).map_err(|error| {
                    wrong(format!(
                        "policy identifier {text:?} is neither a valid OID: {}, Nor JSON Policy Identifier: {error}",
                        not_a_number(text)
                    ))
                })?;
                if !is_oid(&oid) {
                    return Err(wrong(not_a_number(&oid)));
                }
                Ok(PolicyIdentifier { oid, notice, cps })
            })
            .collect()
    }
}

impl Value for Policies {
    const KIND: Kind = Kind::Strings;

    /// A list of texts, a text with commas, or a text that is a JSON array of objects.
    fn decode(source: Source<'_>) -> Result<Self, String> {
        let text = match source {
            Source::Text(text) => text.to_owned(),
            Source::Json(raw) => serde_json::from_str(raw.get()).unwrap_or_default(),
        };
        match serde_json::from_str::<Vec<PolicyObject>>(&text) {
            Ok(objects) => objects
                .iter()
                .map(|object| serde_json::to_string(object).map_err(|error| error.to_string()))
                .collect::<Result<_, _>>()
                .map(Self),
            Err(_) => Strings::decode(source).map(|Strings(list)| Self(list)),
        }
    }

    fn describe(&self) -> serde_json::Value {
        self.0.clone().into()
    }

    fn null() -> Option<Self> {
        Some(Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_in_one_form() {
        for (given, normal) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("::ffff:10.1.2.3/90", "::ffc0:0:0/90"),
            ("::/0", "::/0"),
        ] {
            let Ok(Strings(found)) = networks(&[given.to_owned()]) else { panic!("{given} is a network") };
            assert_eq!(found, [normal]);
        }
        assert!(networks(&["10.0.0.1".to_owned()]).is_err());
    }
}
