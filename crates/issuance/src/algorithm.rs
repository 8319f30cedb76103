//! Kinds of keys and signatures, and which signature goes with which key.

use crate::KeyError;

/// The family of a key, as the API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA, 2048 to 8192 bits.
    Rsa,
    /// ECDSA over a NIST prime curve.
    Ec,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// ML-DSA (FIPS 204).
    MlDsa,
}

impl KeyType {
    /// The API's word: `rsa`, `ec`, `ed25519` or `mldsa`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ec => "ec",
            Self::Ed25519 => "ed25519",
            Self::MlDsa => "mldsa",
        }
    }
}

/// The parameter sets of ML-DSA (FIPS 204, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MlDsa {
    /// ML-DSA-44
    MlDsa44,
    /// ML-DSA-65
    MlDsa65,
    /// ML-DSA-87
    MlDsa87,
}

impl MlDsa {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MlDsa44, Self::MlDsa65, Self::MlDsa87];

    /// The number in its name, which the API takes for a size: 44, 65 or 87.
    pub fn number(self) -> u32 {
        match self {
            Self::MlDsa44 => 44,
            Self::MlDsa65 => 65,
            Self::MlDsa87 => 87,
        }
    }

    /// The size of a public key in bytes (FIPS 204, table 2).
    pub(crate) fn public_key_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
        }
    }

    /// The size of a signature in bytes (FIPS 204, table 2).
    pub(crate) fn signature_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
        }
    }

    /// The set of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.number() == number)
    }
}

/// The NIST prime curves the API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp224r1
    P224,
    /// secp256r1
    P256,
    /// secp384r1
    P384,
    /// secp521r1
    P521,
}

impl Curve {
    /// The size of the field in bits: 224, 256, 384 or 521.
    pub fn bits(self) -> u32 {
        match self {
            Self::P224 => 224,
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }

    /// The size of a coordinate in bytes.
    pub(crate) fn field_bytes(self) -> usize {
        match self {
            Self::P224 => 28,
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The curve with this field size.
    pub fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            224 => Some(Self::P224),
            256 => Some(Self::P256),
            384 => Some(Self::P384),
            521 => Some(Self::P521),
            _ => None,
        }
    }
}

/// What kind of key, and how large: enough to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySpec {
    /// RSA with a modulus of this many bits.
    Rsa(u32),
    /// ECDSA on this curve.
    Ec(Curve),
    /// Ed25519.
    Ed25519,
    /// ML-DSA with this parameter set.
    MlDsa(MlDsa),
}

impl KeySpec {
    /// From the API's `key_type` and `key_bits`; 0 bits means the default of the type
    /// (RSA 2048, P-256, ML-DSA-44).
    ///
    /// # Errors
    /// [`KeyError::UnknownType`] or [`KeyError::UnsupportedBits`], with the sentence clients see.
    pub fn new(key_type: &str, key_bits: u32) -> Result<Self, KeyError> {
        match (key_type, key_bits) {
            ("rsa", 0) => Ok(Self::Rsa(2048)),
            ("rsa", 2048 | 3072 | 4096 | 8192) => Ok(Self::Rsa(key_bits)),
            ("ec", 0) => Ok(Self::Ec(Curve::P256)),
            ("ec", bits) => Curve::from_bits(bits)
                .map(Self::Ec)
                .ok_or(KeyError::UnsupportedBits { key_type: KeyType::Ec, bits }),
            // The peer does not look at the size of an Ed25519 key: there is only one.
            ("ed25519", _) => Ok(Self::Ed25519),
            ("mldsa", 0) => Ok(Self::MlDsa(MlDsa::MlDsa44)),
            ("mldsa", bits) => MlDsa::from_number(bits)
                .map(Self::MlDsa)
                .ok_or(KeyError::UnsupportedBits { key_type: KeyType::MlDsa, bits }),
            ("rsa", bits @ 1..2048) => Err(KeyError::WeakRsa { bits }),
            ("rsa", bits) => Err(KeyError::UnsupportedBits { key_type: KeyType::Rsa, bits }),
            (other, _) => Err(KeyError::UnknownType { name: other.to_owned() }),
        }
    }

