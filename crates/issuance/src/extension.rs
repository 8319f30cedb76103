//! The extensions we write (RFC 5280, 4.2), each whole: identifier, criticality, value.

use crate::certificate::extension_oid;
use crate::emit::{self, Emitter, tag};
use crate::{AiaUrls, KeyUsage, PolicyIdentifier};

/// Wraps the value that was written since `mark`.
pub(crate) fn close(out: &mut Emitter, mark: usize, oid: &[u8], critical: bool) {
    out.close(tag::OCTET_STRING, mark);
    if critical {
        out.element(tag::BOOLEAN, &[0xff]);
    }
    out.element(tag::OID, oid);
    out.close(tag::SEQUENCE, mark);
}

fn whole(capacity: usize, oid: &[u8], critical: bool, write: impl FnOnce(&mut Emitter)) -> Vec<u8> {
    let mut out = Emitter::new(capacity + 24);
    write(&mut out);
    close(&mut out, 0, oid, critical);
    out.finish()
}

/// Key usage, critical (4.2.1.3); nothing for no usages.
pub(crate) fn key_usage(usage: KeyUsage) -> Vec<u8> {
    if usage.is_empty() {
        return Vec::new();
    }
    whole(8, extension_oid::KEY_USAGE, true, |out| out.raw(&usage.to_der()))
}

/// Extended key usage (4.2.1.12); nothing for no usages. `oids` are identifiers' contents.
pub(crate) fn ext_key_usage(oids: &[Vec<u8>]) -> Vec<u8> {
    if oids.is_empty() {
        return Vec::new();
    }
    whole(16 * oids.len(), extension_oid::EXTENDED_KEY_USAGE, false, |out| {
        for oid in oids.iter().rev() {
            out.element(tag::OID, oid);
        }
        out.close(tag::SEQUENCE, 0);
    })
}

/// Basic constraints, critical (4.2.1.9).
pub(crate) fn basic_constraints(is_ca: bool, path_length: Option<u32>) -> Vec<u8> {
    whole(16, extension_oid::BASIC_CONSTRAINTS, true, |out| {
        if let Some(length) = path_length {
            out.unsigned(&length.to_be_bytes());
        }
        if is_ca {
            out.element(tag::BOOLEAN, &[0xff]);
        }
        out.close(tag::SEQUENCE, 0);
    })
}

/// Subject key identifier (4.2.1.2).
pub(crate) fn subject_key_id(out: &mut Emitter, id: &[u8]) {
    let mark = out.mark();
    out.element(tag::OCTET_STRING, id);
    close(out, mark, extension_oid::SUBJECT_KEY_ID, false);
}

/// Authority key identifier (4.2.1.1).
pub(crate) fn authority_key_id(id: &[u8]) -> Vec<u8> {
    whole(id.len() + 8, extension_oid::AUTHORITY_KEY_ID, false, |out| {
        out.element(tag::context(0), id);
        out.close(tag::SEQUENCE, 0);
    })
}

/// Authority information access (4.2.2.1): OCSP first, then the issuer's certificates.
pub(crate) fn authority_info_access(urls: &AiaUrls) -> Vec<u8> {
    /// The contents of id-ad-ocsp and id-ad-caIssuers.
    const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
    const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    if urls.ocsp_servers.is_empty() && urls.issuing_certificates.is_empty() {
        return Vec::new();
    }
    whole(128, extension_oid::AUTHORITY_INFO_ACCESS, false, |out| {
        let mut access = |method: &[u8], url: &String| {
            let mark = out.mark();
            out.element(tag::context(6), url.as_bytes());
            out.element(tag::OID, method);
            out.close(tag::SEQUENCE, mark);
        };
        urls.issuing_certificates.iter().rev().for_each(|url| access(CA_ISSUERS, url));
        urls.ocsp_servers.iter().rev().for_each(|url| access(OCSP, url));
        out.close(tag::SEQUENCE, 0);
    })
}

/// CRL distribution points (4.2.1.13): one per URL.
pub(crate) fn crl_distribution_points(urls: &[String]) -> Vec<u8> {
    distribution_points(extension_oid::CRL_DISTRIBUTION_POINTS, urls)
}

/// Freshest CRL (4.2.1.15): where the deltas are.
pub(crate) fn freshest_crl(urls: &[String]) -> Vec<u8> {
    distribution_points(extension_oid::FRESHEST_CRL, urls)
}

fn distribution_points(oid: &[u8], urls: &[String]) -> Vec<u8> {
    if urls.is_empty() {
        return Vec::new();
    }
    whole(96 * urls.len(), oid, false, |out| {
        for url in urls.iter().rev() {
            let mark = out.mark();
            out.element(tag::context(6), url.as_bytes());
            // fullName inside distributionPoint inside DistributionPoint
            out.close(tag::constructed(0), mark);
            out.close(tag::constructed(0), mark);
            out.close(tag::SEQUENCE, mark);
        }
        out.close(tag::SEQUENCE, 0);
    })
}

/// Certificate policies (4.2.1.4), each with the content of its identifier.
pub(crate) fn policies(policies: &[(Vec<u8>, &PolicyIdentifier)]) -> Vec<u8> {
    /// The contents of id-qt-cps and id-qt-unotice.
    const CPS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 2, 1];
    const USER_NOTICE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 2, 2];
    if policies.is_empty() {
        return Vec::new();
    }
    whole(64 * policies.len(), extension_oid::CERTIFICATE_POLICIES, false, |out| {
        for (oid, policy) in policies.iter().rev() {
            let information = out.mark();
            if !policy.notice.is_empty() {
                let qualifier = out.mark();
                out.element(tag::UTF8_STRING, policy.notice.as_bytes());
                out.close(tag::SEQUENCE, qualifier);
                out.element(tag::OID, USER_NOTICE);
                out.close(tag::SEQUENCE, qualifier);
            }
            if !policy.cps.is_empty() {
                let qualifier = out.mark();
                out.element(tag::IA5_STRING, policy.cps.as_bytes());
                out.element(tag::OID, CPS);
                out.close(tag::SEQUENCE, qualifier);
            }
            if out.mark() > information {
                out.close(tag::SEQUENCE, information);
            }
            out.element(tag::OID, oid);
            out.close(tag::SEQUENCE, information);
        }
        out.close(tag::SEQUENCE, 0);
    })
}

/// Name constraints with permitted DNS subtrees, critical (4.2.1.10); nothing for no domains.
pub(crate) fn permitted_dns(domains: &[String]) -> Vec<u8> {
    if domains.is_empty() {
        return Vec::new();
    }
    whole(48 * domains.len(), extension_oid::NAME_CONSTRAINTS, true, |out| {
        for domain in domains.iter().rev() {
            let mark = out.mark();
            out.element(tag::context(2), domain.as_bytes());
            out.close(tag::SEQUENCE, mark);
        }
        out.close(tag::constructed(0), 0);
        out.close(tag::SEQUENCE, 0);
    })
}

/// The content of an extension's identifier, to tell whether two are of a kind.
pub(crate) fn oid_of(whole: &[u8]) -> Option<&[u8]> {
    let mut fields = emit::Reader::new(whole).next().ok()?.reader();
    fields.expect(tag::OID).ok().map(|oid| oid.content)
}
