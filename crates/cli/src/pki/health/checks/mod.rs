//! The checks, in the order of the peer's.

mod acme;
mod certificates;
mod issuers;
mod roles;
mod tidy;
mod tune;

use super::facts::Facts;
use super::finding::{Finding, Status};
use super::settings::{Parameter, Settings};
use crate::command::Failure;

/// What a check comes to.
type Findings = Result<Vec<Finding>, Failure>;

/// One check.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// Whether it runs if nothing is said.
    pub(super) enabled: bool,
    pub(super) parameters: &'static [(&'static str, Parameter)],
    pub(super) run: fn(&mut Facts<'_>, &Settings) -> Findings,
}

use Parameter::{Count, Duration, Names, Percent};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "ca_validity_period",
        enabled: true,
        parameters: &[
            ("root_expiry_critical", Duration("180d")),
            ("intermediate_expiry_critical", Duration("30d")),
            ("root_expiry_warning", Duration("365d")),
            ("intermediate_expiry_warning", Duration("60d")),
            ("root_expiry_informational", Duration("730d")),
            ("intermediate_expiry_informational", Duration("180d")),
        ],
        run: issuers::ca_validity_period,
    },
    Check {
        name: "crl_validity_period",
        enabled: true,
        parameters: &[
            ("crl_expiry_pct_critical", Percent("95")),
            ("delta_crl_expiry_pct_critical", Percent("95")),
        ],
        run: issuers::crl_validity_period,
    },
    Check {
        name: "hardware_backed_root",
        enabled: false,
        parameters: &[],
        run: issuers::hardware_backed_root,
    },
    Check {
        name: "root_issued_leaves",
        enabled: true,
        parameters: &[("certs_to_fetch", Count(100, 100_000))],
        run: certificates::root_issued_leaves,
    },
    Check { name: "role_allows_localhost", enabled: true, parameters: &[], run: roles::allows_localhost },
    Check {
        name: "role_allows_glob_wildcards",
        enabled: true,
        parameters: &[],
        run: roles::allows_glob_wildcards,
    },
    Check {
        name: "role_no_store_false",
        enabled: true,
        parameters: &[("allowed_roles", Names)],
        run: roles::no_store_false,
    },
    Check {
        name: "audit_visibility",
        enabled: true,
        parameters: &[("ignored_parameters", Names)],
        run: tune::audit_visibility,
    },
    Check {
        name: "allow_if_modified_since",
        enabled: true,
        parameters: &[],
        run: tune::allow_if_modified_since,
    },
    Check {
        name: "enable_auto_tidy",
        enabled: true,
        parameters: &[
            ("interval_duration_critical", Duration("7d")),
            ("interval_duration_warning", Duration("2d")),
            ("pause_duration_critical", Duration("1s")),
            ("pause_duration_warning", Duration("200ms")),
        ],
        run: tidy::enable_auto_tidy,
    },
    Check {
        name: "tidy_last_run",
        enabled: true,
        parameters: &[("last_run_critical", Duration("7d")), ("last_run_warning", Duration("2d"))],
        run: tidy::last_run,
    },
    Check {
        name: "too_many_certs",
        enabled: true,
        parameters: &[
            ("count_critical", Count(250_000, 15_000_000)),
            ("count_warning", Count(50_000, 15_000_000)),
        ],
        run: certificates::too_many_certs,
    },
    Check { name: "enable_acme_issuance", enabled: true, parameters: &[], run: acme::enable_acme_issuance },
    Check { name: "allow_acme_headers", enabled: true, parameters: &[], run: acme::allow_acme_headers },
];

/// What most checks say of what they may not read.
const UNABLE: &str = "Without this information, this health check is unable to function.";

fn ok(endpoint: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding::new(Status::Ok, endpoint, message)
}

#[cfg(test)]
mod tests;
