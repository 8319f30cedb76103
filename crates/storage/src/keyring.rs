//! The keys of the barrier: one per term for values, and one set for ever for names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::StorageError;
use crate::cipher::{Cipher, KEY_SIZE, NONCE_SIZE, SecretKey, TAG_SIZE};
use crate::names::NameKeys;

/// Format of a sealed value: version, term (u32, big-endian), nonce; then ciphertext and tag.
const VERSION: u8 = 1;
/// Bytes before the ciphertext.
pub(crate) const HEAD_SIZE: usize = 1 + 4 + NONCE_SIZE;
/// Bytes that sealing adds to a value.
pub(crate) const OVERHEAD: usize = HEAD_SIZE + TAG_SIZE;

/// The root key: seals the keyring and nothing else, and is itself sealed by the seal.
pub(crate) struct RootKey(SecretKey);

impl RootKey {
    pub(crate) fn generate() -> Self {
        Self(random_key())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey([redacted])")
    }
}

/// Which key encrypts new records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStatus {
    /// Number of the current key, from 1.
    pub term: u32,
    /// When the current key was installed.
    pub installed_at: SystemTime,
    /// Records that this process has encrypted under it.
    pub encryptions: u64,
}

/// All keys that are needed to read and write records.
pub(crate) struct Keyring {
    /// In the order of their numbers; never empty. The last one is the current one.
    terms: Vec<Term>,
    names: NameKeys,
    names_secret: SecretKey,
}

struct Term {
    number: u32,
    installed_at: Duration,
    secret: SecretKey,
    cipher: Cipher,
    encryptions: AtomicU64,
}

impl Term {
    fn new(number: u32, installed_at: Duration, secret: SecretKey) -> Self {
        let cipher = Cipher::new(&secret);
        Self { number, installed_at, secret, cipher, encryptions: AtomicU64::new(0) }
    }
}

impl Keyring {
    /// A new keyring with term 1.
    pub(crate) fn generate(now: SystemTime) -> Self {
        let names_secret = random_key();
        Self {
            terms: vec![Term::new(1, since_epoch(now), random_key())],
            names: NameKeys::new(&names_secret),
            names_secret,
        }
    }

    /// The same keys and one new term, which becomes the current one.
    pub(crate) fn rotated(&self, now: SystemTime) -> Self {
        let terms = self.terms.iter().map(|term| {
            let copy = Term::new(term.number, term.installed_at, term.secret.clone());
            copy.encryptions.store(term.encryptions.load(Ordering::Relaxed), Ordering::Relaxed);
            copy
        });
        let next = Term::new(self.current().number.saturating_add(1), since_epoch(now), random_key());
        Self {
            terms: terms.chain([next]).collect(),
            names: NameKeys::new(&self.names_secret),
            names_secret: self.names_secret.clone(),
        }
    }

    pub(crate) fn names(&self) -> &NameKeys {
        &self.names
    }

    pub(crate) fn status(&self) -> KeyStatus {
        let term = self.current();
        KeyStatus {
            term: term.number,
            installed_at: UNIX_EPOCH.checked_add(term.installed_at).unwrap_or(UNIX_EPOCH),
            encryptions: term.encryptions.load(Ordering::Relaxed),
        }
    }

    /// Encrypts a value so that it can only be read back from the key `place`.
    pub(crate) fn seal(&self, place: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let term = self.current();
        term.encryptions.fetch_add(1, Ordering::Relaxed);
        seal_under(&term.cipher, term.number, place, plaintext)
    }

    /// Decrypts what [`seal`](Self::seal) made for the same place.
    pub(crate) fn open(&self, place: &[u8], sealed: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let number = term_of(&sealed).ok_or(OpenError::NotAuthentic)?;
        let term = self.terms.iter().rfind(|term| term.number == number).ok_or(OpenError::UnknownTerm)?;
        open_under(&term.cipher, place, sealed).ok_or(OpenError::NotAuthentic)
    }

    /// Whether a value's key is one of ours; `true` too for what is no sealed value at all.
    pub(crate) fn knows(&self, sealed: &[u8]) -> bool {
        term_of(sealed).is_none_or(|number| self.terms.iter().any(|term| term.number == number))
    }

    /// The keyring encrypted under the root key, to be stored at `place`.
    pub(crate) fn to_sealed(&self, root: &RootKey, place: &[u8]) -> Vec<u8> {
        let mut plain = Zeroizing::new(Vec::with_capacity(64 + 48 * self.terms.len()));
        plain.push(VERSION);
        plain.extend_from_slice(self.names_secret.as_ref());
        for Term { number, installed_at, secret, cipher: _, encryptions: _ } in &self.terms {
            plain.extend_from_slice(&number.to_be_bytes());
            let nanoseconds = u64::try_from(installed_at.as_nanos()).unwrap_or(u64::MAX);
            plain.extend_from_slice(&nanoseconds.to_be_bytes());
            plain.extend_from_slice(secret.as_ref());
        }
        seal_under(&Cipher::new(root.as_bytes()), 0, place, &plain)
    }

    /// The keyring from its stored form.
    pub(crate) fn from_sealed(root: &RootKey, place: &[u8], sealed: Vec<u8>) -> Result<Self, StorageError> {
        let plain = open_under(&Cipher::new(root.as_bytes()), place, sealed)
            .ok_or_else(|| StorageError::corrupt("the keyring does not open with the root key"))?;
        Self::parse(&plain).ok_or_else(|| StorageError::corrupt("the keyring has an unknown form"))
    }

