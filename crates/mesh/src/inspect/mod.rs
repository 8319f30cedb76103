//! What an Envoy holds, and whether it is what the mesh's CA gave out.
//!
//! A [`Source`] is where an Envoy's configuration is read from; a [`Dump`] is what it says of secrets, private keys taken
//! out; a [`table`](Dump::table) shows it as `istioctl proxy-config secret` does. [`findings`] holds the workload's
//! certificate against the roots beside it and against X.509-SVID, [`verify`] both against the ConfigMap and the CA, and
//! [`common_roots`] tells whether two workloads can trust each other. [`LiveCertificates`] is what an Envoy has loaded.

mod chain;
mod compare;
mod details;
mod dump;
mod findings;
mod live;
mod roots;
mod source;
mod table;
mod verify;

pub use chain::{ChainError, verify_chain};
pub use compare::common_roots;
pub use dump::{Bundle, Content, Dump, DumpError, Secret, Status, UpdateFailure};
pub use findings::{Expectations, Finding, Severity, findings};
pub use live::LiveCertificates;
pub use roots::{RootsError, mesh_roots};
pub use source::{Source, SourceError, certs, config_dump};
pub use verify::{Authority, Check, Verdict, verify};