    /// The family of this key.
    pub fn key_type(self) -> KeyType {
        match self {
            Self::Rsa(_) => KeyType::Rsa,
            Self::Ec(_) => KeyType::Ec,
            Self::Ed25519 => KeyType::Ed25519,
            Self::MlDsa(_) => KeyType::MlDsa,
        }
    }

    /// The size in bits; 0 for Ed25519, where the API gives none, and the number of the parameter set for ML-DSA.
    pub fn bits(self) -> u32 {
        match self {
            Self::Rsa(bits) => bits,
            Self::Ec(curve) => curve.bits(),
            Self::Ed25519 => 0,
            Self::MlDsa(set) => set.number(),
        }
    }
}

/// A digest that signatures are made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

/// A signature algorithm this crate can sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 (RFC 8017, 8.2)
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 of the same hash and a salt of the digest's length (RFC 8017, 8.1)
    RsaPss(Hash),
    /// ECDSA (RFC 5758, 3.2)
    Ecdsa(Hash),
    /// Ed25519 (RFC 8410)
    Ed25519,
    /// ML-DSA, pure and without a context (RFC 9881, 3)
    MlDsa(MlDsa),
}

impl SignatureAlgorithm {
    /// The algorithm for a signing key and the API's `signature_bits` and `use_pss`.
    ///
    /// As on the peer, an EC key signs with the hash of its curve and an Ed25519 key knows one
    /// way, whatever was asked; for RSA, 0 means SHA-256.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedSignatureBits`] for anything but 0, 256, 384 and 512.
    pub fn choose(signing_key: KeySpec, signature_bits: u32, use_pss: bool) -> Result<Self, KeyError> {
        match signing_key {
            KeySpec::Rsa(_) => {
                let hash = match signature_bits {
                    0 | 256 => Hash::Sha256,
                    384 => Hash::Sha384,
                    512 => Hash::Sha512,
                    bits => return Err(KeyError::UnsupportedSignatureBits { bits }),
                };
                Ok(if use_pss { Self::RsaPss(hash) } else { Self::RsaPkcs1(hash) })
            }
            KeySpec::Ec(Curve::P224 | Curve::P256) => Ok(Self::Ecdsa(Hash::Sha256)),
            KeySpec::Ec(Curve::P384) => Ok(Self::Ecdsa(Hash::Sha384)),
            KeySpec::Ec(Curve::P521) => Ok(Self::Ecdsa(Hash::Sha512)),
            KeySpec::Ed25519 => Ok(Self::Ed25519),
            KeySpec::MlDsa(set) => Ok(Self::MlDsa(set)),
        }
    }
}

impl SignatureAlgorithm {
    /// The algorithm for OCSP answers of an issuer whose revocation lists are signed with `lists`.
    ///
    /// As on the peer, PSS becomes PKCS #1 v1.5 with the same hash: many clients know nothing else in OCSP.
    pub fn for_ocsp(signing_key: KeySpec, lists: Option<Self>) -> Result<Self, KeyError> {
        match (signing_key, lists) {
            (KeySpec::Rsa(_), Some(Self::RsaPkcs1(hash) | Self::RsaPss(hash))) => Ok(Self::RsaPkcs1(hash)),
            (key, _) => Self::choose(key, 0, false),
        }
    }

