//! The requests for authorities' certificates: one list of fields for roots, intermediates and CSRs.

use chancery_api::{Strings, Ttl, fields};
use chancery_issuance::{
    CaRequest, CsrRequest, KeySpec, LintPolicy, MountLimits, Refusal, RequestedNames, Subject, Time,
};

use super::leaf::Format;
use super::requests::split;
use super::role::key_bits;
use crate::error::Error;

/// Said whenever an authority is made on a mount that tells nobody where to find it.
pub(super) const NO_AIA: &str = "This mount hasn't configured any authority information access (AIA) fields; this may \
    make it harder for systems to find missing certificates in the chain or to validate revocation status of \
    certificates. Consider updating /config/urls or the newly generated issuer with this information.";

/// Said besides for an intermediate, whose certificate is made elsewhere.
pub(super) const NO_AIA_INTERMEDIATE: &str = " Since this certificate is an intermediate, it might be useful to \
    regenerate this certificate after fixing this problem for the root mount.";

/// What every request for an authority may say.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The names.
    pub(super) names: RequestedNames,
    /// The subject's other attributes.
    pub(super) subject: Subject,
    /// Lifetime; zero is absent.
    pub(super) ttl: Option<Ttl>,
    /// A fixed start, or empty.
    pub(super) not_before: String,
    /// A fixed end, or empty.
    pub(super) not_after: String,
    /// How far back it begins.
    pub(super) not_before_duration: Ttl,
    /// `pem`, `der` or `pem_bundle`.
    pub(super) format: String,
    /// `pkcs8`, or the format's own.
    pub(super) private_key_format: String,
    /// 0, 256, 384 or 512.
    pub(super) signature_bits: i64,
    /// RSA keys sign with PSS.
    pub(super) use_pss: bool,
}

/// What certificates, but not CSRs, may say besides.
#[derive(Debug)]
pub(super) struct Constraints {
    /// -1 for none.
    pub(super) max_path_length: Option<i64>,
    /// Name constraints.
    pub(super) permitted_dns_domains: Strings,
    /// By name.
    pub(super) key_usage: Strings,
    /// By name.
    pub(super) ext_key_usage: Strings,
    /// Subject and extensions are the CSR's.
    pub(super) use_csr_values: bool,
    /// In hexadecimal, or empty for the key's own.
    pub(super) skid: String,
}

impl Wanted {
    /// The form of the answer.
    pub(super) fn format(&self) -> Result<Format, Error> {
        Format::parse(&self.format)
    }

    fn signature_bits(&self) -> u32 {
        // No algorithm has a negative size, so it fails in the words for an unsupported one.
        u32::try_from(self.signature_bits).unwrap_or(u32::MAX)
    }

    /// As issuance takes it, for a certificate.
    pub(super) fn certificate(&self, constraints: &Constraints, limits: MountLimits) -> CaRequest {
        CaRequest {
            names: self.names.clone(),
            subject: self.subject.clone(),
            ttl: self.ttl.filter(|ttl| !ttl.is_zero()).map(|ttl| ttl.0),
            not_before: self.not_before.clone(),
            not_after: self.not_after.clone(),
            not_before_duration: self.not_before_duration.0,
            limits,
            max_path_length: constraints.max_path_length,
            permitted_dns_domains: constraints.permitted_dns_domains.clone().non_empty(),
            key_usage: constraints.key_usage.clone().non_empty(),
            ext_key_usage: constraints.ext_key_usage.clone().non_empty(),
            signature_bits: self.signature_bits(),
            use_pss: self.use_pss,
            use_csr_values: constraints.use_csr_values,
            skid: constraints.skid.clone(),
            lint: LintPolicy::default(),
        }
    }

