//! Fixed keys, serial numbers and clock, and the openssl command where there is one.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, IssuedCertificate, Issuer, IssuerOptions, KeyPolicy, MountLimits,
    PrivateKey, SerialNumber, Signer, VerifiedCsr, prepare_root,
};
use jiff::Timestamp;

/// 2026-11-18T11:06:40Z
pub(crate) const NOW: i64 = 1_795_000_000;

pub(crate) const LIMITS: MountLimits =
    MountLimits { default_ttl: Duration::from_secs(768 * 3600), max_ttl: Duration::from_secs(87_600 * 3600) };

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub(crate) fn hours(hours: u64) -> Option<Duration> {
    Some(Duration::from_secs(hours * 3600))
}

pub(crate) fn serial(number: u8) -> SerialNumber {
    SerialNumber::generate(now(), [number; 14])
}

pub(crate) fn key(name: &str) -> Arc<dyn Signer> {
    let path = format!("{}/../testkit/testdata/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    Arc::new(PrivateKey::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap())
}

pub(crate) fn csr(name: &str) -> VerifiedCsr {
    let path = format!("{}/testdata/csr/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    VerifiedCsr::from_pem(&std::fs::read_to_string(path).unwrap(), &KeyPolicy::any()).unwrap()
}

pub(crate) fn urls() -> AiaUrls {
    let both = |what: &str| vec![format!("http://a/{what}"), format!("http://b/{what}")];
    AiaUrls {
        issuing_certificates: both("ca"),
        crl_distribution_points: both("crl"),
        delta_crl_distribution_points: both("delta"),
        ocsp_servers: both("ocsp"),
    }
}

/// A year-long root named `Root`.
pub(crate) fn root(key_name: &str) -> IssuedCertificate {
    let request = CaRequest { ttl: hours(8760), ..CaRequest::new("Root", LIMITS) };
    prepare_root(&request, &key(key_name), &AiaUrls::default(), serial(1), now()).unwrap().sign().unwrap()
}

pub(crate) fn issuer_of(certificate: &IssuedCertificate, key_name: &str, options: IssuerOptions) -> Issuer {
    let certificate = Certificate::from_der(&certificate.der).unwrap();
    Issuer::new(certificate, key(key_name), options).unwrap()
}

pub(crate) fn issuer(key_name: &str) -> Issuer {
    issuer_of(&root(key_name), key_name, IssuerOptions::default())
}

/// `None`, with a message, if the command is not there.
pub(crate) fn openssl(arguments: &[&str], input: &[u8]) -> Option<String> {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: the openssl command is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
