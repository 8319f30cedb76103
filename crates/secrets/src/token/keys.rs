//! The keys behind token texts, accessors, lease ids and batch tokens.
//!
//! One secret is made when the server is first opened and stored behind the barrier; everything
//! else is derived from it. It does not rotate: a new one would end every token.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_storage::{Name, StorageError, View, Writes};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::token::TokenKey;
use crate::token::base62::{self, BLOCK_DIGITS, TIME_DIGITS};

const COLLECTION: &str = "token keys";
const NAME: &str = "tokens";
const SECRET_SIZE: usize = 32;

/// Random digits of a token's text: 125 bits.
const RANDOM_DIGITS: usize = 21;
const SERVICE_PREFIX: &str = "s.";
/// How long the text of a service token is.
pub(crate) const TEXT_LENGTH: usize = SERVICE_PREFIX.len() + TIME_DIGITS + RANDOM_DIGITS;
/// How a batch token's text begins.
pub(crate) const BATCH_PREFIX: &str = "b.";
/// Marks the last segment of a token's lease id.
const LEASE_MARK: char = 'h';

/// First byte of a batch token's bytes: which format follows.
const BATCH_VERSION: u8 = 1;
const BATCH_SALT: usize = 24;

/// Turns token texts into names, and names into accessors and lease ids and back.
pub(crate) struct TokenKeys {
    texts: hmac::Key,
    entities: hmac::Key,
    batches: hmac::Key,
    accessors: Permutation,
    leases: Permutation,
}

impl TokenKeys {
    /// Reads the keys, or makes them when there are none yet.
    pub(crate) async fn open(root: &View) -> Result<Self, Error> {
        let name = Name::new(NAME);
        loop {
            if let Some(stored) = root.get(COLLECTION, &name).await? {
                if stored.value.len() != SECRET_SIZE {
                    return Err(Error::internal("internal error", "the stored token secret is damaged"));
                }
                return Ok(Self::derive(&stored.value));
            }
            let mut writes = Writes::new();
            Self::found(root, &mut writes)?;
            match root.commit(writes).await {
                // Whoever was first, the next round reads the one secret that is stored.
                Ok(()) | Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the keys of a new server with the commit that founds it.
    pub(crate) fn found(root: &View, first: &mut Writes) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0_u8; SECRET_SIZE]);
        rand::fill(secret.as_mut_slice())
            .map_err(|_| Error::internal("internal error", "the system has no randomness"))?;
        let name = Name::new(NAME);
        first.expect_absent(root, COLLECTION, &name)?.put(root, COLLECTION, &name, secret.as_slice())?;
        Ok(Self::derive(secret.as_slice()))
    }

    pub(crate) fn derive(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let part = |label: &str| hmac::sign(&secret, label.as_bytes());
        let key = |label: &str| hmac::Key::new(hmac::HMAC_SHA256, part(label).as_ref());
        Self {
            texts: key("chancery token texts"),
            entities: key("chancery entities"),
            batches: key("chancery batch tokens"),
            accessors: Permutation::new(part("chancery token accessors").as_ref()),
            leases: Permutation::new(part("chancery token leases").as_ref()),
        }
    }

    /// A fresh text for a service token that is born at `millis`.
    pub(crate) fn fresh_text(millis: u64) -> String {
        let mut text = String::with_capacity(TEXT_LENGTH);
        text.push_str(SERVICE_PREFIX);
        text.push_str(&base62::encode(millis.into(), TIME_DIGITS));
        text.push_str(&base62::random(RANDOM_DIGITS));
        text
    }

    /// The name of the token with this text, whether or not there is one.
    pub(crate) fn key(&self, text: &str) -> TokenKey {
        let hash = hmac::sign(&self.texts, text.as_bytes());
        TokenKey { born: born(text).unwrap_or(0), hash: first_block(hash.as_ref()) }
    }

    /// The accessor of a token: leads to it, gives no right to anything.
    pub(crate) fn accessor(&self, key: TokenKey) -> String {
        public_name(key, &self.accessors)
    }

