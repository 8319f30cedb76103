//! The requests for leaves: one list of fields, eight paths.

use chancery_api::{Strings, Ttl, fields};
use chancery_issuance::RequestedNames;

/// What every request for a leaf may say.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// The names asked for.
    pub(super) names: RequestedNames,
    /// How long it shall live; zero is absent.
    pub(super) ttl: Option<Ttl>,
    /// A fixed start (RFC 3339), or empty.
    pub(super) not_before: String,
    /// A fixed end (RFC 3339), or empty.
    pub(super) not_after: String,
    /// `pem`, `der` or `pem_bundle`.
    pub(super) format: String,
    /// `pkcs8`, or the format's own.
    pub(super) private_key_format: String,
    /// Leave self-signed certificates out of `ca_chain`.
    pub(super) remove_roots_from_chain: bool,
}

/// What a request says of the extensions of a certificate that is made without a role's rules.
#[derive(Debug, Default)]
pub(super) struct Verbatim {
    /// By name.
    pub(super) key_usage: Strings,
    /// By name.
    pub(super) ext_key_usage: Strings,
    /// By identifier.
    pub(super) ext_key_usage_oids: Strings,
    /// 0, 256, 384 or 512.
    pub(super) signature_bits: i64,
    /// RSA issuers sign with PSS.
    pub(super) use_pss: bool,
    /// Say that the leaf is no authority; `None` leaves it to the role.
    pub(super) basic_constraints_valid_for_non_ca: Option<bool>,
}

/// Splits a text at commas, as the peer reads `alt_names`; issuance trims and sorts.
pub(super) fn split(list: &str) -> Vec<String> {
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Declares a request for a leaf: the fields all of them share, and its own.
macro_rules! leaf {
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
                    /// The common name.
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
                    /// User ids in the subject.
                    user_ids: Strings = Strings::default(),
                    /// The common name is not repeated among the subject alternative names.
                    exclude_cn_from_sans: bool = false,
                    /// `pem`, `der` (in base64) or `pem_bundle`.
                    format: String = "pem".to_owned(),
                    /// `der` (the format's own) or `pkcs8`.
                    private_key_format: String = "der".to_owned(),
                    /// Lifetime; at most the role's maximum.
                    ttl: Option<Ttl>,
                    /// Fixed start (RFC 3339).
                    not_before: String = String::new(),
                    /// Fixed end (RFC 3339).
                    not_after: String = String::new(),
                    /// Leaves self-signed certificates out of `ca_chain`.
                    remove_roots_from_chain: bool = false,
                }
            }
        }

        impl $name {
            /// What it shares with the others.
            pub(super) fn leaf(&mut self) -> Leaf {
                use std::mem::take;
                Leaf {
                    names: RequestedNames {
                        common_name: take(&mut self.common_name),
                        alt_names: split(&self.alt_names),
                        ip_sans: take(&mut self.ip_sans).0,
                        uri_sans: take(&mut self.uri_sans).0,
                        other_sans: take(&mut self.other_sans).0,
                        user_ids: take(&mut self.user_ids).0,
                        serial_number: take(&mut self.serial_number),
                        exclude_cn_from_sans: self.exclude_cn_from_sans,
                        ..RequestedNames::default()
                    },
                    ttl: self.ttl.filter(|ttl| !ttl.is_zero()),
                    not_before: take(&mut self.not_before),
                    not_after: take(&mut self.not_after),
                    format: take(&mut self.format),
                    private_key_format: take(&mut self.private_key_format),
                    remove_roots_from_chain: self.remove_roots_from_chain,
                }
            }
        }
    };
}

leaf! {
    /// Signs a CSR under a role.
    SignRequest {
        path {
            /// The role.
            role: String,
        }
        own {
            /// The CSR in PEM.
            csr: String = String::new(),
            /// Not looked at: the role names the issuer.
            issuer_ref: String = "default".to_owned(),
        }
    }
}

leaf! {
    /// Signs a CSR under a role with a given issuer.
    IssuerSignRequest {
        path {
            /// The issuer: `default`, a name or an id.
            issuer_ref: String,
            /// The role.
            role: String,
        }
        own {
            /// The CSR in PEM.
            csr: String = String::new(),
        }
    }
}

