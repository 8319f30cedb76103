//! OCSP (RFC 6960): what clients ask of certificates, and the signed answers.
//!
//! A request is read without copying: each [`CertId`] is passed on into the answer byte for byte, because clients compare
//! them. Whose certificates are asked after is found by [`IssuerHash`], a key for a table, so that nobody has to try one
//! issuer after the other. An answer is laid out by [`OcspResponse::prepare`], and signed, read back by an independent
//! decoder and compared by [`PreparedResponse::sign`].
//!
//! A signature on a request is passed over: everybody may ask.

use std::sync::Arc;

use aws_lc_rs::digest;
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, OctetStringRef, SequenceRef};
use der::{Decode, Reader as _, SliceReader, TagMode, TagNumber, Tagged};
use x509_cert::ext::pkix::CrlReason;

use crate::algorithm::identifier::{self, AnyHash};
use crate::emit::{Emitter, Malformed, Reader, tag};
use crate::{Certificate, KeySpec, SerialNumber, SignError, SignatureAlgorithm, Signer, Time};

/// The content of id-pkix-ocsp-basic and id-pkix-ocsp-nonce (RFC 6960, 4.2.1 and 4.4.1).
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
const NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];

/// Why a request was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspError {
    /// Not an OCSP request of version 1.
    #[error("the OCSP request could not be parsed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It asks after more certificates than [`OcspRequest::MAX_CERTIFICATES`].
    #[error("the OCSP request asks after more than {} certificates", OcspRequest::MAX_CERTIFICATES)]
    TooManyCertificates,
}

impl From<Malformed> for OcspError {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::Malformed { reason }
    }
}

/// What a client wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspRequest<'a> {
    certificates: Vec<CertId<'a>>,
    nonce: Option<&'a [u8]>,
}

impl<'a> OcspRequest<'a> {
    /// Each certificate asked after costs a look into storage.
    pub const MAX_CERTIFICATES: usize = 100;

    /// Reads a DER OCSPRequest (RFC 6960, 4.1.1), which must be all there is.
    ///
    /// # Errors
    /// Something else, a list without entries or with too many, a digest that we do not know, a nonce that is not one
    /// (RFC 9654, 2.1), or a critical extension that we do not know.
    pub fn from_der(der: &'a [u8]) -> Result<Self, OcspError> {
        let mut outer = Reader::new(der);
        let mut request = outer.expect(tag::SEQUENCE)?.reader();
        outer.end()?;
        let mut tbs = request.expect(tag::SEQUENCE)?.reader();
        if let Some(signature) = request.optional(tag::constructed(0))? {
            let mut inside = signature.reader();
            inside.expect(tag::SEQUENCE)?;
            inside.end()?;
        }
        request.end()?;

        if let Some(version) = tbs.optional(tag::constructed(0))? {
            let mut inside = version.reader();
            // DER leaves the default out; the peer takes it nevertheless, and there is one version.
            if inside.expect(tag::INTEGER)?.content != [0] {
                return Err(Malformed("an unknown version").into());
            }
            inside.end()?;
        }
        // The requestor's name.
        tbs.optional(tag::constructed(1))?;
        let mut list = tbs.expect(tag::SEQUENCE)?.reader();
        let nonce = match tbs.optional(tag::constructed(2))? {
            Some(wrapper) => nonce_among(wrapper.reader())?,
            None => None,
        };
        tbs.end()?;

        let mut certificates = Vec::with_capacity(1);
        while !list.is_empty() {
            if certificates.len() == Self::MAX_CERTIFICATES {
                return Err(OcspError::TooManyCertificates);
            }
            certificates.push(single(list.expect(tag::SEQUENCE)?.reader())?);
        }
        if certificates.is_empty() {
            return Err(Malformed("a request that asks after no certificate").into());
        }
        Ok(Self { certificates, nonce })
    }

    /// The certificates asked after, at least one.
    pub fn certificates(&self) -> &[CertId<'a>] {
        &self.certificates
    }

    /// The nonce, which the answer repeats.
    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.nonce
    }
}