    /// As issuance takes it, for a CSR. It has no lifetime, but one that makes no sense is refused, as
    /// on the peer.
    pub(super) fn csr(&self, add_basic_constraints: bool) -> Result<CsrRequest, Refusal> {
        if !self.not_after.is_empty() {
            if self.ttl.is_some_and(|ttl| !ttl.is_zero()) {
                return Err(Refusal::TtlAndNotAfter);
            }
            Time::parse(&self.not_after)?;
        }
        Ok(CsrRequest {
            names: self.names.clone(),
            subject: self.subject.clone(),
            add_basic_constraints,
            critical_names: false,
            signature_bits: self.signature_bits(),
            use_pss: self.use_pss,
            ..CsrRequest::default()
        })
    }
}

/// The key that a request asks for.
#[derive(Debug)]
pub(super) struct WantedKey {
    /// `rsa`, `ec`, `ed25519` or `mldsa`.
    pub(super) key_type: String,
    /// 0 for the type's usual size.
    pub(super) key_bits: i64,
    /// Its name, or empty.
    pub(super) key_name: String,
    /// An existing key.
    pub(super) key_ref: String,
    /// The client said of which type or size it shall be.
    pub(super) described: bool,
}

impl WantedKey {
    /// The kind of a key to be made.
    pub(super) fn spec(&self) -> Result<KeySpec, Error> {
        if self.key_type == "any" {
            return Err(Error::invalid("unknown key type: any"));
        }
        let bits = key_bits(&self.key_type, self.key_bits)?;
        KeySpec::new(&self.key_type, u32::try_from(bits).unwrap_or(u32::MAX))
            .map_err(|error| Error::invalid(error.to_string()))
    }
}

