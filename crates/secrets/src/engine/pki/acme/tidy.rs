//! Removing what nobody needs any more: orders that ended, accounts without orders, keys for bindings that nobody used.
//!
//! Paged, so that memory stays flat and other requests get their turn; who tidies decides when.

use std::time::Duration;

use chancery_issuance::{Certificate, SerialNumber};
use chancery_storage::{Name, StorageError, Writes};
use jiff::Timestamp;

use super::super::Pki;
use super::super::records::CertificateRecord;
use super::super::store::{certificate_name, collection as store};
use super::jws::Jwk;
use super::records::{
    AccountRecord, AccountStatus, EabRecord, OrderRecord, Stored, collection, key_name, name_of, put_changed,
    read,
};
use crate::error::Error;

/// Orders of an account that are looked at before their account is.
const ORDERS: usize = 1_000;

/// How long things are kept after they ended.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine::pki) struct Buffers {
    /// Orders, beyond their own end and that of their certificate.
    pub(in crate::engine::pki) order: Duration,
    /// Accounts without orders and keys that nobody used, from their birth.
    pub(in crate::engine::pki) account: Duration,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine::pki) struct Removed {
    /// Accounts that were looked at, whatever became of them.
    pub(in crate::engine::pki) looked_at: usize,
    /// Accounts that were ended, to be removed by a later run.
    pub(in crate::engine::pki) ended: usize,
    /// Accounts that are gone.
    pub(in crate::engine::pki) accounts: usize,
    /// Orders that are gone.
    pub(in crate::engine::pki) orders: usize,
    /// Keys for bindings that are gone.
    pub(in crate::engine::pki) bindings: usize,
}

/// Whether `since` is at least `buffer` ago. What would end after the end of time never does.
fn is_over(since: Timestamp, buffer: Duration, now: Timestamp) -> bool {
    since.checked_add(buffer).is_ok_and(|end| end <= now)
}

impl Pki {
    /// Tidies the accounts behind `after`, at most `limit` of them, with their orders. Answers where to go on; `None` at
    /// the end, when the keys for bindings were tidied too.
    pub(in crate::engine::pki) async fn tidy_acme_page(
        &self,
        after: Option<&Name>,
        limit: usize,
        buffers: Buffers,
        now: Timestamp,
        removed: &mut Removed,
    ) -> Result<Option<Name>, Error> {
        let view = &self.mount.view;
        let names = view.list(collection::ACCOUNTS, after, limit).await?;
        for name in &names {
            if let Some(account) = read::<AccountRecord>(view, collection::ACCOUNTS, name).await? {
                removed.looked_at += 1;
                let left = self.tidy_orders(&account.value, buffers, now, removed).await?;
                if !left && is_over(account.value.created, buffers.account, now) {
                    self.remove_account(name, &account, removed).await?;
                }
            }
        }
        if names.len() == limit {
            return Ok(names.into_iter().next_back());
        }
        self.tidy_bindings(limit, buffers, now, removed).await?;
        Ok(None)
    }

    /// Removes the orders of an account that ended. Says whether some are left.
    async fn tidy_orders(
        &self,
        account: &AccountRecord,
        buffers: Buffers,
        now: Timestamp,
        removed: &mut Removed,
    ) -> Result<bool, Error> {
        let view = &self.mount.view;
        let index = collection::orders_of(&account.id);
        let mut left = false;
        let mut after = None::<Name>;
        loop {
            let names = view.list(&index, after.as_ref(), ORDERS).await?;
            for name in &names {
                left |= !self.tidy_order(&index, name, buffers, now, removed).await?;
            }
            if names.len() < ORDERS {
                return Ok(left);
            }
            after = names.into_iter().next_back();
        }
    }

