//! Profiles: what an operator's role permits, checked once.

use std::time::Duration;

use ipnet::IpNet;

use crate::names::OtherSanRule;
use crate::{
    ExtendedKeyUsage, KeyPolicy, KeyUsage, OtherName, ProfileError, Refusal, Subject, Time, emit, extension,
};

/// What an operator writes: the fields of a PKI role, with the API's names and defaults.
///
/// [`Default`] is the role that a write with no fields makes.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileConfig {
    /// `localhost` and `localdomain` names are allowed.
    pub allow_localhost: bool,
    /// Domains the other `allow_` fields speak of.
    pub allowed_domains: Vec<String>,
    /// The domains themselves are allowed.
    pub allow_bare_domains: bool,
    /// Names below the domains are allowed, wildcards included.
    pub allow_subdomains: bool,
    /// The domains may hold `*` patterns.
    pub allow_glob_domains: bool,
    /// The requesting token's display name is allowed as a name.
    pub allow_token_displayname: bool,
    /// RFC 6125 wildcards are allowed where the name is.
    pub allow_wildcard_certificates: bool,
    /// Any name at all is allowed.
    pub allow_any_name: bool,
    /// Names must look like host names.
    pub enforce_hostnames: bool,
    /// IP addresses are allowed.
    pub allow_ip_sans: bool,
    /// If not empty, the networks that IP addresses must be in.
    pub allowed_ip_sans_cidr: Vec<String>,
    /// Patterns (`*`) for URIs; none are allowed if empty.
    pub allowed_uri_sans: Vec<String>,
    /// `oid;UTF8:pattern`, or a single `*`.
    pub allowed_other_sans: Vec<String>,
    /// Patterns for the subject's serialNumber; none are allowed if empty.
    pub allowed_serial_numbers: Vec<String>,
    /// Patterns for user ids; none are allowed if empty.
    pub allowed_user_ids: Vec<String>,
    /// Extended key usage serverAuth.
    pub server_flag: bool,
    /// Extended key usage clientAuth.
    pub client_flag: bool,
    /// Extended key usage codeSigning.
    pub code_signing_flag: bool,
    /// Extended key usage emailProtection.
    pub email_protection_flag: bool,
    /// `rsa`, `ec`, `ed25519` or `any`.
    pub key_type: String,
    /// 0 for the type's default.
    pub key_bits: u32,
    /// 0, 256, 384 or 512; matters only to RSA issuers.
    pub signature_bits: u32,
    /// RSA issuers sign with PSS.
    pub use_pss: bool,
    /// Key usages by the API's names (`DigitalSignature`, …) in any case; unknown ones are passed
    /// over.
    pub key_usage: Vec<String>,
    /// Extended key usages by the API's names (`ServerAuth`, …).
    pub ext_key_usage: Vec<String>,
    /// Further extended key usages, dotted.
    pub ext_key_usage_oids: Vec<String>,
    /// The common name is the CSR's.
    pub use_csr_common_name: bool,
    /// The SANs are the CSR's.
    pub use_csr_sans: bool,
    /// OU
    pub ou: Vec<String>,
    /// O
    pub organization: Vec<String>,
    /// C
    pub country: Vec<String>,
    /// L
    pub locality: Vec<String>,
    /// ST
    pub province: Vec<String>,
    /// street
    pub street_address: Vec<String>,
    /// postalCode
    pub postal_code: Vec<String>,
    /// A common name is needed.
    pub require_cn: bool,
    /// `email`, `hostname`, or `disabled` alone: what a common name may look like.
    pub cn_validations: Vec<String>,
    /// Policies.
    pub policy_identifiers: Vec<PolicyIdentifier>,
    /// A basic constraints extension with CA false in leaves.
    pub basic_constraints_valid_for_non_ca: bool,
    /// How far back certificates begin.
    pub not_before_duration: Duration,
    /// Fixed start, RFC 3339; empty for none.
    pub not_before: String,
    /// What clients may ask as start: `permit`, `duration` or `forbid`.
    pub not_before_bound: String,
    /// Fixed end, RFC 3339; empty for none.
    pub not_after: String,
    /// What clients may ask as end: `permit`, `ttl-limited`, `forbid`, or a time.
    pub not_after_bound: String,
    /// Default lifetime; zero for the mount's.
    pub ttl: Duration,
    /// Longest lifetime; zero for the mount's.
    pub max_ttl: Duration,
    /// Take subject and extensions from the CSR as they are (sign-verbatim).
    pub use_csr_values: bool,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self {
            allow_localhost: true,
            allowed_domains: Vec::new(),
            allow_bare_domains: false,
            allow_subdomains: false,
            allow_glob_domains: false,
            allow_token_displayname: false,
            allow_wildcard_certificates: true,
            allow_any_name: false,
            enforce_hostnames: true,
            allow_ip_sans: true,
            allowed_ip_sans_cidr: Vec::new(),
            allowed_uri_sans: Vec::new(),
            allowed_other_sans: Vec::new(),
            allowed_serial_numbers: Vec::new(),
            allowed_user_ids: Vec::new(),
            server_flag: true,
            client_flag: true,
            code_signing_flag: false,
            email_protection_flag: false,
            key_type: "rsa".to_owned(),
            key_bits: 0,
            signature_bits: 0,
            use_pss: false,
            key_usage: ["DigitalSignature", "KeyAgreement", "KeyEncipherment"].map(str::to_owned).to_vec(),
            ext_key_usage: Vec::new(),
            ext_key_usage_oids: Vec::new(),
            use_csr_common_name: true,
            use_csr_sans: true,
            ou: Vec::new(),
            organization: Vec::new(),
            country: Vec::new(),
            locality: Vec::new(),
            province: Vec::new(),
            street_address: Vec::new(),
            postal_code: Vec::new(),
            require_cn: true,
            cn_validations: ["email", "hostname"].map(str::to_owned).to_vec(),
            policy_identifiers: Vec::new(),
            basic_constraints_valid_for_non_ca: false,
            not_before_duration: Duration::from_secs(30),
            not_before: String::new(),
            not_before_bound: "permit".to_owned(),
            not_after: String::new(),
            not_after_bound: "permit".to_owned(),
            ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            use_csr_values: false,
        }
    }
}