    /// The token that an accessor names.
    pub(crate) fn by_accessor(&self, accessor: &str) -> Option<TokenKey> {
        by_public_name(accessor, &self.accessors)
    }

    /// The lease id of a token that was made at `path`.
    pub(crate) fn lease_id(&self, path: &str, key: TokenKey) -> String {
        format!("{path}/{LEASE_MARK}{}", public_name(key, &self.leases))
    }

    /// The token that a lease id names, if it has the form of a token's; with the path before it.
    pub(crate) fn by_lease_id<'a>(&self, id: &'a str) -> Option<(&'a str, TokenKey)> {
        let (path, last) = id.rsplit_once('/')?;
        Some((path, by_public_name(last.strip_prefix(LEASE_MARK)?, &self.leases)?))
    }

    /// The entity behind the name `alias` at the auth mount `accessor`: the same UUID every time.
    pub(crate) fn entity_id(&self, accessor: &str, alias: &str) -> String {
        let mut context = hmac::Context::with_key(&self.entities);
        context.update(accessor.as_bytes());
        context.update(&[0]);
        context.update(alias.as_bytes());
        uuid::Builder::from_custom_bytes(first_block(context.sign().as_ref())).into_uuid().to_string()
    }

    /// A batch token that carries `content`.
    ///
    /// Each token has its own key, derived from a random salt, so that the number of tokens is not
    /// limited by the length of a nonce.
    pub(crate) fn seal_batch(&self, content: &[u8]) -> Result<String, Error> {
        let mut salt = [0_u8; BATCH_SALT];
        rand::fill(&mut salt)
            .map_err(|_| Error::internal("internal error", "the system has no randomness"))?;
        let mut sealed = Vec::with_capacity(1 + BATCH_SALT + content.len() + 16);
        let mut body = content.to_vec();
        self.batch_key(&salt)
            .and_then(|key| {
                key.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key([0; 12]),
                    Aad::from([BATCH_VERSION]),
                    &mut body,
                )
                .ok()
            })
            .ok_or_else(|| Error::internal("internal error", "a batch token could not be sealed"))?;
        sealed.push(BATCH_VERSION);
        sealed.extend_from_slice(&salt);
        sealed.append(&mut body);
        Ok(format!("{BATCH_PREFIX}{}", URL_SAFE_NO_PAD.encode(&sealed)))
    }

    /// What a batch token carries; `None` if we did not make it.
    pub(crate) fn open_batch(&self, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = URL_SAFE_NO_PAD.decode(text.strip_prefix(BATCH_PREFIX)?).ok()?;
        let (version, sealed) = sealed.split_first()?;
        let (salt, body) = sealed.split_first_chunk::<BATCH_SALT>()?;
        if *version != BATCH_VERSION {
            return None;
        }
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .batch_key(salt)?
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::from([BATCH_VERSION]), &mut body)
            .ok()?
            .len();
        body.truncate(length);
        Some(body)
    }

    fn batch_key(&self, salt: &[u8; BATCH_SALT]) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.batches, salt);
        UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys([redacted])")
    }
}

/// The instant in a text of our own making.
fn born(text: &str) -> Option<u64> {
    let digits = text.strip_prefix(SERVICE_PREFIX)?;
    if digits.len() != TIME_DIGITS + RANDOM_DIGITS {
        return None;
    }
    u64::try_from(base62::decode(digits.get(..TIME_DIGITS)?)?).ok()
}

fn public_name(key: TokenKey, permutation: &Permutation) -> String {
    let block = u128::from_be_bytes(permutation.forward(key.hash));
    let mut name = base62::encode(key.born.into(), TIME_DIGITS);
    name.push_str(&base62::encode(block, BLOCK_DIGITS));
    name
}

fn by_public_name(name: &str, permutation: &Permutation) -> Option<TokenKey> {
    let (born, block) = name.split_at_checked(TIME_DIGITS)?;
    if block.len() != BLOCK_DIGITS {
        return None;
    }
    let born = u64::try_from(base62::decode(born)?).ok()?;
    let hash = permutation.backward(base62::decode(block)?.to_be_bytes());
    Some(TokenKey { born, hash })
}

