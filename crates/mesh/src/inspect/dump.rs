//! The secrets of an Envoy's `/config_dump`.

use std::borrow::Cow;

use chancery_issuance::{Certificate, CertificateError};
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize as _};
use serde_json::value::RawValue;
use zeroize::Zeroize as _;

use crate::overlay::{Map, Node};

/// What an Envoy says of its secrets: `envoy.admin.v3.SecretsConfigDump`, without what is secret in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    /// The section, keys in camel case.
    section: Node,
    secrets: Vec<Secret>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Secret {
    /// Its name: `default` and `ROOTCA` for a workload of Istio.
    pub name: String,
    /// What became of it.
    pub status: Status,
    /// The version that its server gave it; nothing to be read into.
    pub version: String,
    /// When it came, RFC 3339.
    pub last_updated: String,
    /// Whether the server's last answer was taken, in Envoy's word: `ACKED`, `NACKED`, …
    pub client_status: String,
    /// Why the last update was refused.
    pub failure: Option<UpdateFailure>,
    /// What it holds.
    pub content: Content,
}

/// What became of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is waited for.
    Warming,
    /// It is used.
    Active,
    /// It stands in the Envoy's own configuration.
    Static,
}

impl Status {
    /// The word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warming => "WARMING",
            Self::Active => "ACTIVE",
            Self::Static => "STATIC",
        }
    }
}

/// Why an update was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateFailure {
    /// Envoy's words.
    pub details: String,
    /// When, RFC 3339.
    pub last_attempt: String,
}

/// What a secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A certificate with its chain; the key is not kept.
    Certificate(Bundle),
    /// Trusted authorities.
    Trusted(Bundle),
    /// Trusted authorities by trust domain (`SPIFFECertValidatorConfig`).
    TrustDomains(Vec<(String, Bundle)>),
    /// Nothing yet, or something without certificates.
    Other,
}

/// Certificates in PEM, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bundle {
    /// Here.
    Pem(Vec<u8>),
    /// In a file of the Envoy's machine.
    File(String),
    /// In a variable of the Envoy's environment.
    Variable(String),
    /// It is no base64.
    Garbled,
}

/// Why a text is no dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// Longer than [`Dump::MOST`].
    #[error("the dump has more than {} bytes", Dump::MOST)]
    TooLong,
    /// No JSON, or cut off.
    #[error("the dump is no JSON: {0}")]
    Json(String),
    /// It says nothing of secrets.
    #[error("config dump has no configuration type {}", Dump::TYPE)]
    NoSecrets,
    /// Something else stands where a field is.
    #[error("{place} must be a {expected}, and is a {found}")]
    Shape {
        /// The field.
        place: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
}

impl Dump {
    /// The most bytes of a dump: those of large meshes have some tens of millions.
    pub const MOST: usize = 128 << 20;

    /// The type of the section with the secrets.
    pub const TYPE: &str = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump";

    /// Reads what `/config_dump` answers, in the names of protobuf or in camel case; or the section alone, as
    /// `istioctl proxy-config secret -o json` prints it. Of several sections the last one counts; sections of other types
    /// are passed over.
    ///
    /// # Errors
    /// It is no JSON, it has no such section, or a field has another type.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        if text.len() > Self::MOST {
            return Err(DumpError::TooLong);
        }
        let mut section = in_camel_case(section(text)?);
        redact(&mut section, false);
        let mut secrets = Vec::new();
        // In the order in which tables show them.
        for (key, status) in [
            ("dynamicWarmingSecrets", Status::Warming),
            ("dynamicActiveSecrets", Status::Active),
            ("staticSecrets", Status::Static),
        ] {
            let place = Place { name: key.to_owned(), node: &section };
            for entry in place.list(key)? {
                secrets.push(Secret::read(&entry, status)?);
            }
        }
        Ok(Self { section, secrets })
    }

    /// All secrets: those that are waited for, those that are used, those of the configuration.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// The secret of that name that is in use, or else one that is not.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        let mut named = self.secrets.iter().filter(|secret| secret.name == name);
        let active = named.clone().find(|secret| secret.status != Status::Warming);
        active.or_else(|| named.next())
    }

    /// The section in JSON, in camel case, indented by four spaces.
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        // Nothing in it that JSON has no form for.
        drop(self.section.serialize(&mut serializer));
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// The section in YAML.
    pub fn to_yaml(&self) -> String {
        self.section.to_yaml().unwrap_or_default()
    }
}

