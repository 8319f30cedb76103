//! The end of tokens.
//!
//! A tree goes down in three steps, each of which can be the last before a crash:
//!
//! 1. The root is marked. From then on it and everything below it is refused, because a look-up asks
//!    its ancestors; the marker in the collection of expiries is due, so upkeep will come back.
//! 2. What it owns is collected page by page, deepest first: children are marked before their own
//!    children are listed, so that none can be born unseen; leases become due.
//! 3. A token that owns nothing any more is removed, with its cubbyhole, its marker and its place in
//!    the index, in one commit. The root is the last.
//!
//! Whoever finds the marker after a crash starts again at step 2 and ends at the same place.

use chancery_storage::{Name, Position, StorageError, Writes};
use jiff::Timestamp;

use crate::engine::cubbyhole;
use crate::error::Error;
use crate::lease;
use crate::token::store::{
    EXPIRIES, OWNED, PAGE, TOKEN_TAG, TOKENS, TokenStore, marker, millis, name, owned, owned_order,
};
use crate::token::{TokenEntry, TokenKey, TokenState};

/// What a token owns: a page of it.
#[derive(Debug, Default)]
struct Owned {
    tokens: Vec<TokenKey>,
    leases: Vec<String>,
}

impl Owned {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.leases.is_empty()
    }
}

impl TokenStore {
    /// Revokes a token, its descendants and their leases. `false` if there is no such token. When it
    /// returns, all the tokens are gone and the leases are due.
    pub async fn revoke_tree(&self, root: TokenKey, now: Timestamp) -> Result<bool, Error> {
        if !self.mark(root, TokenState::Revoking, now).await? {
            return Ok(false);
        }
        // Each token with the one that owns it, if that is being revoked too.
        let mut path: Vec<(TokenKey, Option<TokenKey>)> = vec![(root, None)];
        while let Some((top, owner)) = path.last().copied() {
            let page = self.owned_page(top, PAGE).await?;
            if page.is_empty() {
                self.remove(&[top], owner).await?;
                path.pop();
                continue;
            }
            self.release(top, &page.leases, now).await?;
            self.mark_all(&page.tokens, None, |_| true).await?;
            let mut leaves = Vec::new();
            for child in page.tokens {
                if self.owned_page(child, 1).await?.is_empty() {
                    leaves.push(child);
                } else {
                    path.push((child, Some(top)));
                }
            }
            self.remove(&leaves, Some(top)).await?;
        }
        Ok(true)
    }

    /// Refuses a token and its descendants from now on, and leaves the rest to upkeep. `false` if there
    /// is no such token.
    pub(crate) async fn condemn(&self, key: TokenKey, now: Timestamp) -> Result<bool, Error> {
        self.mark(key, TokenState::Revoking, now).await
    }

    /// As [`condemn`](Self::condemn), for many: a page of them costs one commit.
    pub(crate) async fn condemn_all(&self, keys: &[TokenKey], now: Timestamp) -> Result<(), Error> {
        for keys in keys.chunks(PAGE) {
            self.mark_all(keys, Some(now), |_| true).await?;
        }
        Ok(())
    }

    /// Revokes a token and its leases alone; its children live on as orphans. `false` if there is no
    /// such token.
    pub async fn revoke_orphan(&self, key: TokenKey, now: Timestamp) -> Result<bool, Error> {
        if !self.mark(key, TokenState::Orphaning, now).await? {
            return Ok(false);
        }
        loop {
            let page = self.owned_page(key, PAGE).await?;
            if page.is_empty() {
                break;
            }
            self.release(key, &page.leases, now).await?;
            for child in page.tokens {
                let place = owned(key, TOKEN_TAG, &child.text());
                let entry = self
                    .change(child, |entry, writes| {
                        entry.parent = None;
                        writes.delete(&self.root, OWNED, &place)?;
                        Ok(true)
                    })
                    .await?;
                if entry.is_none() {
                    self.root.delete(OWNED, &place).await?;
                }
            }
        }
        self.remove(&[key], None).await?;
        Ok(true)
    }

    /// Revokes many tokens with their trees. A page of those that own nothing costs two commits.
    pub(crate) async fn revoke_all(&self, keys: &[TokenKey], now: Timestamp) -> Result<(), Error> {
        for keys in keys.chunks(PAGE) {
            let marked = self.mark_all(keys, Some(now), |_| true).await?;
            self.take_down(&marked, now).await?;
        }
        Ok(())
    }

