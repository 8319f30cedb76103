//! A client's keys, and what it puts where a proof is looked for.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chancery_issuance::PublicKey;
use serde_json::{Value, json};

use crate::engine::pki::acme::Envelope;

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key with which requests are signed.
pub(crate) struct Key {
    pub(crate) algorithm: &'static str,
    pair: Pair,
    public: PublicKey,
}

impl Key {
    /// A fresh one for this algorithm.
    pub(crate) fn new(algorithm: &'static str) -> Self {
        let ec = |algorithm| Pair::Ec(EcdsaKeyPair::generate(algorithm).unwrap());
        let pair = match algorithm {
            "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            "RS256" => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            _ => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
        };
        let spki: PublicKeyX509Der<'_> = match &pair {
            Pair::Ec(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
        }
        .unwrap();
        let public = PublicKey::from_spki(spki.as_ref()).unwrap();
        Self { algorithm, pair, public }
    }

    /// As a certificate has it.
    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// As a request has it.
    pub(crate) fn jwk(&self) -> Value {
        let encoded = |bytes: &[u8]| BASE64URL.encode(bytes);
        match &self.pair {
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "crv": curve, "kty": "EC", "x": encoded(x), "y": encoded(y) })
            }
            Pair::Rsa(pair) => {
                // RSAPublicKey (RFC 8017, A.1.1) of 2048 bits: fixed places.
                let der = pair.public_key().as_ref();
                let (n, e) = (&der[9..265], &der[der.len() - 3..]);
                json!({ "e": encoded(e), "kty": "RSA", "n": encoded(n) })
            }
            Pair::Ed25519(pair) => {
                json!({ "crv": "Ed25519", "kty": "OKP", "x": encoded(pair.public_key().as_ref()) })
            }
        }
    }

    /// A CSR for these names, in DER. For P-256 keys.
    pub(crate) fn csr(&self, names: &[&str]) -> Vec<u8> {
        self.csr_with(&element(0x30, &[]), names)
    }

    /// The same with one attribute in its subject.
    pub(crate) fn csr_of(&self, attribute: &[u8], names: &[&str]) -> Vec<u8> {
        let pair = element(0x30, &[&element(6, &[attribute]), &element(0x13, &[b"president"])]);
        self.csr_with(&element(0x30, &[&element(0x31, &[&pair])]), names)
    }

    fn csr_with(&self, subject: &[u8], names: &[&str]) -> Vec<u8> {
        let Pair::Ec(pair) = &self.pair else { panic!("a P-256 key") };
        let names: Vec<u8> = names.iter().flat_map(|name| element(0x82, &[name.as_bytes()])).collect();
        let value = element(4, &[&element(0x30, &[&names])]);
        let sans = element(0x30, &[&element(6, &[&[0x55, 0x1d, 17]]), &value]);
        let request = element(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]]);
        let attribute = element(0x30, &[&request, &element(0x31, &[&element(0x30, &[&sans])])]);
        let spki = self.public.spki_der();
        let info = element(0x30, &[&element(2, &[&[0]]), subject, spki, &element(0xa0, &[&attribute])]);
        let fixed = pair.sign(&SystemRandom::new(), &info).unwrap();
        let (r, s) = fixed.as_ref().split_at(32);
        let signature = element(0x30, &[&integer(r), &integer(s)]);
        let algorithm = element(0x30, &[&element(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
        element(0x30, &[&info, &algorithm, &element(3, &[&[0], &signature])])
    }

    /// A signed request.
    pub(crate) fn sign(&self, header: &Value, payload: &[u8]) -> Envelope {
        let (protected, payload) = (BASE64URL.encode(header.to_string()), BASE64URL.encode(payload));
        let message = format!("{protected}.{payload}");
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        Envelope { protected, payload, signature: BASE64URL.encode(signature) }
    }
}

/// A binding to an operator's key (RFC 8555, 7.3.4).
pub(crate) fn binding(jwk: &Value, key_id: &str, secret: &str, url: &str) -> Envelope {
    let secret = BASE64URL.decode(secret).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
    let protected = BASE64URL.encode(json!({ "alg": "HS256", "kid": key_id, "url": url }).to_string());
    let payload = BASE64URL.encode(jwk.to_string());
    let tag = aws_lc_rs::hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
    Envelope { protected, payload, signature: BASE64URL.encode(tag) }
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag, 0x82];
    out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    // As short as can be: it is DER.
    match u8::try_from(content.len()) {
        Ok(length @ 0..0x80) => out.splice(1.., [length]).for_each(drop),
        Ok(length) => out.splice(1.., [0x81, length]).for_each(drop),
        Err(_) => {}
    }
    out.extend(content);
    out
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let sign: &[u8] = if significant[0] & 0x80 != 0 { &[0] } else { &[] };
    element(2, &[sign, significant])
}

/// The certificate of `tls-alpn-01` (RFC 8737, 3), whose signature nobody looks at.
pub(crate) fn alpn_certificate(names: &[&str], digest: &[u8], critical: bool) -> Vec<u8> {
    let algorithm = element(0x30, &[&element(6, &[&[0x2b, 101, 112]])]);
    let time = element(0x17, &[b"260101000000Z"]);
    let names: Vec<u8> = names.iter().flat_map(|name| element(0x82, &[name.as_bytes()])).collect();
    let mut extensions = Vec::new();
    if !names.is_empty() {
        let value = element(4, &[&element(0x30, &[&names])]);
        extensions.extend(element(0x30, &[&element(6, &[&[0x55, 0x1d, 17]]), &value]));
    }
    let oid = element(6, &[&[0x2b, 6, 1, 5, 5, 7, 1, 31]]);
    let value = element(4, &[&element(4, &[digest])]);
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    extensions.extend(element(0x30, &[&oid, flag, &value]));
    let key = element(0x30, &[&algorithm, &element(3, &[&[0], &[7; 32]])]);
    let tbs = element(
        0x30,
        &[
            &element(0xa0, &[&element(2, &[&[2]])]),
            &element(2, &[&[1]]),
            &algorithm,
            &element(0x30, &[]),
            &element(0x30, &[&time, &time]),
            &element(0x30, &[]),
            &key,
            &element(0xa3, &[&element(0x30, &[&extensions])]),
        ],
    );
    element(0x30, &[&tbs, &algorithm, &element(3, &[&[0], &[0; 64]])])
}
