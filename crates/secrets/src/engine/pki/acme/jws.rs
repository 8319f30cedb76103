//! Signed requests: JWS in its flattened form (RFC 7515, 7.2.2), as strictly as RFC 8555, 6.2 wants it.
//!
//! Done by hand, because a general library offers what must not be: `none`, symmetric keys for accounts, detached or
//! unencoded payloads, keys from URLs. What is not named here does not parse.

use std::fmt;

use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::{digest, hmac};
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use base64::{DecodeError, Engine as _};
use chancery_issuance::{Curve, KeySpec, PublicKey};
use serde::Deserialize;
use serde_json::Value;

use super::problem::{Problem, ProblemKind};

/// The longest request, its three parts together: a hundred names and a large CSR fit in easily.
const MOST_BYTES: usize = 128 << 10;

/// The three parts as they come, each in base64url.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The protected header.
    pub protected: String,
    /// What is asked for; empty for a `POST-as-GET`.
    pub payload: String,
    /// The signature over both.
    pub signature: String,
}

/// A request taken apart. Nothing in it is proved before [`Jws::verify`].
#[derive(Debug, Clone)]
pub struct Jws {
    /// How it is signed.
    pub algorithm: Algorithm,
    /// Whose key.
    pub key: KeyReference,
    /// Against replay; the outer request must have one.
    pub nonce: Option<String>,
    /// Where it was sent.
    pub url: String,
    /// What is asked for.
    pub payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

/// Whose key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyReference {
    /// This one.
    Jwk(Jwk),
    /// The account with this URL, or the binding of this id.
    Kid(String),
}

/// Algorithms of signatures (RFC 7518, 3.1; RFC 8037, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256
    Es256,
    /// ECDSA with P-384
    Es384,
    /// ECDSA with P-521
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256
    Rs256,
    /// Ed25519
    EdDsa,
    /// HMAC with SHA-256: for bindings only
    Hs256,
}

impl Algorithm {
    /// Those that accounts may use.
    pub const NAMES: [&str; 5] = ["ES256", "ES384", "ES512", "RS256", "EdDSA"];

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "RS256" => Self::Rs256,
            "EdDSA" => Self::EdDsa,
            "HS256" => Self::Hs256,
            _ => return None,
        })
    }
}

/// The protected header as it is written. A name that comes twice is an error of the decoder.
#[derive(Deserialize)]
struct Header {
    alg: Option<String>,
    jwk: Option<RawJwk>,
    kid: Option<String>,
    nonce: Option<String>,
    url: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
}

impl Jws {
    /// Takes a request apart. Decides what can be decided without its key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(envelope: &Envelope) -> Result<Self, Problem> {
        let Envelope { protected, payload, signature } = envelope;
        let length = protected.len().saturating_add(payload.len()).saturating_add(signature.len());
        if length > MOST_BYTES {
            return Err(Problem::malformed(format!(
                "a request of {length} bytes is longer than {MOST_BYTES}"
            )));
        }
        if protected.is_empty() {
            return Err(Problem::malformed("missing required field 'protected'"));
        }
        let header = decoded("protected", protected)?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|error| Problem::malformed(format!("failed to json unmarshal 'protected': {error}")))?;
        let Header { alg, jwk, kid, nonce, url, crit, b64 } = header;
        if crit.is_some() || b64.is_some() {
            // RFC 7515, 4.1.11: there is no extension that we understand. RFC 8555, 6.2: no unencoded payloads.
            return Err(Problem::malformed(
                "invalid header: no critical or unencoded extensions are understood",
            ));
        }
        let key = match (jwk, kid) {
            (Some(_), Some(_)) => {
                return Err(Problem::malformed(
                    "failed to json unmarshal 'protected': invalid header: got both account 'kid' and 'jwk' in the same message; expected only one",
                ));
            }
            (None, None) => {
                return Err(Problem::malformed(
                    "failed to json unmarshal 'protected': invalid header: got neither required fields of 'kid' nor 'jwk'",
                ));
            }
            (Some(jwk), None) => KeyReference::Jwk(jwk.checked()?),
            (None, Some(kid)) => KeyReference::Kid(kid),
        };
        let algorithm = alg.as_deref().and_then(Algorithm::parse).ok_or_else(|| {
            Problem::new(
                ProblemKind::BadSignatureAlgorithm,
                format!("unexpected value for 'alg': {:?}", alg.unwrap_or_default()),
            )
        })?;
        let url = url.ok_or_else(|| Problem::malformed("missing required parameter 'url' in 'protected'"))?;
        let signature_bytes = decoded("signature", signature)?;
        let payload_bytes = decoded("payload", payload)?;
        Ok(Self {
            algorithm,
            key,
            nonce,
            url,
            payload: payload_bytes,
            signed: format!("{protected}.{payload}"),
            signature: signature_bytes,
        })
    }

    /// Proves that `key` signed the request.
    ///
    /// # Errors
    /// It did not, or the algorithm is not that key's.
    pub fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        if key.algorithm() != self.algorithm {
            return Err(Problem::new(
                ProblemKind::BadSignatureAlgorithm,
                format!("the account's key does not sign with {:?}", self.algorithm),
            ));
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            return Ok(());
        }
        Err(Problem::malformed("failed to verify signature: it was not made by this key over this request"))
    }

    /// Proves that the holder of a binding's secret signed the request (RFC 8555, 7.3.4). In constant time.
    pub(super) fn verify_mac(&self, secret: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        self.algorithm == Algorithm::Hs256
            && hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

fn decoded(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    BASE64URL.decode(text).map_err(|error| {
        let (DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _)) = error else {
            return Problem::malformed(format!("failed to base64 parse '{field}': {error}"));
        };
        Problem::malformed(format!(
            "failed to base64 parse '{field}': illegal base64 data at input byte {at}"
        ))
    })
}

