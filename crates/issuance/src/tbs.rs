//! The bytes that will be signed: a certificate's or a CSR's inner part.

use crate::algorithm::identifier;
use crate::certificate::extension_oid;
use crate::emit::{Emitter, tag};
use crate::{SanSet, SerialNumber, SignatureAlgorithm, Time, extension};

/// Everything a certificate says, ready to be written.
#[derive(Debug)]
pub(crate) struct Tbs<'a> {
    pub(crate) serial: SerialNumber,
    pub(crate) algorithm: SignatureAlgorithm,
    /// DER names and key.
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
    pub(crate) extensions: Extensions<'a>,
}

/// The extensions in the peer's order. Those given as bytes are whole extensions, or empty.
#[derive(Debug, Default)]
pub(crate) struct Extensions<'a> {
    pub(crate) key_usage: &'a [u8],
    pub(crate) ext_key_usage: &'a [u8],
    pub(crate) basic_constraints: &'a [u8],
    /// The identifier alone.
    pub(crate) subject_key_id: &'a [u8],
    pub(crate) authority_key_id: &'a [u8],
    pub(crate) authority_info_access: &'a [u8],
    pub(crate) sans: Option<&'a SanSet>,
    pub(crate) sans_critical: bool,
    pub(crate) policies: &'a [u8],
    pub(crate) name_constraints: &'a [u8],
    pub(crate) crl_distribution_points: &'a [u8],
    /// Taken from a CSR as they are. They win over ours of the same kind.
    pub(crate) requested: Vec<&'a [u8]>,
    /// Behind those that were requested.
    pub(crate) late_policies: &'a [u8],
    pub(crate) freshest_crl: &'a [u8],
}

impl Extensions<'_> {
    fn is_requested(&self, oid: &[u8]) -> bool {
        self.requested.iter().any(|whole| extension::oid_of(whole) == Some(oid))
    }

    /// Writes them, last one first.
    fn emit(&self, out: &mut Emitter) {
        let mark = out.mark();
        let ours = |out: &mut Emitter, oid: &[u8], whole: &[u8]| {
            if !whole.is_empty() && !self.is_requested(oid) {
                out.raw(whole);
            }
        };
        let sans =
            self.sans.filter(|sans| !sans.is_empty() && !self.is_requested(extension_oid::SUBJECT_ALT_NAME));
        // The peer's library writes the SANs itself only if there is no otherName among them.
        let (late_sans, early_sans) = match sans {
            Some(sans) if sans.other.is_empty() => (None, Some(sans)),
            other => (other, None),
        };

        ours(out, extension_oid::FRESHEST_CRL, self.freshest_crl);
        ours(out, extension_oid::CERTIFICATE_POLICIES, self.late_policies);
        self.emit_sans(out, late_sans);
        for whole in self.requested.iter().rev() {
            out.raw(whole);
        }
        ours(out, extension_oid::CRL_DISTRIBUTION_POINTS, self.crl_distribution_points);
        ours(out, extension_oid::NAME_CONSTRAINTS, self.name_constraints);
        ours(out, extension_oid::CERTIFICATE_POLICIES, self.policies);
        self.emit_sans(out, early_sans);
        ours(out, extension_oid::AUTHORITY_INFO_ACCESS, self.authority_info_access);
        ours(out, extension_oid::AUTHORITY_KEY_ID, self.authority_key_id);
        if !self.subject_key_id.is_empty() && !self.is_requested(extension_oid::SUBJECT_KEY_ID) {
            extension::subject_key_id(out, self.subject_key_id);
        }
        ours(out, extension_oid::BASIC_CONSTRAINTS, self.basic_constraints);
        ours(out, extension_oid::EXTENDED_KEY_USAGE, self.ext_key_usage);
        ours(out, extension_oid::KEY_USAGE, self.key_usage);
        out.close(tag::SEQUENCE, mark);
    }

    fn emit_sans(&self, out: &mut Emitter, sans: Option<&SanSet>) {
        if let Some(sans) = sans {
            let mark = out.mark();
            sans.emit(out);
            extension::close(out, mark, extension_oid::SUBJECT_ALT_NAME, self.sans_critical);
        }
    }
}

impl Tbs<'_> {
    /// The DER TBSCertificate (RFC 5280, 4.1).
    pub(crate) fn to_der(&self) -> Vec<u8> {
        // Enough for an ordinary leaf: then the buffer never grows.
        let mut out = Emitter::new(768 + self.spki.len() + self.subject.len() + self.issuer.len());
        self.extensions.emit(&mut out);
        out.close(tag::constructed(3), 0);
        out.raw(self.spki);
        out.raw(self.subject);
        let validity = out.mark();
        self.not_after.emit(&mut out);
        self.not_before.emit(&mut out);
        out.close(tag::SEQUENCE, validity);
        out.raw(self.issuer);
        out.raw(&identifier::of(self.algorithm));
        out.unsigned(self.serial.as_bytes());
        let version = out.mark();
        // Version 3 is written as 2.
        out.unsigned(&[2]);
        out.close(tag::constructed(0), version);
        out.close(tag::SEQUENCE, 0);
        out.finish()
    }
}

/// Content, algorithm and signature: the outer form of certificates and CSRs alike.
pub(crate) fn signed(content: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    let mut out = Emitter::new(content.len() + signature.len() + 96);
    out.bit_string(signature);
    out.raw(&identifier::of(algorithm));
    out.raw(content);
    out.close(tag::SEQUENCE, 0);
    out.finish()
}
