//! Certificate revocation lists (RFC 5280, 5): laid out, signed, read back; and others' read.
//!
//! A CRL of a million entries is forty megabytes, so that its bytes are moved once: entries are encoded
//! by whoever has them ([`CrlEntry::encode`]), in pieces of any size, and laid out between what stands
//! before and behind them. What is signed is not copied again. Before a CRL is released the `der` crate reads
//! it and finds the number, times, name and count that were meant, and the signature holds.

use std::collections::HashSet;
use std::ops::Range;

use der::asn1::{BitStringRef, IntRef, OctetStringRef, SequenceRef};
use der::{Decode, Reader as _, SliceReader, TagMode, TagNumber, Tagged};

use crate::algorithm::identifier;
use crate::certificate::Extension;
use crate::emit::{self, Emitter, Malformed, Reader, tag};
use crate::{Certificate, CertificateError, PublicKey, SignError, SignatureAlgorithm, Signer, Time};
use crate::{extension, pem};

/// The content of the identifier of the CRL number (5.2.3).
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
/// The content of the identifier of reason codes (5.3.1).
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
/// The content of the identifier of the delta CRL indicator (5.2.4).
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 27];

/// Room for the outermost header, which is written when the signature's length is known.
const HEADER_ROOM: usize = 16;

/// An extension of a CRL or of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlExtension {
    oid: Vec<u8>,
    critical: bool,
    value: Vec<u8>,
}

impl CrlExtension {
    /// From a dotted identifier and the DER of the value; `None` if the identifier is none.
    pub fn new(oid: &str, critical: bool, value: Vec<u8>) -> Option<Self> {
        emit::oid_content(oid).map(|oid| Self { oid, critical, value })
    }

    /// Whether both are of one kind.
    pub fn is_like(&self, other: &Self) -> bool {
        self.oid == other.oid
    }

    fn emit(&self, out: &mut Emitter) {
        let mark = out.mark();
        out.raw(&self.value);
        extension::close(out, mark, &self.oid, self.critical);
    }
}

/// That one certificate was revoked (5.1.2.6).
#[derive(Debug, Clone, Copy)]
pub struct CrlEntry<'a> {
    /// Its serial number, big-endian, without a sign byte.
    pub serial: &'a [u8],
    /// When.
    pub at: Time,
    /// Why: a CRLReason; 0, unspecified, is not written (5.3.1).
    pub reason: u8,
    /// What else is said of it.
    pub extensions: &'a [CrlExtension],
}

impl CrlEntry<'_> {
    /// Appends the entry to others.
    pub fn encode(&self, entries: &mut Vec<u8>) {
        let mut out = Emitter::new(96);
        if self.reason != 0 || !self.extensions.is_empty() {
            self.extensions.iter().rev().for_each(|extension| extension.emit(&mut out));
            if self.reason != 0 {
                let mark = out.mark();
                out.element(tag::ENUMERATED, &[self.reason]);
                extension::close(&mut out, mark, REASON_CODE, false);
            }
            out.close(tag::SEQUENCE, 0);
        }
        self.at.emit(&mut out);
        out.unsigned(self.serial);
        out.close(tag::SEQUENCE, 0);
        entries.extend_from_slice(&out.finish());
    }
}

/// What a CRL says besides its entries.
#[derive(Debug, Clone, Copy)]
pub struct CrlHead<'a> {
    /// When it was made.
    pub this_update: Time,
    /// When there will be another one at the latest.
    pub next_update: Time,
    /// Its number, which never goes back (5.2.3).
    pub number: u64,
    /// The number of the complete CRL that it adds to; `None` for a complete one (5.2.4).
    pub delta_base: Option<u64>,
    /// Where delta CRLs are found (5.2.6).
    pub freshest: &'a [String],
    /// What else it says.
    pub extensions: &'a [CrlExtension],
}

/// A CRL laid out in full, but for its signature.
#[derive(Debug)]
pub struct UnsignedCrl {
    /// Some room, then the bytes to be signed.
    buffer: Vec<u8>,
    entries: Range<usize>,
    algorithm: SignatureAlgorithm,
    key: PublicKey,
    expected: Expected,
}

