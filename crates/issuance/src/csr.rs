//! Certification requests (RFC 2986) that parsed, hold, and carry an acceptable key.

use std::collections::HashSet;

use crate::algorithm::identifier;
use crate::certificate::{BasicConstraints, Extension, extension_oid};
use crate::emit::{self, Malformed, Reader, tag};
use crate::names::NO_UTF8_STRING;
use crate::{
    KeyError, KeyPolicy, KeyUsage, PublicKey, Refusal, SanSet, SignatureAlgorithm, Subject, SubjectKey, pem,
};

/// extensionRequest (RFC 2985, 5.4.2): the content of its identifier.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// A CSR that parsed, whose self-signature holds and whose key is acceptable.
#[derive(Debug, Clone)]
pub struct VerifiedCsr {
    der: Vec<u8>,
    signature_algorithm: Option<SignatureAlgorithm>,
    subject: Subject,
    subject_der: Vec<u8>,
    sans: SanSet,
    key: PublicKey,
    key_usage: Option<KeyUsage>,
    basic_constraints: Option<BasicConstraints>,
    extensions: Vec<RequestedExtension>,
}

/// An extension as the CSR asked for it.
#[derive(Debug, Clone)]
pub(crate) struct RequestedExtension {
    /// The identifier's content.
    pub(crate) oid: Vec<u8>,
    /// The whole Extension.
    pub(crate) raw: Vec<u8>,
}

impl VerifiedCsr {
    /// The first CSR in a PEM text, held against a key policy.
    ///
    /// Any text may stand around the block, and its label is not looked at, as on the peer:
    /// `NEW CERTIFICATE REQUEST` is in use too.
    ///
    /// # Errors
    /// Empty, no CSR, malformed, signed by another key, or a key the policy refuses.
    pub fn from_pem(text: &str, keys: &KeyPolicy) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::EmptyCsr);
        }
        let block = pem::blocks(text).next().ok_or(Refusal::CsrWithoutData)?;
        Self::from_der(&block.der, keys)
    }

    /// From DER.
    ///
    /// # Errors
    /// As [`VerifiedCsr::from_pem`].
    pub fn from_der(der: &[u8], keys: &KeyPolicy) -> Result<Self, Refusal> {
        let parts = Parts::split(der).map_err(malformed)?;
        let key = PublicKey::from_spki(parts.spki).map_err(|error| match error {
            KeyError::UnsupportedPublicKey => Refusal::UnknownPublicKey,
            other => Refusal::MalformedCsr { reason: other.to_string() },
        })?;
        // The policy first: checking the signature of a key nobody wants is wasted work.
        keys.check(&key)?;
        // Nothing that the key did not sign is read.
        if !key.verifies(parts.algorithm, parts.signed, parts.signature) {
            return Err(Refusal::BadSelfSignature);
        }
        parts.read(der, key).map_err(malformed)
    }

    /// The original DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PEM with lines of 64 characters and a final newline, and nothing else around it.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.der)
    }

    /// How it was signed; `None` for what we would not sign with, such as SHA-1.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        self.signature_algorithm
    }

    /// The extensions asked for, in order, none twice: the content of each one's identifier, and its value.
    pub fn requested_extensions(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // They were all read when the request was.
        self.extensions.iter().filter_map(|extension| {
            let whole = Reader::new(&extension.raw).next().ok()?;
            let value = Extension::read(whole).ok()?.value;
            Some((extension.oid.as_slice(), value))
        })
    }

    /// The subject by attribute.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The subject's DER, as it stands.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The subject alternative names.
    pub fn sans(&self) -> &SanSet {
        &self.sans
    }

    /// The key, now proved to be the requester's.
    pub fn key(&self) -> SubjectKey {
        SubjectKey::of_csr(self.key.clone())
    }

    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The key usages asked for.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.key_usage
    }

    /// Whether the request has a basic constraints extension, and in it asks to be a CA.
    pub fn asks_for_ca(&self) -> Option<bool> {
        self.basic_constraints.map(|constraints| constraints.is_ca)
    }

    pub(crate) fn extensions(&self) -> &[RequestedExtension] {
        &self.extensions
    }
}

fn malformed(error: Malformed) -> Refusal {
    let reason = error.0.to_owned();
    if error == NO_UTF8_STRING {
        Refusal::MalformedOtherSan { reason }
    } else {
        Refusal::MalformedCsr { reason }
    }
}

/// The outer structure, split but not read.
struct Parts<'a> {
    signed: &'a [u8],
    subject: emit::Element<'a>,
    spki: &'a [u8],
    attributes: Option<emit::Element<'a>>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(der);
        let mut request = outer.expect(tag::SEQUENCE)?.reader();
        outer.end()?;
        let signed = request.expect(tag::SEQUENCE)?;
        let algorithm = request.expect(tag::SEQUENCE)?.raw;
        let signature = emit::bit_string_bytes(request.expect(tag::BIT_STRING)?.content)?;
        request.end()?;

        let mut info = signed.reader();
        info.expect(tag::INTEGER)?;
        let subject = info.expect(tag::SEQUENCE)?;
        let spki = info.expect(tag::SEQUENCE)?.raw;
        // Mandatory in RFC 2986, but some writers leave an empty set out.
        let attributes = info.optional(tag::constructed(0))?;
        info.end()?;
        Ok(Self { signed: signed.raw, subject, spki, attributes, algorithm, signature })
    }

    fn read(&self, der: &[u8], key: PublicKey) -> Result<VerifiedCsr, Malformed> {
        let mut csr = VerifiedCsr {
            der: der.to_vec(),
            signature_algorithm: identifier::signing(self.algorithm),
            subject: Subject::read(self.subject)?,
            subject_der: self.subject.raw.to_vec(),
            sans: SanSet::default(),
            key,
            key_usage: None,
            basic_constraints: None,
            extensions: Vec::new(),
        };
        let mut kinds = HashSet::new();
        let mut attributes = self.attributes.map_or(Reader::new(&[]), |attributes| attributes.reader());
        while !attributes.is_empty() {
            let mut attribute = attributes.expect(tag::SEQUENCE)?.reader();
            if attribute.expect(tag::OID)?.content != EXTENSION_REQUEST {
                continue;
            }
            let mut values = attribute.expect(tag::SET)?.reader();
            let mut list = values.expect(tag::SEQUENCE)?.reader();
            values.end()?;
            while !list.is_empty() {
                let extension = Extension::read(list.expect(tag::SEQUENCE)?)?;
                // RFC 5280, 4.2: no certificate has two of a kind. Which of them would count?
                if !kinds.insert(extension.oid) {
                    return Err(Malformed("certificate request contains duplicate requested extensions"));
                }
                csr.read_extension(&extension)?;
            }
        }
        Ok(csr)
    }
}