/// One Request of the list: a CertID, and extensions of which we know none.
fn single<'a>(mut request: Reader<'a>) -> Result<CertId<'a>, Malformed> {
    let element = request.expect(tag::SEQUENCE)?;
    let mut fields = element.reader();
    let mut algorithm = fields.expect(tag::SEQUENCE)?.reader();
    let oid = algorithm.expect(tag::OID)?.content;
    if let Some(null) = algorithm.optional(tag::NULL)?
        && !null.content.is_empty()
    {
        return Err(Malformed("a NULL with something in it"));
    }
    algorithm.end()?;
    let hash = identifier::digest(oid).ok_or(Malformed("an unknown digest"))?;
    let issuer_name = fields.expect(tag::OCTET_STRING)?.content;
    let issuer_key = fields.expect(tag::OCTET_STRING)?.content;
    let serial = fields.expect(tag::INTEGER)?.content;
    fields.end()?;
    let length = hash.algorithm().output_len();
    if issuer_name.len() != length || issuer_key.len() != length {
        return Err(Malformed("a digest that is not as long as its kind"));
    }
    let redundant = matches!(serial, [0, second, ..] if second & 0x80 == 0)
        || matches!(serial, [0xff, second, ..] if second & 0x80 != 0);
    if serial.is_empty() || redundant {
        return Err(Malformed("a serial number that is not minimal"));
    }
    if let Some(wrapper) = request.optional(tag::constructed(0))? {
        extensions(wrapper.reader(), |_, _| Ok(false))?;
    }
    request.end()?;
    Ok(CertId { der: element.raw, issuer: IssuerHash::new(hash, issuer_name, issuer_key), serial })
}

/// The nonce among a request's extensions.
fn nonce_among(wrapper: Reader<'_>) -> Result<Option<&[u8]>, Malformed> {
    let mut nonce = None;
    extensions(wrapper, |oid, value| {
        if oid != NONCE {
            return Ok(false);
        }
        let mut inside = Reader::new(value);
        let content = inside.expect(tag::OCTET_STRING)?.content;
        inside.end()?;
        // RFC 9654, 2.1: others are refused as malformed.
        if !(1..=128).contains(&content.len()) {
            return Err(Malformed("a nonce that has not 1 to 128 bytes"));
        }
        if nonce.replace(content).is_some() {
            return Err(Malformed("two nonces"));
        }
        Ok(true)
    })?;
    Ok(nonce)
}

/// Goes through Extensions; `known` says whether it knows the one it is shown.
fn extensions<'a>(
    mut wrapper: Reader<'a>,
    mut known: impl FnMut(&'a [u8], &'a [u8]) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    let mut list = wrapper.expect(tag::SEQUENCE)?.reader();
    wrapper.end()?;
    while !list.is_empty() {
        let mut fields = list.expect(tag::SEQUENCE)?.reader();
        let oid = fields.expect(tag::OID)?.content;
        let critical = match fields.optional(tag::BOOLEAN)?.map(|critical| critical.content) {
            None | Some([0]) => false,
            Some([0xff]) => true,
            Some(_) => return Err(Malformed("a boolean that is neither true nor false")),
        };
        let value = fields.expect(tag::OCTET_STRING)?.content;
        fields.end()?;
        // RFC 6960, 4.4: only those that are not critical may be passed over.
        if !known(oid, value)? && critical {
            return Err(Malformed("an unknown critical extension"));
        }
    }
    Ok(())
}

/// Names a certificate by its issuer and its serial number (RFC 6960, 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertId<'a> {
    der: &'a [u8],
    issuer: IssuerHash,
    serial: &'a [u8],
}

impl CertId<'_> {
    /// Its issuer.
    pub fn issuer(&self) -> &IssuerHash {
        &self.issuer
    }

    /// Its serial number; `None` if no certificate can have it.
    pub fn serial_number(&self) -> Option<SerialNumber> {
        let positive = self.serial.first().is_some_and(|first| first & 0x80 == 0);
        positive.then(|| SerialNumber::or_zero(self.serial)).flatten()
    }
}

/// An issuer as requests name it: a digest of its name and one of its key. Made to be looked up in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IssuerHash {
    hash: AnyHash,
    name: [u8; digest::MAX_OUTPUT_LEN],
    key: [u8; digest::MAX_OUTPUT_LEN],
}

impl IssuerHash {
    fn new(hash: AnyHash, name: &[u8], key: &[u8]) -> Self {
        let padded = |bytes: &[u8]| {
            let mut whole = [0; digest::MAX_OUTPUT_LEN];
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            whole
        };
        Self { hash, name: padded(name), key: padded(key) }
    }

    /// Every way to name the issuer that this certificate belongs to; none if its key is of an unknown kind.
    pub fn of(certificate: &Certificate) -> impl Iterator<Item = Self> {
        let parts = certificate.public_key().map(|key| (certificate.subject_der(), key.key_bytes()));
        let each = |(name, key)| {
            [AnyHash::Sha1, AnyHash::Sha256, AnyHash::Sha384, AnyHash::Sha512].into_iter().map(move |hash| {
                let digest = |bytes: &[u8]| digest::digest(hash.algorithm(), bytes);
                Self::new(hash, digest(name).as_ref(), digest(key).as_ref())
            })
        };
        parts.into_iter().flat_map(each)
    }
}