/// A CRL that was read back and found to be what was meant.
#[derive(Debug)]
pub struct SignedCrl {
    /// Some bytes that do not belong to it, then the DER.
    pub buffer: Vec<u8>,
    /// Where the DER begins in the buffer.
    pub start: usize,
    /// Where the entries lie in the buffer.
    pub entries: Range<usize>,
    /// The signature, with which it can be laid out again.
    pub signature: Vec<u8>,
}

impl UnsignedCrl {
    /// Lays out a CRL of this issuer. `entries` are encoded ones, `count` of them in all.
    ///
    /// # Errors
    /// The issuer's key is of a kind that nobody can use here.
    pub fn new(
        issuer: &Certificate,
        algorithm: SignatureAlgorithm,
        head: &CrlHead<'_>,
        entries: &[&[u8]],
        count: usize,
    ) -> Result<Self, SignError> {
        let key = issuer.public_key().ok_or(SignError::WrongAlgorithm)?;
        let identifier = identifier::of(algorithm);
        let before = {
            let mut out = Emitter::new(256 + issuer.subject_der().len());
            head.next_update.emit(&mut out);
            head.this_update.emit(&mut out);
            out.raw(issuer.subject_der());
            out.raw(&identifier);
            // Version 2 is written as 1; extensions need it (5.1.2.1).
            out.unsigned(&[1]);
            out.finish()
        };
        let behind = {
            let mut out = Emitter::new(512);
            head.emit_extensions(&mut out, issuer, key);
            out.close(tag::constructed(0), 0);
            out.finish()
        };
        let length: usize = entries.iter().map(|piece| piece.len()).sum();
        // RFC 5280, 5.1.2.6: absent if nothing is revoked.
        let list = if length == 0 { Vec::new() } else { header(tag::SEQUENCE, length) };
        let content = before.len() + list.len() + length + behind.len();
        let outer = header(tag::SEQUENCE, content);
        // Room for a signature of any kind we make, so that nothing moves when it comes.
        let mut buffer = Vec::with_capacity(HEADER_ROOM + outer.len() + content + identifier.len() + 1_100);
        buffer.resize(HEADER_ROOM, 0);
        buffer.extend_from_slice(&outer);
        buffer.extend_from_slice(&before);
        buffer.extend_from_slice(&list);
        let start = buffer.len();
        entries.iter().for_each(|piece| buffer.extend_from_slice(piece));
        let entries = start..buffer.len();
        buffer.extend_from_slice(&behind);
        let expected = Expected {
            issuer: issuer.subject_der().to_vec(),
            this_update: head.this_update,
            next_update: head.next_update,
            number: head.number,
            delta_base: head.delta_base,
            count,
        };
        Ok(Self { buffer, entries, algorithm, key: key.clone(), expected })
    }

    /// Signs it, and reads it back.
    ///
    /// # Errors
    /// The key refused, or is not the issuer's, or what came out is not what was meant.
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedCrl, SignError> {
        let signature = signer.sign(self.algorithm, self.tbs())?;
        self.with_signature(&signature)
    }

    /// The same CRL again, with the signature that it was given once.
    ///
    /// # Errors
    /// The signature is another one's.
    pub fn with_signature(self, signature: &[u8]) -> Result<SignedCrl, SignError> {
        let Self { mut buffer, entries, algorithm, key, expected } = self;
        let identifier = identifier::of(algorithm);
        let tbs = buffer.get(HEADER_ROOM..).unwrap_or_default();
        if !key.verifies(&identifier, tbs, signature) {
            return Err(SignError::ReadBackDiffers { field: "signature" });
        }
        let mut bits = Emitter::new(signature.len() + 16);
        bits.bit_string(signature);
        buffer.extend_from_slice(&identifier);
        buffer.extend_from_slice(&bits.finish());
        let outer = header(tag::SEQUENCE, buffer.len() - HEADER_ROOM);
        let start = HEADER_ROOM - outer.len();
        if let Some(room) = buffer.get_mut(start..HEADER_ROOM) {
            room.copy_from_slice(&outer);
        }
        expected.compare(buffer.get(start..).unwrap_or_default())?;
        Ok(SignedCrl { buffer, start, entries, signature: signature.to_vec() })
    }

