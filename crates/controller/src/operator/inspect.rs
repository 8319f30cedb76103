//! `inspect secret`: what a Secret holds, without asking anybody.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chancery_issuance::{Certificate, PrivateKey, SpiffeId};
use chancery_kubernetes::cert_manager::names::{CERTIFICATE_NAME, ISSUER_KIND, ISSUER_NAME};
use chancery_kubernetes::request;
use data_encoding::BASE64;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Error;
use crate::webhook::extended_usages;

/// What is inspected.
pub struct Contents {
    /// The chain: the certificate, then what stands above it.
    chain: Vec<Certificate>,
    /// `ca.crt`
    roots: Vec<Certificate>,
    /// Whether the private key is that of the certificate; `None`: there is none, or it cannot be read.
    key_fits: Option<bool>,
    /// The Certificate and the issuer that it says it is of.
    origin: BTreeMap<&'static str, String>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The Secret of this name in the cluster.
///
/// # Errors
/// There is none, or none with a certificate.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Contents, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let what = format!("Secret {namespace}/{name}");
    let found = request(api.get(name)).await.map_err(|error| Error::Api(what.clone(), error))?;
    let data = found.data.unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let annotations = found.metadata.annotations.unwrap_or_default();
    Contents::new(text, |key| annotations.get(key).cloned())
        .map_err(|error| Error::Content(format!("{what}: {error}")))
}

/// A Secret as YAML or JSON, or certificates in PEM.
///
/// # Errors
/// It is neither, or there is no certificate in it.
pub fn read(text: &str) -> Result<Contents, Error> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        metadata: Metadata,
        #[serde(default)]
        data: BTreeMap<String, Held>,
        #[serde(default, rename = "stringData")]
        string_data: BTreeMap<String, Held>,
    }
    /// Perhaps a private key.
    struct Held(Zeroizing<String>);
    impl<'de> Deserialize<'de> for Held {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            String::deserialize(from).map(|text| Self(Zeroizing::new(text)))
        }
    }
    #[derive(Deserialize, Default)]
    struct Metadata {
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    if text.trim_start().starts_with("-----BEGIN") {
        return Contents::new(|key| (key == "tls.crt").then_some(text), |_| None).map_err(Error::Content);
    }
    let file: File = serde_saphyr::from_str(text)
        .map_err(|_| Error::Content("it is neither PEM nor a Secret in YAML or JSON".to_owned()))?;
    let mut values: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
    for (key, Held(value)) in &file.data {
        let packed: Zeroizing<String> = Zeroizing::new(value.split_whitespace().collect());
        let bytes = BASE64.decode(packed.as_bytes());
        let bytes = bytes.map_err(|_| Error::Content(format!("data[{key:?}] is no base64")))?;
        if let Ok(value) = String::from_utf8(bytes) {
            values.insert(key.clone(), Zeroizing::new(value));
        }
    }
    values.extend(file.string_data.into_iter().map(|(key, Held(value))| (key, value)));
    let annotations = file.metadata.annotations.unwrap_or_default();
    let value = |key: &str| values.get(key).map(|value| value.as_str());
    Contents::new(value, |key| annotations.get(key).cloned()).map_err(Error::Content)
}

