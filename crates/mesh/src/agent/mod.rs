//! The workload agent: keys are made, certificates asked for and renewed here, and handed out on one unix socket.
//!
//! ```text
//! settings.rs       Istio's variables, flags over them (variables.rs)
//! renewal.rs        when: at once, then at a part of each life, for ever
//!   issue.rs        a new key, its CSR, the call, the checks           -> KeyPair, TrustBundle
//!     ca_client.rs  CreateCertificate over HTTP/2 and TLS, with retries
//!     ca_tls.rs     whom it trusts, and what it shows
//! store.rs          what is current; whoever follows it learns of each change
//! files.rs          the same from files that somebody else renews
//! resources.rs      from a name that was asked for to one of these two
//! sds/              Envoy's secret discovery                            (on the socket)
//! workload_api.rs   the SPIFFE Workload API                             (on the socket)
//! socket.rs         the socket itself; authority.rs: for clients that send its path as a host
//! status.rs         readiness and measurements, over HTTP
//! run.rs            all of it, until a signal
//! ```
//!
//! Private keys never leave the process but over the socket, and into the folder that `OUTPUT_CERTS` names.

mod authority;
mod ca_client;
mod ca_tls;
mod files;
mod issue;
mod output;
mod renewal;
mod resources;
mod run;
mod sds;
mod secret;
mod settings;
mod socket;
mod status;
mod store;
mod variables;
mod workload_api;

#[cfg(test)]
#[path = "../../tests/common/test_ca.rs"]
mod test_ca;

pub use ca_client::{CaClient, CaError};
pub use files::{FileResource, Files, KeyFiles};
pub use issue::{IssueError, Issued, Issuer};
pub use output::Output;
pub use renewal::{Renewal, keep_current};
pub use resources::{ResourceError, ResourceName, Resources};
pub use run::{AgentError, run};
pub use sds::{DeltaSubscription, Sds, Step, Subscription};
pub use secret::{Content, KeyPair, SecretError, TrustBundle};
pub use settings::{CaRoots, CaSettings, Settings, SettingsError};
pub use socket::{Socket, SocketError, Stop, serve};
pub use store::Store;
pub use variables::{Takes, VARIABLES, Variable};
pub use workload_api::WorkloadApi;
