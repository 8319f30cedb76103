//! What a run does, and when runs begin by themselves: `tidy` and `config/auto-tidy` as they are written.

use std::time::Duration;

use chancery_api::{Ttl, duration, fields};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Every switch that makes a run do something, as sentences name them.
pub(super) const SWITCHES: &str = "tidy_cert_store / tidy_revoked_certs / tidy_invalid_certs / \
     tidy_revoked_cert_issuer_associations / tidy_expired_issuers / tidy_move_legacy_ca_bundle / tidy_acme";

/// How long a certificate is kept behind its end.
const SAFETY_BUFFER: Ttl = Ttl::hours(72);
/// How long an issuer is.
const ISSUER_SAFETY_BUFFER: Ttl = Ttl::hours(365 * 24);
/// How long an ACME account without orders is.
const ACME_ACCOUNT_SAFETY_BUFFER: Ttl = Ttl::hours(30 * 24);
/// Certificates in a page.
const PAGE_SIZE: i64 = 1_000;
/// The time between two runs that nobody asked for.
const INTERVAL: Ttl = Ttl::hours(12);

/// Entries of a page at most, so that memory stays what it is whatever page somebody asks for.
const LARGEST_PAGE: usize = 1_000;

fields! {
    /// Starts a run.
    #[derive(Debug)]
    pub(in super::super) struct TidyRequest {
        body {
            /// Remove certificates that have expired.
            tidy_cert_store: Option<bool>,
            /// The older name of `tidy_revoked_certs`.
            tidy_revocation_list: Option<bool>,
            /// Remove revoked certificates that have expired, which shortens revocation lists.
            tidy_revoked_certs: Option<bool>,
            /// Remove stored certificates that cannot be read.
            tidy_invalid_certs: Option<bool>,
            /// Find the issuers of revoked certificates anew where they are not known.
            tidy_revoked_cert_issuer_associations: Option<bool>,
            /// Remove issuers that have expired, but for the default one. Their keys stay.
            tidy_expired_issuers: Option<bool>,
            /// Taken for compatibility: no mount here has such a bundle.
            tidy_move_legacy_ca_bundle: Option<bool>,
            /// Remove ACME accounts, orders and bindings that nobody uses any more.
            tidy_acme: bool = false,
            /// How long certificates are kept behind their end.
            safety_buffer: Ttl = SAFETY_BUFFER,
            /// How long revoked certificates are kept behind their end; `safety_buffer` if absent.
            revoked_safety_buffer: Option<Ttl>,
            /// How long issuers are kept behind their end.
            issuer_safety_buffer: Ttl = ISSUER_SAFETY_BUFFER,
            /// How long ACME accounts without orders are kept.
            acme_account_safety_buffer: Ttl = ACME_ACCOUNT_SAFETY_BUFFER,
            /// A pause before each certificate.
            pause_duration: String = "0s".to_owned(),
            /// Certificates read at a time; 1000 at most.
            page_size: i64 = PAGE_SIZE,
        }
    }
}

fields! {
    /// Says when runs begin by themselves, and what they do. What is absent stays as it is.
    #[derive(Debug)]
    pub(in super::super) struct WriteAutoTidy {
        body {
            /// Whether runs begin by themselves.
            enabled: Option<bool>,
            /// The time from the end of a run to the next.
            interval_duration: Option<Ttl>,
            /// Remove certificates that have expired.
            tidy_cert_store: Option<bool>,
            /// Not looked at: `tidy` has it.
            tidy_revocation_list: Option<bool>,
            /// Remove revoked certificates that have expired, which shortens revocation lists.
            tidy_revoked_certs: Option<bool>,
            /// Remove stored certificates that cannot be read.
            tidy_invalid_certs: Option<bool>,
            /// Find the issuers of revoked certificates anew where they are not known.
            tidy_revoked_cert_issuer_associations: Option<bool>,
            /// Remove issuers that have expired, but for the default one. Their keys stay.
            tidy_expired_issuers: Option<bool>,
            /// Taken for compatibility: no mount here has such a bundle.
            tidy_move_legacy_ca_bundle: Option<bool>,
            /// Remove ACME accounts, orders and bindings that nobody uses any more.
            tidy_acme: Option<bool>,
            /// How long certificates are kept behind their end.
            safety_buffer: Option<Ttl>,
            /// How long revoked certificates are kept behind their end; `safety_buffer` if never given.
            revoked_safety_buffer: Option<Ttl>,
            /// How long issuers are kept behind their end.
            issuer_safety_buffer: Option<Ttl>,
            /// How long ACME accounts without orders are kept.
            acme_account_safety_buffer: Option<Ttl>,
            /// A pause before each certificate.
            pause_duration: Option<String>,
            /// Certificates read at a time; 1000 at most.
            page_size: Option<i64>,
            /// Count the certificates that are stored, for `tidy-status`.
            maintain_stored_certificate_counts: Option<bool>,
            /// Show these counts among the server's measurements.
            publish_stored_certificate_count_metrics: Option<bool>,
        }
    }
}

