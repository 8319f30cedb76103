//! Certificates: ones given to us, kept byte for byte, and the usages they may carry.

use std::collections::HashSet;
use std::ops::Range;

use crate::emit::{self, Element, Malformed, Reader, tag};
use crate::{CertificateError, PublicKey, SerialNumber, Time, VerifyingKey, pem};

/// A parsed certificate with its original bytes.
///
/// Reading is forgiving where imports need it (versions 1 and 3, expired, odd names); issuer
/// and subject are kept as the bytes they were and passed on as such.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    pem: String,
    serial_number: SerialNumber,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    not_before: Time,
    not_after: Time,
    public_key: Option<PublicKey>,
    is_ca: bool,
    path_length: Option<u32>,
    key_usage: Option<KeyUsage>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    signature_algorithm: Vec<u8>,
    signed: Range<usize>,
    /// Where the extensions stand in `der`, without the headers of their list.
    extensions: Option<Range<usize>>,
    signature: Vec<u8>,
    common_name: Option<String>,
}

impl Certificate {
    /// The first certificate in a PEM text.
    ///
    /// # Errors
    /// None there, or not a certificate.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let block = pem::blocks(text)
            .find(|block| is_certificate_label(block.label))
            .ok_or(CertificateError::Missing)?;
        Self::from_der(&block.der)
    }

    /// Every certificate in a PEM text, in order.
    ///
    /// # Errors
    /// One of them is not a certificate.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        pem::blocks(text)
            .filter(|block| is_certificate_label(block.label))
            .map(|block| Self::from_der(&block.der))
            .collect()
    }

    /// From DER, which must hold nothing else.
    ///
    /// # Errors
    /// Not a certificate (RFC 5280, 4.1).
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse(der).map_err(|Malformed(reason)| CertificateError::Malformed { reason: reason.to_owned() })
    }

    /// When the certificate in this DER ends, without reading the rest of it: for those who look through
    /// very many.
    ///
    /// # Errors
    /// What leads to the validity is not that of a certificate. What comes behind it is not looked at.
    pub fn end_within(der: &[u8]) -> Result<Time, CertificateError> {
        end_within(der).map_err(|Malformed(reason)| CertificateError::Malformed { reason: reason.to_owned() })
    }

    /// The original DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PEM with lines of 64 characters and a final newline.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The serial number.
    pub fn serial_number(&self) -> SerialNumber {
        self.serial_number
    }

    /// The issuer's distinguished name, DER, as it stands.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The subject's distinguished name, DER, as it stands.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// The subject's last common name, if it has one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Start of the lifetime.
    pub fn not_before(&self) -> Time {
        self.not_before
    }

    /// End of the lifetime.
    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// The key; `None` if it is of a kind this crate does not know.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    /// Basic constraints say that this is an authority's (RFC 5280, 4.2.1.9).
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// The path length constraint, if there is one.
    pub fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    /// The key usages, if the extension is there.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.key_usage
    }

    /// The subject key identifier, if the extension is there.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// The authority key identifier, if the extension is there and holds one.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// The value of the extension with this identifier (the content of its DER), and whether it is critical.
    pub fn extension(&self, oid: &[u8]) -> Option<(&[u8], bool)> {
        // They were all read when the certificate was.
        let extensions = self.extensions().ok()?;
        let found = extensions.into_iter().find(|extension| extension.oid == oid)?;
        Some((found.value, found.critical))
    }

    /// Every rule of RFC 5280 that the certificate breaks and, if it names a SPIFFE ID, of X.509-SVID.
    pub fn findings(&self) -> Vec<crate::Finding> {
        crate::lint::findings(self.der.get(self.signed.clone()).unwrap_or_default())
    }

    /// The signature's AlgorithmIdentifier, whole.
    pub(crate) fn signature_algorithm_der(&self) -> &[u8] {
        &self.signature_algorithm
    }

    /// The extensions, in order.
    pub(crate) fn extensions(&self) -> Result<Vec<Extension<'_>>, Malformed> {
        let Some(bytes) = self.extensions.clone().and_then(|range| self.der.get(range)) else {
            return Ok(Vec::new());
        };
        let mut list = Reader::new(bytes);
        let mut extensions = Vec::new();
        while !list.is_empty() {
            extensions.push(Extension::read(list.expect(tag::SEQUENCE)?)?);
        }
        Ok(extensions)
    }

    /// Whether issuer and subject are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether the certificate's own key signed it.
    pub fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.is_signed_by(self)
    }

    /// Whether that certificate's key signed this one. Names, lifetimes and usages are not
    /// looked at.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        issuer.public_key().is_some_and(|key| self.is_signed_with(key))
    }

    /// Whether this key signed the certificate.
    pub fn is_signed_with(&self, key: &PublicKey) -> bool {
        let signed = self.der.get(self.signed.clone()).unwrap_or(&[]);
        key.verifies(&self.signature_algorithm, signed, &self.signature)
    }

    /// Whether this key signed the certificate, as [`Self::is_signed_with`] has it.
    pub fn is_verified_by(&self, key: &VerifyingKey) -> bool {
        let signed = self.der.get(self.signed.clone()).unwrap_or(&[]);
        key.verifies(&self.signature_algorithm, signed, &self.signature)
    }

    /// The key of its issuer, ready for more signatures like this certificate's. `None` if the key cannot have made it.
    pub fn key_of_issuer(&self, issuer: &Self) -> Option<VerifyingKey> {
        VerifyingKey::new(issuer.public_key()?, &self.signature_algorithm)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

pub(crate) fn is_certificate_label(label: &str) -> bool {
    // The second and third are OpenSSL's older names.
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
}

fn parse(der: &[u8]) -> Result<Certificate, Malformed> {
    let mut outer = Reader::new(der);
    let mut certificate = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    let tbs = certificate.expect(tag::SEQUENCE)?;
    let signature_algorithm = certificate.expect(tag::SEQUENCE)?.raw.to_vec();
    let signature = emit::bit_string_bytes(certificate.expect(tag::BIT_STRING)?.content)?.to_vec();
    certificate.end()?;
    // The TBS begins right behind the outer header.
    let signed_start = der.len() - outer_content_length(der)?;
    let signed = signed_start..signed_start + tbs.raw.len();

    let mut fields = tbs.reader();
    fields.optional(tag::constructed(0))?;
    let serial = fields.expect(tag::INTEGER)?.content;
    if serial.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(Malformed("x509: negative serial number"));
    }
    let serial_number =
        SerialNumber::or_zero(serial).ok_or(Malformed("a serial number of no bytes, or of more than 21"))?;
    let inner_algorithm = fields.expect(tag::SEQUENCE)?.raw;
    if inner_algorithm != signature_algorithm {
        return Err(Malformed("inner and outer signature algorithms differ"));
    }
    let issuer = fields.expect(tag::SEQUENCE)?.raw.to_vec();
    let mut validity = fields.expect(tag::SEQUENCE)?.reader();
    let not_before = Time::read(validity.next()?)?;
    let not_after = Time::read(validity.next()?)?;
    validity.end()?;
    let subject = fields.expect(tag::SEQUENCE)?;
    let spki = fields.expect(tag::SEQUENCE)?.raw;
    fields.optional(tag::context(1))?;
    fields.optional(tag::context(2))?;
    let extensions = match fields.optional(tag::constructed(3))? {
        Some(wrapper) => {
            let mut inside = wrapper.reader();
            let list = inside.expect(tag::SEQUENCE)?;
            inside.end()?;
            Some(list)
        }
        None => None,
    };
    fields.end()?;
    // Nothing follows the extensions in the TBS, so they reach to its end.
    let extensions = extensions.map(|list| signed.end - list.content.len()..signed.end);

    let mut parsed = Certificate {
        der: der.to_vec(),
        pem: pem::encode("CERTIFICATE", der),
        serial_number,
        issuer,
        subject: subject.raw.to_vec(),
        not_before,
        not_after,
        public_key: PublicKey::from_spki(spki).ok(),
        is_ca: false,
        path_length: None,
        key_usage: None,
        subject_key_id: None,
        authority_key_id: None,
        signature_algorithm,
        signed,
        extensions,
        signature,
        common_name: crate::subject::last_common_name(subject),
    };
    let found = Found::among(&parsed.extensions()?)?;
    let Found { is_ca, path_length, key_usage, subject_key_id, authority_key_id } = found;
    parsed.is_ca = is_ca;
    parsed.path_length = path_length;
    parsed.key_usage = key_usage;
    parsed.subject_key_id = subject_key_id;
    parsed.authority_key_id = authority_key_id;
    Ok(parsed)
}