    fn tbs(&self) -> &[u8] {
        self.buffer.get(HEADER_ROOM..).unwrap_or_default()
    }
}

impl SignedCrl {
    /// The DER.
    pub fn der(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

impl CrlHead<'_> {
    /// The list of extensions, in the peer's order.
    fn emit_extensions(&self, out: &mut Emitter, issuer: &Certificate, key: &PublicKey) {
        let mark = out.mark();
        if let Some(base) = self.delta_base {
            let mark = out.mark();
            out.unsigned(&base.to_be_bytes());
            extension::close(out, mark, DELTA_CRL_INDICATOR, true);
        }
        out.raw(&extension::freshest_crl(self.freshest));
        self.extensions.iter().rev().for_each(|extension| extension.emit(out));
        let number = out.mark();
        out.unsigned(&self.number.to_be_bytes());
        extension::close(out, number, CRL_NUMBER, false);
        // 5.2.1: in every CRL, also where the certificate does not say what its key's identifier is.
        let own = key.subject_key_id();
        out.raw(&extension::authority_key_id(issuer.subject_key_id().unwrap_or(&own)));
        out.close(tag::SEQUENCE, mark);
    }
}

/// Tag and length of an element whose content is this long.
fn header(tag: u8, length: usize) -> Vec<u8> {
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = bytes.get(zeros..).unwrap_or_default();
    match (length, significant) {
        (..0x80, [.., last]) => vec![tag, *last],
        (0, _) => vec![tag, 0],
        _ => {
            let count = u8::try_from(significant.len()).unwrap_or(8);
            [&[tag, 0x80 | count], significant].concat()
        }
    }
}

/// A CRL in PEM, with lines of 64 characters and a final newline.
pub fn crl_pem(der: &[u8]) -> String {
    pem::encode("X509 CRL", der)
}

/// What a CRL must say when it is read back.
#[derive(Debug)]
struct Expected {
    /// DER.
    issuer: Vec<u8>,
    this_update: Time,
    next_update: Time,
    number: u64,
    delta_base: Option<u64>,
    count: usize,
}

impl Expected {
    /// Decodes a whole CRL with a decoder that shares no code with the encoder, and compares.
    fn compare(&self, der: &[u8]) -> Result<(), SignError> {
        let Self { issuer, this_update, next_update, number, delta_base, count } = self;
        let check = |field, equal: bool| {
            if equal { Ok(()) } else { Err(SignError::ReadBackDiffers { field }) }
        };
        let read =
            ReadBack::decode(der).map_err(|_| SignError::ReadBackDiffers { field: "encoding of the CRL" })?;
        let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        check("CRL issuer", read.issuer == issuer)?;
        check("this update", seconds(read.this_update) == Some(this_update.as_second()))?;
        check("next update", seconds(read.next_update) == Some(next_update.as_second()))?;
        check("signature algorithm", read.inner_algorithm == read.outer_algorithm)?;
        check("count of revoked certificates", read.count == *count)?;
        check("CRL number", read.number == Some(*number))?;
        check("delta CRL indicator", read.delta_base == *delta_base)
    }
}

/// A CRL taken apart by the `der` crate's reader, without copies.
struct ReadBack<'a> {
    inner_algorithm: &'a [u8],
    outer_algorithm: &'a [u8],
    issuer: &'a [u8],
    this_update: x509_cert::time::Time,
    next_update: x509_cert::time::Time,
    count: usize,
    number: Option<u64>,
    delta_base: Option<u64>,
}

impl<'a> ReadBack<'a> {
    fn decode(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let read = reader.sequence(|list| {
            let read = list.sequence(Self::tbs)?;
            let outer_algorithm = list.tlv_bytes()?;
            list.decode::<BitStringRef<'_>>()?;
            Ok::<_, der::Error>(Self { outer_algorithm, ..read })
        })?;
        reader.finish()?;
        Ok(read)
    }

