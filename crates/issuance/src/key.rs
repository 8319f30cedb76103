//! Private keys: made, read, written, and ready to sign.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, PqdsaKeyPair, PqdsaSigningAlgorithm,
    RsaKeyPair,
};
use aws_lc_rs::{digest, signature as aws};
use p224::ecdsa::signature::hazmat::PrehashSigner;
use zeroize::Zeroizing;

use crate::algorithm::{identifier, oid};
use crate::emit::{self, Emitter, Malformed, Reader, tag};
use crate::public_key::modulus_bits;
use crate::{
    Curve, Hash, KeyError, KeySpec, MlDsa, PublicKey, SignError, SignatureAlgorithm, VerifiedCsr, pem,
};

/// Something that signs. The call blocks; the caller chooses the thread.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs a message (not a digest). ECDSA signatures are DER (RFC 5758, 3.2).
    ///
    /// # Errors
    /// The algorithm is not this key's, or the key refused.
    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A key we may certify: its holder has shown possession of the private half.
#[derive(Debug, Clone)]
pub struct SubjectKey(PublicKey);

impl SubjectKey {
    /// The key of a CSR whose self-signature was checked.
    pub(crate) fn of_csr(key: PublicKey) -> Self {
        Self(key)
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0
    }
}

impl From<&PrivateKey> for SubjectKey {
    /// We hold the private half ourselves.
    fn from(key: &PrivateKey) -> Self {
        Self(key.public.clone())
    }
}

impl From<&VerifiedCsr> for SubjectKey {
    fn from(csr: &VerifiedCsr) -> Self {
        csr.key()
    }
}

/// The forms a private key can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// PKCS#1 for RSA, SEC 1 for EC, PKCS#8 for Ed25519 and ML-DSA: what the API calls `der` and `pem`.
    Traditional,
    /// PKCS#8 (RFC 5208), for every kind.
    Pkcs8,
}

/// A private key in memory, parsed once and ready to sign.
///
/// Its secret bytes are zeroed when dropped, and `Debug` shows only the public half.
pub struct PrivateKey {
    pair: Pair,
    /// RSA: PKCS#1 DER. EC: the scalar, padded. Ed25519: the seed. ML-DSA: the choice of RFC 9881, 6 that its PKCS#8
    /// holds: the seed, unless the key was imported without it.
    secret: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    P224(Box<p224::ecdsa::SigningKey>),
    Ed25519(Ed25519KeyPair),
    MlDsa(MlDsa, PqdsaKeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).field("secret", &"[redacted]").finish()
    }
}

fn malformed(reason: impl fmt::Display) -> KeyError {
    KeyError::Malformed { reason: reason.to_string() }
}

