//! Public keys as they stand in certificates and requests, and the signatures they verify.

use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey};
use aws_lc_rs::{digest, signature as aws};
use p224::ecdsa::signature::hazmat::PrehashVerifier;

use crate::algorithm::{identifier, oid};
use crate::emit::{self, Malformed, Reader, tag};
use crate::{Curve, Hash, KeyError, KeySpec, MlDsa};

/// A public key: its SubjectPublicKeyInfo and what follows from it.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spec: KeySpec,
    spki: Vec<u8>,
    /// Where the key's own bytes begin in `spki`: they reach to its end.
    key_start: usize,
    key_id: [u8; 20],
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey")
            .field("spec", &self.spec)
            .field("key_id", &data_encoding::HEXLOWER.encode(&self.key_id))
            .finish()
    }
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) of a supported kind.
    ///
    /// # Errors
    /// Not DER, or a key of another kind. RSA of any size is read; whether it is good enough is
    /// for [`KeyPolicy`](crate::KeyPolicy).
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let (spec, key_length) = read_spki(spki).map_err(|error| match error {
            UNSUPPORTED_KIND => KeyError::UnsupportedPublicKey,
            Malformed(reason) => KeyError::MalformedPublicKey { reason: reason.to_owned() },
        })?;
        let key_start = spki.len() - key_length;
        let mut key_id = [0; 20];
        // RFC 5280, 4.2.1.2, method 1: SHA-1 of the BIT STRING's content.
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, spki.get(key_start..).unwrap_or(&[]));
        key_id.copy_from_slice(digest.as_ref());
        Ok(Self { spec, spki: spki.to_vec(), key_start, key_id })
    }

    /// Kind and size.
    pub fn spec(&self) -> KeySpec {
        self.spec
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The subject key identifier: SHA-1 of the key's bytes (RFC 5280, 4.2.1.2, method 1).
    pub fn subject_key_id(&self) -> [u8; 20] {
        self.key_id
    }

    /// The key's own bytes: the content of the BIT STRING.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        self.spki.get(self.key_start..).unwrap_or(&[])
    }

    /// Checks a signature made with the algorithm of this DER AlgorithmIdentifier.
    ///
    /// Understands more than we sign with: SHA-1 too, as the peer accepts it for requests.
    pub(crate) fn verifies(&self, algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let Some(algorithm) = identifier::verification(algorithm) else { return false };
        if let (KeySpec::Ec(Curve::P224), identifier::Verification::Ecdsa(hash)) = (self.spec, algorithm) {
            return p224_verifies(self.key_bytes(), hash, message, signature);
        }
        self.spec.verification(algorithm).is_some_and(|algorithm| {
            UnparsedPublicKey::new(algorithm, self.key_bytes()).verify(message, signature).is_ok()
        })
    }
}

/// A public key that was taken apart once, for many signatures that its owner makes with one algorithm.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    public: PublicKey,
    /// DER AlgorithmIdentifier.
    algorithm: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl VerifyingKey {
    /// `None` if this key makes no signatures with the algorithm of this DER AlgorithmIdentifier, or the library cannot
    /// keep it.
    pub(crate) fn new(public: &PublicKey, algorithm: &[u8]) -> Option<Self> {
        let library = public.spec.verification(identifier::verification(algorithm)?)?;
        let parsed = ParsedPublicKey::new(library, public.key_bytes()).ok()?;
        Some(Self { public: public.clone(), algorithm: algorithm.to_vec(), parsed })
    }

    /// As [`PublicKey::verifies`], for any algorithm.
    pub(crate) fn verifies(&self, algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
        if algorithm == self.algorithm {
            return self.parsed.verify_sig(message, signature).is_ok();
        }
        self.public.verifies(algorithm, message, signature)
    }
}

