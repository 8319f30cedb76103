//! Subjects: the attributes a certificate's distinguished name may carry.

use crate::Refusal;
use crate::emit::{Element, Emitter, Malformed, Reader, tag};

/// A distinguished name by attribute. Several values of one attribute go into one multi-valued
/// relative distinguished name, as the peer does.
///
/// The order in the certificate is fixed: country, province, locality, street address, postal
/// code, organization, organizational unit, common name, serial number, user ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN; empty for none.
    pub common_name: String,
    /// The subject's serialNumber attribute (not the certificate's); empty for none.
    pub serial_number: String,
    /// C
    pub country: Vec<String>,
    /// O
    pub organization: Vec<String>,
    /// OU
    pub ou: Vec<String>,
    /// L
    pub locality: Vec<String>,
    /// ST
    pub province: Vec<String>,
    /// street
    pub street_address: Vec<String>,
    /// postalCode
    pub postal_code: Vec<String>,
    /// UID (0.9.2342.19200300.100.1.1), each in its own relative distinguished name.
    pub user_ids: Vec<String>,
}

/// Contents of attribute identifiers.
mod attribute {
    pub(super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(super) const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
    pub(super) const COUNTRY: &[u8] = &[0x55, 4, 6];
    pub(super) const LOCALITY: &[u8] = &[0x55, 4, 7];
    pub(super) const PROVINCE: &[u8] = &[0x55, 4, 8];
    pub(super) const STREET_ADDRESS: &[u8] = &[0x55, 4, 9];
    pub(super) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub(super) const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 4, 11];
    pub(super) const POSTAL_CODE: &[u8] = &[0x55, 4, 17];
    pub(super) const USER_ID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01];
}

impl Subject {
    /// A subject with a common name and nothing else.
    pub fn from_common_name(common_name: impl Into<String>) -> Self {
        Self { common_name: common_name.into(), ..Self::default() }
    }

    /// Reads a distinguished name. Attributes without a field here must be strings too; where a
    /// single-valued attribute occurs twice, the last one counts, as on the peer.
    pub(crate) fn read(name: Element<'_>) -> Result<Self, Malformed> {
        let mut subject = Self::default();
        let mut rdns = name.reader();
        while !rdns.is_empty() {
            let mut attributes = rdns.expect(tag::SET)?.reader();
            while !attributes.is_empty() {
                subject.read_attribute(attributes.expect(tag::SEQUENCE)?.reader())?;
            }
        }
        Ok(subject)
    }

    fn read_attribute(&mut self, mut fields: Reader<'_>) -> Result<(), Malformed> {
        let kind = fields.expect(tag::OID)?.content;
        let value = string(fields.next()?)?;
        fields.end()?;
        // A NUL has ended many a name early for those who compare it.
        if value.contains('\0') {
            return Err(Malformed("a NUL in the subject"));
        }
        match kind {
            attribute::COMMON_NAME => self.common_name = value,
            attribute::SERIAL_NUMBER => self.serial_number = value,
            attribute::COUNTRY => self.country.push(value),
            attribute::LOCALITY => self.locality.push(value),
            attribute::PROVINCE => self.province.push(value),
            attribute::STREET_ADDRESS => self.street_address.push(value),
            attribute::ORGANIZATION => self.organization.push(value),
            attribute::ORGANIZATIONAL_UNIT => self.ou.push(value),
            attribute::POSTAL_CODE => self.postal_code.push(value),
            attribute::USER_ID => self.user_ids.push(value),
            _ => {}
        }
        Ok(())
    }

    /// The distinguished name. Values that occur twice in one attribute stand once.
    ///
    /// # Errors
    /// A value with a NUL in it.
    pub(crate) fn to_der(&self) -> Result<Vec<u8>, Refusal> {
        let Self {
            common_name,
            serial_number,
            country,
            organization,
            ou,
            locality,
            province,
            street_address,
            postal_code,
            user_ids,
        } = self;
        let single = |value: &String| if value.is_empty() { Vec::new() } else { vec![value.clone()] };
        let mut out = Emitter::new(96 + common_name.len());
        for user_id in user_ids.iter().rev() {
            rdn(&mut out, attribute::USER_ID, "user_ids", std::slice::from_ref(user_id))?;
        }
        rdn(&mut out, attribute::SERIAL_NUMBER, "serial_number", &single(serial_number))?;
        rdn(&mut out, attribute::COMMON_NAME, "common_name", &single(common_name))?;
        rdn(&mut out, attribute::ORGANIZATIONAL_UNIT, "ou", ou)?;
        rdn(&mut out, attribute::ORGANIZATION, "organization", organization)?;
        rdn(&mut out, attribute::POSTAL_CODE, "postal_code", postal_code)?;
        rdn(&mut out, attribute::STREET_ADDRESS, "street_address", street_address)?;
        rdn(&mut out, attribute::LOCALITY, "locality", locality)?;
        rdn(&mut out, attribute::PROVINCE, "province", province)?;
        rdn(&mut out, attribute::COUNTRY, "country", country)?;
        out.close(tag::SEQUENCE, 0);
        Ok(out.finish())
    }
}

