//! Texts of letters and digits: the alphabet of tokens, accessors and lease ids.

use aws_lc_rs::rand;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits that hold milliseconds since the epoch until the year 2081.
pub(crate) const TIME_DIGITS: usize = 7;

/// Digits that hold 128 bits.
pub(crate) const BLOCK_DIGITS: usize = 22;

/// `number` in exactly `digits` digits; higher digits are cut off.
pub(crate) fn encode(mut number: u128, digits: usize) -> String {
    let mut text = vec![b'0'; digits];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(number % 62).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        number /= 62;
    }
    text.into_iter().map(char::from).collect()
}

/// The number that `text` stands for; `None` if it is no such text, or beyond 128 bits.
pub(crate) fn decode(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(u128::from(digit))
    })
}

/// `digits` random digits, each equally likely.
///
/// Panics if the system has no randomness, which it must have.
#[expect(clippy::expect_used, reason = "without randomness there are no secrets to give out")]
pub(crate) fn random(digits: usize) -> String {
    let mut text = String::with_capacity(digits);
    let mut pool = [0_u8; 32];
    while text.len() < digits {
        rand::fill(&mut pool).expect("the system must have randomness");
        for byte in pool {
            // 248 is the largest multiple of 62 in a byte: beyond it low digits would be likelier.
            if byte < 248 && text.len() < digits {
                text.extend(DIGITS.get(usize::from(byte % 62)).map(|digit| char::from(*digit)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back() {
        for number in [0, 1, 61, 62, 1_795_487_619_000, u128::from(u64::MAX), u128::MAX] {
            assert_eq!(decode(&encode(number, BLOCK_DIGITS)), Some(number));
        }
        assert_eq!(encode(1_795_487_619_000, TIME_DIGITS).len(), TIME_DIGITS);
    }

    #[test]
    fn texts_sort_as_their_numbers() {
        assert!(encode(61, 2) < encode(62, 2));
        assert!(encode(9, 1) < encode(10, 1) && encode(35, 1) < encode(36, 1));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert_eq!(decode("a-b"), None);
        assert_eq!(decode("zzzzzzzzzzzzzzzzzzzzzzz"), None);
    }

    #[test]
    fn random_digits_are_of_the_alphabet_and_differ() {
        let (one, other) = (random(40), random(40));
        assert_eq!(one.len(), 40);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}
