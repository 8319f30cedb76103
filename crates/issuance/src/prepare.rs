//! The decision: everything about a certificate is settled here, before the key is touched.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Certificate, Issuer, Profile, Refusal, RequestedNames, SanSet, SerialNumber, SignError, Subject,
    SubjectKey, VerifiedCsr, Warning,
};

/// The mount's own lifetimes, which stand in where the profile has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountLimits {
    /// Lifetime if nobody says anything.
    pub default_ttl: Duration,
    /// Longest lifetime if the profile has none.
    pub max_ttl: Duration,
}

/// What this one certificate should say.
#[derive(Debug, Clone)]
pub struct IssuanceRequest {
    pub(crate) subject: Subject,
    pub(crate) sans: SanSet,
    /// Lifetime asked for; `None` for the profile's.
    pub ttl: Option<Duration>,
    /// Absolute start, RFC 3339; empty for none.
    pub not_before: String,
    /// Absolute end, RFC 3339; empty for none.
    pub not_after: String,
    /// The mount's lifetimes.
    pub limits: MountLimits,
}

impl IssuanceRequest {
    /// Joins what the client asks for with what its CSR says, as the profile prescribes.
    ///
    /// Nothing is permitted or refused by the profile's name rules yet; that is [`prepare`]'s.
    ///
    /// # Errors
    /// Names that cannot be read: not an IP address, not a URI, no ASCII form.
    pub fn new(
        names: &RequestedNames,
        csr: Option<&VerifiedCsr>,
        profile: &Profile,
        limits: MountLimits,
    ) -> Result<Self, Refusal> {
        let _ = (names, csr, profile, limits);
        Err(Refusal::Unsupported { what: "joining names".to_owned() })
    }

    /// The subject the certificate will carry.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The names the certificate will carry.
    pub fn sans(&self) -> &SanSet {
        &self.sans
    }
}

/// Decides everything; signs nothing.
///
/// # Errors
/// The first rule of the profile or the issuer that the request breaks.
pub fn prepare<'a>(
    request: &IssuanceRequest,
    key: &SubjectKey,
    profile: &Profile,
    issuer: &'a Issuer,
    serial: SerialNumber,
    now: Timestamp,
) -> Result<Prepared<'a>, Refusal> {
    let _ = (request, key, profile, issuer, serial, now);
    Err(Refusal::Unsupported { what: "preparing certificates".to_owned() })
}

/// The exact bytes that will be signed, and by whom. Can be signed once.
#[derive(Debug)]
#[must_use]
pub struct Prepared<'a> {
    tbs: Vec<u8>,
    warnings: Vec<Warning>,
    serial: SerialNumber,
    issuer: std::marker::PhantomData<&'a Issuer>,
}

impl Prepared<'_> {
    /// SHA-256 of the bytes to be signed: the record of the intent.
    pub fn tbs_sha256(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.tbs);
        *digest.as_ref().first_chunk().unwrap_or(&[0; 32])
    }

    /// What was granted in a reduced form.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The serial number it will have.
    pub fn serial_number(&self) -> SerialNumber {
        self.serial
    }

    /// Signs, reads the result back with an independent decoder, and compares it with what was
    /// prepared.
    ///
    /// # Errors
    /// The key refused, or the result differs; nothing is released then.
    pub fn sign(self) -> Result<IssuedCertificate, SignError> {
        Err(SignError::Failed { reason: "not yet".to_owned() })
    }
}

/// A signed certificate that was read back and compared.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// PEM with lines of 64 characters and a final newline.
    pub pem: String,
    /// Its serial number.
    pub serial_number: SerialNumber,
    /// Start of its lifetime.
    pub not_before: Timestamp,
    /// End of its lifetime.
    pub not_after: Timestamp,
    /// What was granted in a reduced form.
    pub warnings: Vec<Warning>,
}

impl IssuedCertificate {
    /// The certificate in parsed form.
    ///
    /// # Errors
    /// None in practice: it was read back before it was released.
    pub fn certificate(&self) -> Result<Certificate, crate::CertificateError> {
        Certificate::from_der(&self.der)
    }
}

/// A duration as Go prints it: `1h0m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}h{minutes}m{seconds}s")
    } else if minutes > 0 {
        format!("{minutes}m{seconds}s")
    } else {
        format!("{seconds}s")
    }
}