    /// All of them, with the API's name and that of the peer's messages.
    const NAMES: [(Self, &'static str, &'static str); 13] = [
        (Self::RsaPkcs1(Hash::Sha256), "SHA256WithRSA", "SHA256-RSA"),
        (Self::RsaPkcs1(Hash::Sha384), "SHA384WithRSA", "SHA384-RSA"),
        (Self::RsaPkcs1(Hash::Sha512), "SHA512WithRSA", "SHA512-RSA"),
        (Self::RsaPss(Hash::Sha256), "SHA256WithRSAPSS", "SHA256-RSAPSS"),
        (Self::RsaPss(Hash::Sha384), "SHA384WithRSAPSS", "SHA384-RSAPSS"),
        (Self::RsaPss(Hash::Sha512), "SHA512WithRSAPSS", "SHA512-RSAPSS"),
        (Self::Ecdsa(Hash::Sha256), "ECDSAWithSHA256", "ECDSA-SHA256"),
        (Self::Ecdsa(Hash::Sha384), "ECDSAWithSHA384", "ECDSA-SHA384"),
        (Self::Ecdsa(Hash::Sha512), "ECDSAWithSHA512", "ECDSA-SHA512"),
        (Self::Ed25519, "Ed25519", "Ed25519"),
        (Self::MlDsa(MlDsa::MlDsa44), "MLDSA44", "ML-DSA-44"),
        (Self::MlDsa(MlDsa::MlDsa65), "MLDSA65", "ML-DSA-65"),
        (Self::MlDsa(MlDsa::MlDsa87), "MLDSA87", "ML-DSA-87"),
    ];

    /// Every name of the API.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().map(|(_, name, _)| name)
    }

    /// By the API's name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("PureEd25519") { "Ed25519" } else { name };
        let known = Self::NAMES.into_iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(algorithm, _, _)| algorithm)
    }

    /// The API's name.
    pub fn name(self) -> &'static str {
        self.both_names().0
    }

    /// The name in messages.
    pub fn title(self) -> &'static str {
        self.both_names().1
    }

    fn both_names(self) -> (&'static str, &'static str) {
        let known = Self::NAMES.into_iter().find(|(algorithm, _, _)| *algorithm == self);
        known.map_or(("", ""), |(_, name, title)| (name, title))
    }

    /// The family of keys that sign so.
    pub fn key_type(self) -> KeyType {
        match self {
            Self::RsaPkcs1(_) | Self::RsaPss(_) => KeyType::Rsa,
            Self::Ecdsa(_) => KeyType::Ec,
            Self::Ed25519 => KeyType::Ed25519,
            Self::MlDsa(_) => KeyType::MlDsa,
        }
    }
}

/// Object identifiers, as the content of their DER.
pub(crate) mod oid {
    use super::{Curve, MlDsa};

    pub(crate) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

    /// 2.16.840.1.101.3.4.3.17 to 19 (RFC 9881, 2).
    pub(crate) const fn of_ml_dsa(set: MlDsa) -> &'static [u8] {
        match set {
            MlDsa::MlDsa44 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17],
            MlDsa::MlDsa65 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18],
            MlDsa::MlDsa87 => &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 19],
        }
    }

    pub(crate) fn ml_dsa(content: &[u8]) -> Option<MlDsa> {
        MlDsa::ALL.into_iter().find(|set| of_ml_dsa(*set) == content)
    }

    const P224: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x21];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

    pub(crate) fn of_curve(curve: Curve) -> &'static [u8] {
        match curve {
            Curve::P224 => P224,
            Curve::P256 => P256,
            Curve::P384 => P384,
            Curve::P521 => P521,
        }
    }

    pub(crate) fn curve(content: &[u8]) -> Option<Curve> {
        [Curve::P224, Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find(|curve| of_curve(*curve) == content)
    }
}

/// AlgorithmIdentifiers (RFC 5280, 4.1.1.2), whole.
pub(crate) mod identifier {
    use aws_lc_rs::digest;

    use super::{Curve, Hash, MlDsa, SignatureAlgorithm, oid};
    use crate::emit::{Emitter, Reader, tag};

    /// rsaEncryption with NULL (RFC 3279, 2.3.1).
    pub(crate) const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    /// Ed25519, parameters absent (RFC 8410, 3).
    pub(crate) const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