impl Contents {
    fn new<'a>(
        text: impl Fn(&str) -> Option<&'a str>,
        annotation: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let certificates = |key: &str| match text(key).filter(|text| !text.trim().is_empty()) {
            None => Ok(Vec::new()),
            Some(text) => Certificate::all_from_pem(text).map_err(|error| format!("{key}: {error}")),
        };
        let chain = certificates("tls.crt")?;
        let leaf = chain.first().ok_or("there is no certificate in tls.crt")?;
        let key = text("tls.key").and_then(|text| PrivateKey::from_pem(text).ok());
        let key_fits = key.map(|key| {
            use chancery_issuance::Signer as _;
            Some(key.public_key()) == leaf.public_key()
        });
        let mut origin = BTreeMap::new();
        for key in [CERTIFICATE_NAME, ISSUER_NAME, ISSUER_KIND] {
            if let Some(value) = annotation(key) {
                origin.insert(key, value);
            }
        }
        Ok(Self { roots: certificates("ca.crt")?, chain, key_fits, origin })
    }

    fn leaf(&self) -> Option<&Certificate> {
        self.chain.first()
    }

    /// Why a peer that trusts `ca.crt` would not accept the certificate now.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verdict(&self, now: Timestamp) -> Result<(), String> {
        let Some(leaf) = self.leaf() else { return Err("there is no certificate".to_owned()) };
        if self.key_fits == Some(false) {
            return Err("tls.key is not the key of the certificate".to_owned());
        }
        if self.roots.is_empty() {
            return Err("there is no ca.crt to hold it against".to_owned());
        }
        let mut current = leaf;
        // Each step goes up to another certificate of the chain: there are no more steps than certificates.
        for _ in 0..=self.chain.len() {
            let (begin, end) = (current.not_before().to_timestamp(), current.not_after().to_timestamp());
            let name = subject_text(current);
            if now < begin {
                return Err(format!("{name} is not valid before {begin}"));
            }
            if end <= now {
                return Err(format!("{name} expired at {end}"));
            }
            if self.roots.iter().any(|root| root.der() == current.der()) {
                return Ok(());
            }
            if let Some(root) = self.roots.iter().find(|root| current.is_signed_by(root)) {
                let end = root.not_after().to_timestamp();
                return if end <= now {
                    Err(format!("{} in ca.crt expired at {end}", subject_text(root)))
                } else {
                    Ok(())
                };
            }
            let above = self.chain.iter().find(|one| one.der() != current.der() && current.is_signed_by(one));
            let Some(above) = above else {
                return Err(format!("{name} is signed by none of the certificates in tls.crt and ca.crt"));
            };
            current = above;
        }
        Err("the certificates of the chain go round in a circle".to_owned())
    }

    /// The report.
    pub fn text(&self, now: Timestamp) -> String {
        let Some(leaf) = self.leaf() else { return String::new() };
        let mut text = String::new();
        self.write(&mut text, leaf, now).unwrap_or_default();
        text
    }

    /// The same for programs.
    pub fn json(&self, now: Timestamp) -> Value {
        let Some(leaf) = self.leaf() else { return Value::Null };
        let sans = leaf.sans().unwrap_or_default();
        let verdict = self.verdict(now);
        let name = |one: &Certificate| {
            json!({
                "subject": subject_text(one), "serialNumber": one.serial_number().to_string(),
                "notBefore": one.not_before().to_timestamp().to_string(),
                "notAfter": one.not_after().to_timestamp().to_string(), "sha256": fingerprint(one),
            })
        };
        let mut certificate = name(leaf);
        if let Some(fields) = certificate.as_object_mut() {
            let addresses: Vec<String> = sans.ip.iter().map(ToString::to_string).collect();
            let issuer = leaf.issuer_name().unwrap_or_default().to_string();
            for (key, value) in [
                ("issuer", json!(issuer)),
                ("dnsNames", json!(sans.dns)),
                ("uris", json!(sans.uri)),
                ("ipAddresses", json!(addresses)),
                ("emailAddresses", json!(sans.email)),
                ("usages", json!(usages(leaf))),
                ("isCA", json!(leaf.is_ca())),
            ] {
                fields.insert(key.to_owned(), value);
            }
        }
        json!({
            "certificate": certificate,
            "chain": self.chain.iter().skip(1).map(name).collect::<Vec<_>>(),
            "ca": self.roots.iter().map(name).collect::<Vec<_>>(),
            "keyFits": self.key_fits,
            "trusted": verdict.is_ok(),
            "reason": verdict.err(),
        })
    }

    fn write(&self, out: &mut String, leaf: &Certificate, now: Timestamp) -> std::fmt::Result {
        let sans = leaf.sans().unwrap_or_default();
        let list = |out: &mut String, title: &str, items: &[String]| {
            writeln!(out, "\t{title}: ")?;
            if items.is_empty() {
                return writeln!(out, "\t\t- <none>");
            }
            items.iter().try_for_each(|item| writeln!(out, "\t\t- {item}"))
        };
        writeln!(out, "Valid for:")?;
        list(out, "DNS Names", &sans.dns)?;
        list(out, "URIs", &sans.uri)?;
        list(out, "IP Addresses", &sans.ip.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        list(out, "Email Addresses", &sans.email)?;
        list(out, "Usages", &usages(leaf))?;
        let (begin, end) = (leaf.not_before().to_timestamp(), leaf.not_after().to_timestamp());
        writeln!(out, "\nValidity period:\n\tNot Before: {}\n\tNot After: {}", date(begin), date(end))?;
        for (title, name) in [("By", leaf.issuer_name()), ("For", leaf.subject_name())] {
            let name = name.unwrap_or_default();
            let line = |values: &[String]| {
                if values.is_empty() { "<none>".to_owned() } else { values.join(", ") }
            };
            let common_name = std::slice::from_ref(&name.common_name);
            let common_name = if name.common_name.is_empty() { &[][..] } else { common_name };
            writeln!(out, "\nIssued {title}:\n\tCommon Name:\t\t{}", line(common_name))?;
            writeln!(out, "\tOrganization:\t\t{}", line(&name.organization))?;
            writeln!(out, "\tOrganizationalUnit:\t{}", line(&name.ou))?;
            writeln!(out, "\tCountry:\t\t{}", line(&name.country))?;
        }
        writeln!(out, "\nCertificate:\n\tSigning Algorithm:\t{}", signature(leaf))?;
        writeln!(out, "\tPublic Key Algorithm:\t{}", key_text(leaf))?;
        writeln!(out, "\tSerial Number:\t\t{}", leaf.serial_number())?;
        writeln!(out, "\tFingerprints:\t\t{}", fingerprint(leaf))?;
        writeln!(out, "\tIs a CA certificate:\t{}", leaf.is_ca())?;
        if !self.origin.is_empty() {
            let of = |key: &str| self.origin.get(key).map_or("<none>", String::as_str);
            writeln!(out, "\nKept by:\n\tCertificate:\t\t{}", of(CERTIFICATE_NAME))?;
            writeln!(out, "\tIssuer:\t\t\t{} {}", of(ISSUER_KIND), of(ISSUER_NAME))?;
        }
        writeln!(out, "\nDebugging:")?;
        match self.verdict(now) {
            Ok(()) => writeln!(out, "\tTrusted by its ca.crt:\tyes")?,
            Err(reason) => writeln!(out, "\tTrusted by its ca.crt:\tno: {reason}")?,
        }
        let key = match self.key_fits {
            Some(true) => "that of the certificate",
            Some(false) => "another's",
            None => "<none>",
        };
        writeln!(out, "\tPrivate key:\t\t{key}")?;
        writeln!(out, "\tSPIFFE ID:\t\t{}", spiffe(&sans.uri))?;
        let chain: Vec<String> = self.chain.iter().skip(1).map(subject_text).collect();
        writeln!(
            out,
            "\tChain above it:\t\t{}",
            if chain.is_empty() { "<none>".to_owned() } else { chain.join(" <- ") }
        )?;
        let roots: Vec<String> = self.roots.iter().map(ending).collect();
        writeln!(
            out,
            "\tca.crt:\t\t\t{}",
            if roots.is_empty() { "<none>".to_owned() } else { roots.join(", ") }
        )
    }
}