impl VerifiedCsr {
    fn read_extension(&mut self, extension: &Extension<'_>) -> Result<(), Malformed> {
        match extension.oid {
            extension_oid::SUBJECT_ALT_NAME => self.sans = SanSet::read(extension.value)?,
            extension_oid::KEY_USAGE => self.key_usage = Some(KeyUsage::read(extension.value)?),
            extension_oid::BASIC_CONSTRAINTS => {
                self.basic_constraints = Some(BasicConstraints::read(extension.value)?);
            }
            _ => {}
        }
        self.extensions.push(RequestedExtension { oid: extension.oid.to_vec(), raw: extension.raw.to_vec() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Emitter;
    use crate::{KeySpec, PrivateKey, SignatureAlgorithm, Signer, tbs};

    /// A CSR with a good signature that asks for these extensions.
    fn request(extensions: &[u8]) -> Vec<u8> {
        let key = PrivateKey::generate(KeySpec::Ed25519).unwrap();
        let mut out = Emitter::new(extensions.len() + 256);
        out.raw(extensions);
        out.close(tag::SEQUENCE, 0);
        out.close(tag::SET, 0);
        out.element(tag::OID, EXTENSION_REQUEST);
        out.close(tag::SEQUENCE, 0);
        out.close(tag::constructed(0), 0);
        out.raw(key.public_key().spki_der());
        out.raw(&[tag::SEQUENCE, 0]);
        out.unsigned(&[0]);
        out.close(tag::SEQUENCE, 0);
        let info = out.finish();
        let signature = key.sign(SignatureAlgorithm::Ed25519, &info).unwrap();
        tbs::signed(&info, SignatureAlgorithm::Ed25519, &signature)
    }

    fn extension(oid: &[u8], critical: Option<u8>) -> Vec<u8> {
        let mut out = Emitter::new(32);
        out.element(tag::OCTET_STRING, &[5, 0]);
        if let Some(critical) = critical {
            out.element(tag::BOOLEAN, &[critical]);
        }
        out.element(tag::OID, oid);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    fn refused(extensions: &[u8]) -> Option<String> {
        VerifiedCsr::from_der(&request(extensions), &KeyPolicy::any())
            .err()
            .map(|refusal| refusal.to_string())
    }

    #[test]
    fn extensions_are_told_apart_in_time_in_proportion() {
        let number = |number: u32| {
            let digit = |shift: u32| u8::try_from((number >> shift) & 0x7f).unwrap();
            [0x2a, 0x81 + digit(14), 0x80 | digit(7), digit(0)]
        };
        let mut many: Vec<u8> = (0..100_000).flat_map(|index| extension(&number(index), None)).collect();
        let begin = std::time::Instant::now();
        assert_eq!(refused(&many), None);
        many.extend(extension(&number(7), None));
        assert!(refused(&many).unwrap().ends_with("duplicate requested extensions"));
        // Many minutes if each were compared with all others; far less than this limit otherwise.
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn a_request_knows_its_bytes_its_signature_and_each_extension_with_its_value() {
        let der = request(&extension(&[0x2a, 3], Some(0xff)));
        let csr = VerifiedCsr::from_der(&der, &KeyPolicy::any()).unwrap();
        assert_eq!(csr.der(), der);
        assert_eq!(pem::blocks(&csr.pem()).next().unwrap().der, der);
        assert_eq!(csr.signature_algorithm(), Some(SignatureAlgorithm::Ed25519));
        assert_eq!(csr.requested_extensions().collect::<Vec<_>>(), [(&[0x2a, 3][..], &[5, 0][..])]);
    }

    #[test]
    fn a_false_that_is_written_out_is_refused_before_anything_is_signed() {
        assert_eq!(refused(&extension(&[0x2a, 3], Some(0xff))), None);
        assert_eq!(
            refused(&extension(&[0x2a, 3], Some(0))).unwrap(),
            "certificate request could not be parsed: a false that is written out"
        );
    }

    #[test]
    fn an_extension_whose_identifier_is_not_minimal_is_refused() {
        for oid in [&[0x2a, 0x80, 3][..], &[0x80, 0x2a, 3], &[0x2a, 0x83], &[]] {
            assert_eq!(
                refused(&extension(oid, None)).unwrap(),
                "certificate request could not be parsed: an object identifier that is not minimal"
            );
        }
    }

    #[test]
    fn the_signature_is_checked_before_what_it_signs_is_read() {
        let mut der = request(&extension(&[0x2a, 3], Some(0)));
        if let Some(last) = der.last_mut() {
            *last ^= 1;
        }
        assert_eq!(VerifiedCsr::from_der(&der, &KeyPolicy::any()).unwrap_err(), Refusal::BadSelfSignature);
    }
}