/// What one run does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    /// Expired certificates go.
    pub(super) tidy_cert_store: bool,
    /// Expired revoked certificates go.
    pub(super) tidy_revoked_certs: bool,
    /// Unreadable certificates go.
    pub(super) tidy_invalid_certs: bool,
    /// Issuers of revoked certificates are found anew.
    pub(super) tidy_revoked_cert_issuer_associations: bool,
    /// Expired issuers go.
    pub(super) tidy_expired_issuers: bool,
    /// Means nothing here.
    pub(super) tidy_move_legacy_ca_bundle: bool,
    /// What ACME left behind goes.
    pub(super) tidy_acme: bool,
    /// Certificates are kept so long behind their end.
    pub(super) safety_buffer: Ttl,
    /// Revoked ones.
    revoked_safety_buffer: Option<Ttl>,
    /// Issuers.
    pub(super) issuer_safety_buffer: Ttl,
    /// ACME accounts without orders, behind their birth.
    pub(super) acme_account_safety_buffer: Ttl,
    /// A pause before each entry.
    pub(super) pause_duration: Duration,
    /// Entries of a page, as asked for.
    pub(super) page_size: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tidy_cert_store: false,
            tidy_revoked_certs: false,
            tidy_invalid_certs: false,
            tidy_revoked_cert_issuer_associations: false,
            tidy_expired_issuers: false,
            tidy_move_legacy_ca_bundle: false,
            tidy_acme: false,
            safety_buffer: SAFETY_BUFFER,
            revoked_safety_buffer: None,
            issuer_safety_buffer: ISSUER_SAFETY_BUFFER,
            acme_account_safety_buffer: ACME_ACCOUNT_SAFETY_BUFFER,
            pause_duration: Duration::ZERO,
            page_size: PAGE_SIZE,
        }
    }
}

impl Settings {
    /// Whether any switch is on.
    pub(super) fn does_anything(&self) -> bool {
        self.tidy_cert_store
            || self.tidy_revoked_certs
            || self.tidy_invalid_certs
            || self.tidy_revoked_cert_issuer_associations
            || self.tidy_expired_issuers
            || self.tidy_move_legacy_ca_bundle
            || self.tidy_acme
    }

    /// Revoked certificates are kept so long behind their end.
    pub(super) fn revoked_safety_buffer(&self) -> Ttl {
        self.revoked_safety_buffer.unwrap_or(self.safety_buffer)
    }

    /// Entries read at a time. No size, as the peer takes it, is as many as there may be.
    pub(super) fn page(&self) -> usize {
        usize::try_from(self.page_size)
            .ok()
            .filter(|size| *size > 0)
            .unwrap_or(LARGEST_PAGE)
            .min(LARGEST_PAGE)
    }
}

/// `config/auto-tidy`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AutoTidy {
    /// Whether runs begin by themselves.
    pub(super) enabled: bool,
    /// The time between them.
    pub(super) interval_duration: Ttl,
    /// What they do.
    pub(super) settings: Settings,
    maintain_stored_certificate_counts: bool,
    publish_stored_certificate_count_metrics: bool,
}

impl Default for AutoTidy {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_duration: INTERVAL,
            settings: Settings::default(),
            maintain_stored_certificate_counts: false,
            publish_stored_certificate_count_metrics: false,
        }
    }
}

/// What becomes of the number of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Counting {
    /// Nobody asks for it.
    Off,
    /// `tidy-status` shows it.
    Kept,
    /// The server's measurements show it too.
    Published,
}

/// `config/auto-tidy` as it is answered.
#[derive(Serialize)]
pub(super) struct AutoTidyAnswer {
    acme_account_safety_buffer: Ttl,
    enabled: bool,
    interval_duration: Ttl,
    issuer_safety_buffer: Ttl,
    maintain_stored_certificate_counts: bool,
    page_size: i64,
    pause_duration: String,
    publish_stored_certificate_count_metrics: bool,
    revoked_safety_buffer: Ttl,
    safety_buffer: Ttl,
    tidy_acme: bool,
    tidy_cert_store: bool,
    tidy_expired_issuers: bool,
    tidy_invalid_certs: bool,
    tidy_move_legacy_ca_bundle: bool,
    tidy_revoked_cert_issuer_associations: bool,
    tidy_revoked_certs: bool,
}

impl AutoTidy {
    /// Whether certificates are to be counted.
    pub(super) fn counts(&self) -> Counting {
        match (self.maintain_stored_certificate_counts, self.publish_stored_certificate_count_metrics) {
            (false, _) => Counting::Off,
            (true, false) => Counting::Kept,
            (true, true) => Counting::Published,
        }
    }