    /// ecPublicKey with its named curve (RFC 5480, 2.1.1).
    pub(crate) fn ec_public_key(curve: Curve) -> Vec<u8> {
        let mut out = Emitter::new(32);
        out.element(tag::OID, oid::of_curve(curve));
        out.element(tag::OID, oid::EC_PUBLIC_KEY);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    /// ML-DSA, parameters absent (RFC 9881, 2), for keys and signatures alike.
    pub(crate) fn ml_dsa(set: MlDsa) -> Vec<u8> {
        let mut out = Emitter::new(16);
        out.element(tag::OID, oid::of_ml_dsa(set));
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    /// 1.2.840.113549.1.1 and 1.2.840.10045.4: the arcs of RSA and ECDSA signatures.
    const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ANSI_X962_SIGNATURES: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    /// 2.16.840.1.101.3.4.2: the arc of the SHA-2 digests.
    const NIST_HASHES: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

    /// The identifier to write for an algorithm we sign with.
    pub(crate) fn of(algorithm: SignatureAlgorithm) -> Vec<u8> {
        let mut out = Emitter::new(80);
        match algorithm {
            SignatureAlgorithm::RsaPkcs1(hash) => {
                let last = match hash {
                    Hash::Sha256 => 11,
                    Hash::Sha384 => 12,
                    Hash::Sha512 => 13,
                };
                out.element(tag::NULL, &[]);
                arc(&mut out, &PKCS1, &[last]);
            }
            SignatureAlgorithm::RsaPss(hash) => {
                pss_parameters(&mut out, hash);
                arc(&mut out, &PKCS1, &[10]);
            }
            SignatureAlgorithm::Ecdsa(hash) => {
                let last = match hash {
                    Hash::Sha256 => 2,
                    Hash::Sha384 => 3,
                    Hash::Sha512 => 4,
                };
                arc(&mut out, &ANSI_X962_SIGNATURES, &[3, last]);
            }
            SignatureAlgorithm::Ed25519 => return ED25519.to_vec(),
            SignatureAlgorithm::MlDsa(set) => return ml_dsa(set),
        }
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    /// The algorithm that we would write so.
    pub(crate) fn signing(whole: &[u8]) -> Option<SignatureAlgorithm> {
        SignatureAlgorithm::NAMES
            .into_iter()
            .map(|(algorithm, _, _)| algorithm)
            .find(|algorithm| of(*algorithm) == whole)
    }

    fn arc(out: &mut Emitter, prefix: &[u8], last: &[u8]) {
        let mark = out.mark();
        out.raw(last);
        out.raw(prefix);
        out.close(tag::OID, mark);
    }

    fn digest_identifier(out: &mut Emitter, hash: Hash) {
        let last = match hash {
            Hash::Sha256 => 1,
            Hash::Sha384 => 2,
            Hash::Sha512 => 3,
        };
        let mark = out.mark();
        out.element(tag::NULL, &[]);
        arc(out, &NIST_HASHES, &[last]);
        out.close(tag::SEQUENCE, mark);
    }

    /// RFC 4055, 3.1: hash, MGF1 with the same hash, and the salt's length.
    fn pss_parameters(out: &mut Emitter, hash: Hash) {
        let salt = match hash {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        };
        let sequence = out.mark();
        let mark = out.mark();
        out.unsigned(&[salt]);
        out.close(tag::constructed(2), mark);

        let mark = out.mark();
        digest_identifier(out, hash);
        arc(out, &PKCS1, &[8]);
        out.close(tag::SEQUENCE, mark);
        out.close(tag::constructed(1), mark);

        let mark = out.mark();
        digest_identifier(out, hash);
        out.close(tag::constructed(0), mark);
        out.close(tag::SEQUENCE, sequence);
    }

    /// A digest we verify with, which is one more than we sign with.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub(crate) enum AnyHash {
        Sha1,
        Sha256,
        Sha384,
        Sha512,
    }

    impl AnyHash {
        pub(crate) fn algorithm(self) -> &'static digest::Algorithm {
            match self {
                Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                Self::Sha256 => &digest::SHA256,
                Self::Sha384 => &digest::SHA384,
                Self::Sha512 => &digest::SHA512,
            }
        }
    }

    /// The digest of this object identifier.
    pub(crate) fn digest(oid: &[u8]) -> Option<AnyHash> {
        /// 1.3.14.3.2.26
        const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
        if oid == SHA1 {
            return Some(AnyHash::Sha1);
        }
        match oid.strip_prefix(&NIST_HASHES)? {
            [1] => Some(AnyHash::Sha256),
            [2] => Some(AnyHash::Sha384),
            [3] => Some(AnyHash::Sha512),
            _ => None,
        }
    }

    /// A signature algorithm we can check.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Verification {
        RsaPkcs1(AnyHash),
        RsaPss(Hash),
        Ecdsa(AnyHash),
        Ed25519,
        MlDsa(MlDsa),
    }