/// What is known of a certificate (RFC 6960, 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertStatus {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked {
        /// When.
        at: Time,
        /// Why: a CRLReason (RFC 5280, 5.3.1); 0, unspecified, is not written.
        reason: u8,
    },
    /// Of an issuer that this answer does not speak for.
    Unknown,
}

impl CertStatus {
    fn emit(self, out: &mut Emitter) {
        match self {
            Self::Good => out.element(tag::context(0), &[]),
            Self::Revoked { at, reason } => {
                let mark = out.mark();
                if reason != 0 {
                    out.element(tag::ENUMERATED, &[reason]);
                    out.close(tag::constructed(0), mark);
                }
                at.emit_generalized(out);
                out.close(tag::constructed(1), mark);
            }
            Self::Unknown => out.element(tag::context(2), &[]),
        }
    }
}

/// Who answers: the issuer itself.
#[derive(Debug, Clone)]
pub struct Responder<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// Its key.
    pub signer: Arc<dyn Signer>,
    /// How it signs.
    pub algorithm: SignatureAlgorithm,
}

/// Everything an answer says.
#[derive(Debug, Clone)]
pub struct OcspResponse<'a> {
    /// Each certificate asked after, in the request's order.
    pub statuses: Vec<(CertId<'a>, CertStatus)>,
    /// Since when this is known to be so, which is also when the answer is made.
    pub this_update: Time,
    /// When there will be news; `None` for at any time.
    pub next_update: Option<Time>,
    /// The request's nonce.
    pub nonce: Option<&'a [u8]>,
}

impl OcspResponse<'_> {
    /// Lays out the bytes that will be signed.
    pub fn prepare(self, responder: &Responder<'_>) -> PreparedResponse {
        let statuses = self.statuses.iter().map(|(id, status)| (id.der.to_vec(), *status)).collect();
        PreparedResponse {
            tbs: self.tbs(responder.certificate.subject_der()),
            algorithm: responder.algorithm,
            signer: Arc::clone(&responder.signer),
            expected: Expected {
                responder: responder.certificate.subject_der().to_vec(),
                statuses,
                this_update: self.this_update,
                next_update: self.next_update,
                nonce: self.nonce.map(<[u8]>::to_vec),
            },
        }
    }

    /// The DER ResponseData (RFC 6960, 4.2.1).
    fn tbs(&self, responder: &[u8]) -> Vec<u8> {
        let mut out = Emitter::new(128 + responder.len() + self.statuses.len() * 192);
        if let Some(nonce) = self.nonce {
            let mark = out.mark();
            out.element(tag::OCTET_STRING, nonce);
            out.close(tag::OCTET_STRING, mark);
            out.element(tag::OID, NONCE);
            out.close(tag::SEQUENCE, mark);
            out.close(tag::SEQUENCE, mark);
            out.close(tag::constructed(1), mark);
        }
        let list = out.mark();
        for (id, status) in self.statuses.iter().rev() {
            let single = out.mark();
            if let Some(next) = self.next_update {
                let mark = out.mark();
                next.emit_generalized(&mut out);
                out.close(tag::constructed(0), mark);
            }
            self.this_update.emit_generalized(&mut out);
            status.emit(&mut out);
            out.raw(id.der);
            out.close(tag::SEQUENCE, single);
        }
        out.close(tag::SEQUENCE, list);
        self.this_update.emit_generalized(&mut out);
        let mark = out.mark();
        // byName, as the peer has it.
        out.raw(responder);
        out.close(tag::constructed(1), mark);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }
}

/// An answer that is still to be signed, wherever that is done.
#[derive(Debug)]
#[must_use]
pub struct PreparedResponse {
    tbs: Vec<u8>,
    algorithm: SignatureAlgorithm,
    signer: Arc<dyn Signer>,
    expected: Expected,
}

impl PreparedResponse {
    /// The DER ResponseData that will be signed.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.tbs
    }

    /// How it will be signed.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Signs, reads the result back and compares it with what was prepared. Answers a DER OCSPResponse.
    ///
    /// An RSA signature is verified too, which costs a small part of making it. For the others it would cost four to
    /// eight times as much as making it, and nobody is served by a responder that is that much slower: whoever is
    /// answered verifies it anyway.
    ///
    /// # Errors
    /// The key refused, or the result differs; nothing is released then.
    pub fn sign(self) -> Result<Vec<u8>, SignError> {
        let signature = self.signer.sign(self.algorithm, &self.tbs)?;
        let algorithm = identifier::of(self.algorithm);
        let mut out = Emitter::new(self.tbs.len() + signature.len() + algorithm.len() + 64);
        out.bit_string(&signature);
        out.raw(&algorithm);
        out.raw(&self.tbs);
        out.close(tag::SEQUENCE, 0);
        out.close(tag::OCTET_STRING, 0);
        out.element(tag::OID, BASIC);
        out.close(tag::SEQUENCE, 0);
        out.close(tag::constructed(0), 0);
        out.element(tag::ENUMERATED, &[0]);
        out.close(tag::SEQUENCE, 0);
        let der = out.finish();
        let key = self.signer.public_key();
        let read = self.expected.compare(&der)?;
        if matches!(key.spec(), KeySpec::Rsa(_)) && !key.verifies(read.algorithm, read.tbs, read.signature) {
            return Err(SignError::ReadBackDiffers { field: "signature" });
        }
        Ok(der)
    }
}

