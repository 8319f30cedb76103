//! DER, both ways, for the few structures on the path of every certificate.
//!
//! [`Emitter`] writes back to front into one buffer: a header is written when its content already
//! stands behind it, so no length is computed twice and nothing is moved. [`Reader`] splits DER
//! into its elements without copying, so that names and keys can be passed on byte for byte.

/// Universal and context tags (X.690, 8.1.2).
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const NUMERIC_STRING: u8 = 0x12;
    pub(crate) const TELETEX_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const BMP_STRING: u8 = 0x1e;

    /// `[n]` with primitive content.
    pub(crate) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// `[n]` with constructed content.
    pub(crate) const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// Writes DER from its end to its beginning.
pub(crate) struct Emitter {
    buffer: Vec<u8>,
    start: usize,
}

impl Emitter {
    /// With room for `capacity` bytes; grows when needed.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity], start: capacity }
    }

    /// How much has been written: a mark for [`Emitter::close`].
    pub(crate) fn mark(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Puts bytes in front of everything written so far.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() > self.start {
            self.grow(bytes.len());
        }
        let end = self.start;
        self.start -= bytes.len();
        if let Some(room) = self.buffer.get_mut(self.start..end) {
            room.copy_from_slice(bytes);
        }
    }

    fn grow(&mut self, more: usize) {
        let written = self.mark();
        let mut larger = vec![0; (self.buffer.len() + more).next_power_of_two() * 2];
        let start = larger.len() - written;
        if let (Some(to), Some(from)) = (larger.get_mut(start..), self.buffer.get(self.start..)) {
            to.copy_from_slice(from);
        }
        self.buffer = larger;
        self.start = start;
    }

    /// Puts tag and length in front of everything written since `mark`.
    pub(crate) fn close(&mut self, tag: u8, mark: usize) {
        let length = self.mark() - mark;
        let bytes = length.to_be_bytes();
        if length < 0x80 {
            self.raw(&[tag, bytes.last().copied().unwrap_or(0)]);
            return;
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let significant = bytes.get(zeros..).unwrap_or(&bytes);
        self.raw(significant);
        #[expect(clippy::cast_possible_truncation, reason = "a usize has at most eight bytes")]
        let count = significant.len() as u8;
        self.raw(&[tag, 0x80 | count]);
    }

    /// A whole element with primitive content.
    pub(crate) fn element(&mut self, tag: u8, content: &[u8]) {
        let mark = self.mark();
        self.raw(content);
        self.close(tag, mark);
    }

    /// A non-negative INTEGER from big-endian bytes.
    pub(crate) fn unsigned(&mut self, big_endian: &[u8]) {
        let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
        let significant = big_endian.get(zeros..).unwrap_or(&[]);
        let mark = self.mark();
        self.raw(significant);
        // X.690, 8.3: the first bit is the sign, and zero has one byte.
        if significant.first().is_none_or(|byte| byte & 0x80 != 0) {
            self.raw(&[0]);
        }
        self.close(tag::INTEGER, mark);
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn bit_string(&mut self, bytes: &[u8]) {
        let mark = self.mark();
        self.raw(bytes);
        self.raw(&[0]);
        self.close(tag::BIT_STRING, mark);
    }

    /// What was written, front to back.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}

/// Builds one DER value with a closure that writes its parts from last to first.
pub(crate) fn build(capacity: usize, tag: u8, write: impl FnOnce(&mut Emitter)) -> Vec<u8> {
    let mut out = Emitter::new(capacity);
    write(&mut out);
    out.close(tag, 0);
    out.finish()
}

/// The bytes are not DER of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// One element: its tag, content, and all its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// Reads the elements inside.
    pub(crate) fn reader(&self) -> Reader<'a> {
        Reader::new(self.content)
    }
}

