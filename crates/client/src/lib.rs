//! Sends requests of the Vault HTTP API.
//!
//! A [`Request`] is a value: method, path, query, body. Building one sends nothing, so a caller can
//! look at it, print it as a curl command or ask which policy it needs. [`Request::prepare`] turns it
//! into the exact URL, headers and bytes for one [`Config`]; only [`Client::send`] opens a socket.
//!
//! A [`Config`] comes from the environment as Vault's and OpenBao's clients read it (`BAO_ADDR` before
//! `VAULT_ADDR`, and so on), or is filled by hand. Answers are decoded into an [`Answer`], whose
//! [`Value`]s keep numbers letter for letter; what the server refused is an [`Error::Api`] that reads
//! as Vault's command line prints it.
//!
//! [`Session`] keeps a token alive: it logs in, renews at two thirds of the token's life and logs in
//! again when renewing no longer helps. Tokens live in [`chancery_api::Secret`] and are never printed.

mod address;
mod answer;
mod client;
mod config;
mod duration;
mod error;
mod login;
mod request;
mod session;
mod transport;
mod trust;
mod value;

pub use address::{Address, AddressError};
pub use answer::{Answer, Auth, WrapInfo};
pub use client::{Client, Response};
pub use config::{ClientIdentity, Config, ConfigError, Environment};
pub use duration::{format_duration, parse_duration};
pub use error::{Error, Loss};
pub use login::{Credential, CredentialError, FetchCredential, Login};
pub use request::{Headers, Method, Prepared, Request};
pub use session::{Session, SessionError, jitter};
pub use value::Value;