/// A public key (RFC 7517) of a kind that can have an account.
#[derive(Clone, PartialEq, Eq)]
pub enum Jwk {
    /// A point of this curve.
    Ec {
        /// P-256, P-384 or P-521.
        curve: Curve,
        /// As long as the curve's size.
        x: Vec<u8>,
        /// The same.
        y: Vec<u8>,
    },
    /// RSA
    Rsa {
        /// The modulus without leading zeros.
        n: Vec<u8>,
        /// The exponent without leading zeros.
        e: Vec<u8>,
    },
    /// Ed25519
    Ed25519 {
        /// 32 bytes.
        x: Vec<u8>,
    },
}

/// A key as it is written. What belongs to a private or a symmetric key is named so that it can be refused.
#[derive(Deserialize)]
struct RawJwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<Value>,
    k: Option<Value>,
    p: Option<Value>,
    q: Option<Value>,
}

impl RawJwk {
    fn checked(self) -> Result<Jwk, Problem> {
        let Self { kty, crv, x, y, n, e, d, k, p, q } = self;
        if d.is_some() || k.is_some() || p.is_some() || q.is_some() {
            return Err(Problem::malformed(
                "invalid 'jwk': a private or symmetric key belongs to nobody else",
            ));
        }
        let bad =
            |reason: String| Problem::new(ProblemKind::BadPublicKey, format!("invalid 'jwk': {reason}"));
        let bytes = |name: &str, text: Option<String>| {
            let text = text.ok_or_else(|| bad(format!("missing {name:?}")))?;
            BASE64URL.decode(text).map_err(|error| bad(format!("{name:?} is not base64url: {error}")))
        };
        match (kty.as_str(), crv.as_deref()) {
            ("EC", Some(name)) => {
                let (curve, size) = match name {
                    "P-256" => (Curve::P256, 32),
                    "P-384" => (Curve::P384, 48),
                    "P-521" => (Curve::P521, 66),
                    other => return Err(bad(format!("unknown curve {other:?}"))),
                };
                let (x, y) = (bytes("x", x)?, bytes("y", y)?);
                // RFC 7518, 6.2.1.2: in full length.
                if x.len() != size || y.len() != size {
                    return Err(bad(format!("coordinates of {name} have {size} bytes")));
                }
                Ok(Jwk::Ec { curve, x, y })
            }
            ("RSA", _) => {
                let (n, e) = (bytes("n", n)?, bytes("e", e)?);
                if n.first().is_none_or(|byte| *byte == 0) || e.first().is_none_or(|byte| *byte == 0) {
                    // RFC 7518, 2: as few bytes as can be; else one key had several thumbprints.
                    return Err(bad("modulus and exponent begin with a byte that is not zero".to_owned()));
                }
                let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
                if !(2048..=8192).contains(&bits) {
                    return Err(bad(format!("RSA keys have 2048 to 8192 bits, not {bits}")));
                }
                if e.len() > 4 || e.last().is_none_or(|byte| byte % 2 == 0) || matches!(*e, [1]) {
                    return Err(bad("the exponent is none that RSA keys have".to_owned()));
                }
                Ok(Jwk::Rsa { n, e })
            }
            ("OKP", Some("Ed25519")) => match bytes("x", x)? {
                x if x.len() == 32 => Ok(Jwk::Ed25519 { x }),
                _ => Err(bad("an Ed25519 key has 32 bytes".to_owned())),
            },
            (kty, crv) => {
                Err(bad(format!("keys of kind {kty:?} {:?} have no accounts", crv.unwrap_or_default())))
            }
        }
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwk({})", self.thumbprint())
    }
}

impl Jwk {
    /// From JSON.
    ///
    /// # Errors
    /// Not a key that can have an account.
    pub fn parse(json: &[u8]) -> Result<Self, Problem> {
        let raw: RawJwk = serde_json::from_slice(json)
            .map_err(|error| Problem::malformed(format!("invalid 'jwk': {error}")))?;
        raw.checked()
    }

