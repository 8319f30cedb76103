//! AES-256-GCM with a 192-bit nonce (XAES-256-GCM, C2SP), so that one key serves any number of records.
//!
//! A random 96-bit nonce is safe for about 2^32 messages under one key (NIST SP 800-38D, 8.3): a CA that
//! signs ten thousand certificates a second writes that many in five days. XAES-256-GCM derives a key
//! for each message from the first half of a 192-bit nonce and uses plain AES-256-GCM with the
//! second half, which moves that limit to 2^80 messages without a counter that would have to
//! survive crashes, clones and several writers.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};
use zeroize::{Zeroize, Zeroizing};

pub(crate) const KEY_SIZE: usize = 32;
pub(crate) const NONCE_SIZE: usize = 24;
pub(crate) const TAG_SIZE: usize = 16;

/// 32 secret bytes, zeroed when dropped.
pub(crate) type SecretKey = Zeroizing<[u8; KEY_SIZE]>;

/// The ciphertext is not what was sealed under this key, nonce and additional data.
#[derive(Debug)]
pub(crate) struct NotAuthentic;

/// A key that is ready to seal and open.
pub(crate) struct Cipher {
    block: EncryptingKey,
    /// The subkey K1 of CMAC (NIST SP 800-38B, 6.1).
    k1: Zeroizing<[u8; 16]>,
}

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY_SIZE]) -> Self {
        let block = block_cipher(key);
        let mut l = Zeroizing::new([0; 16]);
        encrypt_blocks(&block, l.as_mut());
        let l = Zeroizing::new(u128::from_be_bytes(*l));
        let mask = (*l >> 127).wrapping_neg() & 0x87;
        let k1 = Zeroizing::new(((*l << 1) ^ mask).to_be_bytes());
        Self { block, k1 }
    }

    /// Appends the ciphertext of `plaintext` and its tag to `out`.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_SIZE], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let (key, nonce) = self.message_key(nonce);
        let start = out.len();
        out.reserve(plaintext.len().saturating_add(TAG_SIZE));
        out.extend_from_slice(plaintext);
        let tag = out
            .get_mut(start..)
            .and_then(|text| key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).ok());
        #[expect(clippy::expect_used, reason = "a plaintext below 64 GiB and a slice that was just written")]
        let tag = tag.expect("AES-256-GCM must seal a record");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens what [`seal`](Self::seal) appended, where it starts at `start` of `sealed`; what is left is
    /// the plaintext alone, in the same memory.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_SIZE],
        aad: &[u8],
        mut sealed: Vec<u8>,
        start: usize,
    ) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
        let (key, nonce) = self.message_key(nonce);
        let opened = key.open_within(nonce, Aad::from(aad), &mut sealed, start..).map(|text| text.len());
        match opened {
            Ok(length) => {
                sealed.truncate(length);
                Ok(Zeroizing::new(sealed))
            }
            Err(_) => {
                // The attempt may have left unauthenticated plaintext behind.
                sealed.zeroize();
                Err(NotAuthentic)
            }
        }
    }

    /// The key and the 96-bit nonce for one message.
    fn message_key(&self, nonce: &[u8; NONCE_SIZE]) -> (LessSafeKey, Nonce) {
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _] = nonce;
        let head: &[u8; 12] = head;
        let [_, _, _, _, _, _, _, _, _, _, _, _, tail @ ..] = nonce;
        let mut blocks = Zeroizing::new([0_u8; KEY_SIZE]);
        for (block, counter) in blocks.chunks_exact_mut(16).zip([1_u8, 2]) {
            let input = [0, counter, b'X', 0].into_iter().chain(*head);
            for ((byte, input), k1) in block.iter_mut().zip(input).zip(*self.k1) {
                *byte = input ^ k1;
            }
        }
        encrypt_blocks(&self.block, blocks.as_mut());
        #[expect(clippy::expect_used, reason = "32 bytes are an AES-256 key")]
        let key = UnboundKey::new(&AES_256_GCM, blocks.as_ref()).expect("a 32-byte key must be accepted");
        let tail: &[u8; NONCE_LEN] = tail;
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(*tail))
    }
}

#[expect(clippy::expect_used, reason = "32 bytes are an AES-256 key")]
fn block_cipher(key: &[u8; KEY_SIZE]) -> EncryptingKey {
    UnboundCipherKey::new(&AES_256, key).and_then(EncryptingKey::ecb).expect("a 32-byte key must be accepted")
}

/// Encrypts whole blocks, each for itself: the bare permutation that CMAC is made of.
#[expect(clippy::expect_used, reason = "the lengths are fixed by the callers")]
fn encrypt_blocks(key: &EncryptingKey, blocks: &mut [u8]) {
    key.encrypt(blocks).map(drop).expect("whole blocks must be accepted");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the C2SP specification of XAES-256-GCM, "Test vectors".
    #[test]
    fn the_vectors_of_the_specification_hold() {
        let nonce = *b"ABCDEFGHIJKLMNOPQRSTUVWX";
        let cases: [(u8, &[u8], [u8; 28]); 2] = [
            (0x01, b"", *b"\xce\x54\x6e\xf6\x3c\x9c\xc6\x07\x65\x92\x36\x09\xb3\x3a\x9a\x19\x74\xe9\x6e\x52\xda\xf2\xfc\xf7\x07\x5e\x22\x71"),
            (0x03, b"c2sp.org/XAES-256-GCM", *b"\x98\x6e\xc1\x83\x25\x93\xdf\x54\x43\xa1\x79\x43\x7f\xd0\x83\xbf\x3f\xdb\x41\xab\xd7\x40\xa2\x1f\x71\xeb\x76\x9d"),
        ];
        for (byte, aad, expected) in cases {
            let cipher = Cipher::new(&[byte; KEY_SIZE]);
            let mut sealed = b"head".to_vec();
            cipher.seal(&nonce, aad, b"XAES-256-GCM", &mut sealed);
            assert_eq!(sealed[4..], expected);
            assert_eq!(*cipher.open(&nonce, aad, sealed, 4).unwrap(), b"XAES-256-GCM");
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let cipher = Cipher::new(&[7; KEY_SIZE]);
        let nonce = [9; NONCE_SIZE];
        let mut sealed = Vec::new();
        cipher.seal(&nonce, b"place", b"", &mut sealed);
        assert!(cipher.open(&nonce, b"place", sealed.clone(), 0).unwrap().is_empty());
        assert!(cipher.open(&nonce, b"other", sealed.clone(), 0).is_err());
        assert!(cipher.open(&[8; NONCE_SIZE], b"place", sealed.clone(), 0).is_err());
        assert!(cipher.open(&nonce, b"place", Vec::new(), 0).is_err());
        assert!(cipher.open(&nonce, b"place", Vec::new(), 5).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(cipher.open(&nonce, b"place", changed, 0).is_err());
        }
    }
}