/// What an answer must say.
#[derive(Debug)]
struct Expected {
    /// DER.
    responder: Vec<u8>,
    /// CertIDs in DER.
    statuses: Vec<(Vec<u8>, CertStatus)>,
    this_update: Time,
    next_update: Option<Time>,
    nonce: Option<Vec<u8>>,
}

impl Expected {
    /// Decodes a whole answer with a decoder that shares no code with the encoder, and compares.
    fn compare<'a>(&self, der: &'a [u8]) -> Result<ReadBack<'a>, SignError> {
        let differs = |field| SignError::ReadBackDiffers { field };
        let check = |field, equal: bool| if equal { Ok(()) } else { Err(differs(field)) };
        let read = ReadBack::decode(der).map_err(|_| differs("encoding"))?;
        check("responder", read.responder == self.responder)?;
        check("time", read.produced_at == self.this_update)?;
        check("nonce", read.nonce == self.nonce.as_deref())?;
        check("number of certificates", read.singles.len() == self.statuses.len())?;
        for (single, (id, status)) in read.singles.iter().zip(&self.statuses) {
            check("certificate", single.id == id)?;
            check("status", single.status == *status)?;
            check(
                "update",
                (single.this_update, single.next_update) == (self.this_update, self.next_update),
            )?;
        }
        Ok(read)
    }
}

/// An OCSPResponse taken apart by the `der` crate's reader, without copies.
struct ReadBack<'a> {
    tbs: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    responder: &'a [u8],
    produced_at: Time,
    singles: Vec<ReadSingle<'a>>,
    nonce: Option<&'a [u8]>,
}

struct ReadSingle<'a> {
    id: &'a [u8],
    status: CertStatus,
    this_update: Time,
    next_update: Option<Time>,
}

impl<'a> ReadBack<'a> {
    fn decode(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let basic = reader.sequence(|response| {
            if response.tlv_bytes()? != [tag::ENUMERATED, 1, 0] {
                return Err(der::Tag::Enumerated.value_error().into());
            }
            let bytes = response.context_specific::<&SequenceRef>(TagNumber(0), TagMode::Explicit)?;
            let mut bytes = SliceReader::new(bytes.ok_or(der::ErrorKind::Failed)?.as_bytes())?;
            let kind = bytes.decode::<AnyRef<'a>>()?;
            if kind.tag() != der::Tag::ObjectIdentifier || kind.value() != BASIC {
                return Err(der::Tag::ObjectIdentifier.value_error().into());
            }
            let basic = bytes.decode::<&OctetStringRef>()?.as_bytes();
            bytes.finish()?;
            Ok::<_, der::Error>(basic)
        })?;
        reader.finish()?;

        let mut reader = SliceReader::new(basic)?;
        let (tbs, algorithm, signature) = reader.sequence(|basic| {
            let (tbs, algorithm) = (basic.tlv_bytes()?, basic.tlv_bytes()?);
            let signature = basic.decode::<BitStringRef<'a>>()?;
            let signature = signature.as_bytes().ok_or(der::ErrorKind::Failed)?;
            Ok::<_, der::Error>((tbs, algorithm, signature))
        })?;
        reader.finish()?;

        let mut reader = SliceReader::new(tbs)?;
        let read = reader.sequence(|data| {
            let responder = inside(data.tlv_bytes()?, 0xa1)?;
            let produced_at = time(data.decode()?)?;
            let mut list = SliceReader::new(data.decode::<&SequenceRef>()?.as_bytes())?;
            let mut singles = Vec::with_capacity(1);
            while !list.is_finished() {
                singles.push(list.sequence(ReadSingle::decode)?);
            }
            let extensions = data.context_specific::<&SequenceRef>(TagNumber(1), TagMode::Explicit)?;
            let nonce = extensions.map(|list| only_nonce(list.as_bytes())).transpose()?;
            Ok::<_, der::Error>(Self { tbs, algorithm, signature, responder, produced_at, singles, nonce })
        })?;
        reader.finish()?;
        Ok(read)
    }
}