fn end_within(der: &[u8]) -> Result<Time, Malformed> {
    let mut outer = Reader::new(der);
    let mut certificate = outer.expect(tag::SEQUENCE)?.reader();
    outer.end()?;
    let mut fields = certificate.expect(tag::SEQUENCE)?.reader();
    fields.optional(tag::constructed(0))?;
    fields.expect(tag::INTEGER)?;
    fields.expect(tag::SEQUENCE)?;
    fields.expect(tag::SEQUENCE)?;
    let mut validity = fields.expect(tag::SEQUENCE)?.reader();
    validity.next()?;
    Time::read(validity.next()?)
}

fn outer_content_length(der: &[u8]) -> Result<usize, Malformed> {
    Ok(Reader::new(der).next()?.content.len())
}

/// What the extensions say.
#[derive(Default)]
struct Found {
    is_ca: bool,
    path_length: Option<u32>,
    key_usage: Option<KeyUsage>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
}

impl Found {
    fn among(extensions: &[Extension<'_>]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut kinds = HashSet::with_capacity(extensions.len());
        for extension in extensions {
            // RFC 5280, 4.2: no certificate has two of a kind. Which of them would count?
            if !kinds.insert(extension.oid) {
                return Err(Malformed("x509: certificate contains duplicate extensions"));
            }
            found.read(extension)?;
        }
        Ok(found)
    }

    fn read(&mut self, extension: &Extension<'_>) -> Result<(), Malformed> {
        let value = extension.value;
        match extension.oid {
            extension_oid::BASIC_CONSTRAINTS => {
                let constraints = BasicConstraints::read(value)?;
                self.is_ca = constraints.is_ca;
                self.path_length = constraints.path_length;
            }
            extension_oid::KEY_USAGE => self.key_usage = Some(KeyUsage::read(value)?),
            extension_oid::SUBJECT_KEY_ID => {
                self.subject_key_id = Some(Reader::new(value).expect(tag::OCTET_STRING)?.content.to_vec());
            }
            extension_oid::AUTHORITY_KEY_ID => {
                let mut fields = Reader::new(value).expect(tag::SEQUENCE)?.reader();
                self.authority_key_id = fields.optional(tag::context(0))?.map(|id| id.content.to_vec());
            }
            _ => {}
        }
        Ok(())
    }
}

/// One extension (RFC 5280, 4.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension<'a> {
    /// The identifier's content.
    pub(crate) oid: &'a [u8],
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
    pub(crate) raw: &'a [u8],
}