impl PrivateKey {
    /// A new key from the operating system's randomness. RSA takes from tens of milliseconds to
    /// many seconds.
    ///
    /// # Errors
    /// A size the crypto library does not make, or a failure in it.
    pub fn generate(spec: KeySpec) -> Result<Self, KeyError> {
        match spec {
            KeySpec::Rsa(bits) => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    8192 => KeySize::Rsa8192,
                    bits => return Err(KeyError::UnsupportedBits { key_type: spec.key_type(), bits }),
                };
                let pair = RsaKeyPair::generate(size).map_err(|_| KeyError::GenerationFailed)?;
                Self::from_rsa_pair(pair)
            }
            KeySpec::Ec(Curve::P224) => loop {
                let mut scalar = Zeroizing::new([0; 28]);
                SystemRandom::new().fill(scalar.as_mut()).map_err(|_| KeyError::GenerationFailed)?;
                // A scalar of zero or beyond the order is drawn again; that is once in 2^110.
                if let Ok(pair) = p224::ecdsa::SigningKey::from_slice(scalar.as_ref()) {
                    return Self::from_p224(pair, scalar.as_ref());
                }
            },
            KeySpec::Ec(curve) => {
                let algorithm = ecdsa_signing(curve).ok_or(KeyError::GenerationFailed)?;
                let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| KeyError::GenerationFailed)?;
                Self::from_ec_pair(curve, pair)
            }
            KeySpec::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::GenerationFailed)?;
                Self::from_ed25519(pair)
            }
            KeySpec::MlDsa(set) => {
                let mut seed = Zeroizing::new([0; 32]);
                SystemRandom::new().fill(seed.as_mut()).map_err(|_| KeyError::GenerationFailed)?;
                let mut choice = Emitter::new(64);
                choice.element(ML_DSA_SEED, seed.as_ref());
                Self::from_ml_dsa(set, &Zeroizing::new(choice.finish()))
                    .map_err(|_| KeyError::GenerationFailed)
            }
        }
    }

    /// The first private key in a PEM text: `RSA PRIVATE KEY`, `EC PRIVATE KEY` or
    /// `PRIVATE KEY`.
    ///
    /// # Errors
    /// None there, encrypted, or not a key of a supported kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        pem::blocks(text).find_map(|block| Self::from_block(&block)).unwrap_or(Err(KeyError::Missing))
    }

    /// The private key in a PEM text that must hold nothing else.
    ///
    /// # Errors
    /// Something behind the last block that is none, several blocks, or not a key of a supported kind.
    pub fn only_one_from_pem(text: &str) -> Result<Self, KeyError> {
        let (blocks, rest) = pem::blocks_and_rest(text);
        if !rest.trim_ascii().is_empty() {
            return Err(KeyError::NotPem { block: blocks.len() + 1 });
        }
        let [block] = blocks.as_slice() else { return Err(KeyError::NotOne) };
        Self::from_block(block).unwrap_or(Err(KeyError::Missing)).map_err(|error| match error {
            KeyError::Missing | KeyError::Malformed { .. } => KeyError::NotAKey { reason: error.to_string() },
            other => other,
        })
    }

    /// `None` if the block is not a private key's at all.
    pub(crate) fn from_block(block: &pem::Block<'_>) -> Option<Result<Self, KeyError>> {
        if !block.label.ends_with("PRIVATE KEY") {
            return None;
        }
        if block.label.starts_with("ENCRYPTED") || block.headers.iter().any(|line| line.contains("ENCRYPTED"))
        {
            return Some(Err(KeyError::Encrypted));
        }
        Some(match block.label {
            "RSA PRIVATE KEY" => Self::from_pkcs1(&block.der),
            "EC PRIVATE KEY" => Self::from_sec1(&block.der, None),
            "PRIVATE KEY" => Self::from_pkcs8(&block.der),
            other => Err(malformed(format_args!("{other} is not a supported kind"))),
        })
    }

    /// From DER: PKCS#8, PKCS#1 or SEC 1, told apart by their shape.
    ///
    /// # Errors
    /// Not a key of a supported kind.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_pkcs8(der)
            .or_else(|error| Self::from_pkcs1(der).or_else(|_| Self::from_sec1(der, None)).map_err(|_| error))
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        match pkcs1_bits(der) {
            Ok(bits) if bits < 2048 => return Err(KeyError::WeakRsa { bits }),
            // The library says what is wrong with what does not parse.
            _ => {}
        }
        Self::from_rsa_pair(RsaKeyPair::from_der(der).map_err(malformed)?)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let (family, parameters, key) = split_pkcs8(der).map_err(|Malformed(reason)| malformed(reason))?;
        if family == oid::RSA_ENCRYPTION {
            Self::from_pkcs1(key)
        } else if family == oid::EC_PUBLIC_KEY {
            Self::from_sec1(key, parameters.and_then(oid::curve))
        } else if family == oid::ED25519 {
            let mut reader = Reader::new(key);
            let seed =
                reader.expect(tag::OCTET_STRING).map_err(|Malformed(reason)| malformed(reason))?.content;
            Self::from_ed25519(Ed25519KeyPair::from_seed_unchecked(seed).map_err(malformed)?)
        } else if let Some(set) = oid::ml_dsa(family) {
            Self::from_ml_dsa(set, key)
        } else {
            Err(malformed("an unsupported kind of key"))
        }
    }

    /// SEC 1, C.4. `outer` is the curve named by a PKCS#8 envelope.
    fn from_sec1(der: &[u8], outer: Option<Curve>) -> Result<Self, KeyError> {
        let (named, scalar) = split_sec1(der).map_err(|Malformed(reason)| malformed(reason))?;
        let curve = match (outer, named) {
            (Some(outer), Some(named)) if outer != named => {
                return Err(malformed("two different curves in one key"));
            }
            (Some(curve), _) | (None, Some(curve)) => curve,
            (None, None) => return Err(malformed("no curve, or an unsupported one")),
        };
        // Some writers drop leading zeros of the scalar.
        let width = curve.field_bytes();
        let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
        let significant = scalar.get(zeros..).unwrap_or(&[]);
        if significant.len() > width {
            return Err(malformed("a private value beyond the curve's order"));
        }
        let mut padded = Zeroizing::new(vec![0; width - significant.len()]);
        padded.extend_from_slice(significant);
        if curve == Curve::P224 {
            let pair =
                p224::ecdsa::SigningKey::from_slice(&padded).map_err(|_| malformed("not a P-224 key"))?;
            return Self::from_p224(pair, &padded);
        }
        let algorithm = ecdsa_signing(curve).ok_or(KeyError::GenerationFailed)?;
        let whole = sec1_der(curve, &padded, None, true);
        let pair = EcdsaKeyPair::from_private_key_der(algorithm, &whole).map_err(malformed)?;
        Self::from_ec_pair(curve, pair)
    }

    fn from_rsa_pair(pair: RsaKeyPair) -> Result<Self, KeyError> {
        let failed = |_| KeyError::GenerationFailed;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        let (_, _, pkcs1) = split_pkcs8(pkcs8.as_ref()).map_err(|Malformed(reason)| malformed(reason))?;
        let secret = Zeroizing::new(pkcs1.to_vec());
        let public = public_key(&identifier::RSA_ENCRYPTION, pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::Rsa(Box::new(pair)), secret, public })
    }

    fn from_ec_pair(curve: Curve, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let sec1: EcPrivateKeyRfc5915Der<'_> =
            pair.private_key().as_der().map_err(|_| KeyError::GenerationFailed)?;
        let (_, scalar) = split_sec1(sec1.as_ref()).map_err(|Malformed(reason)| malformed(reason))?;
        let secret = Zeroizing::new(scalar.to_vec());
        let public = public_key(&identifier::ec_public_key(curve), pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::Ec(pair), secret, public })
    }

    fn from_p224(pair: p224::ecdsa::SigningKey, scalar: &[u8]) -> Result<Self, KeyError> {
        let point = pair.verifying_key().to_sec1_point(false);
        let public = public_key(&identifier::ec_public_key(Curve::P224), point.as_bytes())?;
        Ok(Self { pair: Pair::P224(Box::new(pair)), secret: Zeroizing::new(scalar.to_vec()), public })
    }

    fn from_ed25519(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let seed = pair.seed().map_err(|_| KeyError::GenerationFailed)?;
        let bytes: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| KeyError::GenerationFailed)?;
        let secret = Zeroizing::new(bytes.as_ref().to_vec());
        let public = public_key(&identifier::ED25519, pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::Ed25519(pair), secret, public })
    }

    /// `choice` is one of the three forms of RFC 9881, 6: the seed, the expanded key, or both, which must then agree.
    /// With a seed, only that is kept: the rest follows from it.
    fn from_ml_dsa(set: MlDsa, choice: &[u8]) -> Result<Self, KeyError> {
        let algorithm = identifier::ml_dsa(set);
        let pair = PqdsaKeyPair::from_pkcs8(ml_dsa_signing(set), &pkcs8_der(&algorithm, choice))
            .map_err(malformed)?;
        let mut reader = Reader::new(choice);
        let seed = match reader.next().map_err(|Malformed(reason)| malformed(reason))? {
            seed if seed.tag == ML_DSA_SEED => Some(seed.content),
            both if both.tag == tag::SEQUENCE => both.reader().next().ok().map(|seed| seed.content),
            _ => None,
        };
        let secret = match seed {
            Some(seed) => {
                let mut out = Emitter::new(64);
                out.element(ML_DSA_SEED, seed);
                out.finish()
            }
            None => choice.to_vec(),
        };
        let public = public_key(&algorithm, pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::MlDsa(set, pair), secret: Zeroizing::new(secret), public })
    }

    /// Kind and size.
    pub fn spec(&self) -> KeySpec {
        self.public.spec()
    }

    /// DER in the form asked for.
    pub fn to_der(&self, form: KeyForm) -> Zeroizing<Vec<u8>> {
        match (self.spec(), form) {
            (KeySpec::Rsa(_), KeyForm::Traditional) => self.secret.clone(),
            (KeySpec::Rsa(_), KeyForm::Pkcs8) => pkcs8_der(&identifier::RSA_ENCRYPTION, &self.secret),
            (KeySpec::Ec(curve), KeyForm::Traditional) => {
                sec1_der(curve, &self.secret, Some(self.public.key_bytes()), true)
            }
            (KeySpec::Ec(curve), KeyForm::Pkcs8) => {
                let inner = sec1_der(curve, &self.secret, Some(self.public.key_bytes()), false);
                pkcs8_der(&identifier::ec_public_key(curve), &inner)
            }
            (KeySpec::Ed25519, _) => {
                let mut inner = Emitter::new(self.secret.len() + 8);
                inner.element(tag::OCTET_STRING, &self.secret);
                pkcs8_der(&identifier::ED25519, &Zeroizing::new(inner.finish()))
            }
            (KeySpec::MlDsa(set), _) => pkcs8_der(&identifier::ml_dsa(set), &self.secret),
        }
    }

    /// PEM in the form asked for, with a final newline.
    pub fn to_pem(&self, form: KeyForm) -> Zeroizing<String> {
        let label = match (self.spec(), form) {
            (KeySpec::Rsa(_), KeyForm::Traditional) => "RSA PRIVATE KEY",
            (KeySpec::Ec(_), KeyForm::Traditional) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        Zeroizing::new(pem::encode(label, &self.to_der(form)))
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |_| SignError::Failed { reason: "the crypto library refused".to_owned() };
        match (&self.pair, algorithm) {
            (Pair::Rsa(pair), SignatureAlgorithm::RsaPkcs1(_) | SignatureAlgorithm::RsaPss(_)) => {
                let encoding: &'static dyn aws::RsaEncoding = match algorithm {
                    SignatureAlgorithm::RsaPkcs1(Hash::Sha256) => &aws::RSA_PKCS1_SHA256,
                    SignatureAlgorithm::RsaPkcs1(Hash::Sha384) => &aws::RSA_PKCS1_SHA384,
                    SignatureAlgorithm::RsaPkcs1(Hash::Sha512) => &aws::RSA_PKCS1_SHA512,
                    SignatureAlgorithm::RsaPss(Hash::Sha256) => &aws::RSA_PSS_SHA256,
                    SignatureAlgorithm::RsaPss(Hash::Sha384) => &aws::RSA_PSS_SHA384,
                    SignatureAlgorithm::RsaPss(Hash::Sha512) => &aws::RSA_PSS_SHA512,
                    _ => return Err(SignError::WrongAlgorithm),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            (Pair::Ec(pair), SignatureAlgorithm::Ecdsa(_)) if self.signs_with(algorithm) => {
                Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec())
            }
            (Pair::P224(pair), SignatureAlgorithm::Ecdsa(Hash::Sha256)) => {
                let digest = digest::digest(&digest::SHA256, message);
                let signature: p224::ecdsa::Signature = pair
                    .sign_prehash(digest.as_ref())
                    .map_err(|_| SignError::Failed { reason: "P-224 signing failed".to_owned() })?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            (Pair::Ed25519(pair), SignatureAlgorithm::Ed25519) => Ok(pair.sign(message).as_ref().to_vec()),
            (Pair::MlDsa(set, pair), SignatureAlgorithm::MlDsa(asked)) if *set == asked => {
                let mut signature = vec![0; set.signature_bytes()];
                pair.sign(message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            _ => Err(SignError::WrongAlgorithm),
        }
    }
}

impl PrivateKey {
    /// An EC key is bound to the hash of its curve.
    fn signs_with(&self, algorithm: SignatureAlgorithm) -> bool {
        SignatureAlgorithm::choose(self.spec(), 0, false).is_ok_and(|own| own == algorithm)
    }
}

/// The seed of an ML-DSA key: `[0] IMPLICIT OCTET STRING` (RFC 9881, 6).
const ML_DSA_SEED: u8 = tag::context(0);

fn ml_dsa_signing(set: MlDsa) -> &'static PqdsaSigningAlgorithm {
    match set {
        MlDsa::MlDsa44 => &aws::ML_DSA_44_SIGNING,
        MlDsa::MlDsa65 => &aws::ML_DSA_65_SIGNING,
        MlDsa::MlDsa87 => &aws::ML_DSA_87_SIGNING,
    }
}

fn ecdsa_signing(curve: Curve) -> Option<&'static EcdsaSigningAlgorithm> {
    match curve {
        Curve::P224 => None,
        Curve::P256 => Some(&aws::ECDSA_P256_SHA256_ASN1_SIGNING),
        Curve::P384 => Some(&aws::ECDSA_P384_SHA384_ASN1_SIGNING),
        Curve::P521 => Some(&aws::ECDSA_P521_SHA512_ASN1_SIGNING),
    }
}

/// The size of an RSAPrivateKey (RFC 8017, A.1.2): its modulus follows the version.
fn pkcs1_bits(key: &[u8]) -> Result<u32, Malformed> {
    let mut numbers = Reader::new(key).expect(tag::SEQUENCE)?.reader();
    numbers.expect(tag::INTEGER)?;
    modulus_bits(numbers.expect(tag::INTEGER)?.content)
}

/// `algorithm` is a whole DER AlgorithmIdentifier.
fn public_key(algorithm: &[u8], key: &[u8]) -> Result<PublicKey, KeyError> {
    let spki = emit::build(key.len() + 48, tag::SEQUENCE, |out| {
        out.bit_string(key);
        out.raw(algorithm);
    });
    PublicKey::from_spki(&spki)
}

/// Family, named curve (if the parameters are an object identifier), and the key inside.
type Pkcs8Parts<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

fn split_pkcs8(der: &[u8]) -> Result<Pkcs8Parts<'_>, Malformed> {
    let mut outer = Reader::new(der);
    let mut info = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    info.expect(tag::INTEGER)?;
    let mut algorithm = info.expect(tag::SEQUENCE)?.reader();
    let family = algorithm.expect(tag::OID)?.content;
    let parameters = algorithm.optional(tag::OID)?.map(|element| element.content);
    let key = info.expect(tag::OCTET_STRING)?.content;
    // Attributes and, in version 2, the public key may follow (RFC 5958, 2); we derive our own.
    Ok((family, parameters, key))
}

