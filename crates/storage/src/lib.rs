//! Bytes at rest: backends, the encryption barrier, seals and views.
//!
//! A [`Backend`] keeps bytes under byte keys and commits batches, all or nothing, durably. It is
//! not trusted: nothing but ciphertext reaches it. A [`Barrier`] stands in front of it. It starts
//! sealed; key shares, or a [`Seal`] that does without people, open it, and opening it gives an
//! [`Unsealed`]. From that come [`View`]s: encrypted storage under one scope, such as a mount's.
//! A view holds records in named collections; a record is called by a [`Name`], which has a text and,
//! if the record was born in time order, a place in that order. [`Writes`] collects what belongs
//! together, with "only if unchanged" conditions, and [`View::commit`] writes it.
//!
//! This crate knows nothing of certificates, tokens or HTTP. Time is an argument. Randomness is
//! not: keys and nonces come from the system, because no caller could be trusted with them.

mod backend;
mod barrier;
mod cipher;
pub mod conformance;
pub mod embedded;
mod error;
mod keyring;
mod measures;
pub mod memory;
mod name;
mod names;
pub mod seal;
mod unsealed;
mod view;

pub use backend::{Backend, Batch, Change, Expect, Key};
pub use barrier::{Barrier, Founding, Quorum, Rekeying, SealStatus};
pub use embedded::Embedded;
pub use error::{Cause, StorageError};
pub use keyring::KeyStatus;
pub use memory::Memory;
pub use name::{Name, Position};
pub use seal::{Seal, SealError, Share, ShareCollector, ShareScheme};
pub use unsealed::Unsealed;
pub use view::{Record, Version, View, Writes};
