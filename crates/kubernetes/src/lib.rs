//! What the mesh side and the controller both need of a Kubernetes API.
//!
//! - [`connect`] is the way there; [`request`] bounds what is asked on it.
//! - [`follow`] and [`follow_closely`] are watches that survive what happens to watches.
//! - [`untyped`] and [`read`] keep one malformed object from spoiling a list.
//! - [`queue`] holds the keys of what needs looking after: each once, never two at a time for one, failures later again.
//! - [`Elector`] says which replica does what only one may do.
//! - [`events`] tells users what happened to their objects, in `kubectl describe`.
//! - [`probes`] answers the kubelet's probes, and Prometheus.
//! - [`LabelSelector`] is Kubernetes' grammar of selectors.
//! - [`cert_manager`] has the complete types of `cert-manager.io/v1`, and makes their definitions (CRDs).
//!
//! Nothing here decides anything about certificates.

pub mod cert_manager;
mod client;
pub mod events;
mod follow;
mod leader;
pub mod probes;
pub mod queue;
mod resource;
mod selector;
mod untyped;

pub use client::{
    AT_ONCE, ApiError, ClientError, ClientOptions, REQUEST_TIMEOUT, connect, optional, request,
};
pub use follow::{Pauses, Told, follow, follow_closely};
pub use leader::{Elector, LeaseTimings};
pub use selector::{LabelSelector, SelectorError, is_dns_subdomain, is_key};
pub use untyped::{read, untyped};
