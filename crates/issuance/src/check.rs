//! Reading back what was signed, with a decoder that shares no code with the encoder.
//!
//! A CA that cannot re-read its own output is guessing. The hand-written emitter is fast; the
//! `x509-cert` crate is somebody else's reading of RFC 5280. Nothing is released unless the
//! second agrees with what the first was told to write.

use std::net::{IpAddr, Ipv6Addr};

use der::{Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};

use crate::{OtherName, SanSet, SerialNumber, SignError, Time, uri};

/// What the certificate must say.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) serial: SerialNumber,
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
    /// DER.
    pub(crate) subject: Vec<u8>,
    /// DER.
    pub(crate) spki: Vec<u8>,
    pub(crate) sans: SanSet,
    pub(crate) is_ca: bool,
}

impl Expected {
    /// Decodes a whole certificate and compares.
    pub(crate) fn compare(&self, der: &[u8]) -> Result<(), SignError> {
        let Self { serial, not_before, not_after, subject, spki, sans, is_ca } = self;
        let differs = |field| SignError::ReadBackDiffers { field };
        let check = |field, equal: bool| if equal { Ok(()) } else { Err(differs(field)) };

        let certificate = CertificateInner::<Raw>::from_der(der).map_err(|_| differs("encoding"))?;
        let tbs = certificate.tbs_certificate();
        check("serial number", SerialNumber::from_bytes(tbs.serial_number().as_bytes()) == Some(*serial))?;
        let seconds = |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        check("not_before", seconds(&tbs.validity().not_before) == Some(not_before.as_second()))?;
        check("not_after", seconds(&tbs.validity().not_after) == Some(not_after.as_second()))?;
        check("subject", tbs.subject().to_der().is_ok_and(|read| read == *subject))?;
        let key = tbs.subject_public_key_info().to_der();
        check("public key", key.is_ok_and(|read| read == *spki))?;
        check("signature algorithm", tbs.signature() == certificate.signature_algorithm())?;

        let constraints =
            tbs.get_extension::<BasicConstraints>().map_err(|_| differs("basic constraints"))?;
        check("basic constraints", constraints.is_some_and(|(_, constraints)| constraints.ca) == *is_ca)?;
        let names =
            tbs.get_extension::<SubjectAltName>().map_err(|_| differs("subject alternative names"))?;
        let read = names.map_or_else(|| Some(SanSet::default()), |(_, names)| san_set(&names.0));
        check("subject alternative names", read.as_ref() == Some(sans))
    }
}

/// `None` for a kind of name that we never write.
fn san_set(names: &[GeneralName]) -> Option<SanSet> {
    let mut sans = SanSet::default();
    for name in names {
        match name {
            GeneralName::DnsName(name) => sans.dns.push(name.as_str().to_owned()),
            GeneralName::Rfc822Name(name) => sans.email.push(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(name) => sans.uri.push(uri::normal_form(name.as_str())?),
            GeneralName::IpAddress(bytes) => sans.ip.push(ip(bytes.as_bytes())?),
            GeneralName::OtherName(name) => sans.other.push(OtherName {
                oid: name.type_id.to_string(),
                value: name.value.decode_as::<der::asn1::Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
            }),
            _ => return None,
        }
    }
    Some(sans)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Some(IpAddr::from(v4)),
        Err(_) => <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).to_canonical()),
    }
}