    /// Reads an AlgorithmIdentifier of a signature.
    pub(crate) fn verification(der: &[u8]) -> Option<Verification> {
        let mut outer = Reader::new(der);
        let mut fields = outer.expect(tag::SEQUENCE).ok()?.reader();
        let family = fields.expect(tag::OID).ok()?.content;
        if family == oid::ED25519 {
            return fields.is_empty().then_some(Verification::Ed25519);
        }
        if let Some(set) = oid::ml_dsa(family) {
            return fields.is_empty().then_some(Verification::MlDsa(set));
        }
        // RFC 4055, 5 asks for NULL with RSA and RFC 5758, 3.2 for nothing with ECDSA; writers mix
        // them up. Anything else is somebody's tampering: a CSR's signature does not cover this.
        let plain = fields.is_empty()
            || fields.expect(tag::NULL).is_ok_and(|null| null.content.is_empty() && fields.is_empty());
        if let Some(last) = family.strip_prefix(&PKCS1) {
            let hash = match last {
                [5] => AnyHash::Sha1,
                [11] => AnyHash::Sha256,
                [12] => AnyHash::Sha384,
                [13] => AnyHash::Sha512,
                // Any other parameters than those we write would be a different algorithm.
                [10] => {
                    return [Hash::Sha256, Hash::Sha384, Hash::Sha512]
                        .into_iter()
                        .find(|hash| of(SignatureAlgorithm::RsaPss(*hash)) == der)
                        .map(Verification::RsaPss);
                }
                _ => return None,
            };
            return plain.then_some(Verification::RsaPkcs1(hash));
        }
        let hash = match family.strip_prefix(&ANSI_X962_SIGNATURES)? {
            [1] => AnyHash::Sha1,
            [3, 2] => AnyHash::Sha256,
            [3, 3] => AnyHash::Sha384,
            [3, 4] => AnyHash::Sha512,
            _ => return None,
        };
        plain.then_some(Verification::Ecdsa(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_algorithm_is_found_by_its_name() {
        for name in SignatureAlgorithm::names() {
            for spelled in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                assert_eq!(SignatureAlgorithm::from_name(&spelled).unwrap().name(), name);
            }
        }
        assert_eq!(SignatureAlgorithm::from_name("pureed25519"), Some(SignatureAlgorithm::Ed25519));
        assert_eq!(SignatureAlgorithm::from_name("SHA1WithRSA"), None);
        let every_ec_key = KeySpec::Ec(Curve::P521);
        let chosen = SignatureAlgorithm::choose(every_ec_key, 256, true).unwrap();
        assert_eq!((chosen.name(), chosen.title()), ("ECDSAWithSHA512", "ECDSA-SHA512"));
        assert_eq!(chosen.key_type(), KeyType::Ec);
    }
}