leaf! {
    /// Makes a key and a certificate under a role.
    IssueRequest {
        path {
            /// The role.
            role: String,
        }
        own {
            /// The kind of key, where the role leaves it open.
            key_type: String = String::new(),
            /// The size of the key, where the role leaves it open.
            key_bits: i64 = 0,
            /// Not looked at: the role names the issuer.
            issuer_ref: String = "default".to_owned(),
        }
    }
}

leaf! {
    /// Makes a key and a certificate under a role with a given issuer.
    IssuerIssueRequest {
        path {
            /// The issuer: `default`, a name or an id.
            issuer_ref: String,
            /// The role.
            role: String,
        }
        own {
            /// The kind of key, where the role leaves it open.
            key_type: String = String::new(),
            /// The size of the key, where the role leaves it open.
            key_bits: i64 = 0,
        }
    }
}

/// A request that signs a CSR as it is.
macro_rules! verbatim {
    (
        $(#[$meta:meta])*
        $name:ident {
            $(path { $($(#[doc = $pdoc:literal])+ $pname:ident: $pty:ty),* $(,)? })?
            own { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr),* $(,)? }
        }
    ) => {
        leaf! {
            $(#[$meta])*
            $name {
                $(path { $($(#[doc = $pdoc])+ $pname: $pty,)* })?
                own {
                    $($(#[doc = $doc])+ $field: $ty = $default,)*
                    /// The CSR in PEM.
                    csr: String = String::new(),
                    /// Key usages by name.
                    key_usage: Strings = ["DigitalSignature", "KeyAgreement", "KeyEncipherment"]
                        .map(str::to_owned).to_vec().into(),
                    /// Extended key usages by name.
                    ext_key_usage: Strings = Strings::default(),
                    /// Extended key usages by identifier.
                    ext_key_usage_oids: Strings = Strings::default(),
                    /// The hash's size in signatures by RSA issuers; 0 is 256.
                    signature_bits: i64 = 0,
                    /// RSA issuers sign with PSS.
                    use_pss: bool = false,
                    /// The leaf carries a basic constraints extension that says it is no authority.
                    basic_constraints_valid_for_non_ca: Option<bool>,
                }
            }
        }

        impl $name {
            /// What it says of extensions.
            pub(super) fn verbatim(&mut self) -> Verbatim {
                use std::mem::take;
                Verbatim {
                    key_usage: take(&mut self.key_usage),
                    ext_key_usage: take(&mut self.ext_key_usage),
                    ext_key_usage_oids: take(&mut self.ext_key_usage_oids),
                    signature_bits: self.signature_bits,
                    use_pss: self.use_pss,
                    basic_constraints_valid_for_non_ca: self.basic_constraints_valid_for_non_ca,
                }
            }
        }
    };
}

verbatim! {
    /// Signs a CSR as it is.
    SignVerbatimRequest {
        own {
            /// The issuer: `default`, a name or an id.
            issuer_ref: String = "default".to_owned(),
            /// Not looked at here: it has a path of its own.
            role: String = String::new(),
        }
    }
}

verbatim! {
    /// Signs a CSR as it is, with the lifetime and issuer of a role.
    RoleSignVerbatimRequest {
        path {
            /// The role.
            role: String,
        }
        own {
            /// Not looked at: the role names the issuer.
            issuer_ref: String = "default".to_owned(),
        }
    }
}

verbatim! {
    /// Signs a CSR as it is with a given issuer.
    IssuerSignVerbatimRequest {
        path {
            /// The issuer: `default`, a name or an id.
            issuer_ref: String,
        }
        own {
            /// Not looked at here: it has a path of its own.
            role: String = String::new(),
        }
    }
}

verbatim! {
    /// Signs a CSR as it is with a given issuer and the lifetime of a role.
    IssuerRoleSignVerbatimRequest {
        path {
            /// The issuer: `default`, a name or an id.
            issuer_ref: String,
            /// The role.
            role: String,
        }
        own {}
    }
}
