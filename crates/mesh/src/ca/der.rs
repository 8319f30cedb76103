//! As much of DER as the values of extensions need: elements, one behind the other.

/// `dNSName` in a GeneralName (RFC 5280, 4.2.1.6).
pub(crate) const DNS_NAME: u8 = 0x82;
/// `uniformResourceIdentifier` in a GeneralName (RFC 5280, 4.2.1.6).
pub(crate) const URI: u8 = 0x86;
/// An object identifier.
pub(super) const OID: u8 = 0x06;
/// A bit string.
pub(super) const BIT_STRING: u8 = 0x03;
/// A sequence.
pub(super) const SEQUENCE: u8 = 0x30;
/// A set.
pub(super) const SET: u8 = 0x31;

/// The contents of identifiers (RFC 5280, 4.2.1 and 4.2.1.12).
pub(crate) mod oid {
    pub(in crate::ca) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub(in crate::ca) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    pub(in crate::ca) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(in crate::ca) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub(in crate::ca) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    pub(in crate::ca) const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];
}

/// Tag and content of the first element, and what stands behind it. Tags above 30 and lengths that are not the
/// shortest (X.690, 10.1) are none.
pub(super) fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
        if length.first().is_none_or(|byte| *byte == 0) || length.len() > 4 {
            return None;
        }
        let length = length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        if length < 0x80 {
            return None;
        }
        (length, rest)
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

/// The content of the only element, which must have this tag.
pub(super) fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    match first(bytes)? {
        (found, content, []) if found == tag => Some(content),
        _ => None,
    }
}

/// All elements, one behind the other: tags and contents.
pub(super) fn elements(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (tag, content, behind) = first(bytes)?;
        found.push((tag, content));
        bytes = behind;
    }
    Some(found)
}

/// The elements of the only sequence.
pub(crate) fn sequence(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    elements(only(bytes, SEQUENCE)?)
}

/// The values of an attribute of a distinguished name, as bytes (RFC 5280, 4.1.2.4). `None` if it is no name.
pub(super) fn attribute_values<'a>(name: &'a [u8], kind: &[u8]) -> Option<Vec<&'a [u8]>> {
    let mut values = Vec::new();
    for (tag, set) in sequence(name)? {
        if tag != SET {
            return None;
        }
        for (tag, attribute) in elements(set)? {
            match elements(attribute)?.as_slice() {
                [(OID, found), (_, value)] if tag == SEQUENCE => {
                    if *found == kind {
                        values.push(*value);
                    }
                }
                _ => return None,
            }
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_one_behind_the_other() {
        assert_eq!(sequence(&[0x30, 5, 6, 0, 0x86, 1, 7]), Some(vec![(6, &[][..]), (0x86, &[7][..])]));
        let long = [&[0x30, 0x81, 0x80][..], &[5, 0].repeat(64)].concat();
        assert_eq!(sequence(&long).map(|list| list.len()), Some(64));
    }

    #[test]
    fn what_is_cut_off_or_not_the_shortest_is_none() {
        let all = [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0, 0],
            &[0x31, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 1, 0],
            &[0x30, 0x82, 0, 0x80],
            &[0x30, 0x85, 1, 0, 0, 0, 0],
            &[0x1f, 0x20, 0],
            &[0x30, 2, 6, 1],
        ];
        for bytes in all {
            assert_eq!(sequence(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn every_value_of_an_attribute_is_found() {
        let attribute = |kind: u8, value: u8| vec![0x31, 10, 0x30, 8, 6, 3, 0x55, 4, kind, 12, 1, value];
        let name = [attribute(3, b'a'), attribute(10, b'o'), attribute(3, b'b')].concat();
        let name = [&[0x30, 36][..], &name].concat();
        assert_eq!(attribute_values(&name, oid::COMMON_NAME), Some(vec![&b"a"[..], &b"b"[..]]));
        assert_eq!(attribute_values(&[0x30, 0], oid::COMMON_NAME), Some(vec![]));
        assert_eq!(attribute_values(&[0x30, 2, 0x30, 0], oid::COMMON_NAME), None);
    }
}