fn split_sec1(der: &[u8]) -> Result<(Option<Curve>, &[u8]), Malformed> {
    let mut outer = Reader::new(der);
    let mut key = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    if key.expect(tag::INTEGER)?.content != [1] {
        return Err(Malformed("not an EC private key of version 1"));
    }
    let scalar = key.expect(tag::OCTET_STRING)?.content;
    let curve = match key.optional(tag::constructed(0))? {
        Some(parameters) => oid::curve(parameters.reader().expect(tag::OID)?.content),
        None => None,
    };
    Ok((curve, scalar))
}

fn sec1_der(curve: Curve, scalar: &[u8], point: Option<&[u8]>, parameters: bool) -> Zeroizing<Vec<u8>> {
    // Room for all of it from the start: growing would leave copies of the secret behind.
    let mut out = Emitter::new(scalar.len() + 2 * scalar.len() + 64);
    if let Some(point) = point {
        let mark = out.mark();
        out.bit_string(point);
        out.close(tag::constructed(1), mark);
    }
    if parameters {
        let mark = out.mark();
        out.element(tag::OID, oid::of_curve(curve));
        out.close(tag::constructed(0), mark);
    }
    out.element(tag::OCTET_STRING, scalar);
    out.unsigned(&[1]);
    out.close(tag::SEQUENCE, 0);
    Zeroizing::new(out.finish())
}

