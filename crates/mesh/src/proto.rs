//! The messages of Istio's certificate service, of Envoy's secret discovery and of the SPIFFE Workload API.
//!
//! Generated from `proto/` by `cargo xtask gen proto`; only the fields that are used are there, and unknown ones are skipped,
//! as protobuf has it.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
#![allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]

/// Istio's certificate service.
pub mod istio {
    include!("proto/istio.v1.auth.rs");
}

/// The SPIFFE Workload API.
pub mod workload {
    include!("proto/_.rs");
}

/// Envoy's API, in the tree that its packages span.
pub mod envoy {
    pub mod extensions {
        pub mod transport_sockets {
            pub mod tls {
                pub mod v3 {
                    include!("proto/envoy.extensions.transport_sockets.tls.v3.rs");
                }
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                include!("proto/envoy.service.discovery.v3.rs");
            }
        }
        pub mod secret {
            pub mod v3 {
                include!("proto/envoy.service.secret.v3.rs");
            }
        }
    }
    pub use extensions::transport_sockets::tls::v3 as tls;
    pub use service::discovery::v3 as discovery;
    pub use service::secret::v3 as secret;
}

/// The type of the resources that SDS delivers.
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