/// One relative distinguished name; nothing for no values.
fn rdn(out: &mut Emitter, kind: &[u8], field: &'static str, values: &[String]) -> Result<(), Refusal> {
    let mut attributes = Vec::with_capacity(values.len());
    for value in values.iter().filter(|value| !value.is_empty()) {
        if value.contains('\0') {
            return Err(Refusal::Unencodable { field, value: value.clone() });
        }
        let mut one = Emitter::new(kind.len() + value.len() + 12);
        one.element(string_tag(value), value.as_bytes());
        one.element(tag::OID, kind);
        one.close(tag::SEQUENCE, 0);
        attributes.push(one.finish());
    }
    if attributes.is_empty() {
        return Ok(());
    }
    // X.690, 11.6: the members of a SET OF stand in the order of their encodings.
    attributes.sort();
    attributes.dedup();
    let mark = out.mark();
    for attribute in attributes.iter().rev() {
        out.raw(attribute);
    }
    out.close(tag::SET, mark);
    Ok(())
}

/// PrintableString where its small alphabet will do (X.680, 41.4), otherwise UTF8String.
fn string_tag(value: &str) -> u8 {
    let printable = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b' ' | b'\'' | b'(' | b')' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?'
            )
    };
    if value.bytes().all(printable) { tag::PRINTABLE_STRING } else { tag::UTF8_STRING }
}

/// The last common name of a distinguished name, whatever string type it has.
pub(crate) fn last_common_name(name: Element<'_>) -> Option<String> {
    let mut found = None;
    let mut rdns = name.reader();
    while let Ok(rdn) = rdns.expect(tag::SET) {
        let mut attributes = rdn.reader();
        while let Ok(attribute) = attributes.expect(tag::SEQUENCE) {
            let mut fields = attribute.reader();
            let Ok(kind) = fields.expect(tag::OID) else { continue };
            if kind.content == attribute::COMMON_NAME
                && let Ok(value) = fields.next()
            {
                found = string(value).ok();
            }
        }
    }
    found
}

/// A directory string of any of its types (RFC 5280, 4.1.2.4).
pub(crate) fn string(element: Element<'_>) -> Result<String, Malformed> {
    const BAD: Malformed = Malformed("a string whose bytes are not of its type");
    let bytes = element.content;
    match element.tag {
        tag::UTF8_STRING => String::from_utf8(bytes.to_vec()).map_err(|_| BAD),
        tag::PRINTABLE_STRING | tag::IA5_STRING | tag::NUMERIC_STRING if bytes.is_ascii() => {
            String::from_utf8(bytes.to_vec()).map_err(|_| BAD)
        }
        // Written as Latin-1 by everybody, whatever T.61 says.
        tag::TELETEX_STRING => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        tag::BMP_STRING if bytes.len().is_multiple_of(2) => {
            let units = bytes.chunks_exact(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0xfffd,
            });
            char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| BAD)
        }
        _ => Err(Malformed("a value that is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(der: &[u8]) -> Subject {
        Subject::read(Reader::new(der).expect(tag::SEQUENCE).unwrap()).unwrap()
    }

    #[test]
    fn a_subject_reads_back_with_values_sorted_and_once() {
        let all = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let subject = Subject {
            common_name: "host".to_owned(),
            serial_number: "7".to_owned(),
            country: all(&["DE"]),
            organization: all(&["Müller", "a&b"]),
            ou: all(&["b", "a", "b"]),
            locality: all(&["L"]),
            province: all(&["P"]),
            street_address: all(&["S"]),
            postal_code: all(&["Z"]),
            user_ids: all(&["u2", "u1"]),
        };
        let expected =
            Subject { ou: all(&["a", "b"]), organization: all(&["a&b", "Müller"]), ..subject.clone() };
        assert_eq!(read(&subject.to_der().unwrap()), expected);
    }

    #[test]
    fn an_empty_subject_is_an_empty_sequence() {
        assert_eq!(Subject::default().to_der().unwrap(), [0x30, 0]);
    }

    #[test]
    fn a_nul_is_neither_written_nor_read() {
        assert!(Subject::from_common_name("a\0b").to_der().is_err());
        let mut der = Subject::from_common_name("axb").to_der().unwrap();
        let at = der.iter().position(|byte| *byte == b'x').unwrap();
        der[at] = 0;
        assert!(Subject::read(Reader::new(&der).expect(tag::SEQUENCE).unwrap()).is_err());
    }
}