impl<'a> Extension<'a> {
    pub(crate) fn read(element: Element<'a>) -> Result<Self, Malformed> {
        let mut fields = element.reader();
        let oid = fields.expect(tag::OID)?.content;
        let critical = match fields.optional(tag::BOOLEAN)?.map(|critical| critical.content) {
            None => false,
            Some([0xff]) => true,
            // X.690, 11.5: what is the default anyway is left out.
            Some([0]) => return Err(Malformed("a false that is written out")),
            Some(_) => return Err(Malformed("a boolean that is neither true nor false")),
        };
        let value = fields.expect(tag::OCTET_STRING)?.content;
        fields.end()?;
        Ok(Self { oid, critical, value, raw: element.raw })
    }
}

/// Identifiers of extensions: the content of the DER.
pub(crate) mod extension_oid {
    pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
    pub(crate) const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 31];
    pub(crate) const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 32];
    pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    pub(crate) const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 46];
    pub(crate) const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
}

/// Basic constraints (RFC 5280, 4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) is_ca: bool,
    pub(crate) path_length: Option<u32>,
}

impl BasicConstraints {
    pub(crate) fn read(value: &[u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(value);
        let mut fields = outer.expect(tag::SEQUENCE)?.reader();
        outer.end()?;
        let is_ca = fields.optional(tag::BOOLEAN)?.is_some_and(|flag| flag.content == [0xff]);
        let path_length = match fields.optional(tag::INTEGER)? {
            None => None,
            Some(number) => Some(small_unsigned(number.content)?),
        };
        fields.end()?;
        Ok(Self { is_ca, path_length })
    }
}

fn small_unsigned(content: &[u8]) -> Result<u32, Malformed> {
    if content.is_empty() || content.len() > 4 || content.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(Malformed("a path length that is negative or too large"));
    }
    if matches!(content, [0, second, ..] if second & 0x80 == 0) {
        return Err(Malformed("a path length that is not minimal"));
    }
    Ok(content.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
}

/// Key usages (RFC 5280, 4.2.1.3): a set of bits, bit 0 first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyUsage(pub(crate) u16);

impl KeyUsage {
    /// The API's names, in the order of the bits.
    pub const NAMES: [&str; 9] = [
        "DigitalSignature",
        "ContentCommitment",
        "KeyEncipherment",
        "DataEncipherment",
        "KeyAgreement",
        "CertSign",
        "CRLSign",
        "EncipherOnly",
        "DecipherOnly",
    ];