impl KeySpec {
    /// What the library verifies such a key's signatures with. It has none for P-224.
    fn verification(
        self,
        algorithm: identifier::Verification,
    ) -> Option<&'static dyn aws::VerificationAlgorithm> {
        use identifier::{AnyHash, Verification};
        Some(match (self, algorithm) {
            (Self::Rsa(_), Verification::RsaPkcs1(hash)) => match hash {
                AnyHash::Sha1 => &aws::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                AnyHash::Sha256 => &aws::RSA_PKCS1_2048_8192_SHA256,
                AnyHash::Sha384 => &aws::RSA_PKCS1_2048_8192_SHA384,
                AnyHash::Sha512 => &aws::RSA_PKCS1_2048_8192_SHA512,
            },
            (Self::Rsa(_), Verification::RsaPss(hash)) => match hash {
                Hash::Sha256 => &aws::RSA_PSS_2048_8192_SHA256,
                Hash::Sha384 => &aws::RSA_PSS_2048_8192_SHA384,
                Hash::Sha512 => &aws::RSA_PSS_2048_8192_SHA512,
            },
            (Self::Ec(curve), Verification::Ecdsa(hash)) => match (curve, hash) {
                (Curve::P256, AnyHash::Sha1) => &aws::ECDSA_P256_SHA1_ASN1,
                (Curve::P256, AnyHash::Sha256) => &aws::ECDSA_P256_SHA256_ASN1,
                (Curve::P256, AnyHash::Sha384) => &aws::ECDSA_P256_SHA384_ASN1,
                (Curve::P256, AnyHash::Sha512) => &aws::ECDSA_P256_SHA512_ASN1,
                (Curve::P384, AnyHash::Sha256) => &aws::ECDSA_P384_SHA256_ASN1,
                (Curve::P384, AnyHash::Sha384) => &aws::ECDSA_P384_SHA384_ASN1,
                (Curve::P384, AnyHash::Sha512) => &aws::ECDSA_P384_SHA512_ASN1,
                (Curve::P521, AnyHash::Sha1) => &aws::ECDSA_P521_SHA1_ASN1,
                (Curve::P521, AnyHash::Sha256) => &aws::ECDSA_P521_SHA256_ASN1,
                (Curve::P521, AnyHash::Sha384) => &aws::ECDSA_P521_SHA384_ASN1,
                (Curve::P521, AnyHash::Sha512) => &aws::ECDSA_P521_SHA512_ASN1,
                // The library has no ECDSA over P-384 with SHA-1, and nobody should.
                (Curve::P384, AnyHash::Sha1) | (Curve::P224, _) => return None,
            },
            (Self::Ed25519, Verification::Ed25519) => &aws::ED25519,
            (Self::MlDsa(set), Verification::MlDsa(algorithm)) if set == algorithm => match set {
                MlDsa::MlDsa44 => &aws::ML_DSA_44,
                MlDsa::MlDsa65 => &aws::ML_DSA_65,
                MlDsa::MlDsa87 => &aws::ML_DSA_87,
            },
            _ => return None,
        })
    }
}

fn p224_verifies(point: &[u8], hash: identifier::AnyHash, message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = p224::ecdsa::VerifyingKey::from_sec1_bytes(point) else { return false };
    let Ok(signature) = p224::ecdsa::Signature::from_der(signature) else { return false };
    let digest = digest::digest(hash.algorithm(), message);
    key.verify_prehash(digest.as_ref(), &signature).is_ok()
}

/// The algorithm identifier names a family we do not know.
const UNSUPPORTED_KIND: Malformed = Malformed("an unsupported kind of public key");

/// Kind of key, and the length of the key's own bytes at the end of the SPKI.
fn read_spki(der: &[u8]) -> Result<(KeySpec, usize), Malformed> {
    let mut outer = Reader::new(der);
    let mut info = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    let algorithm = info.expect(tag::SEQUENCE)?;
    let key = emit::bit_string_bytes(info.expect(tag::BIT_STRING)?.content)?;
    info.end()?;

    let mut parameters = algorithm.reader();
    let family = parameters.expect(tag::OID)?.content;
    let spec = if family == oid::RSA_ENCRYPTION {
        // RFC 3279, 2.3.1: the parameters are NULL, not absent.
        if !parameters.expect(tag::NULL)?.content.is_empty() {
            return Err(Malformed("x509: RSA key missing NULL parameters"));
        }
        KeySpec::Rsa(rsa_bits(key)?)
    } else if family == oid::EC_PUBLIC_KEY {
        let named = parameters.expect(tag::OID)?.content;
        let curve = oid::curve(named).ok_or(Malformed("x509: unsupported elliptic curve"))?;
        let point_length = 1 + 2 * curve.field_bytes();
        // Only uncompressed points, as on the peer: one key, one encoding, one key id.
        if key.first() != Some(&4) || key.len() != point_length {
            return Err(Malformed("x509: failed to unmarshal elliptic curve point"));
        }
        KeySpec::Ec(curve)
    } else if family == oid::ED25519 {
        if key.len() != 32 {
            return Err(Malformed("an Ed25519 key that has not 32 bytes"));
        }
        KeySpec::Ed25519
    } else if let Some(set) = oid::ml_dsa(family) {
        if key.len() != set.public_key_bytes() {
            return Err(Malformed("an ML-DSA key that has not the bytes of its parameter set"));
        }
        KeySpec::MlDsa(set)
    } else {
        return Err(UNSUPPORTED_KIND);
    };
    parameters.end()?;
    Ok((spec, key.len()))
}

