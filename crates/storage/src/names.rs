//! From a collection and a name to a physical key, and back.
//!
//! ```text
//! physical key = scope (8) ‖ collection (8) ‖ order (8, big-endian, clear) ‖ iv (16) ‖ encrypted text
//! ```
//!
//! Scope and collection are keyed hashes. The text is encrypted as in SIV (RFC 5297): the IV is a
//! keyed hash of everything in the key, so equal names give equal keys, different names say nothing
//! about each other but their length, and a changed key is noticed when it is read back.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use crate::backend::Key;
use crate::cipher::SecretKey;
use crate::keyring::derive;
use crate::name::Name;

pub(crate) const SCOPE_SIZE: usize = 8;
const COLLECTION_SIZE: usize = 16;
/// Scope, collection and order.
pub(crate) const PLACE_SIZE: usize = COLLECTION_SIZE + 8;
const IV_SIZE: usize = 16;

/// The hash of a scope, which begins every physical key in it.
pub(crate) type ScopeTag = [u8; SCOPE_SIZE];

/// The hashes of scope and collection, which begin every physical key of that collection.
pub(crate) type CollectionTag = [u8; COLLECTION_SIZE];

/// The keys that turn names into physical keys. They do not rotate: a new key would move every record.
pub(crate) struct NameKeys {
    scopes: hmac::Key,
    collections: hmac::Key,
    ivs: hmac::Key,
    texts: EncryptingKey,
}

impl NameKeys {
    pub(crate) fn new(secret: &SecretKey) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        let hmac_key = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, derive(&secret, label).as_ref());
        #[expect(clippy::expect_used, reason = "32 bytes are an AES-256 key")]
        let texts = UnboundCipherKey::new(&AES_256, derive(&secret, b"chancery name texts").as_ref())
            .and_then(EncryptingKey::ctr)
            .expect("a 32-byte key must be accepted");
        Self {
            scopes: hmac_key(b"chancery scopes"),
            collections: hmac_key(b"chancery collections"),
            ivs: hmac_key(b"chancery name ivs"),
            texts,
        }
    }

    pub(crate) fn scope(&self, scope: &str) -> ScopeTag {
        head(&hmac::sign(&self.scopes, scope.as_bytes()))
    }

    pub(crate) fn collection(&self, scope: ScopeTag, collection: &str) -> CollectionTag {
        let mut context = hmac::Context::with_key(&self.collections);
        context.update(&scope);
        context.update(collection.as_bytes());
        let hash: [u8; COLLECTION_SIZE - SCOPE_SIZE] = head(&context.sign());
        join(scope, hash)
    }

    pub(crate) fn key(&self, collection: CollectionTag, name: &Name) -> Key {
        let text = name.text().as_bytes();
        let order = name.order().to_be_bytes();
        let iv = self.iv(&collection, &order, text);
        let mut key = Vec::with_capacity(PLACE_SIZE + IV_SIZE + text.len());
        key.extend_from_slice(&collection);
        key.extend_from_slice(&order);
        key.extend_from_slice(&iv);
        key.extend_from_slice(text);
        if let Some(text) = key.get_mut(PLACE_SIZE + IV_SIZE..) {
            self.apply_keystream(iv, text);
        }
        Key::from(key)
    }

    /// The name in a physical key; `None` if it is not one that [`key`](Self::key) made.
    pub(crate) fn name(&self, key: &Key) -> Option<Name> {
        let (collection, rest) = key.as_bytes().split_first_chunk::<COLLECTION_SIZE>()?;
        let (order, rest) = rest.split_first_chunk::<8>()?;
        let (iv, encrypted) = rest.split_first_chunk::<IV_SIZE>()?;
        let mut text = encrypted.to_vec();
        self.apply_keystream(*iv, &mut text);
        if self.iv(collection, order, &text) != *iv {
            return None;
        }
        let text = String::from_utf8(text).ok()?;
        Some(Name::ordered(u64::from_be_bytes(*order), text))
    }

    /// Where the records of this order begin.
    pub(crate) fn order_start(collection: CollectionTag, order: u64) -> Key {
        Key::from([collection.as_slice(), &order.to_be_bytes()].concat())
    }

    fn iv(&self, collection: &CollectionTag, order: &[u8; 8], text: &[u8]) -> [u8; IV_SIZE] {
        let mut context = hmac::Context::with_key(&self.ivs);
        context.update(collection);
        context.update(order);
        context.update(text);
        head(&context.sign())
    }

    /// AES-256-CTR, which is its own inverse.
    fn apply_keystream(&self, iv: [u8; IV_SIZE], text: &mut [u8]) {
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        #[expect(clippy::expect_used, reason = "counter mode takes any length and a 16-byte counter")]
        self.texts.less_safe_encrypt(text, context).map(drop).expect("counter mode must accept any text");
    }
}

/// The first bytes of a hash.
fn head<const SIZE: usize>(hash: &hmac::Tag) -> [u8; SIZE] {
    #[expect(clippy::expect_used, reason = "SIZE is a constant of this file, at most 16")]
    *hash.as_ref().first_chunk().expect("a hash must have 32 bytes")
}

fn join(scope: ScopeTag, collection: [u8; COLLECTION_SIZE - SCOPE_SIZE]) -> CollectionTag {
    let mut tag = [0; COLLECTION_SIZE];
    for (byte, from) in tag.iter_mut().zip(scope.into_iter().chain(collection)) {
        *byte = from;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn keys() -> NameKeys {
        NameKeys::new(&Zeroizing::new([3; 32]))
    }

    #[test]
    fn a_name_survives_the_way_to_its_key_and_back() {
        let keys = keys();
        let roles = keys.collection(keys.scope("mount"), "roles");
        for name in
            [Name::new(""), Name::new("web"), Name::ordered(u64::MAX, "ü/🔑"), Name::new("x".repeat(300))]
        {
            assert_eq!(keys.name(&keys.key(roles, &name)), Some(name));
        }
    }

    #[test]
    fn a_key_shows_its_order_and_nothing_else() {
        let keys = keys();
        let roles = keys.collection(keys.scope("mount"), "roles");
        let key = keys.key(roles, &Name::ordered(0x0102, "cluster-local"));
        assert_eq!(key.as_bytes()[16..24], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert!(!key.as_bytes().windows(4).any(|bytes| bytes == b"clus"));
        let other =
            keys.key(keys.collection(keys.scope("mount"), "keys"), &Name::ordered(0x0102, "cluster-local"));
        assert_eq!(key.as_bytes()[..8], other.as_bytes()[..8], "one scope is one range of keys");
        assert_ne!(key.as_bytes()[8..16], other.as_bytes()[8..16]);
        assert_ne!(key.as_bytes()[24..], other.as_bytes()[24..], "equal texts must not look equal elsewhere");
    }

    #[test]
    fn a_key_with_any_byte_changed_is_not_a_name() {
        let keys = keys();
        let key = keys.key(keys.collection(keys.scope("mount"), "roles"), &Name::new("web"));
        for at in 0..key.as_bytes().len() {
            let mut changed = key.as_bytes().to_vec();
            changed[at] ^= 0x10;
            assert_eq!(keys.name(&Key::from(changed)), None, "byte {at}");
        }
        assert_eq!(keys.name(&Key::from(&key.as_bytes()[..39])), None);
    }
}