    /// Goes on with what markers say, each the name of a token and the place of its marker: revokes
    /// what has ended or was being revoked. Failures are returned; their markers stay.
    pub(crate) async fn attend(&self, markers: &[(TokenKey, u64)], now: Timestamp) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut ended = Vec::new();
        for (key, due) in markers.iter().copied() {
            let outcome = match self.record(key).await {
                Ok(Some(entry)) if entry.due == due => match entry.state {
                    TokenState::Orphaning => self.revoke_orphan(key, now).await.map(drop),
                    TokenState::Revoking | TokenState::Spent | TokenState::Live => {
                        ended.push(key);
                        Ok(())
                    }
                },
                Ok(_) => self.drop_stray(key, due).await,
                Err(error) => Err(error),
            };
            errors.extend(outcome.err());
        }
        for ended in ended.chunks(PAGE) {
            // Asked again when its turn has come: a renewal may have been faster.
            let is_due = |entry: &TokenEntry| entry.due != 0 && entry.due <= millis(now);
            let outcome = match self.mark_all(ended, Some(now), is_due).await {
                Ok(marked) => self.take_down(&marked, now).await,
                Err(error) => Err(error),
            };
            errors.extend(outcome.err());
        }
        errors
    }

    /// Removes a marker that was left behind; the real one, if there is one, lies elsewhere. Only the record
    /// itself can tell: a copy may be older, and a token without its marker would never be looked at again.
    async fn drop_stray(&self, key: TokenKey, due: u64) -> Result<(), Error> {
        let _turn = self.turns(&[key]).await;
        let record: Option<TokenEntry> = self.root.get_json(TOKENS, &name(key)).await?;
        if record.is_some_and(|entry| entry.due == due) {
            // The next round reads what is stored.
            self.cache.remove(&key);
            return Ok(());
        }
        Ok(self.root.delete(EXPIRIES, &marker(due, key)).await?)
    }

    /// Removes marked tokens with their trees.
    async fn take_down(&self, marked: &[TokenKey], now: Timestamp) -> Result<(), Error> {
        let mut leaves = Vec::new();
        for key in marked {
            if self.owned_page(*key, 1).await?.is_empty() {
                leaves.push(*key);
            } else {
                self.revoke_tree(*key, now).await?;
            }
        }
        self.remove(&leaves, None).await
    }

    /// Marks the token that a revocation begins with and makes it due. `false` if it has gone. One
    /// that was to orphan its children first can still be made to take them along, not the other
    /// way round.
    async fn mark(&self, key: TokenKey, state: TokenState, now: Timestamp) -> Result<bool, Error> {
        let due = millis(now).max(1);
        let entry = self
            .change(key, |entry, _| {
                if entry.state == TokenState::Revoking || entry.state == state {
                    return Ok(false);
                }
                entry.state = state;
                entry.due = due;
                Ok(true)
            })
            .await?;
        Ok(entry.is_some())
    }

    /// Marks many tokens with one commit: children of a marked one, so that they get no children any
    /// more; or, with `due`, those that a revocation begins with. Says which of them are marked now:
    /// those that are there and, as of their turn, `wanted`.
    async fn mark_all(
        &self,
        keys: &[TokenKey],
        due: Option<Timestamp>,
        wanted: impl Fn(&TokenEntry) -> bool,
    ) -> Result<Vec<TokenKey>, Error> {
        let _turns = self.turns(keys).await;
        loop {
            let mut writes = Writes::new();
            let mut marked = Vec::new();
            for key in keys {
                let Some(record) = self.root.get(TOKENS, &name(*key)).await? else { continue };
                let entry: TokenEntry = record.json()?;
                if entry.state != TokenState::Revoking {
                    if !wanted(&entry) {
                        continue;
                    }
                    writes.expect_unchanged(&self.root, TOKENS, &name(*key), &record.version)?;
                    let place = entry.due;
                    let soon = due.map(|due| millis(due).max(1)).filter(|soon| place == 0 || *soon < place);
                    let entry =
                        TokenEntry { state: TokenState::Revoking, due: soon.unwrap_or(place), ..entry };
                    self.put(&entry, place, &mut writes)?;
                }
                marked.push(*key);
            }
            if writes.is_empty() {
                return Ok(marked);
            }
            let outcome = self.root.commit(writes).await;
            for key in keys {
                self.cache.remove(key);
            }
            match outcome {
                Ok(()) => return Ok(marked),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes tokens that own nothing, and all that is kept for them.
    async fn remove(&self, keys: &[TokenKey], owner: Option<TokenKey>) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let _turns = self.turns(keys).await;
        let mut writes = Writes::new();
        for key in keys {
            cubbyhole::clear(&self.root, *key).await?;
            let entry: Option<TokenEntry> = self.root.get_json(TOKENS, &name(*key)).await?;
            if let Some(entry) = &entry
                && entry.due != 0
            {
                writes.delete(&self.root, EXPIRIES, &marker(entry.due, *key))?;
            }
            // The owner is the one that led here, or, for the root of the tree, the one in the record.
            for owner in [owner, entry.and_then(|entry| entry.parent)].into_iter().flatten() {
                writes.delete(&self.root, OWNED, &owned(owner, TOKEN_TAG, &key.text()))?;
            }
            writes.delete(&self.root, TOKENS, &name(*key))?;
        }
        let outcome = self.root.commit(writes).await;
        for key in keys {
            self.cache.remove(key);
        }
        Ok(outcome?)
    }

    /// Makes leases of `owner` due for revocation and forgets that it owned them.
    async fn release(&self, owner: TokenKey, leases: &[String], now: Timestamp) -> Result<(), Error> {
        if leases.is_empty() {
            return Ok(());
        }
        loop {
            let mut writes = Writes::new();
            for id in leases {
                lease::hasten(&self.root, id, now, &mut writes).await?;
                writes.delete(&self.root, OWNED, &owned(owner, lease::TAG, id))?;
            }
            match self.root.commit(writes).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The first `limit` things that a token owns.
    async fn owned_page(&self, owner: TokenKey, limit: usize) -> Result<Owned, Error> {
        let prefix = format!("{}/", owner.text());
        let order = owned_order(owner);
        let mut page = Owned::default();
        let mut after: Option<Name> = None;
        loop {
            let from = after.as_ref().map_or(Position::Order(order), Position::After);
            let records = self.root.scan(OWNED, from, limit).await?;
            for (name, _) in &records {
                // Things of another owner whose hash begins alike may lie between.
                let Some(what) = name.text().strip_prefix(&prefix).filter(|_| name.order() == order) else {
                    continue;
                };
                if let Some(lease) = what.strip_prefix(lease::TAG) {
                    page.leases.push(lease.to_owned());
                } else if let Some(token) = what.strip_prefix(TOKEN_TAG).and_then(TokenKey::parse) {
                    page.tokens.push(token);
                }
            }
            after = records.into_iter().next_back().map(|(name, _)| name);
            if !page.is_empty() || after.as_ref().is_none_or(|name| name.order() != order) {
                return Ok(page);
            }
        }
    }

    /// Revokes a token with its tree if, as of its turn, it is still the child of `parent`: a parent that is
    /// revoked alone makes an orphan of it before it goes. `false` if it is not.
    pub(crate) async fn revoke_child(
        &self,
        key: TokenKey,
        parent: TokenKey,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let marked = self.mark_all(&[key], Some(now), |entry| entry.parent == Some(parent)).await?;
        self.take_down(&marked, now).await?;
        Ok(!marked.is_empty())
    }

    /// Removes what belongs to nothing any more: children whose parent has gone, places in the index
    /// whose token has. Nothing of this should be there; says how much was.
    pub(crate) async fn tidy(&self, now: Timestamp) -> Result<usize, Error> {
        let mut removed = 0_usize;
        let mut after: Option<TokenKey> = None;
        loop {
            let page = self.page(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key);
            for entry in &page {
                let Some(parent) = entry.parent else { continue };
                if self.record(parent).await?.is_none() && self.revoke_child(entry.key, parent, now).await? {
                    removed += 1;
                }
            }
        }
        let mut after: Option<Name> = None;
        loop {
            let records = self.root.scan(OWNED, Position::from(after.as_ref()), PAGE).await?;
            for (name, _) in &records {
                let child = name
                    .text()
                    .split_once('/')
                    .and_then(|(_, what)| what.strip_prefix(TOKEN_TAG))
                    .and_then(TokenKey::parse);
                let Some(child) = child else { continue };
                if self.record(child).await?.is_none() {
                    self.root.delete(OWNED, name).await?;
                    removed += 1;
                }
            }
            after = records.into_iter().next_back().map(|(name, _)| name);
            if after.is_none() {
                return Ok(removed);
            }
        }
    }
}