    /// As it is answered.
    pub(super) fn shown(&self) -> AutoTidyAnswer {
        let Settings {
            tidy_cert_store,
            tidy_revoked_certs,
            tidy_invalid_certs,
            tidy_revoked_cert_issuer_associations,
            tidy_expired_issuers,
            tidy_move_legacy_ca_bundle,
            tidy_acme,
            safety_buffer,
            revoked_safety_buffer: _,
            issuer_safety_buffer,
            acme_account_safety_buffer,
            pause_duration,
            page_size,
        } = self.settings;
        AutoTidyAnswer {
            acme_account_safety_buffer,
            enabled: self.enabled,
            interval_duration: self.interval_duration,
            issuer_safety_buffer,
            maintain_stored_certificate_counts: self.maintain_stored_certificate_counts,
            page_size,
            pause_duration: go_text(pause_duration),
            publish_stored_certificate_count_metrics: self.publish_stored_certificate_count_metrics,
            revoked_safety_buffer: self.settings.revoked_safety_buffer(),
            safety_buffer,
            tidy_acme,
            tidy_cert_store,
            tidy_expired_issuers,
            tidy_invalid_certs,
            tidy_move_legacy_ca_bundle,
            tidy_revoked_cert_issuer_associations,
            tidy_revoked_certs,
        }
    }
}

impl TidyRequest {
    /// What the run is to do, if it may.
    pub(super) fn into_settings(self) -> Result<Settings, Error> {
        let on = Option::unwrap_or_default;
        let settings = Settings {
            tidy_cert_store: on(self.tidy_cert_store),
            tidy_revoked_certs: on(self.tidy_revoked_certs) || on(self.tidy_revocation_list),
            tidy_invalid_certs: on(self.tidy_invalid_certs),
            tidy_revoked_cert_issuer_associations: on(self.tidy_revoked_cert_issuer_associations),
            tidy_expired_issuers: on(self.tidy_expired_issuers),
            tidy_move_legacy_ca_bundle: on(self.tidy_move_legacy_ca_bundle),
            tidy_acme: self.tidy_acme,
            safety_buffer: self.safety_buffer,
            revoked_safety_buffer: Some(self.revoked_safety_buffer.unwrap_or(self.safety_buffer)),
            issuer_safety_buffer: self.issuer_safety_buffer,
            acme_account_safety_buffer: self.acme_account_safety_buffer,
            pause_duration: Duration::ZERO,
            page_size: self.page_size,
        };
        for (field, buffer) in [
            ("safety_buffer", settings.safety_buffer),
            // The peer spells it so.
            ("revokedSafetyBuffer", settings.revoked_safety_buffer()),
            ("issuer_safety_buffer", settings.issuer_safety_buffer),
            ("acme_account_safety_buffer", settings.acme_account_safety_buffer),
        ] {
            if buffer.as_secs() == 0 {
                return Err(Error::invalid(format!("{field} must be greater than zero")));
            }
        }
        let pause_duration = pause(&self.pause_duration, "Error parsing pause_duration")?;
        if (1..5).contains(&self.page_size) {
            return Err(Error::invalid("page_size must be greater than five"));
        }
        Ok(Settings { pause_duration, ..settings })
    }
}