impl Secret {
    fn read(entry: &Place<'_>, status: Status) -> Result<Self, DumpError> {
        let secret = entry.map("secret")?;
        let failure = entry.map("errorState")?;
        let failure = failure.map(|failure| {
            Ok(UpdateFailure {
                details: failure.text("details")?,
                last_attempt: failure.text("lastUpdateAttempt")?,
            })
        });
        Ok(Self {
            name: entry.text("name")?,
            status,
            version: entry.text("versionInfo")?,
            last_updated: entry.text("lastUpdated")?,
            client_status: entry.text("clientStatus")?,
            failure: failure.transpose()?,
            content: secret.map(|secret| Content::read(&secret)).transpose()?.unwrap_or(Content::Other),
        })
    }
}

impl Content {
    fn read(secret: &Place<'_>) -> Result<Self, DumpError> {
        if let Some(certificate) = secret.map("tlsCertificate")?
            && let Some(chain) = certificate.map("certificateChain")?
            && let Some(bundle) = Bundle::read(&chain)?
        {
            return Ok(Self::Certificate(bundle));
        }
        let Some(context) = secret.map("validationContext")? else { return Ok(Self::Other) };
        if let Some(trusted) = context.map("trustedCa")?
            && let Some(bundle) = Bundle::read(&trusted)?
        {
            return Ok(Self::Trusted(bundle));
        }
        let Some(validator) = context.map("customValidatorConfig")? else { return Ok(Self::Other) };
        let Some(config) = validator.map("typedConfig")? else { return Ok(Self::Other) };
        if !config.text("@type")?.ends_with(".SPIFFECertValidatorConfig") {
            return Ok(Self::Other);
        }
        let mut domains = Vec::new();
        for domain in config.list("trustDomains")? {
            let bundle = domain.map("trustBundle")?.map(|bundle| Bundle::read(&bundle)).transpose()?;
            domains.push((domain.text("name")?, bundle.flatten().unwrap_or(Bundle::Pem(Vec::new()))));
        }
        Ok(Self::TrustDomains(domains))
    }

    /// The bundles, each with its trust domain where it is known.
    pub fn bundles(&self) -> Vec<(Option<&str>, &Bundle)> {
        match self {
            Self::Certificate(bundle) | Self::Trusted(bundle) => vec![(None, bundle)],
            Self::TrustDomains(domains) => {
                domains.iter().map(|(name, bundle)| (Some(name.as_str()), bundle)).collect()
            }
            Self::Other => Vec::new(),
        }
    }
}

impl Bundle {
    fn read(source: &Place<'_>) -> Result<Option<Self>, DumpError> {
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        if let Some(text) = filled(source.text("inlineBytes")?) {
            return Ok(Some(decoded(&text).map_or(Self::Garbled, Self::Pem)));
        }
        if let Some(text) = filled(source.text("inlineString")?) {
            return Ok(Some(Self::Pem(text.into_bytes())));
        }
        if let Some(path) = filled(source.text("filename")?) {
            return Ok(Some(Self::File(path)));
        }
        Ok(filled(source.text("environmentVariable")?).map(Self::Variable))
    }

    /// The first certificate; the others are not looked at.
    ///
    /// # Errors
    /// There is none, or it is none.
    pub fn first(&self) -> Result<Certificate, CertificateError> {
        Certificate::from_pem(self.text())
    }

    /// All certificates.
    ///
    /// # Errors
    /// One of them is none.
    pub fn certificates(&self) -> Result<Vec<Certificate>, CertificateError> {
        Certificate::all_from_pem(self.text())
    }

    fn text(&self) -> &str {
        match self {
            Self::Pem(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Self::File(_) | Self::Variable(_) | Self::Garbled => "",
        }
    }
}

/// Protobuf's JSON takes both alphabets, padded or not.
fn decoded(text: &str) -> Option<Vec<u8>> {
    [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD]
        .iter()
        .find_map(|form| form.decode(text.as_bytes()).ok())
}

/// The sections of a dump, unread: they may have many megabytes, and only one is wanted.
#[derive(Deserialize)]
struct Sections<'a> {
    #[serde(borrow)]
    configs: Option<Vec<&'a RawValue>>,
}

/// The type of a section.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "@type")]
    kind: Option<Cow<'a, str>>,
}