    /// Removes an order if it ended. Says whether it is gone.
    async fn tidy_order(
        &self,
        index: &str,
        name: &Name,
        buffers: Buffers,
        now: Timestamp,
        removed: &mut Removed,
    ) -> Result<bool, Error> {
        let view = &self.mount.view;
        let order = read::<OrderRecord>(view, collection::ORDERS, name).await?;
        let was_there = order.is_some();
        let mut writes = Writes::new();
        if let Some(order) = order {
            if !self.has_ended(&order.value, buffers.order, now).await? {
                return Ok(false);
            }
            writes.expect_unchanged(view, collection::ORDERS, name, &order.version)?;
            writes.delete(view, collection::ORDERS, name)?;
            for id in &order.value.authorizations {
                writes.delete(view, collection::AUTHORIZATIONS, &name_of(id))?;
            }
            if let Some(serial) = order.value.serial.as_deref().and_then(|text| text.parse().ok()) {
                writes.delete(view, collection::CERTIFICATES, &certificate_name(&serial))?;
            }
        }
        writes.delete(view, index, name)?;
        match view.commit(writes).await {
            Ok(()) => {
                removed.orders += usize::from(was_there);
                Ok(true)
            }
            // It was finalized in this moment.
            Err(StorageError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an order, and the certificate that it led to, ended long enough ago.
    async fn has_ended(&self, order: &OrderRecord, buffer: Duration, now: Timestamp) -> Result<bool, Error> {
        if !is_over(order.expires, buffer, now) {
            return Ok(false);
        }
        let Some(serial) = order.serial.as_deref().and_then(|text| text.parse::<SerialNumber>().ok()) else {
            return Ok(true);
        };
        let name = certificate_name(&serial);
        let Some(record) = self.mount.view.get(store::CERTIFICATES, &name).await? else { return Ok(true) };
        let Some(Ok(end)) = CertificateRecord::der_within(&record.value).map(Certificate::end_within) else {
            // Tidying certificates says so, and may remove it.
            return Ok(false);
        };
        Ok(is_over(end.to_timestamp(), buffer, now))
    }

    /// Removes an account without orders and what leads to it. As the peer does, in two rounds: one that still counts is
    /// ended first, so that an order which is being made in this moment is found by the next round.
    pub(super) async fn remove_account(
        &self,
        name: &Name,
        account: &Stored<AccountRecord>,
        removed: &mut Removed,
    ) -> Result<(), Error> {
        let view = &self.mount.view;
        let mut writes = Writes::new();
        writes.expect_unchanged(view, collection::ACCOUNTS, name, &account.version)?;
        let gone = account.value.status != AccountStatus::Valid;
        if gone {
            writes.delete(view, collection::ACCOUNTS, name)?;
            if let Ok(key) = Jwk::parse(account.value.jwk.as_bytes()) {
                let index = key_name(&key.thumbprint(), &account.value.directory);
                writes.delete(view, collection::ACCOUNT_KEYS, &index)?;
            }
        } else {
            let ended = AccountRecord { status: AccountStatus::Revoked, ..account.value.clone() };
            writes.put_json(view, collection::ACCOUNTS, name, &ended)?;
        }
        match view.commit(writes).await {
            Ok(()) if gone => removed.accounts += 1,
            Ok(()) if self.revive_if_busy(name, &account.value.id).await? => {}
            Ok(()) => removed.ended += 1,
            Err(StorageError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes an account's end back if an order came before it. None comes after it: orders expect their account unchanged.
    async fn revive_if_busy(&self, name: &Name, id: &str) -> Result<bool, Error> {
        let view = &self.mount.view;
        if view.list(&collection::orders_of(id), None, 1).await?.is_empty() {
            return Ok(false);
        }
        let Some(mut account) = read::<AccountRecord>(view, collection::ACCOUNTS, name).await? else {
            return Ok(false);
        };
        if account.value.status != AccountStatus::Revoked {
            return Ok(true);
        }
        account.value.status = AccountStatus::Valid;
        let mut writes = Writes::new();
        put_changed(&mut writes, view, collection::ACCOUNTS, name, &account)?;
        match view.commit(writes).await {
            // Its holder was faster.
            Ok(()) | Err(StorageError::Conflict) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn tidy_bindings(
        &self,
        limit: usize,
        buffers: Buffers,
        now: Timestamp,
        removed: &mut Removed,
    ) -> Result<(), Error> {
        let view = &self.mount.view;
        let mut after = None;
        loop {
            let names = view.list(collection::EAB, after.as_ref(), limit).await?;
            for name in &names {
                let Some(key) = read::<EabRecord>(view, collection::EAB, name).await? else { continue };
                if !is_over(key.value.created, buffers.account, now) {
                    // The rest was born later.
                    return Ok(());
                }
                view.delete(collection::EAB, name).await?;
                removed.bindings += 1;
            }
            if names.len() < limit {
                return Ok(());
            }
            after = names.into_iter().next_back();
        }
    }
}
