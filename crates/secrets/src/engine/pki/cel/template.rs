//! What a program decided, as an order for a certificate: a profile that permits what the program wrote, and a
//! request for it. What cannot be honoured is refused, not left out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cel::Value;
use cel::common::types::CelStruct;
use chancery_issuance::{IssuanceRequest, MountLimits, Profile, ProfileConfig, RequestedNames};
use jiff::Timestamp;

use super::messages;
use crate::engine::pki::leaf::{Keep, refused};
use crate::error::Error;

/// Fields of a template that certificates made here carry.
const HONOURED: &[&str] = &[
    "Version",
    "Subject",
    "NotBefore",
    "NotAfter",
    "KeyUsage",
    "ExtKeyUsage",
    "UnknownExtKeyUsage",
    "BasicConstraintsValid",
    "IsCA",
    "DNSNames",
    "EmailAddresses",
    "IPAddresses",
    "URIs",
    "PolicyIdentifiers",
    "Policies",
];

/// What a program decided.
pub(super) struct Decision {
    /// Names asked for, and permitted.
    pub(super) names: RequestedNames,
    /// RFC 3339, or empty.
    pub(super) not_before: String,
    /// RFC 3339.
    pub(super) not_after: String,
    /// What is permitted, but for the kind of key.
    config: ProfileConfig,
    /// The issuer, or empty.
    pub(super) issuer_ref: String,
    /// `rsa` unless said otherwise.
    pub(super) key_type: String,
    /// 0 for the kind's own.
    pub(super) key_bits: i64,
    /// What becomes of the certificate.
    pub(super) keep: Keep,
    /// For the client.
    pub(super) warnings: Vec<String>,
}

impl Decision {
    /// Reads what a program came to.
    pub(super) fn read(outcome: Value) -> Result<Self, Error> {
        let output = match outcome {
            Value::Struct(output) if output.name() == "openbao.pki.ValidationOutput" => output,
            Value::String(sentence) => return Err(Error::invalid((*sentence).clone())),
            Value::Bool(_) => return Err(Error::invalid("request denied")),
            other => {
                return Err(Error::invalid(format!(
                    "unexpected mainProgram result type {}",
                    name_of_type(&other)
                )));
            }
        };
        let output = Fields(output);
        let template = output.message("template")?.ok_or_else(|| Error::invalid("template is nil"))?;
        template.has_only(HONOURED)?;
        if template.flag("IsCA")? {
            return Err(Error::invalid(
                "a CEL role makes no certificates of authorities: IsCA must be false",
            ));
        }
        if !output.bytes("subject_key_id")?.is_empty() {
            return Err(unsupported("subject_key_id"));
        }
        let subject = template.message("Subject")?.unwrap_or_default();
        let usages = template.integer("KeyUsage")?;
        let config = ProfileConfig {
            key_usage: messages::key_usages(usages)
                .ok_or_else(|| Error::invalid(format!("there is no key usage {usages}")))?,
            ext_key_usage: template
                .integers("ExtKeyUsage")?
                .into_iter()
                .map(|number| {
                    messages::ext_key_usage(number)
                        .map(str::to_owned)
                        .ok_or_else(|| Error::invalid(format!("there is no extended key usage {number}")))
                })
                .collect::<Result<_, _>>()?,
            ext_key_usage_oids: template.identifiers("UnknownExtKeyUsage")?,
            policy_identifiers: [
                template.identifiers("PolicyIdentifiers")?,
                template.identifiers("Policies")?,
            ]
            .concat()
            .into_iter()
            .map(|oid| chancery_issuance::PolicyIdentifier { oid, ..Default::default() })
            .collect(),
            basic_constraints_valid_for_non_ca: template.flag("BasicConstraintsValid")?,
            country: subject.texts("Country")?,
            organization: subject.texts("Organization")?,
            ou: subject.texts("OrganizationUnit")?,
            locality: subject.texts("Locality")?,
            province: subject.texts("Province")?,
            street_address: subject.texts("StreetAddress")?,
            postal_code: subject.texts("PostalCode")?,
            signature_bits: u32::try_from(output.integer("signature_bits")?).unwrap_or(u32::MAX),
            use_pss: output.flag("use_pss")?,
            // The program does not write them, so a CSR that has them is refused.
            allowed_user_ids: Vec::new(),
            allowed_serial_numbers: match subject.text("SerialNumber")?.as_str() {
                "" => Vec::new(),
                _ => vec!["*".to_owned()],
            },
            use_csr_common_name: false,
            use_csr_sans: false,
            use_csr_values: false,
            ..ProfileConfig::verbatim()
        };
        let names = RequestedNames {
            common_name: subject.text("CommonName")?,
            serial_number: subject.text("SerialNumber")?,
            alt_names: [template.texts("DNSNames")?, template.texts("EmailAddresses")?].concat(),
            ip_sans: template.each("IPAddresses", address)?,
            uri_sans: template.each("URIs", uri)?,
            exclude_cn_from_sans: true,
            ..RequestedNames::default()
        };
        let wrong = |name: &String, email: bool| name.is_empty() || name.contains('@') != email;
        if let Some(name) = template.texts("DNSNames")?.iter().find(|name| wrong(name, false)) {
            return Err(Error::invalid(format!("{name:?} is not a DNS name")));
        }
        if let Some(name) = template.texts("EmailAddresses")?.iter().find(|name| wrong(name, true)) {
            return Err(Error::invalid(format!("{name:?} is not an e-mail address")));
        }
        Ok(Self {
            not_before: template.instant("NotBefore")?.unwrap_or_default(),
            not_after: template
                .instant("NotAfter")?
                .ok_or_else(|| Error::invalid("the template must have a NotAfter"))?,
            config,
            names,
            issuer_ref: output.text("issuer_ref")?,
            key_type: Some(output.text("key_type")?)
                .filter(|kind| !kind.is_empty())
                .unwrap_or_else(|| "rsa".to_owned()),
            key_bits: output.integer("key_bits")?,
            keep: match (output.flag("no_store")?, output.flag("generate_lease")?) {
                (true, _) => Keep::Nowhere,
                (false, true) => Keep::Leased,
                (false, false) => Keep::Stored,
            },
            warnings: output.texts("warnings")?.into_iter().filter(|text| !text.is_empty()).collect(),
        })
    }