    fn parse(plain: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = plain.split_first_chunk()? else { return None };
        let (names_secret, mut rest) = rest.split_first_chunk::<KEY_SIZE>()?;
        let mut terms: Vec<Term> = Vec::new();
        while let Some((number, tail)) = rest.split_first_chunk::<4>() {
            let (installed_at, tail) = tail.split_first_chunk::<8>()?;
            let (secret, tail) = tail.split_first_chunk::<KEY_SIZE>()?;
            let number = u32::from_be_bytes(*number);
            if terms.last().is_some_and(|last| last.number >= number) {
                return None;
            }
            let installed_at = Duration::from_nanos(u64::from_be_bytes(*installed_at));
            terms.push(Term::new(number, installed_at, Zeroizing::new(*secret)));
            rest = tail;
        }
        if terms.is_empty() || !rest.is_empty() {
            return None;
        }
        let names_secret = Zeroizing::new(*names_secret);
        Some(Self { terms, names: NameKeys::new(&names_secret), names_secret })
    }

    #[expect(clippy::expect_used, reason = "both constructors put at least one term in")]
    fn current(&self) -> &Term {
        self.terms.last().expect("a keyring must have a term")
    }
}

/// Why a value did not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Sealed under a term that this keyring does not have (yet).
    UnknownTerm,
    /// Damaged, or written for another place.
    NotAuthentic,
}

/// Seals under a single key, in the common format.
pub(crate) fn seal_under(cipher: &Cipher, term: u32, place: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_SIZE];
    fill_random(&mut nonce);
    let mut sealed = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD));
    sealed.push(VERSION);
    sealed.extend_from_slice(&term.to_be_bytes());
    sealed.extend_from_slice(&nonce);
    cipher.seal(&nonce, place, plaintext, &mut sealed);
    sealed
}

/// Opens what [`seal_under`] made. The term needs no authentication: another term is another key.
pub(crate) fn open_under(cipher: &Cipher, place: &[u8], sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    let (head, _) = sealed.split_first_chunk::<HEAD_SIZE>()?;
    let [VERSION, _, _, _, _, nonce @ ..] = *head else { return None };
    cipher.open(&nonce, place, sealed, HEAD_SIZE).ok()
}

fn term_of(sealed: &[u8]) -> Option<u32> {
    match sealed.first_chunk::<5>()? {
        [VERSION, number @ ..] => Some(u32::from_be_bytes(*number)),
        _ => None,
    }
}

/// HMAC-SHA-256 under `key` of a label: one secret gives several independent keys.
pub(crate) fn derive(key: &hmac::Key, label: &[u8]) -> SecretKey {
    let mut derived = Zeroizing::new([0; KEY_SIZE]);
    derived.copy_from_slice(hmac::sign(key, label).as_ref());
    derived
}

pub(crate) fn random_key() -> SecretKey {
    let mut key = Zeroizing::new([0; KEY_SIZE]);
    fill_random(key.as_mut());
    key
}

#[expect(clippy::expect_used, reason = "without randomness no secret may be made, and none can be left out")]
pub(crate) fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system must give random bytes");
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn old_terms_still_decrypt_after_rotation_and_reopening() {
        let root = RootKey::generate();
        let first = Keyring::generate(NOW);
        let old = first.seal(b"place", b"value");
        let second = first.rotated(NOW + Duration::from_secs(5));
        let new = second.seal(b"place", b"value");

        let reopened = Keyring::from_sealed(&root, b"k", second.to_sealed(&root, b"k")).unwrap();
        assert_eq!(reopened.status().term, 2);
        assert_eq!(reopened.status().installed_at, NOW + Duration::from_secs(5));
        assert_eq!(**reopened.open(b"place", old).unwrap(), *b"value");
        assert_eq!(**reopened.open(b"place", new.clone()).unwrap(), *b"value");
        assert_eq!(first.open(b"place", new.clone()).unwrap_err(), OpenError::UnknownTerm);
        assert!(!first.knows(&new));
    }

    #[test]
    fn a_keyring_that_was_cut_or_belongs_to_another_root_key_is_refused() {
        let root = RootKey::generate();
        let keyring = Keyring::generate(NOW);
        let sealed = keyring.to_sealed(&root, b"k");
        assert!(Keyring::from_sealed(&RootKey::generate(), b"k", sealed.clone()).is_err());
        assert!(Keyring::from_sealed(&root, b"elsewhere", sealed.clone()).is_err());
        for length in 0..sealed.len() {
            assert!(Keyring::from_sealed(&root, b"k", sealed[..length].to_vec()).is_err());
        }
        for plain in [&b""[..], &[1; 40], &[1; 33 + 44 - 1], &[2; 33 + 44], &[1; 33 + 44 + 44]] {
            assert!(Keyring::parse(plain).is_none(), "{}", plain.len());
        }
    }

    #[test]
    fn a_value_opens_only_at_its_place() {
        let keyring = Keyring::generate(NOW);
        let sealed = keyring.seal(b"here", b"value");
        assert_eq!(keyring.open(b"there", sealed.clone()).unwrap_err(), OpenError::NotAuthentic);
        assert_ne!(sealed, keyring.seal(b"here", b"value"), "equal values must not look equal");
        assert_eq!(keyring.status().encryptions, 2);
    }
}