fn pkcs8_der(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Emitter::new(key.len() + 64);
    out.element(tag::OCTET_STRING, key);
    out.raw(algorithm);
    out.unsigned(&[0]);
    out.close(tag::SEQUENCE, 0);
    Zeroizing::new(out.finish())
}

#[cfg(test)]
mod ml_dsa {
    use super::*;

    #[test]
    fn a_key_survives_each_of_its_forms() {
        for set in MlDsa::ALL {
            let key = PrivateKey::generate(KeySpec::MlDsa(set)).unwrap();
            assert_eq!(key.spec(), KeySpec::MlDsa(set));
            let seed_form = key.to_der(KeyForm::Pkcs8);
            // Version, algorithm, and 34 bytes that hold the seed.
            assert_eq!(seed_form.len(), 54);
            assert!(key.to_pem(KeyForm::Traditional).starts_with("-----BEGIN PRIVATE KEY-----\n"));
            let again = PrivateKey::from_pem(&key.to_pem(KeyForm::Traditional)).unwrap();
            assert_eq!(again.public_key(), key.public_key());

            let Pair::MlDsa(_, pair) = &key.pair else { panic!("a key of another kind") };
            let expanded = aws_lc_rs::encoding::AsRawBytes::as_raw_bytes(&pair.private_key()).unwrap();
            let seed = &seed_form[seed_form.len() - 32..];
            let algorithm = identifier::ml_dsa(set);
            let expanded_only = emit::build(8192, tag::OCTET_STRING, |out| out.raw(expanded.as_ref()));
            let both = |seed: &[u8]| {
                emit::build(8192, tag::SEQUENCE, |out| {
                    out.element(tag::OCTET_STRING, expanded.as_ref());
                    out.element(tag::OCTET_STRING, seed);
                })
            };
            let from = |choice: &[u8]| PrivateKey::from_der(&pkcs8_der(&algorithm, choice));
            // With both, the seed is kept.
            let with_both = from(&both(seed)).unwrap();
            assert_eq!(with_both.to_der(KeyForm::Pkcs8), seed_form);
            assert!(from(&both(&[9; 32])).is_err(), "a seed of another key");
            // Without the seed the key stays as it came.
            let without = from(&expanded_only).unwrap();
            assert_eq!(without.public_key(), key.public_key());
            let kept = PrivateKey::from_der(&without.to_der(KeyForm::Pkcs8)).unwrap();
            assert_eq!(kept.public_key(), key.public_key());
        }
    }