impl<'a> ReadSingle<'a> {
    fn decode(single: &mut SliceReader<'a>) -> der::Result<Self> {
        let id = single.tlv_bytes()?;
        let status = match single.tlv_bytes()? {
            [0x80, 0] => CertStatus::Good,
            [0x82, 0] => CertStatus::Unknown,
            revoked => revoked_info(inside(revoked, 0xa1)?)?,
        };
        let this_update = time(single.decode()?)?;
        let next = single.context_specific::<GeneralizedTime>(TagNumber(0), TagMode::Explicit)?;
        Ok(Self { id, status, this_update, next_update: next.map(time).transpose()? })
    }
}

/// The content of a RevokedInfo.
fn revoked_info(content: &[u8]) -> der::Result<CertStatus> {
    let mut reader = SliceReader::new(content)?;
    let at = time(reader.decode()?)?;
    let reason = reader.context_specific::<CrlReason>(TagNumber(0), TagMode::Explicit)?;
    reader.finish()?;
    let reason = reason.map_or(0, |reason| reason as u8);
    Ok(CertStatus::Revoked { at, reason })
}

/// What stands inside an element with this first byte.
fn inside(element: &[u8], first: u8) -> der::Result<&[u8]> {
    if element.first() != Some(&first) {
        return Err(der::ErrorKind::Failed.into());
    }
    Ok(AnyRef::from_der(element)?.value())
}

fn time(time: GeneralizedTime) -> der::Result<Time> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| der::ErrorKind::DateTime)?;
    Ok(Time::from_second(seconds))
}

/// The nonce of extensions that hold nothing else.
fn only_nonce(list: &[u8]) -> der::Result<&[u8]> {
    let mut list = SliceReader::new(list)?;
    let value = list.sequence(|extension| {
        let oid = extension.decode::<AnyRef<'_>>()?;
        if oid.value() != NONCE {
            return Err(der::Tag::ObjectIdentifier.value_error().into());
        }
        Ok::<_, der::Error>(extension.decode::<&OctetStringRef>()?.as_bytes())
    })?;
    list.finish()?;
    Ok(<&OctetStringRef>::from_der(value)?.as_bytes())
}

/// Why there is no answer: one of the few words that OCSP has for it (RFC 6960, 2.3). These are not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspRefusal {
    /// Not a request.
    MalformedRequest,
    /// The server failed.
    InternalError,
    /// Not now.
    TryLater,
    /// Nobody here speaks for this issuer.
    Unauthorized,
}

impl OcspRefusal {
    /// A DER OCSPResponse.
    pub fn to_der(self) -> [u8; 5] {
        let status = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        [tag::SEQUENCE, 3, tag::ENUMERATED, 1, status]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit;
    use crate::{AiaUrls, CaRequest, Curve, Hash, MountLimits, PrivateKey, PublicKey, prepare_root};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(86_400);

    fn root(spec: KeySpec) -> (Certificate, Arc<dyn Signer>) {
        let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(spec).unwrap());
        let request = CaRequest::new("root", MountLimits { default_ttl: LIMIT, max_ttl: LIMIT });
        let serial = SerialNumber::from_bytes(&[9]).unwrap();
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let made = prepare_root(&request, &signer, &AiaUrls::default(), serial, now).unwrap();
        (made.sign().unwrap().certificate().unwrap(), signer)
    }

    /// What a request is made of; each part can be damaged.
    struct Parts {
        oid: Vec<u8>,
        name: Vec<u8>,
        key: Vec<u8>,
        serial: Vec<u8>,
        single: Vec<u8>,
    }

    impl Parts {
        fn of(certificate: &Certificate, hash: AnyHash, serial: &[u8]) -> Self {
            let oid = match hash {
                AnyHash::Sha1 => vec![0x2b, 14, 3, 2, 26],
                AnyHash::Sha256 => vec![0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1],
                AnyHash::Sha384 => vec![0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2],
                AnyHash::Sha512 => vec![0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3],
            };
            let digest = |bytes| digest::digest(hash.algorithm(), bytes).as_ref().to_vec();
            let name = digest(certificate.subject_der());
            let key = digest(certificate.public_key().unwrap().key_bytes());
            Self { oid, name, key, serial: serial.to_vec(), single: Vec::new() }
        }

