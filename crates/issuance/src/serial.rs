//! Serial numbers: born in time order, with 112 random bits.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// A certificate's serial number: 1 to 20 bytes, the minimal big-endian encoding of a positive
/// integer (RFC 5280, 4.1.2.2).
///
/// Displayed and parsed as lower-case hexadecimal pairs joined by colons; `-` and no separator
/// at all are understood too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber {
    length: u8,
    bytes: [u8; Self::MAX],
}

impl SerialNumber {
    /// RFC 5280, 4.1.2.2 allows 20 octets; some authorities spend a 21st on the sign, and we
    /// must be able to import their certificates.
    const MAX: usize = 21;

    /// A fresh serial number: 6 bytes of Unix milliseconds, then the 14 random bytes given.
    ///
    /// The time prefix keeps certificates in birth order wherever they are stored by serial
    /// number, which makes the store's writes sequential; `not_before` tells the time anyway.
    /// 112 random bits are far above the 64 that the CA/Browser Forum asks for (BR 7.1).
    ///
    /// Times before 3 November 2004 are lifted to it and times after 6429 lowered, so that the
    /// number always has 20 bytes and its first byte is neither 0 nor above 0x7f.
    pub fn generate(now: Timestamp, random: [u8; 14]) -> Self {
        // The least value whose first of six bytes is 1: 2^40 ms after 1970 is 2004-11-03.
        const FIRST: u64 = 1 << 40;
        const LAST: u64 = (1 << 47) - 1;
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0).clamp(FIRST, LAST);
        let mut bytes = [0; Self::MAX];
        let (time, rest) = bytes.split_at_mut(6);
        time.copy_from_slice(millis.to_be_bytes().last_chunk::<6>().unwrap_or(&[1; 6]));
        for (to, from) in rest.iter_mut().zip(random) {
            *to = from;
        }
        Self { length: 20, bytes }
    }

    /// From big-endian bytes as they stand in a DER INTEGER (a sign byte is dropped).
    /// `None` if empty, zero, or longer than 21 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let first = bytes.iter().position(|byte| *byte != 0)?;
        let significant = bytes.get(first..)?;
        let mut fixed = [0; Self::MAX];
        fixed.get_mut(..significant.len())?.copy_from_slice(significant);
        Some(Self { length: u8::try_from(significant.len()).ok()?, bytes: fixed })
    }

    /// As [`SerialNumber::from_bytes`], with zero: against RFC 5280, 4.1.2.2, but to be found in old roots.
    pub fn or_zero(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] => None,
            zeros if zeros.iter().all(|byte| *byte == 0) => Some(Self { length: 1, bytes: [0; Self::MAX] }),
            _ => Self::from_bytes(bytes),
        }
    }

    /// The minimal big-endian bytes, without a sign byte.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&[])
    }

    /// The first eight bytes as a number: grows with the time of birth for serial numbers made
    /// by [`SerialNumber::generate`].
    pub fn order(&self) -> u64 {
        u64::from_be_bytes(*self.bytes.first_chunk::<8>().unwrap_or(&[0; 8]))
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.as_bytes().iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

/// The text is not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("serial number is not hexadecimal bytes joined by colons")]
pub struct ParseSerialError;

impl FromStr for SerialNumber {
    type Err = ParseSerialError;

    fn from_str(text: &str) -> Result<Self, ParseSerialError> {
        let digits: String = text.trim().chars().filter(|c| !matches!(c, ':' | '-')).collect();
        let bytes =
            data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| ParseSerialError)?;
        Self::or_zero(&bytes).ok_or(ParseSerialError)
    }
}
