//! The names of what is counted.

/// Gauge 0/1: `name, namespace, condition, issuer_name, issuer_kind, issuer_group`.
pub const CERTIFICATE_READY: &str = "certmanager_certificate_ready_status";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_EXPIRATION: &str = "certmanager_certificate_expiration_timestamp_seconds";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_NOT_AFTER: &str = "certmanager_certificate_not_after_timestamp_seconds";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_NOT_BEFORE: &str = "certmanager_certificate_not_before_timestamp_seconds";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_RENEWAL: &str = "certmanager_certificate_renewal_timestamp_seconds";
/// Gauge 0/1: `name, namespace, condition`.
pub const ISSUER_READY: &str = "certmanager_issuer_ready_status";
/// Gauge 0/1: `name, condition`.
pub const CLUSTER_ISSUER_READY: &str = "certmanager_clusterissuer_ready_status";
/// Counter: `controller`.
pub const SYNC_CALLS: &str = "certmanager_controller_sync_call_count";
/// Counter: `controller`.
pub const SYNC_ERRORS: &str = "certmanager_controller_sync_error_count";
/// Gauge, seconds since 1970.
pub const CLOCK: &str = "certmanager_clock_time_seconds_gauge";

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {}
