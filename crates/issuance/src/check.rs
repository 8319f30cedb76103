//! Reading back what was signed, with a decoder that shares no code with the encoder.
//!
//! A CA that cannot re-read its own output is guessing. The hand-written emitter is fast; the
//! `der` and `x509-cert` crates are somebody else's reading of X.690 and RFC 5280. Nothing is released
//! unless the second agrees with what the first was told to write.

use std::net::{IpAddr, Ipv6Addr};

use const_oid::db::rfc5280::{ID_CE_BASIC_CONSTRAINTS, ID_CE_SUBJECT_ALT_NAME};
use der::asn1::{AnyRef, BitStringRef, IntRef, OctetStringRef, SequenceRef};
use der::{Decode, Reader, SliceReader, TagMode, TagNumber, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::tbs::Tbs;
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
    /// What these bytes must say, once they are signed.
    pub(crate) fn of(tbs: &Tbs<'_>, sans: SanSet, is_ca: bool) -> Self {
        Self {
            serial: tbs.serial,
            not_before: tbs.not_before,
            not_after: tbs.not_after,
            subject: tbs.subject.to_vec(),
            spki: tbs.spki.to_vec(),
            sans,
            is_ca,
        }
    }

    /// Decodes a whole certificate and compares.
    pub(crate) fn compare(&self, der: &[u8]) -> Result<(), SignError> {
        let Self { serial, not_before, not_after, subject, spki, sans, is_ca } = self;
        let differs = |field| SignError::ReadBackDiffers { field };
        let check = |field, equal: bool| if equal { Ok(()) } else { Err(differs(field)) };

        let read = ReadBack::decode(der).map_err(|_| differs("encoding"))?;
        check("serial number", SerialNumber::or_zero(read.serial) == Some(*serial))?;
        let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        check("not_before", seconds(read.not_before) == Some(not_before.as_second()))?;
        check("not_after", seconds(read.not_after) == Some(not_after.as_second()))?;
        check("subject", read.subject == subject)?;
        check("public key", read.spki == spki)?;
        check("signature algorithm", read.inner_algorithm == read.outer_algorithm)?;

        let says_ca = read.basic_constraints.map(says_ca).transpose();
        let says_ca = says_ca.map_err(|_| differs("basic constraints"))?;
        check("basic constraints", says_ca.unwrap_or(false) == *is_ca)?;
        let names = read.sans.map(SubjectAltName::from_der).transpose();
        let names = names.map_err(|_| differs("subject alternative names"))?;
        let read = names.map_or_else(|| Some(SanSet::default()), |names| san_set(&names.0));
        check("subject alternative names", read.as_ref() == Some(sans))
    }
}

/// A certificate taken apart (RFC 5280, 4.1) by the `der` crate's reader, without copies.
struct ReadBack<'a> {
    serial: &'a [u8],
    inner_algorithm: &'a [u8],
    not_before: x509_cert::time::Time,
    not_after: x509_cert::time::Time,
    subject: &'a [u8],
    spki: &'a [u8],
    basic_constraints: Option<&'a [u8]>,
    sans: Option<&'a [u8]>,
    outer_algorithm: &'a [u8],
}

impl<'a> ReadBack<'a> {
    fn decode(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let read = reader.sequence(|certificate| {
            let read = certificate.sequence(Self::tbs)?;
            let outer_algorithm = certificate.tlv_bytes()?;
            certificate.decode::<BitStringRef<'_>>()?;
            Ok::<_, der::Error>(Self { outer_algorithm, ..read })
        })?;
        reader.finish()?;
        Ok(read)
    }

    fn tbs(tbs: &mut SliceReader<'a>) -> der::Result<Self> {
        // Version 3 is written as 2.
        if tbs.context_specific::<u8>(TagNumber(0), TagMode::Explicit)? != Some(2) {
            return Err(der::Tag::Integer.value_error().into());
        }
        let serial = tbs.decode::<IntRef<'_>>()?.as_bytes();
        let inner_algorithm = tbs.tlv_bytes()?;
        let _issuer = tbs.tlv_bytes()?;
        let (not_before, not_after) =
            tbs.sequence(|validity| Ok::<_, der::Error>((validity.decode()?, validity.decode()?)))?;
        let subject = tbs.tlv_bytes()?;
        let spki = tbs.tlv_bytes()?;
        let mut read = Self {
            serial,
            inner_algorithm,
            not_before,
            not_after,
            subject,
            spki,
            basic_constraints: None,
            sans: None,
            outer_algorithm: &[],
        };
        if let Some(list) = tbs.context_specific::<&SequenceRef>(TagNumber(3), TagMode::Explicit)? {
            let mut list = SliceReader::new(list.as_bytes())?;
            while !list.is_finished() {
                list.sequence(|extension| read.extension(extension))?;
            }
        }
        Ok(read)
    }