/// Declares a request for an authority: the fields all of them share, and its own.
macro_rules! authority {
    (
        $(#[$meta:meta])*
        $name:ident {
            $(path { $($(#[doc = $pdoc:literal])+ $pname:ident: $pty:ty),* $(,)? })?
            own { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty $(= $default:expr)?),* $(,)? }
        }
    ) => {
        fields! {
            $(#[$meta])*
            #[derive(Debug)]
            pub(super) struct $name {
                $(path { $($(#[doc = $pdoc])+ $pname: $pty,)* })?
                body {
                    $($(#[doc = $doc])+ $field: $ty $(= $default)?,)*
                    /// The common name; may be empty.
                    common_name: String = String::new(),
                    /// DNS names and e-mail addresses, with commas between them.
                    alt_names: String = String::new(),
                    /// IP addresses.
                    ip_sans: Strings = Strings::default(),
                    /// URIs.
                    uri_sans: Strings = Strings::default(),
                    /// Other names: `oid;UTF8:value`.
                    other_sans: Strings = Strings::default(),
                    /// The serial number in the subject, which is not the certificate's own.
                    serial_number: String = String::new(),
                    /// The common name is not repeated among the subject alternative names.
                    exclude_cn_from_sans: bool = false,
                    /// C
                    country: Strings = Strings::default(),
                    /// O
                    organization: Strings = Strings::default(),
                    /// OU
                    ou: Strings = Strings::default(),
                    /// L
                    locality: Strings = Strings::default(),
                    /// ST
                    province: Strings = Strings::default(),
                    /// street
                    street_address: Strings = Strings::default(),
                    /// postalCode
                    postal_code: Strings = Strings::default(),
                    /// Lifetime; at most the mount's maximum.
                    ttl: Option<Ttl>,
                    /// Fixed start (RFC 3339).
                    not_before: String = String::new(),
                    /// Fixed end (RFC 3339).
                    not_after: String = String::new(),
                    /// How far back the certificate begins.
                    not_before_duration: Ttl = Ttl::seconds(30),
                    /// `pem`, `der` (in base64) or `pem_bundle`.
                    format: String = "pem".to_owned(),
                    /// `der` (the format's own) or `pkcs8`.
                    private_key_format: String = "der".to_owned(),
                    /// 0, 256, 384 or 512; matters only to RSA keys.
                    signature_bits: i64 = 0,
                    /// RSA keys sign with PSS.
                    use_pss: bool = false,
                }
            }
        }

        impl $name {
            /// What it shares with the others.
            pub(super) fn wanted(&mut self) -> Wanted {
                use std::mem::take;
                Wanted {
                    names: RequestedNames {
                        common_name: take(&mut self.common_name),
                        alt_names: split(&self.alt_names),
                        ip_sans: take(&mut self.ip_sans).non_empty(),
                        uri_sans: take(&mut self.uri_sans).non_empty(),
                        other_sans: take(&mut self.other_sans).non_empty(),
                        serial_number: take(&mut self.serial_number),
                        exclude_cn_from_sans: self.exclude_cn_from_sans,
                        ..RequestedNames::default()
                    },
                    subject: Subject {
                        country: take(&mut self.country).non_empty(),
                        organization: take(&mut self.organization).non_empty(),
                        ou: take(&mut self.ou).non_empty(),
                        locality: take(&mut self.locality).non_empty(),
                        province: take(&mut self.province).non_empty(),
                        street_address: take(&mut self.street_address).non_empty(),
                        postal_code: take(&mut self.postal_code).non_empty(),
                        ..Subject::default()
                    },
                    ttl: self.ttl,
                    not_before: take(&mut self.not_before),
                    not_after: take(&mut self.not_after),
                    not_before_duration: self.not_before_duration,
                    format: take(&mut self.format),
                    private_key_format: take(&mut self.private_key_format),
                    signature_bits: self.signature_bits,
                    use_pss: self.use_pss,
                }
            }
        }
    };
}

authority! {
    /// Makes a self-signed root.
    RootRequest {
        path {
            /// `internal` keeps the key here, `exported` answers it too, `existing` takes one that is here.
            exported: String,
        }
        own {
            /// The new issuer's name.
            issuer_name: String = String::new(),
            /// The new key's name.
            key_name: String = String::new(),
            /// The key to take, for `existing`.
            key_ref: String = "default".to_owned(),
            /// `rsa` (the default), `ec`, `ed25519` or `mldsa`.
            key_type: Option<String>,
            /// Its size; 0 (the default) is the type's usual one.
            key_bits: Option<i64>,
            /// Keys outside of this server are not offered.
            external_key_ref: String = String::new(),
            /// How many authorities may stand below; -1 for no limit.
            max_path_length: Option<i64>,
            /// DNS names below which alone names may be certified.
            permitted_dns_domains: Strings = Strings::default(),
            /// Key usages besides those of an authority.
            key_usage: Strings = Strings::default(),
            /// Extended key usages by name.
            ext_key_usage: Strings = Strings::default(),
            /// Taken, but not written into an authority's certificate.
            ext_key_usage_oids: Strings = Strings::default(),
        }
    }
}

authority! {
    /// Makes a key and a CSR for an intermediate.
    IntermediateRequest {
        path {
            /// `internal` keeps the key here, `exported` answers it too, `existing` takes one that is here.
            exported: String,
        }
        own {
            /// The new key's name.
            key_name: String = String::new(),
            /// The key to take, for `existing`.
            key_ref: String = "default".to_owned(),
            /// `rsa` (the default), `ec`, `ed25519` or `mldsa`.
            key_type: Option<String>,
            /// Its size; 0 (the default) is the type's usual one.
            key_bits: Option<i64>,
            /// Keys outside of this server are not offered.
            external_key_ref: String = String::new(),
            /// The CSR asks to be an authority.
            add_basic_constraints: bool = false,
        }
    }
}

authority! {
    /// Makes a CSR with a key that is here, for another authority to sign.
    CrossSignRequest {
        own {
            /// Taken for compatibility: the key is always one that is here.
            exported: String = String::new(),
            /// The new key's name.
            key_name: String = String::new(),
            /// The key to take.
            key_ref: String = "default".to_owned(),
            /// `rsa` (the default), `ec`, `ed25519` or `mldsa`.
            key_type: Option<String>,
            /// Its size; 0 (the default) is the type's usual one.
            key_bits: Option<i64>,
            /// Keys outside of this server are not offered.
            external_key_ref: String = String::new(),
            /// The CSR asks to be an authority.
            add_basic_constraints: bool = false,
        }
    }
}

macro_rules! sign_intermediate {
    ($(#[$meta:meta])* $name:ident { $(path { $($(#[doc = $pdoc:literal])+ $pname:ident: $pty:ty),* })? own { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr),* $(,)? } }) => {
        authority! {
            $(#[$meta])*
            $name {
                $(path { $($(#[doc = $pdoc])+ $pname: $pty),* })?
                own {
                    $($(#[doc = $doc])+ $field: $ty = $default,)*
                    /// The CSR in PEM.
                    csr: String = String::new(),
                    /// Taken for compatibility; the issuer gets its name where it is imported.
                    issuer_name: String = String::new(),
                    /// Subject, names and extensions are the CSR's.
                    use_csr_values: bool = false,
                    /// How many authorities may stand below; -1 for no limit.
                    max_path_length: Option<i64>,
                    /// DNS names below which alone names may be certified.
                    permitted_dns_domains: Strings = Strings::default(),
                    /// Key usages besides those of an authority.
                    key_usage: Strings = Strings::default(),
                    /// Extended key usages by name.
                    ext_key_usage: Strings = Strings::default(),
                    /// Taken, but not written into an authority's certificate.
                    ext_key_usage_oids: Strings = Strings::default(),
                    /// The subject key identifier in hexadecimal; empty for the key's own.
                    skid: String = String::new(),
                }
            }
        }

        impl $name {
            /// What certificates, but not CSRs, may say.
            pub(super) fn constraints(&mut self) -> Constraints {
                use std::mem::take;
                Constraints {
                    max_path_length: self.max_path_length,
                    permitted_dns_domains: take(&mut self.permitted_dns_domains),
                    key_usage: take(&mut self.key_usage),
                    ext_key_usage: take(&mut self.ext_key_usage),
                    use_csr_values: self.use_csr_values,
                    skid: take(&mut self.skid),
                }
            }
        }
    };
}

sign_intermediate! {
    /// Signs an intermediate.
    SignIntermediateRequest {
        own {
            /// Who signs.
            issuer_ref: String = "default".to_owned(),
        }
    }
}

sign_intermediate! {
    /// Signs an intermediate with a given issuer.
    IssuerSignIntermediateRequest {
        path {
            /// Who signs.
            issuer_ref: String
        }
        own {}
    }
}

macro_rules! wanted_key {
    ($($name:ident),*) => {$(
        impl $name {
            /// The key it asks for.
            pub(super) fn key(&mut self) -> Result<WantedKey, Error> {
                use std::mem::take;
                if !self.external_key_ref.is_empty() {
                    return Err(Error::invalid("keys outside of this server (external_key_ref) are not supported"));
                }
                Ok(WantedKey {
                    described: self.key_type.is_some() || self.key_bits.is_some(),
                    key_type: self.key_type.take().unwrap_or_else(|| "rsa".to_owned()),
                    key_bits: self.key_bits.unwrap_or_default(),
                    key_name: take(&mut self.key_name),
                    key_ref: take(&mut self.key_ref),
                })
            }
        }
    )*};
}

wanted_key!(RootRequest, IntermediateRequest, CrossSignRequest);

/// Where the key of a new authority comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyHome {
    /// Made here, kept here.
    Internal,
    /// Made here, kept here, and answered.
    Exported,
    /// One that is here.
    Existing,
}

impl KeyHome {
    /// From the path's word.
    pub(super) fn parse(word: &str) -> Result<Self, Error> {
        match word {
            "internal" => Ok(Self::Internal),
            "exported" => Ok(Self::Exported),
            "existing" => Ok(Self::Existing),
            "kms" => Err(Error::invalid("keys in external key management systems (kms) are not supported")),
            _ => Err(Error::invalid(
                "the \"exported\" path parameter must be \"internal\", \"existing\", exported\" or \"kms\"",
            )),
        }
    }
}
