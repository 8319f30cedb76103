//! Subjects: the attributes a certificate's distinguished name may carry.

use crate::emit::{Element, Malformed, tag};

/// A distinguished name by attribute. Several values of one attribute go into one multi-valued
/// relative distinguished name, as the peer does.
///
/// The order in the certificate is fixed: country, organization, organizational unit, locality,
/// province, street address, postal code, common name, serial number, user ids.
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

impl Subject {
    /// A subject with a common name and nothing else.
    pub fn from_common_name(common_name: impl Into<String>) -> Self {
        Self { common_name: common_name.into(), ..Self::default() }
    }
}

/// The content of the common name's identifier, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The last common name of a distinguished name, whatever string type it has.
pub(crate) fn last_common_name(name: Element<'_>) -> Option<String> {
    let mut found = None;
    let mut rdns = name.reader();
    while let Ok(rdn) = rdns.expect(tag::SET) {
        let mut attributes = rdn.reader();
        while let Ok(attribute) = attributes.expect(tag::SEQUENCE) {
            let mut fields = attribute.reader();
            let Ok(kind) = fields.expect(tag::OID) else { continue };
            if kind.content == COMMON_NAME
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
        tag::BMP_STRING if bytes.len() % 2 == 0 => {
            let units = bytes.chunks_exact(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0xfffd,
            });
            char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| BAD)
        }
        _ => Err(Malformed("a value that is not a string")),
    }
}