    /// What a certificate authority's certificate says: keyCertSign and cRLSign.
    pub const CA: Self = Self(1 << 5 | 1 << 6);

    /// From the API's names; case and surrounding blanks do not matter, and unknown names are
    /// passed over, as on the peer.
    pub fn from_names<T: AsRef<str>>(names: &[T]) -> Self {
        let bits = names.iter().filter_map(|name| Self::bit(name.as_ref())).fold(0, |bits, bit| bits | bit);
        Self(bits)
    }

    fn bit(name: &str) -> Option<u16> {
        Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim())).map(|index| 1 << index)
    }

    /// No usage at all: the extension is then left out.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every usage of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the usages in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, name)| name)
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, Malformed> {
        let content = Reader::new(value).expect(tag::BIT_STRING)?.content;
        let bytes = content.get(1..).ok_or(Malformed("a bit string without its first byte"))?;
        let mut bits = 0;
        for index in 0..Self::NAMES.len() {
            if bytes.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0) {
                bits |= 1 << index;
            }
        }
        Ok(Self(bits))
    }

    /// The DER BIT STRING: trailing zero bits are left out (X.690, 11.2.2).
    pub(crate) fn to_der(self) -> Vec<u8> {
        let mut bytes = [0_u8; 2];
        for index in 0..Self::NAMES.len() {
            if self.0 & (1 << index) != 0
                && let Some(byte) = bytes.get_mut(index / 8)
            {
                *byte |= 0x80 >> (index % 8);
            }
        }
        let significant = match bytes {
            [0, 0] => &[][..],
            [first, 0] if first != 0 => bytes.get(..1).unwrap_or(&[]),
            _ => &bytes[..],
        };
        let unused = significant.last().map_or(0, |byte| byte.trailing_zeros());
        let mut der = vec![tag::BIT_STRING, 0, u8::try_from(unused).unwrap_or(0)];
        der.extend_from_slice(significant);
        if let (Some(length), Ok(value)) = (der.get_mut(1), u8::try_from(significant.len() + 1)) {
            *length = value;
        }
        der
    }
}

/// The extended key usages the API has names for (RFC 5280, 4.2.1.12, and Microsoft's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtendedKeyUsage {
    /// The API's name, without `ExtKeyUsage` in front.
    pub name: &'static str,
    /// Dotted identifier.
    pub oid: &'static str,
}

impl ExtendedKeyUsage {
    const fn new(name: &'static str, oid: &'static str) -> Self {
        Self { name, oid }
    }

    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::new("Any", "2.5.29.37.0"),
        Self::new("ServerAuth", "1.3.6.1.5.5.7.3.1"),
        Self::new("ClientAuth", "1.3.6.1.5.5.7.3.2"),
        Self::new("CodeSigning", "1.3.6.1.5.5.7.3.3"),
        Self::new("EmailProtection", "1.3.6.1.5.5.7.3.4"),
        Self::new("IPSECEndSystem", "1.3.6.1.5.5.7.3.5"),
        Self::new("IPSECTunnel", "1.3.6.1.5.5.7.3.6"),
        Self::new("IPSECUser", "1.3.6.1.5.5.7.3.7"),
        Self::new("TimeStamping", "1.3.6.1.5.5.7.3.8"),
        Self::new("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
        Self::new("MicrosoftServerGatedCrypto", "1.3.6.1.4.1.311.10.3.3"),
        Self::new("NetscapeServerGatedCrypto", "2.16.840.1.113730.4.1"),
        Self::new("MicrosoftCommercialCodeSigning", "1.3.6.1.4.1.311.2.1.22"),
        Self::new("MicrosoftKernelCodeSigning", "1.3.6.1.4.1.311.61.1.1"),
    ];