    /// What is permitted, for this kind of key, and that every name will stand in the certificate.
    pub(super) fn profile(
        &self,
        key_type: &str,
        key_bits: u32,
        backdated: Duration,
        limits: MountLimits,
    ) -> Result<Arc<Profile>, Error> {
        let config = ProfileConfig {
            key_type: key_type.to_owned(),
            key_bits,
            not_before_duration: backdated,
            ..self.config.clone()
        };
        let profile = Profile::new(config).map_err(|error| Error::invalid(error.to_string()))?;
        let request = IssuanceRequest::new(&self.names, None, &profile, limits).map_err(refused)?;
        let mut wanted: Vec<&String> =
            self.names.alt_names.iter().filter(|name| !name.contains('@')).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.len() > request.sans().dns.len() {
            let lost = wanted
                .into_iter()
                .find(|name| !request.sans().dns.iter().any(|kept| kept == *name) && name.is_ascii());
            return Err(Error::invalid(format!(
                "{:?} is not a DNS name",
                lost.map_or("one of the DNSNames", String::as_str)
            )));
        }
        Ok(Arc::new(profile))
    }
}

fn unsupported(field: &str) -> Error {
    Error::invalid(format!("the field {field} of a CEL role's output is not supported"))
}

fn name_of_type(value: &Value) -> &'static str {
    match value {
        Value::Int(_) => "int64",
        Value::UInt(_) => "uint64",
        Value::Float(_) => "float64",
        Value::Null => "structpb.NullValue",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Bytes(_) => "[]uint8",
        Value::Duration(_) => "time.Duration",
        Value::Timestamp(_) => "time.Time",
        Value::Struct(_) => "message",
        _ => "value",
    }
}

/// The four or sixteen bytes of a `net.IP`.
fn address(ip: &Fields) -> Result<String, Error> {
    let bytes = ip.bytes("IP")?;
    let parsed = <[u8; 4]>::try_from(bytes.as_slice())
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from));
    let wrong = |_| {
        Error::invalid(format!(
            "bad IP address: invalid IP bytes: {}",
            data_encoding::HEXLOWER.encode(&bytes)
        ))
    };
    parsed.map(|ip| ip.to_string()).map_err(wrong)
}

