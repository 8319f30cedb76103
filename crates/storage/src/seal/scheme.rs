//! How many key shares there are, how many are needed, and the collecting of them.

use std::fmt;

use zeroize::Zeroizing;

use super::shamir::{self, CombineError, Share};
use crate::cipher::KEY_SIZE;
use crate::keyring::fill_random;

/// Shorter input cannot be a key share or an unseal key of any peer.
const SHORTEST_SHARE: usize = 16;
/// A share of a 32-byte key: 32 values and the share's number.
const LONGEST_SHARE: usize = KEY_SIZE + 1;

/// A number of shares and the threshold that must come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareScheme {
    shares: u8,
    threshold: u8,
}

/// Why a number of shares and a threshold do not go together. The sentences are the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// No share at all.
    #[error("shares must be at least one")]
    NoShares,
    /// No share needed.
    #[error("threshold must be at least one")]
    NoThreshold,
    /// Each holder alone could unseal: that is no sharing.
    #[error("threshold must be greater than one for multiple shares")]
    ThresholdOfOne,
    /// The field has 255 points besides the secret's.
    #[error("shares must be less than 256")]
    TooManyShares,
    /// As above, for the threshold.
    #[error("threshold must be less than 256")]
    ThresholdTooLarge,
    /// It could never be met.
    #[error("threshold cannot be larger than shares")]
    ThresholdBeyondShares,
}

impl ShareScheme {
    /// Checks both numbers as given by an operator.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(shares: i64, threshold: i64) -> Result<Self, SchemeError> {
        match (shares, threshold) {
            (..=0, _) => Err(SchemeError::NoShares),
            (_, ..=0) => Err(SchemeError::NoThreshold),
            (2.., 1) => Err(SchemeError::ThresholdOfOne),
            (256.., _) => Err(SchemeError::TooManyShares),
            (_, 256..) => Err(SchemeError::ThresholdTooLarge),
            _ if threshold > shares => Err(SchemeError::ThresholdBeyondShares),
            _ => Ok(Self {
                shares: u8::try_from(shares).map_err(|_| SchemeError::TooManyShares)?,
                threshold: u8::try_from(threshold).map_err(|_| SchemeError::ThresholdTooLarge)?,
            }),
        }
    }

    /// How many shares there are, 1 to 255.
    #[must_use]
    pub fn shares(self) -> u8 {
        self.shares
    }

    /// How many of them are needed.
    #[must_use]
    pub fn threshold(self) -> u8 {
        self.threshold
    }
}

/// Why a share was not taken, or the shares taken give no key. The sentences are the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Too short for any share.
    #[error("key is shorter than minimum {SHORTEST_SHARE} bytes")]
    TooShort,
    /// Too long for a share.
    #[error("key is longer than maximum {LONGEST_SHARE} bytes")]
    TooLong,
    /// All needed shares are there but do not fit together. The collection starts again.
    #[error("failed to compute combined key: {0}")]
    Combine(#[from] CombineError),
}

/// Collects key shares until the threshold is met: for unsealing, rekeying, or a new root token.
pub struct ShareCollector {
    scheme: ShareScheme,
    nonce: String,
    shares: Vec<Share>,
}

impl ShareCollector {
    /// A collection that nobody contributed to yet.
    #[must_use]
    pub fn new(scheme: ShareScheme) -> Self {
        Self { scheme, nonce: random_nonce(), shares: Vec::new() }
    }

    /// The scheme of the shares that are collected.
    #[must_use]
    pub fn scheme(&self) -> ShareScheme {
        self.scheme
    }

    /// Names this collection, so that contributions meant for another one are noticed. UUID form.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Shares collected so far.
    #[must_use]
    pub fn progress(&self) -> usize {
        self.shares.len()
    }

    /// Whether this very share was given already.
    #[must_use]
    pub fn knows(&self, share: &[u8]) -> bool {
        let same = |known: &Share| {
            aws_lc_rs::constant_time::verify_slices_are_equal(known.as_slice(), share).is_ok()
        };
        self.shares.iter().any(same)
    }