/// The section with the secrets.
fn section(text: &str) -> Result<Node, DumpError> {
    let json = |error: serde_json::Error| DumpError::Json(error.to_string());
    // serde reads the fields of a struct from a list too.
    let is_map = text.trim_start().starts_with('{');
    let sections: Sections<'_> = serde_json::from_str(text).map_err(json)?;
    if !is_map {
        return Err(DumpError::NoSecrets);
    }
    let Some(configs) = sections.configs else {
        let Node::Map(top) = serde_json::from_str(text).map_err(json)? else {
            return Err(DumpError::NoSecrets);
        };
        let is_known = |key: &str| {
            let known = ["dynamicActiveSecrets", "dynamicWarmingSecrets", "staticSecrets"];
            known.contains(&camel_case(key).as_str())
        };
        let bare = top.is_empty() || top.iter().any(|(key, _)| is_known(key));
        return if bare { Ok(without_type(top)) } else { Err(DumpError::NoSecrets) };
    };
    let is_it = |config: &&RawValue| {
        let typed = serde_json::from_str::<Typed<'_>>(config.get()).ok();
        typed.and_then(|typed| typed.kind).is_some_and(|kind| kind == Dump::TYPE)
    };
    let section = configs.into_iter().rfind(is_it).ok_or(DumpError::NoSecrets)?;
    match serde_json::from_str(section.get()).map_err(json)? {
        Node::Map(section) => Ok(without_type(section)),
        _ => Err(DumpError::NoSecrets),
    }
}

/// The message's own JSON has no type; only within an `Any` it has.
fn without_type(mut section: Map) -> Node {
    section.remove("@type");
    Node::Map(section)
}

fn shape(place: &str, expected: &'static str, found: &Node) -> DumpError {
    DumpError::Shape { place: place.to_owned(), expected, found: found.kind() }
}

pub(super) fn in_camel_case(node: Node) -> Node {
    match node {
        Node::List(list) => Node::List(list.into_iter().map(in_camel_case).collect()),
        Node::Map(map) => {
            Node::Map(map.into_iter().map(|(key, value)| (camel_case(&key), in_camel_case(value))).collect())
        }
        other => other,
    }
}

/// `trusted_ca` is `trustedCa`, and `trustedCa` stays itself.
fn camel_case(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    let mut raise = false;
    for character in key.chars() {
        match character {
            '_' => raise = true,
            character if raise => {
                text.push(character.to_ascii_uppercase());
                raise = false;
            }
            character => text.push(character),
        }
    }
    text
}

/// What Envoy itself writes in place of what is secret.
const REDACTED: &str = "[redacted]";

/// The fields of `envoy.extensions.transport_sockets.tls.v3.Secret` that are secret. Envoy has taken them out; a dump from
/// elsewhere may have them still.
const SECRET: [&str; 5] = ["privateKey", "password", "pkcs12", "genericSecret", "sessionTicketKeys"];

fn redact(node: &mut Node, secret: bool) {
    match node {
        Node::List(list) => list.iter_mut().for_each(|item| redact(item, secret)),
        Node::Map(map) => {
            for (key, value) in map.iter_mut() {
                let secret = secret || SECRET.contains(&key);
                match value {
                    Node::Text(text) if secret => {
                        text.zeroize();
                        *text = if key == "inlineBytes" {
                            BASE64.encode(REDACTED.as_bytes())
                        } else {
                            REDACTED.to_owned()
                        };
                    }
                    value => redact(value, secret),
                }
            }
        }
        Node::Text(text) if secret => {
            text.zeroize();
            REDACTED.clone_into(text);
        }
        _ => {}
    }
}

/// A value with the name that errors call it by.
pub(super) struct Place<'a> {
    pub(super) name: String,
    pub(super) node: &'a Node,
}

impl<'a> Place<'a> {
    fn child(&self, key: &str) -> Option<Place<'a>> {
        let node = self.node.at(&[key]).filter(|node| **node != Node::Null)?;
        Some(Place { name: format!("{}.{key}", self.name), node })
    }

    /// A map; `None` if it is missing.
    pub(super) fn map(&self, key: &str) -> Result<Option<Place<'a>>, DumpError> {
        match self.child(key) {
            Some(child) if !matches!(child.node, Node::Map(_)) => Err(shape(&child.name, "map", child.node)),
            child => Ok(child),
        }
    }

    /// A text; empty if it is missing.
    pub(super) fn text(&self, key: &str) -> Result<String, DumpError> {
        match self.child(key) {
            None => Ok(String::new()),
            Some(Place { node: Node::Text(text), .. }) => Ok(text.clone()),
            Some(child) => Err(shape(&child.name, "text", child.node)),
        }
    }

    /// The maps of a list; none if it is missing.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Place<'a>>, DumpError> {
        let list = match self.child(key) {
            None => return Ok(Vec::new()),
            Some(Place { node: Node::List(list), .. }) => list,
            Some(child) => return Err(shape(&child.name, "list", child.node)),
        };
        let place = |(at, node): (usize, &'a Node)| match node {
            Node::Map(_) => Ok(Place { name: format!("{key}[{at}]"), node }),
            other => Err(shape(&format!("{key}[{at}]"), "map", other)),
        };
        list.iter().enumerate().map(place).collect()
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