    #[test]
    fn a_signature_holds_for_its_key_message_and_parameter_set() {
        for set in MlDsa::ALL {
            let key = PrivateKey::generate(KeySpec::MlDsa(set)).unwrap();
            let algorithm = SignatureAlgorithm::MlDsa(set);
            let signature = key.sign(algorithm, b"message").unwrap();
            let holds = |set, message: &[u8], signature: &[u8]| {
                key.public_key().verifies(&identifier::ml_dsa(set), message, signature)
            };
            assert!(holds(set, b"message", &signature));
            assert!(!holds(set, b"massage", &signature));
            assert!(!holds(set, b"message", &signature[1..]));
            for other in MlDsa::ALL.into_iter().filter(|other| *other != set) {
                assert!(!holds(other, b"message", &signature));
                assert_eq!(key.sign(SignatureAlgorithm::MlDsa(other), b""), Err(SignError::WrongAlgorithm));
            }
            assert_eq!(key.sign(SignatureAlgorithm::Ed25519, b""), Err(SignError::WrongAlgorithm));
        }
    }

    #[test]
    fn keys_of_the_wrong_length_or_with_parameters_are_none() {
        let key = PrivateKey::generate(KeySpec::MlDsa(MlDsa::MlDsa44)).unwrap();
        let spki = |parameters: bool, key: &[u8]| {
            emit::build(2048, tag::SEQUENCE, |out| {
                out.bit_string(key);
                let mark = out.mark();
                if parameters {
                    out.element(tag::NULL, &[]);
                }
                out.element(tag::OID, oid::of_ml_dsa(MlDsa::MlDsa44));
                out.close(tag::SEQUENCE, mark);
            })
        };
        let bytes = key.public_key().key_bytes();
        assert!(PublicKey::from_spki(&spki(false, bytes)).is_ok());
        assert!(PublicKey::from_spki(&spki(true, bytes)).is_err());
        assert!(PublicKey::from_spki(&spki(false, &bytes[1..])).is_err());
    }
}