impl WriteAutoTidy {
    /// The settings behind this change of those `before`, if it may be made.
    pub(super) fn applied(self, before: AutoTidy) -> Result<AutoTidy, Error> {
        let AutoTidy { settings, .. } = before;
        let at_least_a_second = |given: Option<Ttl>, before: Ttl, sentence: &str| match given {
            Some(length) if length.as_secs() == 0 => {
                Err(Error::invalid(format!("{sentence} must be at least one second; got: 0")))
            }
            given => Ok(given.unwrap_or(before)),
        };
        let safety_buffer =
            at_least_a_second(self.safety_buffer, settings.safety_buffer, "given safety_buffer")?;
        let revoked_safety_buffer = match self.revoked_safety_buffer {
            None => settings.revoked_safety_buffer,
            given => Some(at_least_a_second(given, Ttl::ZERO, "revoked_safety_buffer")?),
        };
        let pause_duration = match &self.pause_duration {
            Some(text) => pause(text, "unable to parse given pause_duration")?,
            None => settings.pause_duration,
        };
        let page_size = self.page_size.unwrap_or(settings.page_size);
        if self.page_size.is_some_and(|size| size < 5) {
            return Err(Error::invalid("page_size must be at least 5"));
        }
        let settings = Settings {
            tidy_cert_store: self.tidy_cert_store.unwrap_or(settings.tidy_cert_store),
            tidy_revoked_certs: self.tidy_revoked_certs.unwrap_or(settings.tidy_revoked_certs),
            tidy_invalid_certs: self.tidy_invalid_certs.unwrap_or(settings.tidy_invalid_certs),
            tidy_revoked_cert_issuer_associations: self
                .tidy_revoked_cert_issuer_associations
                .unwrap_or(settings.tidy_revoked_cert_issuer_associations),
            tidy_expired_issuers: self.tidy_expired_issuers.unwrap_or(settings.tidy_expired_issuers),
            tidy_move_legacy_ca_bundle: self
                .tidy_move_legacy_ca_bundle
                .unwrap_or(settings.tidy_move_legacy_ca_bundle),
            tidy_acme: self.tidy_acme.unwrap_or(settings.tidy_acme),
            safety_buffer,
            revoked_safety_buffer,
            // The peer's sentence names the other buffer here.
            issuer_safety_buffer: at_least_a_second(
                self.issuer_safety_buffer,
                settings.issuer_safety_buffer,
                "given safety_buffer",
            )?,
            acme_account_safety_buffer: at_least_a_second(
                self.acme_account_safety_buffer,
                settings.acme_account_safety_buffer,
                "given acme_account_safety_buffer",
            )?,
            pause_duration,
            page_size,
        };
        let auto = AutoTidy {
            enabled: self.enabled.unwrap_or(before.enabled),
            interval_duration: self.interval_duration.unwrap_or(before.interval_duration),
            settings,
            maintain_stored_certificate_counts: self
                .maintain_stored_certificate_counts
                .unwrap_or(before.maintain_stored_certificate_counts),
            publish_stored_certificate_count_metrics: self
                .publish_stored_certificate_count_metrics
                .unwrap_or(before.publish_stored_certificate_count_metrics),
        };
        if auto.enabled && !auto.settings.does_anything() {
            return Err(Error::invalid(format!(
                "Auto-tidy enabled but no tidy operations were requested. Enable at least one tidy operation to be run ({SWITCHES})."
            )));
        }
        if auto.publish_stored_certificate_count_metrics && !auto.maintain_stored_certificate_counts {
            return Err(Error::invalid(
                "Can not publish a running storage metrics count to metrics without first maintaining that count.  Enable `maintain_stored_certificate_counts` to enable `publish_stored_certificate_count_metrics`.",
            ));
        }
        Ok(auto)
    }
}

/// A pause as it is written; a text that is empty is none.
fn pause(text: &str, sentence: &str) -> Result<Duration, Error> {
    duration::parse(text).map_err(|error| match error {
        duration::ParseError::Negative(_) => Error::invalid("received invalid, negative pause_duration"),
        other => Error::invalid(format!("{sentence}: {other}")),
    })
}

/// A length of time as Go prints it: `1h30m0s`, `1.5s`, `250ms`, `0s`.
pub(super) fn go_text(length: Duration) -> String {
    let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
    if seconds == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", with_fraction(nanos / 1_000, nanos % 1_000, 3)),
            _ => format!("{}ms", with_fraction(nanos / 1_000_000, nanos % 1_000_000, 6)),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let seconds = with_fraction(seconds % 60, nanos, 9);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn with_fraction(whole: impl std::fmt::Display, fraction: u32, digits: usize) -> String {
    match format!("{fraction:0digits$}").trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_shown_as_go_shows_it() {
        for (text, shown) in [
            ("0", "0s"),
            ("90", "1m30s"),
            ("1h", "1h0m0s"),
            ("1h30m5s", "1h30m5s"),
            ("1500ms", "1.5s"),
            ("250ms", "250ms"),
            ("1us", "1µs"),
            ("1500ns", "1.5µs"),
            ("7ns", "7ns"),
            ("1d", "24h0m0s"),
        ] {
            assert_eq!(go_text(duration::parse(text).unwrap()), shown, "{text}");
        }
    }

    #[test]
    fn a_page_is_never_larger_than_memory_allows() {
        for (asked, page) in [(5, 5), (1_000, 1_000), (0, 1_000), (-1, 1_000), (i64::MAX, 1_000)] {
            assert_eq!(Settings { page_size: asked, ..Settings::default() }.page(), page);
        }
    }

    #[test]
    fn settings_read_back_as_they_were_written() {
        let auto = AutoTidy {
            enabled: true,
            settings: Settings { pause_duration: Duration::from_millis(1500), ..Settings::default() },
            ..AutoTidy::default()
        };
        let json = serde_json::to_string(&auto).unwrap();
        assert_eq!(serde_json::from_str::<AutoTidy>(&json).unwrap(), auto);
        assert_eq!(serde_json::from_str::<AutoTidy>("{}").unwrap(), AutoTidy::default());
    }
}