/// Splits DER into elements.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(der: &'a [u8]) -> Self {
        Self { rest: der }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever its tag.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Malformed> {
        const SHORT: Malformed = Malformed("the encoding ends early");
        let (tag, after_tag) = self.rest.split_first().ok_or(SHORT)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("a tag number above 30"));
        }
        let (first, mut after_length) = after_tag.split_first().ok_or(SHORT)?;
        let mut length = usize::from(*first);
        if length >= 0x80 {
            let count = length & 0x7f;
            // X.690, 10.1: definite lengths in the fewest bytes. Four bytes are more than any
            // request we read.
            if count == 0 || count > 4 {
                return Err(Malformed("an indefinite or oversized length"));
            }
            let (bytes, after) = after_length.split_at_checked(count).ok_or(SHORT)?;
            length = bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            if length < 0x80 || bytes.first() == Some(&0) {
                return Err(Malformed("a length that is not minimal"));
            }
            after_length = after;
        }
        let (content, rest) = after_length.split_at_checked(length).ok_or(SHORT)?;
        let raw = self.rest.get(..self.rest.len() - rest.len()).ok_or(SHORT)?;
        if *tag == tag::OID && !is_minimal_oid(content) {
            return Err(Malformed("an object identifier that is not minimal"));
        }
        self.rest = rest;
        Ok(Element { tag: *tag, content, raw })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        let element = self.next()?;
        if element.tag == tag { Ok(element) } else { Err(Malformed("an unexpected tag")) }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.rest.first() == Some(&tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("asn1: syntax error: trailing data")) }
    }
}

/// Whether the content of an object identifier ends where it should, with each of its numbers in the fewest bytes
/// (X.690, 8.19.2): two encodings of one identifier would be two kinds to whoever compares bytes.
fn is_minimal_oid(content: &[u8]) -> bool {
    let begins_badly = content.first() == Some(&0x80)
        || content.windows(2).any(|pair| matches!(pair, [before, 0x80] if before & 0x80 == 0));
    content.last().is_some_and(|last| last & 0x80 == 0) && !begins_badly
}

/// A BIT STRING's whole bytes; unused bits are refused.
pub(crate) fn bit_string_bytes(content: &[u8]) -> Result<&[u8], Malformed> {
    match content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err(Malformed("a bit string with unused bits")),
    }
}

/// The content of a dotted object identifier; `None` if it is not one.
pub(crate) fn oid_content(dotted: &str) -> Option<Vec<u8>> {
    let oid: const_oid::ObjectIdentifier = dotted.parse().ok()?;
    Some(oid.as_bytes().to_vec())
}

/// The dotted form of an object identifier's content.
pub(crate) fn oid_text(content: &[u8]) -> Result<String, Malformed> {
    const_oid::ObjectIdentifier::from_bytes(content)
        .map(|oid| oid.to_string())
        .map_err(|_| Malformed("an object identifier that is not one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_fewest_bytes_and_read_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let mut out = Emitter::new(4);
            out.element(tag::OCTET_STRING, &content);
            let der = out.finish();
            let mut reader = Reader::new(&der);
            assert_eq!(reader.expect(tag::OCTET_STRING).unwrap().content, content);
            reader.end().unwrap();
        }
    }

    #[test]
    fn an_integer_with_its_first_bit_set_gets_a_sign_byte() {
        for (bytes, der) in [
            (&[0x80_u8][..], &[2_u8, 2, 0, 0x80][..]),
            (&[0x7f], &[2, 1, 0x7f]),
            (&[0, 0, 1], &[2, 1, 1]),
            (&[], &[2, 1, 0]),
            (&[0], &[2, 1, 0]),
        ] {
            let mut out = Emitter::new(0);
            out.unsigned(bytes);
            assert_eq!(out.finish(), der);
        }
    }

    #[test]
    fn object_identifiers_have_one_encoding() {
        for content in [&[0x2a_u8][..], &[0x55, 4, 3], &[0x88, 0x37, 1], &[0x2a, 0x81, 0x80, 0]] {
            let der = [&[tag::OID, u8::try_from(content.len()).unwrap()][..], content].concat();
            assert_eq!(Reader::new(&der).expect(tag::OID).map(|oid| oid.content), Ok(content));
        }
        for content in [&[0x80_u8, 1][..], &[0x2a, 0x80, 1], &[0x2a, 0x81, 1, 0x80, 0], &[0x2a, 0x81], &[]] {
            let der = [&[tag::OID, u8::try_from(content.len()).unwrap()][..], content].concat();
            assert!(Reader::new(&der).next().is_err(), "{content:?}");
        }
    }

    #[test]
    fn lengths_that_are_not_der_are_refused() {
        for der in
            [&[4_u8, 0x81, 1, 0][..], &[4, 0x80, 0, 0], &[4, 0x82, 0, 0x80], &[4, 5, 0], &[0x1f, 1, 0], &[4]]
        {
            assert!(Reader::new(der).next().is_err(), "{der:?}");
        }
    }
}
