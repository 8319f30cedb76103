//! A double of the Kubernetes API server: HTTP/1.1 on a port of its own, objects in memory.
//!
//! It does what controllers depend on, in the shapes that a kube-apiserver 1.33 gives them: versions and conflicts,
//! generated names, selectors, lists in pages, watches with bookmarks that resume or are told 410, `status` apart,
//! finalizers, dry runs, patches, refusals with a `Status`. And it does, when asked to, what goes wrong in clusters:
//! [`ApiServer::deny`], [`ApiServer::inject`], [`ApiServer::drop_watches`], [`ApiServer::compact`].
//!
//! It does not validate what objects say, keeps no managed fields, and collects no garbage.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests fails as tests do"
)]

mod control;
mod discovery;
mod kind;
mod selector;
mod serve;
mod status;
mod store;
mod watch;

pub use control::{ApiServer, Fault, Request};
pub use kind::Kind;
