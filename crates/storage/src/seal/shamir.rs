//! Shamir's secret sharing over GF(2^8), in the share format of Vault.
//!
//! A share of an n-byte secret has n + 1 bytes: the value of each byte's polynomial at x, then x itself. The field
//! is that of AES (polynomial 0x11B). Arithmetic on secret bytes takes no branch and no table.

use zeroize::Zeroizing;

use super::scheme::ShareScheme;
use crate::keyring::fill_random;

/// One key holder's part of a secret.
pub type Share = Zeroizing<Vec<u8>>;

/// Why shares do not give a secret. The sentences are the ones that clients of Vault know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// One share or none.
    #[error("less than two parts cannot be used to reconstruct the secret")]
    TooFew,
    /// A share without a value.
    #[error("parts must be at least two bytes")]
    TooShort,
    /// Shares of secrets of different sizes.
    #[error("all parts must be the same length")]
    DifferentLengths,
    /// Two shares of the same key holder.
    #[error("duplicate part detected")]
    Duplicate,
    /// x = 0 would be the secret itself; nobody holds that share.
    #[error("a part with the number zero is not a key share")]
    Zero,
}

/// Shares of `secret`, any `threshold` of which give it back.
///
/// A single share is the secret itself, as the peer has it.
pub(crate) fn split(secret: &[u8], scheme: ShareScheme) -> Vec<Share> {
    if scheme.shares() == 1 {
        return vec![Zeroizing::new(secret.to_vec())];
    }
    let degree = usize::from(scheme.threshold()).saturating_sub(1);
    let mut shares: Vec<Share> = (1..=scheme.shares())
        .map(|_| Zeroizing::new(Vec::with_capacity(secret.len().saturating_add(1))))
        .collect();
    let mut coefficients = Zeroizing::new(vec![0; degree]);
    for &byte in secret {
        fill_random(&mut coefficients);
        for (x, share) in (1..=255).zip(shares.iter_mut()) {
            // Horner's rule; the secret byte is the constant term.
            let y = coefficients.iter().fold(0, |sum, &coefficient| multiply(sum ^ coefficient, x));
            share.push(y ^ byte);
        }
    }
    for (x, share) in (1..=255).zip(shares.iter_mut()) {
        share.push(x);
    }
    shares
}

/// The secret that these shares belong to.
///
/// Fewer shares than the threshold, or shares of different secrets, give bytes that mean nothing;
/// only whoever uses the secret can tell.
///
/// # Errors
/// Shares that cannot belong together.
pub fn combine<S: AsRef<[u8]>>(shares: &[S]) -> Result<Zeroizing<Vec<u8>>, CombineError> {
    let mut points = Vec::with_capacity(shares.len());
    for share in shares {
        let (&x, values) = share.as_ref().split_last().ok_or(CombineError::TooShort)?;
        points.push((x, values));
    }
    let [(_, first), _, ..] = points.as_slice() else { return Err(CombineError::TooFew) };
    let length = first.len();
    if length == 0 {
        return Err(CombineError::TooShort);
    }
    if points.iter().any(|(_, values)| values.len() != length) {
        return Err(CombineError::DifferentLengths);
    }
    if points.iter().any(|(x, _)| *x == 0) {
        return Err(CombineError::Zero);
    }
    let mut secret = Zeroizing::new(vec![0; length]);
    for (i, (x, values)) in points.iter().enumerate() {
        // Lagrange's basis polynomial of this point, at 0. Which shares were used is no secret.
        let mut basis = 1;
        for (j, (other, _)) in points.iter().enumerate() {
            if i == j {
                continue;
            }
            if x == other {
                return Err(CombineError::Duplicate);
            }
            basis = multiply(basis, multiply(*other, invert(x ^ other)));
        }
        for (byte, value) in secret.iter_mut().zip(*values) {
            *byte ^= multiply(basis, *value);
        }
    }
    Ok(secret)
}

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, in constant time.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = 0_u8;
    for bit in (0..8).rev() {
        let reduce = (product >> 7).wrapping_neg() & 0x1B;
        let add = ((b >> bit) & 1).wrapping_neg() & a;
        product = (product << 1) ^ reduce ^ add;
    }
    product
}

/// Multiplicative inverse: a^254, because a^255 = 1. The inverse of 0 comes out as 0 and is never asked for.
fn invert(a: u8) -> u8 {
    let mut power = a;
    let mut inverse = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        inverse = multiply(inverse, power);
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_field_is_that_of_aes() {
        // FIPS 197, 4.2 and 4.2.1; the last pair would differ modulo 0x11D.
        assert_eq!(multiply(0x57, 0x83), 0xC1);
        assert_eq!(multiply(0x57, 0x13), 0xFE);
        assert_eq!(multiply(0x80, 2), 0x1B);
        for a in 1..=255 {
            assert_eq!(multiply(a, invert(a)), 1);
            assert_eq!(multiply(a, 1), a);
            assert_eq!(multiply(a, 0), 0);
        }
    }

    /// Shares printed by `bao operator init` (OpenBao 2.7.2, 3 shares, threshold 2) of a throw-away server.
    #[test]
    fn any_two_shares_of_the_peer_give_the_same_secret() {
        let shares = [
            hex("f64614d26d4a4fc555c8e372d8fcfbee4af8bb7da4f82918cbe1911b0ed62d3782"),
            hex("1dd815a883f74a6ad32040e65d94ecdbc6694a27c2d79ca0197873710bd6db56ea"),
            hex("027f61ca23cef5baf8a3d624ea1fba6788143147e70f2826fc889512b4d6f72461"),
        ];
        let secret = combine(&shares[..2]).unwrap();
        assert_eq!(secret.len(), 32);
        assert_eq!(secret, combine(&shares[1..]).unwrap());
        assert_eq!(secret, combine(&[&shares[2], &shares[0]]).unwrap());
        assert_eq!(secret, combine(&shares).unwrap());
    }

    #[test]
    fn a_threshold_of_shares_gives_the_secret_and_fewer_do_not() {
        let secret: Vec<u8> = (0..32).collect();
        for (shares, threshold) in [(2, 2), (5, 3), (255, 2), (255, 255)] {
            let shares = split(&secret, ShareScheme::new(shares, threshold).unwrap());
            let threshold = usize::try_from(threshold).unwrap();
            assert!(shares.iter().all(|share| share.len() == 33));
            assert_eq!(*combine(&shares[shares.len() - threshold..]).unwrap(), secret);
            assert_eq!(*combine(&shares).unwrap(), secret);
            if threshold > 2 {
                assert_ne!(*combine(&shares[..threshold - 1]).unwrap(), secret);
            }
        }
        assert_eq!(*split(&secret, ShareScheme::new(1, 1).unwrap())[0], secret);
    }

    #[test]
    fn shares_that_cannot_belong_together_are_refused() {
        let cases: [(&[&[u8]], CombineError); 7] = [
            (&[], CombineError::TooFew),
            (&[b"a\x01"], CombineError::TooFew),
            (&[b"", b"a\x01"], CombineError::TooShort),
            (&[b"\x01", b"\x02"], CombineError::TooShort),
            (&[b"a\x01", b"ab\x02"], CombineError::DifferentLengths),
            (&[b"a\x01", b"b\x01"], CombineError::Duplicate),
            (&[b"a\x01", b"b\x00"], CombineError::Zero),
        ];
        for (shares, error) in cases {
            assert_eq!(combine(shares).unwrap_err(), error, "{shares:?}");
        }
    }
}
