//! An authority that signs whatever it is told, so that each fault can be had: certificates and CSRs laid out by hand.
#![allow(dead_code, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

use std::sync::Arc;

use chancery_issuance::{Certificate, Curve, Hash, KeySpec, PrivateKey, SignatureAlgorithm, Signer as _};

/// 2026-11-18T11:06:40Z
pub(crate) const NOW: i64 = 1_795_000_000;

pub(crate) const HOUR: i64 = 3600;

/// The identity that most tests use.
pub(crate) const ME: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

/// One element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(u8::try_from(length).unwrap()),
        0x80..0x100 => out.extend([0x81, u8::try_from(length).unwrap()]),
        _ => out.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]),
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A distinguished name of common names; none for an empty text.
pub(crate) fn name(common_names: &[&str]) -> Vec<u8> {
    attributes(&common_names.iter().map(|value| (3, *value)).collect::<Vec<_>>())
}

/// A distinguished name of attributes below 2.5.4.
pub(crate) fn attributes(values: &[(u8, &str)]) -> Vec<u8> {
    let rdn = |(kind, value): &(u8, &str)| {
        tlv(0x31, &sequence(&[tlv(6, &[0x55, 4, *kind]), tlv(0x0c, value.as_bytes())]))
    };
    sequence(&values.iter().map(rdn).collect::<Vec<_>>())
}

/// One extension: the content of its identifier, whether it is critical, its value.
pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(1, &[0xff]) } else { Vec::new() };
    sequence(&[tlv(6, oid), critical, tlv(4, value)])
}

/// Subject alternative names: tag number and content each.
pub(crate) fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<_> = list.iter().map(|(tag, content)| tlv(0x80 | tag, content)).collect();
    extension(&[0x55, 0x1d, 17], true, &sequence(&list))
}

pub(crate) fn uris(list: &[&str]) -> Vec<u8> {
    names(&list.iter().map(|uri| (6, uri.as_bytes())).collect::<Vec<_>>())
}

/// Key usage, by the bytes of its bit string behind the count of unused bits.
pub(crate) fn key_usage(unused: u8, bits: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 15], true, &tlv(3, &[&[unused], bits].concat()))
}

/// Extended key usage, by the last number below id-kp.
pub(crate) fn extended_key_usage(purposes: &[u8]) -> Vec<u8> {
    let purposes: Vec<_> = purposes.iter().map(|last| tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, *last])).collect();
    extension(&[0x55, 0x1d, 37], false, &sequence(&purposes))
}

pub(crate) fn basic_constraints(is_ca: bool, path_length: Option<u8>) -> Vec<u8> {
    let is_ca = if is_ca { tlv(1, &[0xff]) } else { Vec::new() };
    let length = path_length.map_or_else(Vec::new, |length| tlv(2, &[length]));
    extension(&[0x55, 0x1d, 19], true, &sequence(&[is_ca, length]))
}

pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap()
}

fn signed(body: Vec<u8>, key: &PrivateKey) -> Vec<u8> {
    const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature = key.sign(SignatureAlgorithm::Ecdsa(Hash::Sha256), &body).unwrap();
    sequence(&[body, sequence(&[tlv(6, ECDSA_SHA256)]), tlv(3, &[&[0], &signature[..]].concat())])
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A CSR in PEM with this subject and these extensions.
pub(crate) fn csr_with(key: &PrivateKey, subject: Vec<u8>, extensions: &[Vec<u8>]) -> String {
    const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x0e];
    let attribute = sequence(&[tlv(6, EXTENSION_REQUEST), tlv(0x31, &sequence(extensions))]);
    let spki = key.public_key().spki_der().to_vec();
    let body = sequence(&[tlv(2, &[0]), subject, spki, tlv(0xa0, &attribute)]);
    pem("CERTIFICATE REQUEST", &signed(body, key))
}

/// A CSR as Istio's agents make it: an organization that is empty, and the URI.
pub(crate) fn csr(key: &PrivateKey, identities: &[&str]) -> String {
    csr_with(key, attributes(&[(10, "")]), &[uris(identities)])
}

/// What a certificate shall say.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) subject: Vec<u8>,
    pub(crate) serial: u8,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Template {
    /// A workload's, as it should be.
    pub(crate) fn leaf(identities: &[&str]) -> Self {
        Self {
            subject: name(&[]),
            serial: 7,
            not_before: NOW - 60,
            not_after: NOW + HOUR,
            // digitalSignature and keyEncipherment; serverAuth and clientAuth.
            extensions: vec![key_usage(5, &[0xa0]), extended_key_usage(&[1, 2]), uris(identities)],
        }
    }

    /// An authority's, as it should be: keyCertSign and cRLSign.
    pub(crate) fn authority(common_name: &str) -> Self {
        Self {
            subject: name(&[common_name]),
            serial: 1,
            not_before: NOW - HOUR,
            not_after: NOW + 1000 * HOUR,
            extensions: vec![basic_constraints(true, None), key_usage(1, &[0x06])],
        }
    }
}

/// An authority: its name, its key, its certificate.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) subject: Vec<u8>,
    pub(crate) certificate: Certificate,
}

impl Authority {
    pub(crate) fn root(common_name: &str) -> Self {
        Self::root_with(Template::authority(common_name))
    }

    pub(crate) fn root_with(template: Template) -> Self {
        let key = Arc::new(new_key());
        let subject = template.subject.clone();
        let certificate = certificate(&template, key.public_key().spki_der(), &subject, &key);
        Self { key, subject, certificate }
    }

    /// An authority below this one.
    pub(crate) fn below(&self, template: &Template) -> Self {
        let key = Arc::new(new_key());
        let certificate = self.sign(template, &key);
        Self { key, subject: template.subject.clone(), certificate }
    }

    pub(crate) fn intermediate(&self, common_name: &str) -> Self {
        self.below(&Template::authority(common_name))
    }

    pub(crate) fn sign(&self, template: &Template, key: &PrivateKey) -> Certificate {
        certificate(template, key.public_key().spki_der(), &self.subject, &self.key)
    }

    /// Signs for the key in a SubjectPublicKeyInfo.
    pub(crate) fn sign_spki(&self, template: &Template, spki: &[u8]) -> Certificate {
        certificate(template, spki, &self.subject, &self.key)
    }

    pub(crate) fn pem(&self) -> &str {
        self.certificate.pem()
    }
}

fn certificate(template: &Template, spki: &[u8], issuer: &[u8], key: &PrivateKey) -> Certificate {
    const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let time = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds).unwrap();
        tlv(0x17, time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    };
    let body = sequence(&[
        tlv(0xa0, &tlv(2, &[2])),
        tlv(2, &[template.serial]),
        sequence(&[tlv(6, ECDSA_SHA256)]),
        issuer.to_vec(),
        sequence(&[time(template.not_before), time(template.not_after)]),
        template.subject.clone(),
        spki.to_vec(),
        tlv(0xa3, &sequence(&template.extensions)),
    ]);
    Certificate::from_der(&signed(body, key)).unwrap()
}