    /// By the API's name; case and surrounding blanks do not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.name.eq_ignore_ascii_case(name.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Emitter;
    use crate::extension;

    const ALGORITHM: &[u8] = &[0x30, 2, 5, 0];

    /// A certificate that holds these extensions, `behind` behind their list; its key and signature are no more than
    /// their frames.
    fn certificate(serial: &[u8], extensions: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
        let mut out = Emitter::new(256);
        out.bit_string(&[1, 2, 3]);
        out.raw(ALGORITHM);
        let tbs = out.mark();
        out.raw(behind);
        let list = out.mark();
        extensions.iter().rev().for_each(|whole| out.raw(whole));
        out.close(tag::SEQUENCE, list);
        out.close(tag::constructed(3), tbs);
        out.raw(&[0x30, 3, 2, 1, 7]);
        out.raw(&[0x30, 0]);
        let validity = out.mark();
        Time::from_second(86_400).emit(&mut out);
        Time::from_second(0).emit(&mut out);
        out.close(tag::SEQUENCE, validity);
        out.raw(&[0x30, 0]);
        out.raw(ALGORITHM);
        out.element(tag::INTEGER, serial);
        out.close(tag::SEQUENCE, tbs);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }

    fn refused(serial: &[u8], extensions: &[Vec<u8>], behind: &[u8]) -> Option<&'static str> {
        parse(&certificate(serial, extensions, behind)).err().map(|Malformed(reason)| reason)
    }

    #[test]
    fn serial_numbers_are_not_negative() {
        for serial in [&[0_u8][..], &[1], &[0, 0x80], &[0x7f; 20]] {
            assert_eq!(refused(serial, &[], &[]), None, "{serial:?}");
        }
        for serial in [&[0x80_u8][..], &[0xff], &[0xff; 20]] {
            assert_eq!(refused(serial, &[], &[]), Some("x509: negative serial number"), "{serial:?}");
        }
        assert!(refused(&[], &[], &[]).is_some());
    }

    #[test]
    fn no_extension_stands_twice() {
        let usage = extension::key_usage(KeyUsage::CA);
        let constraints = extension::basic_constraints(true, None);
        assert_eq!(refused(&[1], &[usage.clone(), constraints.clone()], &[]), None);
        assert_eq!(
            refused(&[1], &[usage.clone(), constraints, usage], &[]),
            Some("x509: certificate contains duplicate extensions")
        );
    }

    #[test]
    fn nothing_stands_behind_the_extensions() {
        let usage = extension::key_usage(KeyUsage::CA);
        assert_eq!(refused(&[1], &[usage], &[5, 0]), Some("asn1: syntax error: trailing data"));
    }

    #[test]
    fn an_extension_says_what_it_is_in_one_way() {
        let whole = |oid: &[u8], critical: u8| {
            let mut out = Emitter::new(32);
            out.element(tag::OCTET_STRING, &[5, 0]);
            out.element(tag::BOOLEAN, &[critical]);
            out.element(tag::OID, oid);
            out.close(tag::SEQUENCE, 0);
            out.finish()
        };
        assert_eq!(refused(&[1], &[whole(&[0x2a, 3], 0xff)], &[]), None);
        assert_eq!(refused(&[1], &[whole(&[0x2a, 3], 0)], &[]), Some("a false that is written out"));
        assert_eq!(
            refused(&[1], &[whole(&[0x2a, 0x80, 3], 0xff)], &[]),
            Some("an object identifier that is not minimal")
        );
    }

    #[test]
    fn path_lengths_are_small_and_in_the_fewest_bytes() {
        let constraints = |length: &[u8]| {
            let mut out = Emitter::new(16);
            out.element(tag::INTEGER, length);
            out.element(tag::BOOLEAN, &[0xff]);
            out.close(tag::SEQUENCE, 0);
            BasicConstraints::read(&out.finish()).map(|constraints| constraints.path_length)
        };
        assert_eq!(constraints(&[0]), Ok(Some(0)));
        assert_eq!(constraints(&[1, 0]), Ok(Some(256)));
        assert_eq!(constraints(&[0, 0x80]), Ok(Some(128)));
        assert!(constraints(&[0, 1]).is_err() && constraints(&[0xff]).is_err());
    }
}