    fn tbs(tbs: &mut SliceReader<'a>) -> der::Result<Self> {
        // Version 2 is written as 1.
        if tbs.decode::<u8>()? != 1 {
            return Err(der::Tag::Integer.value_error().into());
        }
        let mut read = Self {
            inner_algorithm: tbs.tlv_bytes()?,
            outer_algorithm: &[],
            issuer: tbs.tlv_bytes()?,
            this_update: tbs.decode()?,
            next_update: tbs.decode()?,
            count: 0,
            number: None,
            delta_base: None,
        };
        if der::Tag::peek(tbs)? == der::Tag::Sequence {
            let mut entries = SliceReader::new(tbs.decode::<&SequenceRef>()?.as_bytes())?;
            while !entries.is_finished() {
                entries.sequence(|entry| {
                    entry.decode::<IntRef<'_>>()?;
                    entry.decode::<x509_cert::time::Time>()?;
                    entry.decode::<Option<&SequenceRef>>().map(drop)
                })?;
                read.count += 1;
            }
        }
        let list = tbs.context_specific::<&SequenceRef>(TagNumber(0), TagMode::Explicit)?;
        let list = list.ok_or_else(|| der::Tag::Sequence.value_error())?;
        let mut list = SliceReader::new(list.as_bytes())?;
        while !list.is_finished() {
            list.sequence(|extension| read.extension(extension))?;
        }
        Ok(read)
    }

    fn extension(&mut self, extension: &mut SliceReader<'a>) -> der::Result<()> {
        // Not as an identifier of `const-oid`, which has no room for those that are UUIDs (2.25).
        let oid = extension.decode::<der::asn1::AnyRef<'a>>()?;
        if oid.tag() != der::Tag::ObjectIdentifier {
            return Err(oid.tag().value_error().into());
        }
        let critical = extension.decode::<Option<bool>>()?;
        let value = extension.decode::<&OctetStringRef>()?.as_bytes();
        let place = match oid.value() {
            CRL_NUMBER if critical.is_none() => &mut self.number,
            DELTA_CRL_INDICATOR if critical == Some(true) => &mut self.delta_base,
            _ => return Ok(()),
        };
        match place.replace(u64::from_der(value)?) {
            // RFC 5280, 4.2: no more than one of a kind.
            Some(_) => Err(der::Tag::ObjectIdentifier.value_error().into()),
            None => Ok(()),
        }
    }
}

/// A CRL that somebody gives us, to be merged into another one.
#[derive(Debug, Clone)]
pub struct ImportedCrl {
    /// The bytes that were signed.
    signed: Vec<u8>,
    signature_algorithm: Vec<u8>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    entries: Vec<ImportedEntry>,
}

/// An entry of such a CRL; its extensions are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedEntry {
    /// The serial number, big-endian, without a sign byte; empty for zero.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: Time,
}

/// When a CRL was made, and when the next one is due (5.1.2.4 and 5.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlTimes {
    /// When it was made.
    pub this_update: Time,
    /// When the next one is due. X.509 may leave it out, if RFC 5280 may not.
    pub next_update: Option<Time>,
}

impl CrlTimes {
    /// Of the first CRL in a PEM text.
    ///
    /// # Errors
    /// None there, or not a CRL.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let block = pem::blocks(text)
            .find(|block| matches!(block.label, "X509 CRL" | "CRL"))
            .ok_or(CertificateError::Missing)?;
        Self::from_der(&block.der)
    }

    /// Of a CRL in DER. Its entries and its signature are not looked at: a list of a million entries is judged by
    /// its first few bytes.
    ///
    /// # Errors
    /// Not a CRL (RFC 5280, 5.1).
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let front = Reader::new(der)
            .expect(tag::SEQUENCE)
            .and_then(|list| list.reader().expect(tag::SEQUENCE))
            .and_then(|tbs| Front::read(&mut tbs.reader()));
        front
            .map(|front| front.times)
            .map_err(|Malformed(reason)| CertificateError::MalformedCrl { reason: reason.to_owned() })
    }
}