impl ProfileConfig {
    /// The profile of sign-verbatim: every name and key goes, subject and extensions are the
    /// CSR's. Lifetimes, usages and the like are for the caller to fill in.
    pub fn verbatim() -> Self {
        let everything = || vec!["*".to_owned()];
        Self {
            allow_any_name: true,
            enforce_hostnames: false,
            allowed_uri_sans: everything(),
            allowed_other_sans: everything(),
            allowed_serial_numbers: everything(),
            allowed_user_ids: everything(),
            key_type: "any".to_owned(),
            cn_validations: vec!["disabled".to_owned()],
            require_cn: false,
            server_flag: false,
            client_flag: false,
            use_csr_values: true,
            ..Self::default()
        }
    }
}

/// A certificate policy (RFC 5280, 4.2.1.4): its identifier and what the JSON form adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyIdentifier {
    /// Dotted.
    pub oid: String,
    /// Text of the user notice qualifier; empty for none.
    pub notice: String,
    /// Pointer to the practice statement; empty for none.
    pub cps: String,
}

/// What a client may ask as `not_before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBeforeBound {
    /// Anything.
    Permit,
    /// At most `not_before_duration` back.
    Duration,
    /// Nothing.
    Forbid,
}

/// What a client may ask as `not_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAfterBound {
    /// Anything.
    Permit,
    /// At most the ttl from now.
    TtlLimited,
    /// Nothing.
    Forbid,
    /// At most this moment.
    At(Time),
}

/// What may be issued: a checked [`ProfileConfig`], with the parts that every certificate under
/// it repeats encoded once.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) config: ProfileConfig,
    pub(crate) keys: KeyPolicy,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) other_sans: OtherSanRule,
    pub(crate) not_before: Option<Time>,
    pub(crate) not_before_bound: NotBeforeBound,
    pub(crate) not_after: Option<Time>,
    pub(crate) not_after_bound: NotAfterBound,
    /// The subject's fixed attributes.
    pub(crate) subject: Subject,
    /// Whole extensions; empty for none.
    pub(crate) key_usage_extension: Vec<u8>,
    pub(crate) ext_key_usage_extension: Vec<u8>,
    pub(crate) basic_constraints_extension: Vec<u8>,
    pub(crate) policies_extension: Vec<u8>,
    /// The peer writes policies with qualifiers behind the CRL distribution points, and those
    /// without before them.
    pub(crate) policies_have_qualifiers: bool,
}