        fn write(&self) -> Vec<u8> {
            emit::build(128, tag::SEQUENCE, |out| {
                out.raw(&self.single);
                let id = out.mark();
                out.element(tag::INTEGER, &self.serial);
                out.element(tag::OCTET_STRING, &self.key);
                out.element(tag::OCTET_STRING, &self.name);
                let mark = out.mark();
                out.element(tag::NULL, &[]);
                out.element(tag::OID, &self.oid);
                out.close(tag::SEQUENCE, mark);
                out.close(tag::SEQUENCE, id);
            })
        }
    }

    /// Version, requestor and extensions are whole elements; `behind` follows the part to be signed.
    fn request(before: &[u8], singles: &[Vec<u8>], extensions: &[u8], behind: &[u8]) -> Vec<u8> {
        emit::build(512, tag::SEQUENCE, |out| {
            out.raw(behind);
            let tbs = out.mark();
            out.raw(extensions);
            let list = out.mark();
            singles.iter().rev().for_each(|single| out.raw(single));
            out.close(tag::SEQUENCE, list);
            out.raw(before);
            out.close(tag::SEQUENCE, tbs);
        })
    }

    fn extension(oid: &[u8], critical: &[u8], value: &[u8]) -> Vec<u8> {
        emit::build(256, tag::SEQUENCE, |out| {
            out.element(tag::OCTET_STRING, value);
            if !critical.is_empty() {
                out.element(tag::BOOLEAN, critical);
            }
            out.element(tag::OID, oid);
        })
    }

    fn extensions(tag: u8, each: &[Vec<u8>]) -> Vec<u8> {
        emit::build(512, tag, |out| {
            each.iter().rev().for_each(|whole| out.raw(whole));
            out.close(tag::SEQUENCE, 0);
        })
    }

    fn nonce(bytes: &[u8]) -> Vec<u8> {
        extension(NONCE, &[], &emit::build(256, tag::OCTET_STRING, |out| out.raw(bytes)))
    }

