//! Removing what nobody needs any more: orders that ended, accounts without orders, keys for bindings that nobody used.
//!
//! Paged, so that memory stays flat and other requests get their turn; who tidies decides when.

#![cfg_attr(not(test), allow(dead_code, reason = "called by the tidying of the mount"))]

use std::time::Duration;

use chancery_issuance::{Certificate, SerialNumber};
use chancery_storage::{Name, StorageError, Writes};
use jiff::Timestamp;

use super::super::Pki;
use super::super::store::certificate_name;
use super::jws::Jwk;
use super::records::{
    AccountRecord, AccountStatus, EabRecord, OrderRecord, Stored, collection, key_name, name_of, read,
};
use crate::error::Error;

/// Orders of an account that are looked at before their account is.
const ORDERS: usize = 1_000;

/// How long things are kept after they ended.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Buffers {
    /// Orders, beyond their own end and that of their certificate.
    pub(in super::super) order: Duration,
    /// Accounts without orders and keys that nobody used, from their birth.
    pub(in super::super) account: Duration,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Removed {
    pub(in super::super) accounts: usize,
    pub(in super::super) orders: usize,
    pub(in super::super) bindings: usize,
}

impl Pki {
    /// Tidies the accounts behind `after`, at most `limit` of them, with their orders. Answers where to go on; `None` at
    /// the end, when the keys for bindings were tidied too.
    pub(in super::super) async fn tidy_acme_page(
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
                let left = self.tidy_orders(&account.value, buffers, now, removed).await?;
                if !left && account.value.created + buffers.account <= now {
                    removed.accounts += usize::from(self.remove_account(name, &account).await?);
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
        let names = view.list(&index, None, ORDERS).await?;
        let mut left = names.len() == ORDERS;
        for name in &names {
            let order = read::<OrderRecord>(view, collection::ORDERS, name).await?;
            let mut writes = Writes::new();
            if let Some(order) = order {
                if !self.has_ended(&order.value, buffers.order, now).await? {
                    left = true;
                    continue;
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
            writes.delete(view, &index, name)?;
            match view.commit(writes).await {
                Ok(()) => removed.orders += 1,
                // It was finalized in this moment.
                Err(StorageError::Conflict) => left = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left)
    }

    /// Whether an order, and the certificate that it led to, ended long enough ago.
    async fn has_ended(&self, order: &OrderRecord, buffer: Duration, now: Timestamp) -> Result<bool, Error> {
        if order.expires + buffer > now {
            return Ok(false);
        }
        let Some(serial) = order.serial.as_deref().and_then(|text| text.parse::<SerialNumber>().ok()) else {
            return Ok(true);
        };
        let Some(record) = self.store.certificate(&serial).await? else { return Ok(true) };
        let certificate = Certificate::from_der(&record.der)
            .map_err(|error| Error::internal("a stored certificate does not parse", error))?;
        Ok(certificate.not_after().to_timestamp() + buffer <= now)
    }

    /// Removes an account without orders and what leads to it. As the peer does, in two rounds: one that still counts is
    /// ended first, so that an order which is being made in this moment is found by the next round.
    async fn remove_account(&self, name: &Name, account: &Stored<AccountRecord>) -> Result<bool, Error> {
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
            let ended = AccountRecord { status: AccountStatus::Deactivated, ..account.value.clone() };
            writes.put_json(view, collection::ACCOUNTS, name, &ended)?;
        }
        match view.commit(writes).await {
            Ok(()) => Ok(gone),
            Err(StorageError::Conflict) => Ok(false),
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
                if key.value.created + buffers.account > now {
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