impl ImportedCrl {
    /// The CRL in a PEM text that holds nothing else, whatever its label.
    ///
    /// # Errors
    /// Not exactly one block, or not a CRL.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let (blocks, rest) = pem::blocks_and_rest(text);
        match blocks.as_slice() {
            [block] if rest.trim_ascii().is_empty() => Self::from_der(&block.der),
            _ => Err(CertificateError::NotOneCrl),
        }
    }

    /// From DER, which must hold nothing else.
    ///
    /// # Errors
    /// Not a CRL of version 2 (RFC 5280, 5.1).
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse(der).map_err(|Malformed(reason)| CertificateError::MalformedCrl { reason: reason.to_owned() })
    }

    /// Whether this issuer made it: the name is its, and its key signed.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        self.issuer == issuer.subject_der()
            && issuer
                .public_key()
                .is_some_and(|key| key.verifies(&self.signature_algorithm, &self.signed, &self.signature))
    }

    /// The certificates that it says are revoked.
    pub fn entries(&self) -> &[ImportedEntry] {
        &self.entries
    }
}

/// What stands before the entries (5.1.2).
struct Front<'a> {
    /// DER.
    signature_algorithm: &'a [u8],
    /// DER.
    issuer: &'a [u8],
    times: CrlTimes,
}

impl<'a> Front<'a> {
    fn read(fields: &mut Reader<'a>) -> Result<Self, Malformed> {
        // The version: version 1 is left out.
        fields.optional(tag::INTEGER)?;
        let signature_algorithm = fields.expect(tag::SEQUENCE)?.raw;
        let issuer = fields.expect(tag::SEQUENCE)?.raw;
        let this_update = Time::read(fields.next()?)?;
        let next_update = match fields.optional(tag::UTC_TIME)? {
            None => fields.optional(tag::GENERALIZED_TIME)?,
            found => found,
        };
        let times = CrlTimes { this_update, next_update: next_update.map(Time::read).transpose()? };
        Ok(Self { signature_algorithm, issuer, times })
    }
}

fn parse(der: &[u8]) -> Result<ImportedCrl, Malformed> {
    let mut outer = Reader::new(der);
    let mut list = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    let tbs = list.expect(tag::SEQUENCE)?;
    let signature_algorithm = list.expect(tag::SEQUENCE)?.raw.to_vec();
    let signature = emit::bit_string_bytes(list.expect(tag::BIT_STRING)?.content)?.to_vec();
    list.end()?;

    let mut fields = tbs.reader();
    // RFC 5280, 5.1.2.1; a list without it is of version 1, which has no number.
    if tbs.reader().optional(tag::INTEGER)?.map(|version| version.content) != Some(&[1]) {
        return Err(Malformed("x509: unsupported crl version"));
    }
    let front = Front::read(&mut fields)?;
    if front.signature_algorithm != signature_algorithm {
        return Err(Malformed("x509: inner and outer signature algorithm identifiers don't match"));
    }
    let issuer = front.issuer.to_vec();
    let mut entries = Vec::new();
    if let Some(revoked) = fields.optional(tag::SEQUENCE)? {
        let mut revoked = revoked.reader();
        while !revoked.is_empty() {
            entries.push(entry(&mut revoked.expect(tag::SEQUENCE)?.reader())?);
        }
    }
    if let Some(extensions) = fields.optional(tag::constructed(0))? {
        let mut extensions = extensions.reader();
        check_extensions(&mut extensions.expect(tag::SEQUENCE)?.reader())?;
        extensions.end()?;
    }
    fields.end()?;
    Ok(ImportedCrl { signed: tbs.raw.to_vec(), signature_algorithm, signature, issuer, entries })
}