    fn refused(der: &[u8]) -> Option<&'static str> {
        match OcspRequest::from_der(der) {
            Ok(_) => None,
            Err(OcspError::Malformed { reason }) => Some(reason),
            Err(OcspError::TooManyCertificates) => Some("too many"),
        }
    }

    #[test]
    fn an_issuer_is_found_by_each_of_its_names() {
        let (certificate, _) = root(KeySpec::Ed25519);
        let names: Vec<IssuerHash> = IssuerHash::of(&certificate).collect();
        for (index, hash) in
            [AnyHash::Sha1, AnyHash::Sha256, AnyHash::Sha384, AnyHash::Sha512].into_iter().enumerate()
        {
            let parts = Parts::of(&certificate, hash, &[7]);
            let der = request(&[], &[parts.write()], &[], &[]);
            let read = OcspRequest::from_der(&der).unwrap();
            assert_eq!(read.certificates()[0].issuer(), &names[index]);
            assert_eq!(read.certificates()[0].serial_number(), SerialNumber::from_bytes(&[7]));
        }
        let other = IssuerHash::of(&root(KeySpec::Ed25519).0).next();
        assert_ne!(other, Some(names[0]));
    }

    #[test]
    fn what_is_beside_the_question_is_passed_over() {
        let (certificate, _) = root(KeySpec::Ed25519);
        let parts = Parts::of(&certificate, AnyHash::Sha1, &[7]);
        let with = |before: &[u8], extensions: &[u8], behind: &[u8]| {
            refused(&request(before, &[parts.write()], extensions, behind))
        };
        let version = |number: u8| [0xa0, 3, 2, 1, number];
        assert_eq!(with(&[], &[], &[]), None);
        assert_eq!(with(&version(0), &[], &[]), None);
        assert_eq!(with(&version(1), &[], &[]), Some("an unknown version"));
        // A requestor's name; a signature.
        assert_eq!(with(&[0xa1, 2, 0x82, 0], &[], &[]), None);
        assert_eq!(with(&[], &[], &[0xa0, 2, 0x30, 0]), None);
        assert_eq!(with(&[], &[], &[0xa0, 0]), Some("the encoding ends early"));
        let unknown = |critical: &[u8]| extensions(0xa2, &[extension(&[0x2a, 3], critical, &[])]);
        assert_eq!(with(&[], &unknown(&[]), &[]), None);
        assert_eq!(with(&[], &unknown(&[0]), &[]), None);
        assert_eq!(with(&[], &unknown(&[0xff]), &[]), Some("an unknown critical extension"));
        assert_eq!(with(&[], &unknown(&[1]), &[]), Some("a boolean that is neither true nor false"));
        assert_eq!(with(&[], &[], &[5, 0]), Some("asn1: syntax error: trailing data"));
    }

    #[test]
    fn nonces_have_one_to_128_bytes() {
        let (certificate, _) = root(KeySpec::Ed25519);
        let parts = Parts::of(&certificate, AnyHash::Sha256, &[7]);
        let with = |each: &[Vec<u8>]| request(&[], &[parts.write()], &extensions(0xa2, each), &[]);
        for length in [1, 32, 128] {
            let der = with(&[nonce(&vec![5; length])]);
            assert_eq!(OcspRequest::from_der(&der).unwrap().nonce(), Some(&*vec![5; length]));
        }
        for length in [0, 129, 1000] {
            assert_eq!(
                refused(&with(&[nonce(&vec![5; length])])),
                Some("a nonce that has not 1 to 128 bytes")
            );
        }
        assert_eq!(refused(&with(&[nonce(&[1]), nonce(&[2])])), Some("two nonces"));
        assert!(refused(&with(&[extension(NONCE, &[], &[1, 2, 3])])).is_some());
    }

    #[test]
    fn each_part_that_is_damaged_is_refused() {
        let (certificate, _) = root(KeySpec::Ed25519);
        type Damage = fn(&mut Parts);
        let damages: [(Damage, Option<&str>); 9] = [
            (|_| {}, None),
            (|p| p.oid = vec![0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5], Some("an unknown digest")),
            (|p| p.oid[8] = 4, Some("an unknown digest")),
            (|p| p.name.truncate(31), Some("a digest that is not as long as its kind")),
            (|p| p.key.push(0), Some("a digest that is not as long as its kind")),
            (|p| p.serial.clear(), Some("a serial number that is not minimal")),
            (|p| p.serial = vec![0, 1], Some("a serial number that is not minimal")),
            (|p| p.serial = vec![0xff, 0x80], Some("a serial number that is not minimal")),
            (
                |p| p.single = extensions(0xa0, &[extension(&[0x2a, 3], &[0xff], &[])]),
                Some("an unknown critical extension"),
            ),
        ];
        for (damage, reason) in damages {
            let mut parts = Parts::of(&certificate, AnyHash::Sha256, &[7]);
            damage(&mut parts);
            assert_eq!(refused(&request(&[], &[parts.write()], &[], &[])), reason);
        }
        let good = request(&[], &[Parts::of(&certificate, AnyHash::Sha256, &[7]).write()], &[], &[]);
        for length in 0..good.len() {
            assert!(refused(&good[..length]).is_some(), "{length} bytes");
        }
        assert!(refused(&[good, vec![0]].concat()).is_some());
    }

    #[test]
    fn certificates_are_asked_after_one_at_least_and_a_hundred_at_most() {
        let (certificate, _) = root(KeySpec::Ed25519);
        let single = Parts::of(&certificate, AnyHash::Sha1, &[7]).write();
        let many = |count: usize| refused(&request(&[], &vec![single.clone(); count], &[], &[]));
        assert_eq!(many(0), Some("a request that asks after no certificate"));
        assert_eq!((many(1), many(100)), (None, None));
        assert_eq!((many(101), many(10_000)), (Some("too many"), Some("too many")));
    }

    #[test]
    fn serial_numbers_that_nobody_can_have_are_none() {
        let (certificate, _) = root(KeySpec::Ed25519);
        for (serial, possible) in [
            (vec![7], true),
            (vec![0], true),
            (vec![0, 0x80], true),
            (vec![0x80], false),
            (vec![1; 22], false),
            (vec![1; 60], false),
        ] {
            let der = request(&[], &[Parts::of(&certificate, AnyHash::Sha1, &serial).write()], &[], &[]);
            let read = OcspRequest::from_der(&der).unwrap();
            assert_eq!(read.certificates()[0].serial_number().is_some(), possible, "{serial:?}");
        }
    }

    fn answer<'a>(read: &OcspRequest<'a>, statuses: &[CertStatus]) -> OcspResponse<'a> {
        OcspResponse {
            statuses: read.certificates().iter().copied().zip(statuses.iter().copied()).collect(),
            this_update: Time::from_second(1_800_000_000),
            next_update: Some(Time::from_second(1_800_003_600)),
            nonce: read.nonce(),
        }
    }

    #[test]
    fn an_answer_with_each_kind_of_key_reads_back() {
        for (spec, lists, algorithm) in [
            (KeySpec::Ed25519, None, SignatureAlgorithm::Ed25519),
            (KeySpec::Ec(Curve::P224), None, SignatureAlgorithm::Ecdsa(Hash::Sha256)),
            (KeySpec::Ec(Curve::P256), None, SignatureAlgorithm::Ecdsa(Hash::Sha256)),
            (KeySpec::Ec(Curve::P384), None, SignatureAlgorithm::Ecdsa(Hash::Sha384)),
            (KeySpec::Ec(Curve::P521), None, SignatureAlgorithm::Ecdsa(Hash::Sha512)),
            (KeySpec::Rsa(2048), None, SignatureAlgorithm::RsaPkcs1(Hash::Sha256)),
            (
                KeySpec::Rsa(2048),
                Some(SignatureAlgorithm::RsaPss(Hash::Sha384)),
                SignatureAlgorithm::RsaPkcs1(Hash::Sha384),
            ),
        ] {
            assert_eq!(SignatureAlgorithm::for_ocsp(spec, lists), Ok(algorithm));
            let (certificate, signer) = root(spec);
            let singles =
                [[7], [8], [9]].map(|serial| Parts::of(&certificate, AnyHash::Sha1, &serial).write());
            let der = request(&[], &singles, &extensions(0xa2, &[nonce(b"fresh")]), &[]);
            let read = OcspRequest::from_der(&der).unwrap();
            let at = Time::from_second(1_700_000_000);
            let revoked = |reason| CertStatus::Revoked { at, reason };
            let statuses = [CertStatus::Good, revoked(0), revoked(1), CertStatus::Unknown];
            let responder = Responder { certificate: &certificate, signer, algorithm };
            let whole = answer(&read, &statuses).prepare(&responder).sign().unwrap();
            assert!(whole.windows(5).any(|bytes| bytes == b"fresh"));
        }
    }

    #[test]
    fn an_answer_that_differs_from_what_was_prepared_is_not_released() {
        let (certificate, signer) = root(KeySpec::Ed25519);
        let der = request(&[], &[Parts::of(&certificate, AnyHash::Sha1, &[7]).write()], &[], &[]);
        let read = OcspRequest::from_der(&der).unwrap();
        let responder =
            Responder { certificate: &certificate, signer, algorithm: SignatureAlgorithm::Ed25519 };
        type Change = fn(&mut Expected);
        let changes: [(Change, &str); 8] = [
            (|e| e.responder.push(0), "responder"),
            (|e| e.this_update = Time::from_second(1), "time"),
            (|e| e.nonce = Some(vec![1]), "nonce"),
            (|e| e.statuses.clear(), "number of certificates"),
            (|e| e.statuses[0].0.push(0), "certificate"),
            (|e| e.statuses[0].1 = CertStatus::Unknown, "status"),
            (|e| e.statuses[0].1 = CertStatus::Revoked { at: Time::from_second(1), reason: 0 }, "status"),
            (|e| e.next_update = None, "update"),
        ];
        for (change, field) in changes {
            let mut prepared = answer(&read, &[CertStatus::Good]).prepare(&responder);
            change(&mut prepared.expected);
            assert_eq!(prepared.sign(), Err(SignError::ReadBackDiffers { field }));
        }
        let mut prepared = answer(&read, &[CertStatus::Good]).prepare(&responder);
        *prepared.tbs.last_mut().unwrap() = b'X';
        assert_eq!(prepared.sign(), Err(SignError::ReadBackDiffers { field: "encoding" }));
    }

    #[test]
    fn an_rsa_signature_that_does_not_hold_is_not_released() {
        let (certificate, signer) = root(KeySpec::Rsa(2048));
        let der = request(&[], &[Parts::of(&certificate, AnyHash::Sha1, &[7]).write()], &[], &[]);
        let read = OcspRequest::from_der(&der).unwrap();
        let algorithm = SignatureAlgorithm::RsaPkcs1(Hash::Sha256);
        let responder = Responder { certificate: &certificate, signer, algorithm };
        let mut prepared = answer(&read, &[CertStatus::Good]).prepare(&responder);
        prepared.signer = Arc::new(Forger(root(KeySpec::Rsa(2048)).1, responder.signer));
        assert_eq!(prepared.sign(), Err(SignError::ReadBackDiffers { field: "signature" }));
    }

    /// Signs with one key and claims another.
    #[derive(Debug)]
    struct Forger(Arc<dyn Signer>, Arc<dyn Signer>);

    impl Signer for Forger {
        fn public_key(&self) -> &PublicKey {
            self.1.public_key()
        }

        fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, SignError> {
            self.0.sign(algorithm, message)
        }
    }

    #[test]
    fn refusals_are_five_bytes() {
        assert_eq!(OcspRefusal::MalformedRequest.to_der(), [0x30, 3, 10, 1, 1]);
        assert_eq!(OcspRefusal::InternalError.to_der(), [0x30, 3, 10, 1, 2]);
        assert_eq!(OcspRefusal::TryLater.to_der(), [0x30, 3, 10, 1, 3]);
        assert_eq!(OcspRefusal::Unauthorized.to_der(), [0x30, 3, 10, 1, 6]);
    }
}