/// A keyed permutation of 16 bytes: one block of AES-256.
struct Permutation {
    forward: EncryptingKey,
    backward: DecryptingKey,
}

impl Permutation {
    #[expect(clippy::expect_used, reason = "a SHA-256 tag has the 32 bytes that AES-256 asks for")]
    fn new(key: &[u8]) -> Self {
        let unbound = || UnboundCipherKey::new(&AES_256, key).expect("a key must have 32 bytes");
        // "Electronic code book" on exactly one block is the bare block cipher, which is what a
        // permutation of one block is; it never sees more than one.
        Self {
            forward: EncryptingKey::ecb(unbound()).expect("AES must have this mode"),
            backward: DecryptingKey::ecb(unbound()).expect("AES must have this mode"),
        }
    }

    #[expect(clippy::expect_used, reason = "one block is what the block cipher takes")]
    fn forward(&self, mut block: [u8; 16]) -> [u8; 16] {
        self.forward.encrypt(&mut block).expect("one block must be accepted");
        block
    }

    #[expect(clippy::expect_used, reason = "one block is what the block cipher takes")]
    fn backward(&self, mut block: [u8; 16]) -> [u8; 16] {
        self.backward.decrypt(&mut block, DecryptionContext::None).expect("one block must be accepted");
        block
    }
}

fn first_block(hash: &[u8]) -> [u8; 16] {
    #[expect(clippy::expect_used, reason = "SHA-256 gives 32 bytes")]
    *hash.first_chunk().expect("a hash must have 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> TokenKeys {
        TokenKeys::derive(&[7; 32])
    }

    #[test]
    fn a_text_of_ours_carries_its_instant_and_any_other_does_not() {
        let text = TokenKeys::fresh_text(1_795_487_619_123);
        assert_eq!((text.len(), keys().key(&text).born), (30, 1_795_487_619_123));
        assert_eq!(keys().key("root").born, 0);
        assert_eq!(keys().key("s.abc").born, 0);
    }

    #[test]
    fn accessor_and_lease_id_lead_to_the_token_and_say_nothing_of_each_other() {
        let keys = keys();
        let key = keys.key(&TokenKeys::fresh_text(5));
        let (accessor, lease) = (keys.accessor(key), keys.lease_id("auth/approle/login", key));
        assert_eq!(keys.by_accessor(&accessor), Some(key));
        assert_eq!(keys.by_lease_id(&lease), Some(("auth/approle/login", key)));
        let (_, tail) = accessor.split_at(TIME_DIGITS);
        assert!(!lease.ends_with(tail));
        for forged in ["", "x", "nope", "ééééééééééééééé", &format!("{accessor}0"), "pki/issue/web/abc"]
        {
            assert_eq!(keys.by_accessor(forged), None, "{forged}");
            assert_eq!(keys.by_lease_id(forged), None, "{forged}");
        }
    }

    #[test]
    fn a_batch_token_opens_only_as_it_was_made() {
        let keys = keys();
        let text = keys.seal_batch(b"content").unwrap();
        assert_eq!(keys.open_batch(&text).unwrap().as_slice(), b"content");
        assert!(TokenKeys::derive(&[8; 32]).open_batch(&text).is_none());
        for position in [2, 20, text.len() - 3] {
            let mut bytes = text.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            assert!(keys.open_batch(&String::from_utf8(bytes).unwrap()).is_none());
        }
        assert!(keys.open_batch("b.").is_none());
    }

    #[test]
    fn an_entity_is_the_same_every_time_and_different_by_mount() {
        let keys = keys();
        assert_eq!(keys.entity_id("auth_a", "bob"), keys.entity_id("auth_a", "bob"));
        assert_ne!(keys.entity_id("auth_a", "bob"), keys.entity_id("auth_b", "bob"));
    }
}