/// X.509-SVID, 2: exactly one URI.
fn spiffe(uris: &[String]) -> String {
    let spiffe: Vec<&String> = uris.iter().filter(|uri| uri.starts_with("spiffe:")).collect();
    match (spiffe.as_slice(), uris.len()) {
        ([], _) => "<none>".to_owned(),
        ([one], 1) => match SpiffeId::parse(one) {
            Ok(id) => format!("{} (trust domain {})", id.as_str(), id.trust_domain().as_str()),
            Err(error) => format!("none: {one} is malformed: {error}"),
        },
        (_, count) => format!("none: {count} URIs, where an SVID has exactly one"),
    }
}

fn ending(root: &Certificate) -> String {
    let kind = if root.is_self_signed() { "root" } else { "intermediate, not self-signed" };
    format!("{} ({kind}, until {})", subject_text(root), root.not_after().to_timestamp())
}

pub(super) fn subject_text(certificate: &Certificate) -> String {
    let name = certificate.subject_name().unwrap_or_default().to_string();
    if name.is_empty() { format!("serial number {}", certificate.serial_number()) } else { name }
}

pub(super) fn signature(certificate: &Certificate) -> String {
    certificate.signature_algorithm().map_or("<unknown>".to_owned(), |algorithm| algorithm.name().to_owned())
}

pub(super) fn key_text(certificate: &Certificate) -> String {
    match certificate.public_key() {
        Some(key) => format!("{} {}", key.spec().key_type().name().to_uppercase(), key.spec().bits()),
        None => "<unknown>".to_owned(),
    }
}

/// Usages in the words of `spec.usages`.
pub(super) fn usages(certificate: &Certificate) -> Vec<String> {
    let words = |name: &str| match name {
        "DigitalSignature" => "digital signature",
        "ContentCommitment" => "content commitment",
        "KeyEncipherment" => "key encipherment",
        "DataEncipherment" => "data encipherment",
        "KeyAgreement" => "key agreement",
        "CertSign" => "cert sign",
        "CRLSign" => "crl sign",
        "EncipherOnly" => "encipher only",
        _ => "decipher only",
    };
    let mut usages: Vec<String> = certificate
        .key_usage()
        .iter()
        .flat_map(|usage| usage.names())
        .map(|name| words(name).to_owned())
        .collect();
    usages.extend(extended_usages(certificate));
    usages
}

/// SHA-256, as other tools write it.
fn fingerprint(certificate: &Certificate) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
    let bytes: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

fn date(instant: Timestamp) -> String {
    instant.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}