    /// The members that RFC 7638, 3.2 wants, in its order.
    #[must_use]
    pub fn canonical(&self) -> String {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::Ec { curve, x, y } => {
                let name = match curve {
                    Curve::P384 => "P-384",
                    Curve::P521 => "P-521",
                    _ => "P-256",
                };
                format!(r#"{{"crv":"{name}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y))
            }
            Self::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
            Self::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(x)),
        }
    }

    /// The thumbprint (RFC 7638) in base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        BASE64URL.encode(digest::digest(&digest::SHA256, self.canonical().as_bytes()))
    }

    /// Whether this is the key of a certificate or a request.
    pub(super) fn is(&self, key: &PublicKey) -> bool {
        // The kind and size decide all of a SubjectPublicKeyInfo but the key itself, which is its end.
        match (self, key.spec()) {
            (Self::Ec { curve, .. }, KeySpec::Ec(other)) if *curve == other => {}
            (Self::Rsa { .. }, KeySpec::Rsa(_)) | (Self::Ed25519 { .. }, KeySpec::Ed25519) => {}
            _ => return false,
        }
        key.spki_der().ends_with(&self.bytes())
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ec { curve: Curve::P384, .. } => Algorithm::Es384,
            Self::Ec { curve: Curve::P521, .. } => Algorithm::Es512,
            Self::Ec { .. } => Algorithm::Es256,
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::Ed25519 { .. } => Algorithm::EdDsa,
        }
    }

    /// What stands in the BIT STRING of a SubjectPublicKeyInfo.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ec { x, y, .. } => [&[4], x.as_slice(), y.as_slice()].concat(),
            Self::Ed25519 { x } => x.clone(),
            // RFC 8017, A.1.1
            Self::Rsa { n, e } => der(0x30, &[integer(n), integer(e)].concat()),
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm() {
            Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            Algorithm::EdDsa => &signature::ED25519,
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::Rs256 | Algorithm::Hs256 => {
                let Self::Rsa { n, e } = self else { return false };
                return RsaPublicKeyComponents { n, e }
                    .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
                    .is_ok();
            }
        };
        UnparsedPublicKey::new(algorithm, self.bytes()).verify(message, signature).is_ok()
    }
}