fn entry(fields: &mut Reader<'_>) -> Result<ImportedEntry, Malformed> {
    let serial = match fields.expect(tag::INTEGER)?.content {
        [] => return Err(Malformed("a serial number of no bytes")),
        [first, ..] if first & 0x80 != 0 => return Err(Malformed("x509: negative serial number")),
        [0, second, ..] if second & 0x80 == 0 => {
            return Err(Malformed("a serial number that is not minimal"));
        }
        [0, magnitude @ ..] => magnitude,
        magnitude => magnitude,
    };
    let at = Time::read(fields.next()?)?;
    // Some write an empty list where they mean none.
    if let Some(extensions) = fields.optional(tag::SEQUENCE)? {
        check_extensions(&mut extensions.reader())?;
    }
    fields.end()?;
    Ok(ImportedEntry { serial: serial.to_vec(), at })
}

fn check_extensions(list: &mut Reader<'_>) -> Result<(), Malformed> {
    let mut kinds = HashSet::new();
    while !list.is_empty() {
        if !kinds.insert(Extension::read(list.expect(tag::SEQUENCE)?)?.oid) {
            return Err(Malformed("x509: CRL contains duplicate extensions"));
        }
    }
    Ok(())
}

/// What a CRL's maker may not give extensions of its own, because it is decided elsewhere: the identifier and the name of
/// the one that this dotted identifier spells, in whatever way.
pub fn reserved_crl_extension(oid: &str) -> Option<(&'static str, &'static str)> {
    let given = emit::oid_content(oid)?;
    RESERVED_CRL_EXTENSIONS
        .into_iter()
        .find(|(reserved, _)| emit::oid_content(reserved).as_ref() == Some(&given))
}

const RESERVED_CRL_EXTENSIONS: [(&str, &str); 3] = [
    ("2.5.29.35", "authority key object identifier"),
    ("2.5.29.20", "crl number object identifier"),
    ("2.5.29.27", "delta crl object identifier"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_emitter() {
        for length in [0_usize, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let mut out = Emitter::new(0);
            out.raw(&vec![0; length]);
            out.close(tag::SEQUENCE, 0);
            assert_eq!(
                header(tag::SEQUENCE, length),
                out.finish()[..][..header(tag::SEQUENCE, length).len()]
            );
        }
    }

    #[test]
    fn what_is_reserved_is_so_in_every_spelling() {
        for spelling in ["2.5.29.20", "2.5.29.020", "02.5.29.20"] {
            assert_eq!(reserved_crl_extension(spelling).map(|(oid, _)| oid), Some("2.5.29.20"), "{spelling}");
        }
        assert_eq!(reserved_crl_extension("2.5.29.21"), None);
    }

    #[test]
    fn an_entry_says_why_only_if_there_is_a_reason() {
        let encoded = |serial: &[u8], reason| {
            let mut entries = Vec::new();
            CrlEntry { serial, at: Time::from_second(0), reason, extensions: &[] }.encode(&mut entries);
            entries
        };
        assert_eq!(encoded(&[0x80], 0), b"\x30\x13\x02\x02\x00\x80\x17\x0d700101000000Z");
        assert_eq!(
            encoded(&[1], 4),
            b"\x30\x20\x02\x01\x01\x17\x0d700101000000Z\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x04"
        );
    }

    fn list(version: Option<u8>, next: Option<Time>) -> Vec<u8> {
        let mut out = Emitter::new(64);
        let behind = out.mark();
        out.raw(&[0x30, 0]);
        if let Some(next) = next {
            next.emit(&mut out);
        }
        Time::from_second(86_400).emit(&mut out);
        out.raw(&[0x30, 0, 0x30, 0]);
        if let Some(version) = version {
            out.element(tag::INTEGER, &[version]);
        }
        out.close(tag::SEQUENCE, behind);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    #[test]
    fn times_are_read_with_and_without_version_and_next_update() {
        let this_update = Time::from_second(86_400);
        for version in [None, Some(1)] {
            for next_update in [None, Some(Time::from_second(172_800)), Some(Time::end_of_time())] {
                let read = CrlTimes::from_der(&list(version, next_update));
                assert_eq!(read, Ok(CrlTimes { this_update, next_update }));
            }
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let whole = list(Some(1), None);
        for cut in 0..whole.len() {
            assert!(CrlTimes::from_der(&whole[..cut]).is_err(), "{cut}");
        }
        assert_eq!(CrlTimes::from_pem("no PEM"), Err(CertificateError::Missing));
    }
}
