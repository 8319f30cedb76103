//! `config/crl`: how revocation is published.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::fields::NoFields;
use chancery_api::{duration, fields};

use super::Pki;
use super::records::CrlConfig;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

fields! {
    /// How revocation is published. What is not given stays as it is.
    #[derive(Debug)]
    pub(super) struct ConfigCrl {
        body {
            /// How long a CRL is valid.
            expiry: Option<String>,
            /// CRLs are empty, and stay as they are.
            disable: Option<bool>,
            /// OCSP answers nobody.
            ocsp_disable: Option<bool>,
            /// How long an OCSP answer is valid.
            ocsp_expiry: Option<String>,
            /// CRLs are built shortly before they expire, not with each revocation.
            auto_rebuild: Option<bool>,
            /// How long before.
            auto_rebuild_grace_period: Option<String>,
            /// Delta CRLs are built in between.
            enable_delta: Option<bool>,
            /// How often.
            delta_rebuild_interval: Option<String>,
            /// Certificates that have expired can be revoked.
            allow_expired_cert_revocation: Option<bool>,
        }
    }
}

impl Pki {
    /// GET `config/crl`
    pub(super) async fn read_config_crl(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&self.store.authorities().await?.crl.value)
    }

    /// POST `config/crl`
    pub(super) async fn write_config_crl(
        self: Arc<Self>,
        _: Call,
        body: ConfigCrl,
    ) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let config = body.over(change.before.crl.value.clone())?;
        config.check()?;
        change.put_crl_config(&config)?;
        let before = change.before.crl.value.clone();
        let after = change.commit().await?;
        let mut response = Response::data(&config)?;
        // Where other CRLs are wanted than before.
        let others = before.disable != config.disable
            || (before.auto_rebuild && !config.auto_rebuild)
            || before.enable_delta != config.enable_delta;
        if others {
            response.warnings = after.crl_warnings();
        }
        Ok(response)
    }
}

impl ConfigCrl {
    fn over(self, before: CrlConfig) -> Result<CrlConfig, Error> {
        let text = |name: &str, given: Option<String>, before: String| -> Result<String, Error> {
            let Some(text) = given else { return Ok(before) };
            match duration::parse(&text) {
                Ok(_) => Ok(text),
                Err(duration::ParseError::Negative(seconds)) if name == "ocsp_expiry" => {
                    let length = as_go_prints(seconds.unsigned_abs());
                    Err(Error::invalid(format!(
                        "ocsp_expiry must be greater than or equal to 0 got: -{length}"
                    )))
                }
                Err(error) => Err(Error::invalid(format!("given {name} could not be decoded: {error}"))),
            }
        };
        Ok(CrlConfig {
            expiry: text("expiry", self.expiry, before.expiry)?,
            disable: self.disable.unwrap_or(before.disable),
            ocsp_disable: self.ocsp_disable.unwrap_or(before.ocsp_disable),
            ocsp_expiry: text("ocsp_expiry", self.ocsp_expiry, before.ocsp_expiry)?,
            auto_rebuild: self.auto_rebuild.unwrap_or(before.auto_rebuild),
            auto_rebuild_grace_period: text(
                "auto_rebuild_grace_period",
                self.auto_rebuild_grace_period,
                before.auto_rebuild_grace_period,
            )?,
            enable_delta: self.enable_delta.unwrap_or(before.enable_delta),
            delta_rebuild_interval: text(
                "delta_rebuild_interval",
                self.delta_rebuild_interval,
                before.delta_rebuild_interval,
            )?,
            allow_expired_cert_revocation: self
                .allow_expired_cert_revocation
                .unwrap_or(before.allow_expired_cert_revocation),
        })
    }
}

impl CrlConfig {
    /// How long a CRL is valid.
    pub(super) fn expiry(&self) -> Duration {
        length(&self.expiry)
    }

    /// How long before its end a CRL is built anew in the background.
    pub(super) fn grace_period(&self) -> Duration {
        length(&self.auto_rebuild_grace_period)
    }

    /// How often delta CRLs are built.
    pub(super) fn delta_interval(&self) -> Duration {
        length(&self.delta_rebuild_interval)
    }

    /// How long an OCSP answer is valid; zero for as long as one likes.
    pub(super) fn ocsp_expiry(&self) -> Duration {
        length(&self.ocsp_expiry)
    }

    fn check(&self) -> Result<(), Error> {
        let Self { expiry, auto_rebuild_grace_period: grace, delta_rebuild_interval: interval, .. } = self;
        if self.auto_rebuild && self.grace_period() >= self.expiry() {
            return Err(Error::invalid(format!(
                "CRL auto-rebuilding grace period ({grace}) must be strictly shorter than CRL expiry ({expiry}) value when auto-rebuilding of CRLs is enabled"
            )));
        }
        if self.enable_delta && self.delta_interval() >= self.expiry() {
            return Err(Error::invalid(format!(
                "CRL delta rebuild window ({interval}) must be strictly shorter than CRL expiry ({expiry}) value when delta CRLs are enabled"
            )));
        }
        if self.enable_delta && !self.auto_rebuild {
            return Err(Error::invalid(
                "Delta CRLs cannot be enabled when auto rebuilding is disabled as the complete CRL is always regenerated!",
            ));
        }
        if self.expiry().is_zero() {
            return Err(Error::invalid(format!(
                "the expiry of CRLs must be at least a second, not {expiry:?}"
            )));
        }
        Ok(())
    }
}

/// What was checked when it was written.
fn length(text: &str) -> Duration {
    duration::parse(text).map(|length| Duration::from_secs(length.as_secs())).unwrap_or_default()
}

/// A length of time in all its parts: `1h0m0s`.
fn as_go_prints(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
