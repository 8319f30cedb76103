//! Input that is almost right: the same for the same number, on every machine.

/// Numbers that look random (xorshift64*), from a seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let roll = usize::try_from(self.roll() >> 33).unwrap_or(0);
        roll.checked_rem(end).unwrap_or(0)
    }

    /// One of the items.
    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> Option<&'a T> {
        items.get(self.below(items.len())).copied()
    }
}

/// Pieces that parsers stumble over: ends of ranges, separators, lengths of DER, broken UTF-8.
const PIECES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xc3\xa9",
    b"\xf0\x9f\x92\xa9",
    b"\xed\xa0\x80",
    b"\\u0000",
    b"\\ud800",
    b"\"",
    b"\\",
    b"/",
    b"//",
    b"../",
    b"%",
    b"%2e%2e",
    b"%00",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"*",
    b"+",
    b"${",
    b"{{",
    b"}}",
    b"<<EOF\n",
    b"/*",
    b"#",
    b"-",
    b"0",
    b"-1",
    b"255",
    b"256",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1e400",
    b"0.1",
    b"null",
    b"true",
    b"h",
    b"\n",
    b"\r\n\r\n",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x02\x00",
    b"\x02\x01\x80",
    b"\x03\x01\x08",
    b"\x05\x00",
    b"\x06\x01\x80",
    b"\xa0\x00",
    b"\x17\x0d",
];

/// The seed with one to four things about it changed; `other` lends pieces.
#[must_use]
pub fn mutate(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let rest = bytes.len() - at;
        let short = dice.below(rest.min(32) + 1);
        match dice.below(9) {
            0 => flip(&mut bytes, at, 1 << dice.below(8)),
            1 => flip(&mut bytes, at, u8::try_from(dice.below(256)).unwrap_or(0)),
            2 => drop(bytes.drain(at..at + short)),
            3 => bytes.truncate(at),
            4 => insert(&mut bytes, at, dice.pick(PIECES).unwrap_or_default()),
            5 => drop(bytes.splice(at..at + short, dice.pick(PIECES).unwrap_or_default().iter().copied())),
            6 => {
                let copy: Vec<u8> = bytes.iter().skip(at).take(short).copied().collect();
                insert(&mut bytes, at, &copy);
            }
            7 => {
                let from = dice.below(other.len());
                let lent: Vec<u8> = other.iter().skip(from).take(dice.below(64)).copied().collect();
                insert(&mut bytes, at, &lent);
            }
            // Many of the same: what is quadratic shows, and what recurses overflows.
            _ if dice.below(16) == 0 => {
                let piece = dice.pick(PIECES).unwrap_or_default().repeat(2000);
                insert(&mut bytes, at, &piece);
            }
            _ => bytes.extend_from_slice(dice.pick(PIECES).unwrap_or_default()),
        }
    }
    bytes
}

fn flip(bytes: &mut [u8], at: usize, bits: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bits;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(bytes.splice(at..at, piece.iter().copied()));
}
