//! Reading and verifying what was made: by our own reader, and by OpenSSL if it is there.

use std::path::Path;
use std::process::{Command, Stdio};

use chancery_issuance::{Certificate, Curve, KeySpec, PublicKey, SpiffeId};
use jiff::Timestamp;

use super::steps::{Made, WORKLOAD};

/// What was found.
pub(super) struct Verdict {
    /// The certificate in words, line by line.
    pub(super) words: Vec<(&'static str, String)>,
    /// The chain, from the leaf up.
    pub(super) chain: Vec<String>,
    /// Who verified it, with which outcome.
    pub(super) verifiers: Vec<Verifier>,
}

/// One opinion.
pub(super) struct Verifier {
    /// Who.
    pub(super) name: String,
    /// `None` if it holds, else what is wrong.
    pub(super) complaint: Option<String>,
}

impl Verdict {
    /// Whether everybody agrees.
    pub(super) fn holds(&self) -> bool {
        self.verifiers.iter().all(|verifier| verifier.complaint.is_none())
    }
}

/// Reads the certificates and has them verified.
pub(super) fn verify(folder: &Path, made: &Made, now: Timestamp) -> Result<Verdict, String> {
    let read = |what: &str, pem: &str| Certificate::from_pem(pem).map_err(|error| format!("{what}: {error}"));
    let leaf = read("the workload's certificate", &made.leaf)?;
    let root = read("the root", &made.root)?;
    let chain = Certificate::all_from_pem(&made.chain).map_err(|error| format!("the chain: {error}"))?;
    let intermediate = chain.first().ok_or("the chain is empty")?;

    let mut verifiers = vec![Verifier {
        name: "Chancery's own reader".to_owned(),
        complaint: complaint(&leaf, intermediate, &root, now),
    }];
    verifiers.extend(openssl(folder));
    let chain = [("leaf", &leaf), ("intermediate", intermediate), ("root", &root)];
    let chain = chain.into_iter().map(|(kind, certificate)| described(kind, certificate)).collect();
    Ok(Verdict { words: words(&leaf), chain, verifiers })
}

/// What is wrong with the chain or the name; nothing, we hope.
fn complaint(
    leaf: &Certificate,
    intermediate: &Certificate,
    root: &Certificate,
    now: Timestamp,
) -> Option<String> {
    let now = chancery_issuance::Time::from_second(now.as_second());
    let names = leaf.sans().unwrap_or_default();
    let uri = names.uri.first().map(String::as_str);
    let checks = [
        (leaf.is_signed_by(intermediate), "the intermediate did not sign the workload's certificate"),
        (intermediate.is_signed_by(root), "the root did not sign the intermediate"),
        (root.is_self_signed(), "the root is not its own issuer"),
        (
            root.is_ca() && intermediate.is_ca() && !leaf.is_ca(),
            "who is an authority and who is not is mixed up",
        ),
        (
            [leaf, intermediate, root].iter().all(|one| one.not_before() <= now && now < one.not_after()),
            "one of the certificates is not valid now",
        ),
        (leaf.not_after() <= intermediate.not_after(), "the workload's certificate outlives its issuer"),
        (
            uri.is_some_and(|uri| SpiffeId::parse(uri).is_ok_and(|id| id.as_str() == WORKLOAD)),
            "the SPIFFE name is another than was asked for",
        ),
        (
            names.uri.len() == 1 && names.dns.is_empty() && names.ip.is_empty(),
            "there are names that nobody asked for",
        ),
    ];
    checks.into_iter().find(|(holds, _)| !holds).map(|(_, complaint)| complaint.to_owned())
}

/// OpenSSL's opinion, if it is installed.
fn openssl(folder: &Path) -> Option<Verifier> {
    let version = Command::new("openssl").arg("version").stderr(Stdio::null()).output().ok()?;
    let name = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let name = name.split(" (").next().unwrap_or("OpenSSL").trim().to_owned();
    let arguments = ["verify", "-CAfile", "ca.crt", "-untrusted", "istioca.crt", "sleep.crt"];
    let output =
        Command::new("openssl").args(arguments).current_dir(folder).stdin(Stdio::null()).output().ok()?;
    let complaint =
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned());
    Some(Verifier { name: format!("{name} (openssl {})", arguments.join(" ")), complaint })
}

/// The SHA-256 fingerprints of certificates as OpenSSL says them, if it is installed.
pub(super) fn openssl_fingerprints(folder: &Path, files: &[&str]) -> Option<Vec<String>> {
    let print = |file: &&str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", file]).current_dir(folder);
        let output = openssl.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    files.iter().map(print).collect()
}

fn words(leaf: &Certificate) -> Vec<(&'static str, String)> {
    let names = leaf.sans().unwrap_or_default();
    let mut words = vec![("serial number", leaf.serial_number().to_string())];
    words.push(("subject", leaf.common_name().unwrap_or("none; the name is the SPIFFE ID").to_owned()));
    words.extend(names.uri.iter().map(|uri| ("SPIFFE ID", uri.clone())));
    words.extend(names.dns.iter().map(|dns| ("DNS name", dns.clone())));
    if let Some(key) = leaf.public_key() {
        words.push(("public key", key_in_words(key)));
    }
    if let Some(usage) = leaf.key_usage() {
        words.push(("key usage", usage.names().collect::<Vec<_>>().join(", ")));
    }
    words.push(("valid from", leaf.not_before().to_string()));
    words.push(("valid until", leaf.not_after().to_string()));
    words
}

fn described(kind: &str, certificate: &Certificate) -> String {
    let name =
        match (certificate.common_name(), certificate.sans().and_then(|sans| sans.uri.into_iter().next())) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(uri)) => uri,
            _ => "(no name)".to_owned(),
        };
    let key = certificate.public_key().map(key_in_words).unwrap_or_default();
    format!("{kind}: {name}, {key}, until {}", certificate.not_after())
}

fn key_in_words(key: &PublicKey) -> String {
    match key.spec() {
        KeySpec::Rsa(bits) => format!("RSA {bits}"),
        KeySpec::Ec(Curve::P224) => "EC P-224".to_owned(),
        KeySpec::Ec(Curve::P256) => "EC P-256".to_owned(),
        KeySpec::Ec(Curve::P384) => "EC P-384".to_owned(),
        KeySpec::Ec(Curve::P521) => "EC P-521".to_owned(),
        KeySpec::Ed25519 => "Ed25519".to_owned(),
        KeySpec::MlDsa(set) => format!("ML-DSA-{}", set.number()),
    }
}