impl Profile {
    /// Checks a config.
    ///
    /// # Errors
    /// A field that does not parse, or fields that contradict each other.
    pub fn new(config: ProfileConfig) -> Result<Self, ProfileError> {
        if config.max_ttl > Duration::ZERO && config.ttl > config.max_ttl {
            return Err(ProfileError::TtlAboveMax);
        }
        check_cn_validations(&config.cn_validations)?;
        Ok(Self {
            keys: KeyPolicy::new(&config.key_type, config.key_bits)?,
            networks: networks(&config.allowed_ip_sans_cidr)?,
            other_sans: other_sans(&config.allowed_other_sans)?,
            not_before: time("not_before", &config.not_before)?,
            not_before_bound: not_before_bound(&config.not_before_bound)?,
            not_after: time("not_after", &config.not_after)?,
            not_after_bound: not_after_bound(&config.not_after_bound)?,
            subject: Subject {
                common_name: String::new(),
                serial_number: String::new(),
                country: config.country.clone(),
                organization: config.organization.clone(),
                ou: config.ou.clone(),
                locality: config.locality.clone(),
                province: config.province.clone(),
                street_address: config.street_address.clone(),
                postal_code: config.postal_code.clone(),
                user_ids: Vec::new(),
            },
            key_usage_extension: extension::key_usage(KeyUsage::from_names(&config.key_usage)),
            ext_key_usage_extension: ext_key_usage(&config)?,
            basic_constraints_extension: if config.basic_constraints_valid_for_non_ca {
                extension::basic_constraints(false, None)
            } else {
                Vec::new()
            },
            policies_extension: policies(&config.policy_identifiers)?,
            policies_have_qualifiers: config
                .policy_identifiers
                .iter()
                .any(|policy| !policy.notice.is_empty() || !policy.cps.is_empty()),
            config,
        })
    }

    /// The same profile with other domains and URI patterns: for identity templates, which are
    /// filled in per request.
    #[must_use]
    pub fn with_names(&self, allowed_domains: Vec<String>, allowed_uri_sans: Vec<String>) -> Self {
        let config = ProfileConfig { allowed_domains, allowed_uri_sans, ..self.config.clone() };
        Self { config, ..self.clone() }
    }

    /// The keys this profile certifies.
    pub fn keys(&self) -> &KeyPolicy {
        &self.keys
    }

    /// The config this profile was made from.
    pub fn config(&self) -> &ProfileConfig {
        &self.config
    }
}

