//! Nonces against replay (RFC 8555, 6.5): each is taken once, and none of an earlier process.
//!
//! A nonce is a number and a MAC over it under a key that only this process has, so that nothing need be kept of one but
//! whether it was used: a bit. The bits of the last [`WINDOW`] nonces are kept; older ones are refused, and clients ask again
//! with the fresh one that the refusal carries. Memory is bounded by 128 KiB for each mount that ACME is used on.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use subtle::ConstantTimeEq;

use crate::error::Error;

/// How many of the last nonces can still be used.
const WINDOW: u64 = 1 << 20;

/// Bytes of the number, and of the MAC behind it.
const NUMBER: usize = 8;
const TAG: usize = 16;

/// The nonces of a mount.
pub(super) struct Nonces {
    key: hmac::Key,
    window: u64,
    book: Mutex<Book>,
}

/// Which nonces were given out and which of them came back.
struct Book {
    /// The next one's number.
    next: u64,
    /// A bit for each of the last ones, at its number modulo the window; empty before the first one.
    used: Vec<u64>,
}

impl Nonces {
    /// None yet, under a key of its own.
    pub(super) fn new() -> Result<Self, Error> {
        Self::with_window(WINDOW)
    }

    fn with_window(window: u64) -> Result<Self, Error> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Error::internal("internal error", "the operating system gives no random bytes"))?;
        Ok(Self { key, window, book: Mutex::new(Book { next: 0, used: Vec::new() }) })
    }

    /// A fresh one.
    pub(super) fn issue(&self) -> String {
        let number = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            if book.used.is_empty() {
                book.used = vec![0; usize::try_from(self.window.div_ceil(64)).unwrap_or(0)];
            }
            let number = book.next;
            book.next = number.wrapping_add(1);
            if let Some((word, bit)) = place(&mut book.used, number % self.window) {
                *word &= !bit;
            }
            number
        };
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.tag(number));
        BASE64URL.encode(bytes)
    }

    /// Takes a nonce, and says whether it could be: one of ours, not too old, not taken before.
    pub(super) fn redeem(&self, text: &str) -> bool {
        let Ok(bytes) = BASE64URL.decode(text) else { return false };
        let Some((number, tag)) = bytes.split_first_chunk::<NUMBER>() else { return false };
        let number = u64::from_be_bytes(*number);
        if !bool::from(self.tag(number).as_slice().ct_eq(tag)) {
            return false;
        }
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // The MAC says that it was given out, so that it is smaller than the next.
        if book.next.wrapping_sub(number) > self.window {
            return false;
        }
        let Some((word, bit)) = place(&mut book.used, number % self.window) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    fn tag(&self, number: u64) -> [u8; TAG] {
        let mut tag = [0; TAG];
        let whole = hmac::sign(&self.key, &number.to_be_bytes());
        tag.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
        tag
    }
}

/// The word and the bit in it that stand for `index`.
fn place(used: &mut [u64], index: u64) -> Option<(&mut u64, u64)> {
    let word = used.get_mut(usize::try_from(index / 64).ok()?)?;
    Some((word, 1 << (index % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once() {
        let nonces = Nonces::new().unwrap();
        let (one, two) = (nonces.issue(), nonces.issue());
        assert_ne!(one, two);
        assert!(nonces.redeem(&two));
        assert!(nonces.redeem(&one));
        assert!(!nonces.redeem(&one));
        assert!(!nonces.redeem(&two));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let (nonces, others) = (Nonces::new().unwrap(), Nonces::new().unwrap());
        let mine = nonces.issue();
        for wrong in
            ["", "x", "AAAA", &others.issue(), &format!("{mine}A"), &mine[1..], &format!("B{}", &mine[1..])]
        {
            assert!(!nonces.redeem(wrong), "{wrong:?}");
        }
        assert!(nonces.redeem(&mine));
    }

    #[test]
    fn those_that_are_too_old_are_refused_and_their_bits_serve_the_new_ones() {
        let nonces = Nonces::with_window(128).unwrap();
        let first = nonces.issue();
        assert!(nonces.redeem(&first));
        let second = nonces.issue();
        let later: Vec<String> = (0..127).map(|_| nonces.issue()).collect();
        assert!(!nonces.redeem(&first), "used, and its bit belongs to another");
        assert!(nonces.redeem(&later[126]), "the bit of the first one was cleared for it");
        assert!(nonces.redeem(&second), "the oldest that is still known");
        let _ = nonces.issue();
        assert!(!nonces.redeem(&second));
        assert!(nonces.redeem(&later[0]));
    }
}
