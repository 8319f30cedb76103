//! Proof that a client holds the key of the certificate it shows, and nothing more.
//!
//! The usual verifiers refuse certificates that operators of this API really use: self-signed ones,
//! expired ones, X.509 version 1. Whether a certificate is good is for the certificate auth method to
//! say; the handshake must only make sure that it is the client's own. So this reads from the
//! certificate nothing but its public key.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Checks the signature of the handshake with the key in the certificate.
///
/// # Errors
/// If the certificate has no readable key, or the signature is not that key's.
pub(super) fn verify(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    supported: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let key =
        subject_public_key(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let algorithms = algorithms(supported, signed.scheme);
    let fitting = algorithms.iter().filter(|one| one.public_key_alg_id().as_ref() == key.algorithm);
    for algorithm in fitting {
        if algorithm.verify_signature(key.bits, message, signed.signature()).is_ok() {
            return Ok(());
        }
    }
    Err(Error::InvalidCertificate(CertificateError::BadSignature))
}

fn algorithms(
    supported: &WebPkiSupportedAlgorithms,
    scheme: SignatureScheme,
) -> &[&'static dyn rustls::pki_types::SignatureVerificationAlgorithm] {
    supported.mapping.iter().find(|(one, _)| *one == scheme).map_or(&[], |(_, algorithms)| *algorithms)
}

struct PublicKey<'a> {
    /// The content of the AlgorithmIdentifier, without its own tag and length.
    algorithm: &'a [u8],
    /// The content of the BIT STRING, without its count of unused bits.
    bits: &'a [u8],
}

/// RFC 5280, 4.1: the seventh field of the body, or the sixth where the version is left out (version 1).
fn subject_public_key(certificate: &[u8]) -> Option<PublicKey<'_>> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut body, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(body, EXPLICIT_0) {
        body = rest;
    }
    // serialNumber, signature, issuer, validity, subject
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, body) = element(body, tag)?;
    }
    let (key, _) = element(body, SEQUENCE)?;
    let (algorithm, key) = element(key, SEQUENCE)?;
    let (bits, _) = element(key, BIT_STRING)?;
    let (0, bits) = bits.split_first()? else { return None };
    Some(PublicKey { algorithm, bits })
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;

/// The content of the DER element at the beginning, if it has this tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