/// The text of a `url.URL`.
fn uri(url: &Fields) -> Result<String, Error> {
    url.has_only(&["Scheme", "Opaque", "Host", "Path", "RawQuery", "Fragment"])?;
    let (scheme, opaque, host) = (url.text("Scheme")?, url.text("Opaque")?, url.text("Host")?);
    let (path, query, fragment) = (url.text("Path")?, url.text("RawQuery")?, url.text("Fragment")?);
    let mut text = String::new();
    if !scheme.is_empty() {
        text += &format!("{scheme}:");
    }
    if opaque.is_empty() {
        if !scheme.is_empty() || !host.is_empty() {
            text += &format!("//{host}");
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            text.push('/');
        }
        text += &path;
    } else {
        text += &opaque;
    }
    for (mark, part) in [('?', query), ('#', fragment)] {
        if !part.is_empty() {
            text.push(mark);
            text += &part;
        }
    }
    Ok(text)
}

/// A message's fields. Those that are not set are empty, zero or false.
struct Fields(Arc<CelStruct<'static>>);

impl Default for Fields {
    fn default() -> Self {
        Self(Arc::new(CelStruct::new(String::new())))
    }
}

impl Fields {
    fn value(&self, name: &str) -> Result<Option<Value>, Error> {
        let Some(value) = self.0.field_value(name) else { return Ok(None) };
        Value::try_from(value).map(Some).map_err(|error| Error::invalid(error.to_string()))
    }

    /// Refuses fields other than these.
    fn has_only(&self, honoured: &[&str]) -> Result<(), Error> {
        let fields = self.0.field_values();
        match fields.keys().find(|name| !honoured.contains(&name.as_str())) {
            Some(name) => Err(unsupported(name)),
            None => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Result<String, Error> {
        match self.value(name)? {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok((*text).clone()),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.value(name)? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn integer(&self, name: &str) -> Result<i64, Error> {
        self.value(name)?.map_or(Ok(0), |value| integer(name, &value))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        match self.value(name)? {
            None => Ok(Vec::new()),
            Some(Value::Bytes(bytes)) => Ok((*bytes).clone()),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn message(&self, name: &str) -> Result<Option<Self>, Error> {
        match self.value(name)? {
            None => Ok(None),
            Some(Value::Struct(message)) => Ok(Some(Self(message))),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// An instant as RFC 3339 writes it.
    fn instant(&self, name: &str) -> Result<Option<String>, Error> {
        match self.value(name)? {
            None => Ok(None),
            Some(Value::Timestamp(at)) => Timestamp::from_second(at.timestamp())
                .map(|at| Some(at.to_string()))
                .map_err(|error| Error::invalid(format!("the template's {name}: {error}"))),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn list(&self, name: &str) -> Result<Vec<Value>, Error> {
        match self.value(name)? {
            None => Ok(Vec::new()),
            Some(Value::List(list)) => Ok((*list).clone()),
            Some(_) => Err(wrong_type(name)),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        let text = |value: Value| match value {
            Value::String(text) => Ok((*text).clone()),
            _ => Err(wrong_type(name)),
        };
        self.list(name)?.into_iter().map(text).collect()
    }

    fn integers(&self, name: &str) -> Result<Vec<i64>, Error> {
        self.list(name)?.iter().map(|value| integer(name, value)).collect()
    }

    fn each(&self, name: &str, read: fn(&Self) -> Result<String, Error>) -> Result<Vec<String>, Error> {
        let message = |value: Value| match value {
            Value::Struct(message) => read(&Self(message)),
            _ => Err(wrong_type(name)),
        };
        self.list(name)?.into_iter().map(message).collect()
    }

    /// Object identifiers, dotted.
    fn identifiers(&self, name: &str) -> Result<Vec<String>, Error> {
        self.each(name, |message| {
            let arcs = message.integers("arc")?;
            Ok(arcs.iter().map(ToString::to_string).collect::<Vec<_>>().join("."))
        })
    }
}

fn integer(name: &str, value: &Value) -> Result<i64, Error> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::UInt(number) => i64::try_from(*number).map_err(|_| wrong_type(name)),
        _ => Err(wrong_type(name)),
    }
}

fn wrong_type(name: &str) -> Error {
    Error::invalid(format!("the field {name} of the CEL role's output has another type"))
}
