//! What is current, and who follows it.

use std::sync::Arc;

use tokio::sync::watch;

use super::issue::Issued;
use super::secret::Content;

/// Follows one secret: nothing before there is a first.
pub(super) type Follower = watch::Receiver<Option<Arc<Content>>>;

/// The workload's current certificate and roots, as the CA gave them out last.
#[derive(Debug)]
pub struct Store {
    key_pair: watch::Sender<Option<Arc<Content>>>,
    roots: watch::Sender<Option<Arc<Content>>>,
}

impl Default for Store {
    fn default() -> Self {
        Self { key_pair: watch::Sender::new(None), roots: watch::Sender::new(None) }
    }
}

impl Store {
    /// Takes over what was issued. Followers of the roots learn of it only if they changed, and before those of the
    /// certificate: whoever shows a certificate under a new root trusts it already.
    pub fn put(&self, issued: Issued) {
        let Issued { key_pair, roots, .. } = issued;
        let changed = replace(&self.roots, Content::Roots(roots));
        if changed {
            tracing::info!("the roots changed");
        }
        replace(&self.key_pair, Content::KeyPair(key_pair));
    }

    /// Follows the certificate with its key.
    pub fn key_pair(&self) -> Follower {
        self.key_pair.subscribe()
    }

    /// Follows the roots.
    pub fn roots(&self) -> Follower {
        self.roots.subscribe()
    }
}

/// Puts `content` in place of another; the same content changes nothing and wakes nobody.
pub(super) fn replace(place: &watch::Sender<Option<Arc<Content>>>, content: Content) -> bool {
    place.send_if_modified(|current| {
        let same = current.as_deref().is_some_and(|current| *current == content);
        if !same {
            *current = Some(Arc::new(content));
        }
        !same
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::secret::{KeyPair, TrustBundle};
    use super::super::test_ca::{Ca, now};
    use super::*;

    fn issued(ca: &Ca) -> Issued {
        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        let key_pair = KeyPair::new(&[leaf, ca.root_pem()], key).unwrap();
        Issued {
            key_pair,
            roots: TrustBundle::from_pem(&ca.root_pem()).unwrap(),
            not_after: now() + Duration::from_secs(60),
            received: now(),
        }
    }

    #[test]
    fn followers_learn_of_changes_and_of_nothing_else() {
        let (old, new) = (Ca::new("old"), Ca::new("new"));
        let store = Store::default();
        let (mut key_pair, mut roots) = (store.key_pair(), store.roots());
        assert!(key_pair.borrow().is_none());

        store.put(issued(&old));
        assert!(key_pair.has_changed().unwrap() && roots.has_changed().unwrap());
        key_pair.mark_unchanged();
        roots.mark_unchanged();

        store.put(issued(&old));
        assert!(key_pair.has_changed().unwrap() && !roots.has_changed().unwrap());
        key_pair.mark_unchanged();

        store.put(issued(&new));
        assert!(key_pair.has_changed().unwrap() && roots.has_changed().unwrap());
    }
}