/// An element in DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        _ => {
            let length = content.len().to_be_bytes();
            let length = length.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            out.push(0x80 | u8::try_from(length.len()).unwrap_or(0));
            out.extend(length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A positive INTEGER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    der(2, &[sign, bytes].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::pki::acme::tests::client::Key;

    fn header(value: Value) -> Envelope {
        Envelope {
            protected: BASE64URL.encode(value.to_string()),
            payload: String::new(),
            signature: "AAAA".to_owned(),
        }
    }

    fn kind(envelope: &Envelope) -> ProblemKind {
        Jws::parse(envelope).unwrap_err().kind
    }

    #[test]
    fn the_thumbprint_is_that_of_the_standards_example() {
        // RFC 7638, 3.1
        let key = br#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
        assert_eq!(Jwk::parse(key).unwrap().thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn each_kind_of_key_verifies_what_it_signed_and_nothing_else() {
        for name in Algorithm::NAMES {
            let (key, other) = (Key::new(name), Key::new(name));
            let envelope = key.sign(&json!({ "alg": name, "jwk": key.jwk(), "url": "u" }), br#"{"a":1}"#);
            let jws = Jws::parse(&envelope).unwrap();
            assert_eq!(jws.payload, br#"{"a":1}"#);
            let KeyReference::Jwk(own) = &jws.key else { panic!("{name}") };
            jws.verify(own).unwrap();
            assert!(jws.verify(&Jwk::parse(other.jwk().to_string().as_bytes()).unwrap()).is_err(), "{name}");
            let changed = Envelope { payload: BASE64URL.encode(br#"{"a":2}"#), ..envelope };
            assert!(Jws::parse(&changed).unwrap().verify(own).is_err(), "{name}");
        }
    }

    #[test]
    fn a_key_is_known_again_in_the_certificate_that_has_it() {
        for (name, spec) in [
            ("ES256", ("ec", 256)),
            ("ES384", ("ec", 384)),
            ("ES512", ("ec", 521)),
            ("RS256", ("rsa", 2048)),
            ("EdDSA", ("ed25519", 0)),
        ] {
            let key = Key::new(name);
            let jwk = Jwk::parse(key.jwk().to_string().as_bytes()).unwrap();
            assert!(jwk.is(key.public_key()), "{name}");
            let other =
                chancery_issuance::PrivateKey::generate(KeySpec::new(spec.0, spec.1).unwrap()).unwrap();
            assert!(!jwk.is(chancery_issuance::Signer::public_key(&other)), "{name}");
        }
    }

    #[test]
    fn what_must_not_sign_for_an_account_does_not_parse() {
        let key = Key::new("ES256");
        for alg in ["none", "HS384", "HS512", "PS256", "RS512", "es256", ""] {
            let envelope = header(json!({ "alg": alg, "jwk": key.jwk(), "url": "u" }));
            assert_eq!(kind(&envelope), ProblemKind::BadSignatureAlgorithm, "{alg}");
        }
        assert_eq!(
            kind(&header(json!({ "jwk": key.jwk(), "url": "u" }))),
            ProblemKind::BadSignatureAlgorithm
        );
        // HS256 parses, since bindings use it; no account's key is one for it.
        let envelope = header(json!({ "alg": "HS256", "jwk": key.jwk(), "url": "u" }));
        let jwk = Jwk::parse(key.jwk().to_string().as_bytes()).unwrap();
        let refused = Jws::parse(&envelope).unwrap().verify(&jwk).unwrap_err();
        assert_eq!(refused.kind, ProblemKind::BadSignatureAlgorithm);
        let envelope = header(json!({ "alg": "RS256", "jwk": key.jwk(), "url": "u" }));
        let refused = Jws::parse(&envelope).unwrap().verify(&jwk).unwrap_err();
        assert_eq!(refused.kind, ProblemKind::BadSignatureAlgorithm);
    }

    #[test]
    fn headers_that_say_too_much_or_too_little_are_refused() {
        let key = Key::new("EdDSA");
        let good = json!({ "alg": "EdDSA", "jwk": key.jwk(), "url": "u", "nonce": "n", "extra": 1 });
        assert!(Jws::parse(&header(good.clone())).is_ok());
        let with = |name: &str, value: Value| {
            let mut changed = good.clone();
            changed[name] = value;
            header(changed)
        };
        for envelope in [
            with("kid", json!("k")),
            with("jwk", Value::Null),
            with("url", Value::Null),
            with("url", json!(1)),
            with("crit", json!(["exp"])),
            with("b64", json!(false)),
            Envelope { protected: "%%%".to_owned(), ..header(good.clone()) },
            Envelope { protected: String::new(), ..header(good.clone()) },
            Envelope { payload: "AA==".to_owned(), ..header(good.clone()) },
            Envelope { payload: "AB".to_owned(), ..header(good.clone()) },
            Envelope { signature: "+/".to_owned(), ..header(good.clone()) },
            Envelope { payload: "A".repeat(MOST_BYTES), ..header(good.clone()) },
            Envelope { protected: BASE64URL.encode("[]"), ..header(good.clone()) },
        ] {
            assert_eq!(kind(&envelope), ProblemKind::Malformed, "{:?}", envelope.protected);
        }
        let twice = format!(r#"{{"alg":"EdDSA","url":"a","url":"b","jwk":{}}}"#, key.jwk());
        let twice = Envelope { protected: BASE64URL.encode(twice), ..header(good) };
        assert_eq!(kind(&twice), ProblemKind::Malformed);
    }

    #[test]
    fn keys_that_are_weak_private_or_written_in_other_ways_are_refused() {
        let refused = |jwk: Value| Jwk::parse(jwk.to_string().as_bytes()).unwrap_err().kind;
        let ec = Key::new("ES256").jwk();
        let with = |name: &str, value: Value| {
            let mut changed = ec.clone();
            changed[name] = value;
            changed
        };
        assert_eq!(refused(with("d", json!("AAAA"))), ProblemKind::Malformed);
        assert_eq!(refused(with("x", json!("AAAA"))), ProblemKind::BadPublicKey);
        assert_eq!(refused(with("crv", json!("P-224"))), ProblemKind::BadPublicKey);
        assert_eq!(refused(with("kty", json!("oct"))), ProblemKind::BadPublicKey);
        assert_eq!(refused(with("kty", json!(1))), ProblemKind::Malformed);
        let rsa = |bytes: usize, first: u8, e: &str| {
            let mut n = vec![0xff; bytes];
            n[0] = first;
            json!({ "kty": "RSA", "n": BASE64URL.encode(n), "e": e })
        };
        assert!(Jwk::parse(rsa(256, 0x80, "AQAB").to_string().as_bytes()).is_ok());
        for weak in
            [rsa(128, 0x80, "AQAB"), rsa(257, 0, "AQAB"), rsa(256, 0x7f, "AQAB"), rsa(1025, 1, "AQAB")]
        {
            assert_eq!(refused(weak), ProblemKind::BadPublicKey);
        }
        for exponent in ["AQ", "AQA", "AgAAAAE", "AAEAAQ", ""] {
            assert_eq!(refused(rsa(256, 0x80, exponent)), ProblemKind::BadPublicKey, "{exponent}");
        }
    }
}
