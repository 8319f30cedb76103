//! What a check found.

use crate::output::Doc;

/// How bad it is; the number is the exit code that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    NotApplicable,
    Ok,
    Informational,
    Warning,
    Critical,
    InvalidVersion,
    InsufficientPermissions,
}

impl Status {
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    fn name(self) -> &'static str {
        match self {
            Self::NotApplicable => "not_applicable",
            Self::Ok => "ok",
            Self::Informational => "informational",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::InvalidVersion => "invalid_version",
            Self::InsufficientPermissions => "insufficient_permissions",
        }
    }
}

/// One sentence about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: Status,
    pub(super) endpoint: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(status: Status, endpoint: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, endpoint: endpoint.into(), message: message.into() }
    }

    /// The server does not have what the check needs.
    pub(super) fn too_old(endpoint: impl Into<String>, version: &str) -> Self {
        Self::new(
            Status::InvalidVersion,
            endpoint,
            format!(
                "This health check requires Vault {version} but an earlier version of Vault Server was contacted, \
                 preventing this health check from running."
            ),
        )
    }

    pub(super) fn doc(&self) -> Doc {
        Doc::object([
            ("status_code", Doc::from(u64::from(self.status.code()))),
            ("status", Doc::from(self.status.name())),
            ("endpoint", Doc::from(self.endpoint.as_str())),
            ("message", Doc::from(self.message.as_str())),
        ])
    }

    pub(super) fn row(&self) -> Vec<String> {
        vec![self.status.name().to_owned(), self.endpoint.clone(), self.message.clone()]
    }
}