    /// Takes a share; the same share again counts once. Answers the combined key when the threshold is met.
    ///
    /// A complete collection is used up, also if its shares do not fit together, as nobody can tell which
    /// share was the wrong one. The nonce stays.
    ///
    /// # Errors
    /// A share of impossible length (the collection stays as it was), or shares that do not fit together.
    pub fn add(&mut self, share: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, ShareError> {
        match share.len() {
            ..SHORTEST_SHARE => return Err(ShareError::TooShort),
            SHORTEST_SHARE..=LONGEST_SHARE => {}
            _ => return Err(ShareError::TooLong),
        }
        if !self.knows(share) {
            self.shares.push(Zeroizing::new(share.to_vec()));
        }
        if self.shares.len() < usize::from(self.scheme.threshold) {
            return Ok(None);
        }
        let complete = std::mem::take(&mut self.shares);
        match complete.as_slice() {
            [single] => Ok(Some(single.clone())),
            shares => Ok(Some(shamir::combine(shares)?)),
        }
    }

    /// Forgets the shares, under a new nonce.
    pub fn reset(&mut self) {
        *self = Self::new(self.scheme);
    }
}

impl fmt::Debug for ShareCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, nonce, shares } = self;
        write!(f, "ShareCollector({} of {}, nonce {nonce})", shares.len(), scheme.threshold)
    }
}

/// 16 random bytes in the form of a UUID.
fn random_nonce() -> String {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    let mut nonce = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            nonce.push('-');
        }
        nonce.push_str(&data_encoding::HEXLOWER.encode(&[*byte]));
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_numbers_follow_the_rules_of_the_peer() {
        let cases = [
            (0, 0, "shares must be at least one"),
            (-1, 2, "shares must be at least one"),
            (3, 0, "threshold must be at least one"),
            (2, 1, "threshold must be greater than one for multiple shares"),
            (256, 2, "shares must be less than 256"),
            (i64::MAX, i64::MAX, "shares must be less than 256"),
            (255, 256, "threshold must be less than 256"),
            (1, 2, "threshold cannot be larger than shares"),
        ];
        for (shares, threshold, sentence) in cases {
            let error = ShareScheme::new(shares, threshold).unwrap_err();
            assert_eq!(error.to_string(), sentence, "{shares}/{threshold}");
        }
        for (shares, threshold) in [(1, 1), (2, 2), (5, 3), (255, 255)] {
            assert!(ShareScheme::new(shares, threshold).is_ok());
        }
    }

    #[test]
    fn a_share_given_twice_counts_once() {
        let scheme = ShareScheme::new(3, 2).unwrap();
        let shares = shamir::split(&[5; 32], scheme);
        let mut collector = ShareCollector::new(scheme);
        let nonce = collector.nonce().to_owned();
        assert_eq!(collector.add(&shares[0]).unwrap(), None);
        assert_eq!(collector.add(&shares[0]).unwrap(), None);
        assert_eq!(collector.progress(), 1);
        assert_eq!(collector.nonce(), nonce);
        assert_eq!(**collector.add(&shares[2]).unwrap().unwrap(), [5; 32]);
        assert_eq!(collector.progress(), 0);
        assert_eq!(collector.nonce(), nonce);
        collector.reset();
        assert_ne!(collector.nonce(), nonce);
        assert_eq!(nonce.len(), 36);
    }

    #[test]
    fn shares_of_impossible_length_are_refused_and_do_not_count() {
        let mut collector = ShareCollector::new(ShareScheme::new(3, 2).unwrap());
        let error = collector.add(&[1; 15]).unwrap_err();
        assert_eq!(error.to_string(), "key is shorter than minimum 16 bytes");
        let error = collector.add(&[1; 34]).unwrap_err();
        assert_eq!(error.to_string(), "key is longer than maximum 33 bytes");
        assert_eq!(collector.progress(), 0);
        assert_eq!(collector.add(&[1; 33]).unwrap(), None);
        let error = collector.add(&[1; 16]).unwrap_err();
        assert_eq!(error.to_string(), "failed to compute combined key: all parts must be the same length");
        assert_eq!(collector.progress(), 0);
    }
}
