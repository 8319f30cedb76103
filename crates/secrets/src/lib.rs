//! The secrets server itself.
//!
//! One request goes straight down [`core::Core::handle`]: find the mount, look up the token, ask the
//! policies, record the request in the audit log, call the engine's handler, make the token or lease
//! that it asked for, record the answer, and only then reply. The steps hand each other proofs
//! ([`token::Authorized`] and the audit receipt), so that leaving one out does not compile.
//!
//! Engines and auth methods are folders with a table of typed routes; they see a [`engine::Call`]
//! and their own [`engine::Mount`], nothing else. Everything they store goes through an encrypted
//! view. Nothing here knows what HTTP is.

pub mod audit;
pub mod auth;
pub mod core;
mod dev_certificate;
pub mod engine;
pub mod error;
mod help;
pub mod lease;
mod measures;
pub mod mounts;
#[cfg(test)]
mod parity;
pub mod policy;
pub mod probe;
pub mod request;
pub mod response;
pub mod route;
mod sealing;
pub mod sys;
pub mod token;
mod under_way;
pub mod wrapping;

pub use core::{Core, CoreConfig};
pub use dev_certificate::{DevCertificate, dev_certificate};
pub use error::{Error, Kind};
pub use request::{Connection, Operation, Request};
pub use response::{Answer, Response};
