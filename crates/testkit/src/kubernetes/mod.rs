//! A double of the Kubernetes API server: HTTP/1.1 on a port of its own, objects in memory.
//!
//! It does what controllers depend on, in the shapes that a kube-apiserver 1.33 gives them: versions and conflicts,
//! generated names, selectors, lists in pages, watches with bookmarks that resume or are told 410, `status` apart,
//! finalizers, dry runs, patches, refusals with a `Status`. And it does, when asked to, what goes wrong in clusters:
//! [`ApiServer::deny`], [`ApiServer::inject`], [`ApiServer::drop_watches`], [`ApiServer::compact`].
//!
//! It keeps managed fields for server-side apply, collects garbage, asks admission webhooks, and serves the kinds of
//! CustomResourceDefinitions that are created in it, with what their schemas demand. Of the built-in kinds it does not
//! validate what objects say.
//!
//! [`RealApiServer`] is what it is a double of.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests fails as tests do"
)]

mod access;
mod admission;
mod apply;
mod call;
mod collect;
mod control;
mod definition;
mod discovery;
mod kind;
mod list;
mod patch;
mod real;
mod schema;
mod selector;
mod serve;
mod status;
mod stop;
mod store;
mod watch;
mod write;

pub use access::{Grant, IssuedToken};
pub use control::{ApiServer, Fault, Request};
pub use kind::Kind;
pub use real::RealApiServer;
