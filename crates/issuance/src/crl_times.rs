//! When a certificate revocation list was made, and when the next one is due.
//!
//! The list's entries and its signature are not looked at: a list of a million entries is judged by its first
//! few bytes.

use crate::emit::{Malformed, Reader, tag};
use crate::{CertificateError, Time, pem};

/// The times of a list (RFC 5280, 5.1.2.4 and 5.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlTimes {
    /// When it was made.
    pub this_update: Time,
    /// When the next one is due. Version 1 may leave it out.
    pub next_update: Option<Time>,
}

impl CrlTimes {
    /// Of the first list in a PEM text.
    ///
    /// # Errors
    /// None there, or not a list.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let block = pem::blocks(text)
            .find(|block| matches!(block.label, "X509 CRL" | "CRL"))
            .ok_or(CertificateError::Missing)?;
        Self::from_der(&block.der)
    }

    /// Of a list in DER.
    ///
    /// # Errors
    /// Not a list (RFC 5280, 5.1).
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        read(der).map_err(|Malformed(reason)| CertificateError::Malformed { reason: reason.to_owned() })
    }
}

fn read(der: &[u8]) -> Result<CrlTimes, Malformed> {
    let mut fields = Reader::new(der).expect(tag::SEQUENCE)?.reader().expect(tag::SEQUENCE)?.reader();
    fields.optional(tag::INTEGER)?;
    fields.expect(tag::SEQUENCE)?;
    fields.expect(tag::SEQUENCE)?;
    let this_update = Time::read(fields.next()?)?;
    let next_update = match fields.optional(tag::UTC_TIME)? {
        None => fields.optional(tag::GENERALIZED_TIME)?,
        found => found,
    };
    Ok(CrlTimes { this_update, next_update: next_update.map(Time::read).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Emitter;

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