fn rsa_bits(key: &[u8]) -> Result<u32, Malformed> {
    let mut outer = Reader::new(key);
    let mut numbers = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    let modulus = numbers.expect(tag::INTEGER)?.content;
    numbers.expect(tag::INTEGER)?;
    numbers.end()?;
    modulus_bits(modulus)
}

/// The bits of a modulus as it stands in DER.
pub(crate) fn modulus_bits(modulus: &[u8]) -> Result<u32, Malformed> {
    let significant = match modulus {
        [0, rest @ ..] => rest,
        [first, ..] if first & 0x80 != 0 => return Err(Malformed("a negative RSA modulus")),
        all => all,
    };
    let first = significant.first().ok_or(Malformed("an RSA modulus of zero"))?;
    u32::try_from(significant.len() * 8)
        .map(|bits| bits - first.leading_zeros())
        .map_err(|_| Malformed("an RSA modulus too large"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PrivateKey, SignatureAlgorithm, Signer};

    #[test]
    fn an_rsa_key_has_a_null_with_nothing_in_it() {
        let key = emit::build(300, tag::SEQUENCE, |out| {
            out.unsigned(&[1, 0, 1]);
            out.unsigned(&[0xa5; 256]);
        });
        let spki = |null: &[u8]| {
            emit::build(400, tag::SEQUENCE, |out| {
                out.bit_string(&key);
                let mark = out.mark();
                out.element(tag::NULL, null);
                out.element(tag::OID, oid::RSA_ENCRYPTION);
                out.close(tag::SEQUENCE, mark);
            })
        };
        assert_eq!(PublicKey::from_spki(&spki(&[])).unwrap().spec(), KeySpec::Rsa(2048));
        assert_eq!(
            PublicKey::from_spki(&spki(&[0])).unwrap_err().to_string(),
            "x509: RSA key missing NULL parameters"
        );
    }

    #[test]
    fn a_key_that_was_taken_apart_verifies_what_the_key_itself_does() {
        use SignatureAlgorithm as Algorithm;
        let kinds = [
            (KeySpec::Rsa(2048), vec![Algorithm::RsaPkcs1(Hash::Sha256), Algorithm::RsaPss(Hash::Sha384)]),
            (KeySpec::Ec(Curve::P256), vec![Algorithm::Ecdsa(Hash::Sha256)]),
            (KeySpec::Ec(Curve::P384), vec![Algorithm::Ecdsa(Hash::Sha384)]),
            (KeySpec::Ec(Curve::P521), vec![Algorithm::Ecdsa(Hash::Sha512)]),
            (KeySpec::Ed25519, vec![Algorithm::Ed25519]),
            (KeySpec::MlDsa(MlDsa::MlDsa44), vec![Algorithm::MlDsa(MlDsa::MlDsa44)]),
        ];
        let ed25519 = identifier::of(Algorithm::Ed25519);
        for (spec, algorithms) in kinds {
            let (key, other) = (PrivateKey::generate(spec).unwrap(), PrivateKey::generate(spec).unwrap());
            let first = identifier::of(algorithms[0]);
            let ready = VerifyingKey::new(key.public_key(), &first).unwrap();
            // The second was not prepared for.
            for algorithm in algorithms {
                let written = identifier::of(algorithm);
                let signature = key.sign(algorithm, b"message").unwrap();
                assert!(ready.verifies(&written, b"message", &signature), "{algorithm:?}");
                assert!(!ready.verifies(&written, b"massage", &signature), "{algorithm:?}");
                assert!(!ready.verifies(b"", b"message", &signature), "{algorithm:?}");
                let forged = other.sign(algorithm, b"message").unwrap();
                assert!(!ready.verifies(&written, b"message", &forged), "{algorithm:?}");
            }
            if spec != KeySpec::Ed25519 {
                assert!(VerifyingKey::new(key.public_key(), &ed25519).is_none());
            }
        }
        let p224 = PrivateKey::generate(KeySpec::Ec(Curve::P224)).unwrap();
        let sha256 = identifier::of(Algorithm::Ecdsa(Hash::Sha256));
        assert!(VerifyingKey::new(p224.public_key(), &sha256).is_none(), "the library has no such curve");
    }
}