    fn extension(&mut self, extension: &mut SliceReader<'a>) -> der::Result<()> {
        // Not as an identifier of `const-oid`, which has no room for those that are UUIDs (2.25).
        let oid = extension.decode::<AnyRef<'a>>()?;
        if oid.tag() != der::Tag::ObjectIdentifier {
            return Err(oid.tag().value_error().into());
        }
        // DER leaves the default, false, out.
        if extension.decode::<Option<bool>>()? == Some(false) {
            return Err(der::Tag::Boolean.value_error().into());
        }
        let value = extension.decode::<&OctetStringRef>()?.as_bytes();
        let place = if oid.value() == ID_CE_BASIC_CONSTRAINTS.as_bytes() {
            &mut self.basic_constraints
        } else if oid.value() == ID_CE_SUBJECT_ALT_NAME.as_bytes() {
            &mut self.sans
        } else {
            return Ok(());
        };
        match place.replace(value) {
            // RFC 5280, 4.2: no more than one of a kind.
            Some(_) => Err(der::Tag::ObjectIdentifier.value_error().into()),
            None => Ok(()),
        }
    }
}

/// Whether basic constraints are an authority's. The type of `x509-cert` knows no path length above 255.
fn says_ca(value: &[u8]) -> der::Result<bool> {
    let mut reader = SliceReader::new(value)?;
    let is_ca = reader.sequence(|fields| {
        let is_ca = fields.decode::<Option<bool>>()?;
        fields.decode::<Option<u32>>()?;
        Ok::<_, der::Error>(is_ca == Some(true))
    })?;
    reader.finish()?;
    Ok(is_ca)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::extension_oid;
    use crate::emit::{Emitter, tag};
    use crate::extension;

    const NAME: &[u8] = &[0x30, 0];
    const SPKI: &[u8] = &[0x30, 3, 2, 1, 7];

    /// A certificate whose parts are given; its key and signature are no more than their frames.
    fn certificate(
        version: u8,
        dates: [Time; 2],
        extensions: &[Vec<u8>],
        inner: &[u8],
        outer: &[u8],
    ) -> Vec<u8> {
        certificate_of(&[0x7f, 1], version, dates, extensions, inner, outer)
    }

    fn certificate_of(
        serial: &[u8],
        version: u8,
        dates: [Time; 2],
        extensions: &[Vec<u8>],
        inner: &[u8],
        outer: &[u8],
    ) -> Vec<u8> {
        let mut out = Emitter::new(256);
        out.bit_string(&[1, 2, 3]);
        out.raw(outer);
        let tbs = out.mark();
        let list = out.mark();
        extensions.iter().rev().for_each(|whole| out.raw(whole));
        out.close(tag::SEQUENCE, list);
        out.close(tag::constructed(3), list);
        out.raw(SPKI);
        out.raw(NAME);
        let validity = out.mark();
        dates[1].emit(&mut out);
        dates[0].emit(&mut out);
        out.close(tag::SEQUENCE, validity);
        out.raw(NAME);
        out.raw(inner);
        out.unsigned(serial);
        let mark = out.mark();
        out.unsigned(&[version]);
        out.close(tag::constructed(0), mark);
        out.close(tag::SEQUENCE, tbs);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    const ALGORITHM: &[u8] = &[0x30, 2, 5, 0];

    fn dates() -> [Time; 2] {
        ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"].map(|text| Time::parse(text).unwrap())
    }

    fn expected() -> Expected {
        let [not_before, not_after] = dates();
        Expected {
            serial: SerialNumber::from_bytes(&[0x7f, 1]).unwrap(),
            not_before,
            not_after,
            subject: NAME.to_vec(),
            spki: SPKI.to_vec(),
            sans: SanSet { dns: vec!["a.example".to_owned()], ..SanSet::default() },
            is_ca: false,
        }
    }

    fn sans(name: &str) -> Vec<u8> {
        let mut out = Emitter::new(64);
        SanSet { dns: vec![name.to_owned()], ..SanSet::default() }.emit(&mut out);
        extension::close(&mut out, 0, extension_oid::SUBJECT_ALT_NAME, false);
        out.finish()
    }

    fn differing(expected: &Expected, der: &[u8]) -> Option<&'static str> {
        match expected.compare(der) {
            Ok(()) => None,
            Err(SignError::ReadBackDiffers { field }) => Some(field),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn each_part_that_differs_is_named() {
        let good = certificate(2, dates(), &[sans("a.example")], ALGORITHM, ALGORITHM);
        assert_eq!(differing(&expected(), &good), None);
        let [start, end] = dates();
        type Change = fn(&mut Expected);
        let changes: [(&str, Change); 7] = [
            ("serial number", |e| e.serial = SerialNumber::from_bytes(&[0x7f, 2]).unwrap()),
            ("not_before", |e| e.not_before = e.not_after),
            ("not_after", |e| e.not_after = e.not_before),
            ("subject", |e| e.subject.push(0)),
            ("public key", |e| e.spki.push(0)),
            ("basic constraints", |e| e.is_ca = true),
            ("subject alternative names", |e| e.sans.dns.push("b.example".to_owned())),
        ];
        for (field, change) in changes {
            let mut other = expected();
            change(&mut other);
            assert_eq!(differing(&other, &good), Some(field));
        }
        let other_algorithm = [0x30, 2, 4, 0];
        for (field, der) in [
            ("encoding", certificate(1, dates(), &[sans("a.example")], ALGORITHM, ALGORITHM)),
            ("encoding", certificate(2, dates(), &vec![sans("a.example"); 2], ALGORITHM, ALGORITHM)),
            ("not_before", certificate(2, [end, start], &[sans("a.example")], ALGORITHM, ALGORITHM)),
            (
                "signature algorithm",
                certificate(2, dates(), &[sans("a.example")], ALGORITHM, &other_algorithm),
            ),
            ("subject alternative names", certificate(2, dates(), &[], ALGORITHM, ALGORITHM)),
            (
                "subject alternative names",
                certificate(2, dates(), &[sans("b.example")], ALGORITHM, ALGORITHM),
            ),
        ] {
            assert_eq!(differing(&expected(), &der), Some(field));
        }
    }

    #[test]
    fn a_certificate_that_is_cut_or_longer_is_not_one() {
        let good = certificate(2, dates(), &[sans("a.example")], ALGORITHM, ALGORITHM);
        for length in 0..good.len() {
            assert_eq!(differing(&expected(), &good[..length]), Some("encoding"), "{length} bytes");
        }
        assert_eq!(differing(&expected(), &[good, vec![0]].concat()), Some("encoding"));
    }

    #[test]
    fn a_serial_number_of_zero_reads_back() {
        let der = certificate_of(&[0], 2, dates(), &[sans("a.example")], ALGORITHM, ALGORITHM);
        let zero = Expected { serial: SerialNumber::or_zero(&[0]).unwrap(), ..expected() };
        assert_eq!(differing(&zero, &der), None);
        assert_eq!(differing(&expected(), &der), Some("serial number"));
    }

    #[test]
    fn path_lengths_above_255_and_identifiers_beyond_32_bits_read_back() {
        let mut uuid = Emitter::new(64);
        uuid.element(tag::OCTET_STRING, &[5, 0]);
        // 2.25 and a number of 128 bits; then 2.999.
        uuid.element(tag::OID, &[&[0x69, 0x83][..], &[0xff; 17], &[0x7f]].concat());
        uuid.close(tag::SEQUENCE, 0);
        let mut example = Emitter::new(64);
        example.element(tag::OCTET_STRING, &[5, 0]);
        example.element(tag::OID, &[0x88, 0x37]);
        example.close(tag::SEQUENCE, 0);
        let constraints = extension::basic_constraints(true, Some(300));
        let extensions = [sans("a.example"), constraints, uuid.finish(), example.finish()];
        let der = certificate(2, dates(), &extensions, ALGORITHM, ALGORITHM);
        assert_eq!(differing(&Expected { is_ca: true, ..expected() }, &der), None);
        assert_eq!(differing(&expected(), &der), Some("basic constraints"));
    }

    #[test]
    fn a_false_that_is_written_out_is_not_der() {
        let mut out = Emitter::new(64);
        out.element(tag::OCTET_STRING, &[0x30, 0]);
        out.element(1, &[0]);
        out.element(tag::OID, extension_oid::BASIC_CONSTRAINTS);
        out.close(tag::SEQUENCE, 0);
        let der = certificate(2, dates(), &[sans("a.example"), out.finish()], ALGORITHM, ALGORITHM);
        assert_eq!(differing(&expected(), &der), Some("encoding"));
    }
}