fn check_cn_validations(validations: &[String]) -> Result<(), ProfileError> {
    for value in validations {
        match value.as_str() {
            "email" | "hostname" => {}
            "disabled" if validations.len() == 1 => {}
            "disabled" => return Err(ProfileError::CnValidationDisabledWithOthers),
            _ => return Err(ProfileError::UnknownCnValidation { value: value.clone() }),
        }
    }
    Ok(())
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, ProfileError> {
    let parse = |text: &String| text.parse().map_err(|_| ProfileError::NotANetwork { value: text.clone() });
    texts.iter().map(parse).collect()
}

fn other_sans(texts: &[String]) -> Result<OtherSanRule, ProfileError> {
    if let [only] = texts
        && only == "*"
    {
        return Ok(OtherSanRule::Any);
    }
    let parse = |text: &String| {
        OtherName::parse(text).map_err(|refusal| match refusal {
            Refusal::MalformedOtherSan { reason } => ProfileError::MalformedOtherSan { reason },
            other => ProfileError::MalformedOtherSan { reason: other.to_string() },
        })
    };
    Ok(OtherSanRule::Only(texts.iter().map(parse).collect::<Result<_, _>>()?))
}

fn time(field: &'static str, text: &str) -> Result<Option<Time>, ProfileError> {
    if text.is_empty() {
        return Ok(None);
    }
    match Time::parse(text) {
        Ok(time) => Ok(Some(time)),
        Err(refusal) => Err(ProfileError::NotATime { field, reason: refusal.to_string() }),
    }
}

fn not_before_bound(text: &str) -> Result<NotBeforeBound, ProfileError> {
    match text {
        "" | "permit" => Ok(NotBeforeBound::Permit),
        "duration" => Ok(NotBeforeBound::Duration),
        "forbid" => Ok(NotBeforeBound::Forbid),
        _ => Err(ProfileError::UnknownNotBeforeBound),
    }
}

fn not_after_bound(text: &str) -> Result<NotAfterBound, ProfileError> {
    match text {
        "" | "permit" => Ok(NotAfterBound::Permit),
        "ttl-limited" => Ok(NotAfterBound::TtlLimited),
        "forbid" => Ok(NotAfterBound::Forbid),
        time => Time::parse(time).map(NotAfterBound::At).map_err(|_| ProfileError::UnknownNotAfterBound),
    }
}

/// The named usages in the peer's order, then the dotted ones. Unknown names are passed over, as
/// on the peer.
fn ext_key_usage(config: &ProfileConfig) -> Result<Vec<u8>, ProfileError> {
    let flags = [
        (config.server_flag, "ServerAuth"),
        (config.client_flag, "ClientAuth"),
        (config.code_signing_flag, "CodeSigning"),
        (config.email_protection_flag, "EmailProtection"),
    ];
    let asked: Vec<ExtendedKeyUsage> =
        config.ext_key_usage.iter().filter_map(|name| ExtendedKeyUsage::from_name(name)).collect();
    let by_flag = |usage: &ExtendedKeyUsage| flags.iter().any(|(set, name)| *set && *name == usage.name);
    let mut oids: Vec<Vec<u8>> = ExtendedKeyUsage::ALL
        .iter()
        .filter(|usage| by_flag(usage) || asked.contains(usage))
        .filter_map(|usage| emit::oid_content(usage.oid))
        .collect();
    for value in config.ext_key_usage_oids.iter().filter(|value| !value.is_empty()) {
        let oid = emit::oid_content(value)
            .ok_or_else(|| ProfileError::NotAnExtendedKeyUsage { value: value.clone() })?;
        if !oids.contains(&oid) {
            oids.push(oid);
        }
    }
    Ok(extension::ext_key_usage(&oids))
}

fn policies(identifiers: &[PolicyIdentifier]) -> Result<Vec<u8>, ProfileError> {
    let mut encoded = Vec::with_capacity(identifiers.len());
    for policy in identifiers {
        let oid = emit::oid_content(&policy.oid)
            .ok_or_else(|| ProfileError::NotAPolicy { value: policy.oid.clone() })?;
        if !policy.cps.is_ascii() {
            return Err(ProfileError::CpsNotAscii { oid: policy.oid.clone(), cps: policy.cps.clone() });
        }
        encoded.push((oid, policy));
    }
    Ok(extension::policies(&encoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut ProfileConfig)) -> String {
        let mut config = ProfileConfig::default();
        change(&mut config);
        Profile::new(config).unwrap_err().to_string()
    }

    #[test]
    fn fields_that_do_not_parse_are_refused_in_the_peers_words() {
        let text = |value: &str| vec![value.to_owned()];
        assert_eq!(
            refused(|config| {
                config.ttl = Duration::from_secs(2);
                config.max_ttl = Duration::from_secs(1);
            }),
            r#""ttl" value must be less than "max_ttl" value"#
        );
        assert_eq!(
            refused(|config| config.allowed_ip_sans_cidr = text("nonsense")),
            "error parsing allowed_ip_sans_cidr: invalid CIDR address: nonsense"
        );
        assert_eq!(
            refused(|config| config.allowed_other_sans = text("xx")),
            r#"error parsing allowed_other_sans: expected a semicolon in other SAN "xx""#
        );
        assert_eq!(
            refused(|config| config.ext_key_usage_oids = text("abc")),
            r#""abc" could not be parsed as a valid oid for an extended key usage"#
        );
        assert_eq!(
            refused(|config| config.cn_validations = text("bogus")),
            "cn_validations value incorrect: unknown type: `bogus`"
        );
        assert_eq!(
            refused(|config| config.cn_validations = vec!["disabled".to_owned(), "email".to_owned()]),
            "cn_validations value incorrect: cannot specify `disabled` along with `email` or `hostname`"
        );
        assert_eq!(refused(|config| config.key_type = "bogus".to_owned()), "unknown key type bogus");
        assert_eq!(
            refused(|config| config.key_bits = 1024),
            "RSA keys < 2048 bits are unsafe and not supported: got 1024"
        );
        assert_eq!(refused(|config| config.key_bits = 2049), "unsupported bit length for RSA key: 2049");
        assert_eq!(
            refused(|config| config.not_before_bound = "xx".to_owned()),
            "Unknown value for field `not_before_bound`. Possible values are `permit` `duration` or `forbid`"
        );
        assert_eq!(
            refused(|config| config.not_after_bound = "xx".to_owned()),
            "Unknown value for field `not_after_bound`. Possible values are `permit`, `ttl-limited`, `forbid`, or an explicit timestamp."
        );
    }

    #[test]
    fn a_practice_statement_beyond_ascii_is_refused() {
        let with = |cps: &str, notice: &str| PolicyIdentifier {
            oid: "1.2.3".to_owned(),
            cps: cps.to_owned(),
            notice: notice.to_owned(),
        };
        assert_eq!(
            refused(|config| config.policy_identifiers = vec![with("http://ü/", "")]),
            r#"policy identifier "1.2.3" has a cps that is not ASCII: "http://ü/""#
        );
        let policy_identifiers = vec![with("http://u/", "ü")];
        assert!(Profile::new(ProfileConfig { policy_identifiers, ..ProfileConfig::default() }).is_ok());
    }

    #[test]
    fn any_key_type_does_not_look_at_the_bits() {
        let config = ProfileConfig { key_type: "any".to_owned(), key_bits: 111, ..ProfileConfig::default() };
        assert_eq!(Profile::new(config).unwrap().keys().spec(), None);
    }
}
