//! Profiles: what an operator's role permits, checked once.

use std::time::Duration;

use jiff::Timestamp;

use crate::{KeyPolicy, ProfileError};

/// What an operator writes: the fields of a PKI role, with the API's names and defaults.
///
/// [`Default`] is the role that a write with no fields makes.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the API's fields, one by one")]
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
    /// Key usages by the API's names (`DigitalSignature`, …), with or without `KeyUsage` in
    /// front, in any case.
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
    /// Policies: dotted identifiers, or JSON-form entries taken apart by the caller.
    pub policy_identifiers: Vec<PolicyIdentifier>,
    /// A basic constraints extension with CA false in leaves.
    pub basic_constraints_valid_for_non_ca: bool,
    /// How far back certificates begin.
    pub not_before_duration: Duration,
    /// Fixed start, RFC 3339; empty for none.
    pub not_before: String,
    /// What clients may ask as start.
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
    At(Timestamp),
}

/// What may be issued: a checked [`ProfileConfig`].
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) config: ProfileConfig,
    pub(crate) keys: KeyPolicy,
}

impl Profile {
    /// Checks a config.
    ///
    /// # Errors
    /// A field that does not parse, or fields that contradict each other.
    pub fn new(config: ProfileConfig) -> Result<Self, ProfileError> {
        let keys = KeyPolicy::new(&config.key_type, config.key_bits)?;
        Ok(Self { config, keys })
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
