//! `config/{issuers,keys,urls,cluster,lint}`: what the mount's issuers share.

use std::sync::Arc;

use chancery_api::fields::NoFields;
use chancery_api::{Strings, fields};
use chancery_issuance::LintMode;
use serde_json::{Value, json};

use super::Pki;
use super::authorities::{Authorities, DEFAULT, one_error};
use super::records::{ClusterConfig, IssuersConfig, KeysConfig, LintConfig, Urls};
use super::urls::{UrlError, is_url};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

fields! {
    /// Which issuer is the default.
    #[derive(Debug)]
    pub(super) struct ConfigIssuers {
        body {
            /// An id or a name.
            default: String = String::new(),
            /// Whether a new issuer with a key becomes the default.
            default_follows_latest_issuer: Option<bool>,
        }
    }
}

fields! {
    /// Which issuer is the default, `next` unless said otherwise.
    #[derive(Debug)]
    pub(super) struct ReplaceRoot {
        body {
            /// An id or a name.
            default: String = "next".to_owned(),
        }
    }
}

fields! {
    /// Which key is the default.
    #[derive(Debug)]
    pub(super) struct ConfigKeys {
        body {
            /// An id or a name.
            default: String = String::new(),
        }
    }
}

fields! {
    /// The URLs that issuers without their own repeat.
    #[derive(Debug)]
    pub(super) struct ConfigUrls {
        body {
            /// caIssuers
            issuing_certificates: Option<Strings>,
            /// CRL distribution points
            crl_distribution_points: Option<Strings>,
            /// Freshest CRL
            delta_crl_distribution_points: Option<Strings>,
            /// OCSP
            ocsp_servers: Option<Strings>,
            /// `{{issuer_id}}`, `{{cluster_path}}` and `{{cluster_aia_path}}` are filled in.
            enable_templating: Option<bool>,
        }
    }
}

fields! {
    /// Where this cluster is reached.
    #[derive(Debug)]
    pub(super) struct ConfigCluster {
        body {
            /// The API's base of this mount.
            path: Option<String>,
            /// The base for the URLs in certificates.
            aia_path: Option<String>,
        }
    }
}

fields! {
    /// What becomes of certificates that break a standard.
    #[derive(Debug)]
    pub(super) struct ConfigLint {
        body {
            /// Rules of RFC 5280: `off`, `warn` or `refuse`.
            rfc5280: Option<String>,
            /// Rules of X.509-SVID, for certificates that name a SPIFFE id: `off`, `warn` or `refuse`.
            spiffe: Option<String>,
        }
    }
}

impl Pki {
    /// GET `config/lint`
    pub(super) async fn read_config_lint(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&self.store.authorities().await?.lint.value)
    }

    /// POST `config/lint`
    pub(super) async fn write_config_lint(
        self: Arc<Self>,
        _: Call,
        body: ConfigLint,
    ) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let before = change.before.lint.value.clone();
        let mode = |field: &str, given: Option<String>, before: String| match given {
            Some(word) if LintMode::from_name(&word).is_none() => Err(Error::invalid(format!(
                "Unknown value for field `{field}`. Possible values are `off`, `warn` and `refuse`."
            ))),
            given => Ok(given.unwrap_or(before)),
        };
        let config = LintConfig {
            rfc5280: mode("rfc5280", body.rfc5280, before.rfc5280)?,
            spiffe: mode("spiffe", body.spiffe, before.spiffe)?,
        };
        change.put_lint_config(&config)?;
        change.commit().await?;
        Response::data(&config)
    }

    /// GET `config/issuers`
    pub(super) async fn read_config_issuers(
        self: Arc<Self>,
        _: Call,
        _: NoFields,
    ) -> Result<Response, Error> {
        Response::data(&issuers(&*self.store.authorities().await?))
    }

    /// POST `config/issuers`
    pub(super) async fn write_config_issuers(
        self: Arc<Self>,
        _: Call,
        body: ConfigIssuers,
    ) -> Result<Response, Error> {
        self.set_default_issuer(&body.default, body.default_follows_latest_issuer).await
    }

    /// POST `root/replace`
    pub(super) async fn replace_root(self: Arc<Self>, _: Call, body: ReplaceRoot) -> Result<Response, Error> {
        self.set_default_issuer(&body.default, None).await
    }

    async fn set_default_issuer(&self, reference: &str, follows: Option<bool>) -> Result<Response, Error> {
        if reference.is_empty() || reference == DEFAULT {
            return Err(Error::invalid(
                "Invalid issuer specification; must be non-empty and can't be 'default'.",
            ));
        }
        let mut change = self.store.change().await?;
        let issuer = change.before.find_issuer(reference).map_err(|unresolved| {
            Error::invalid(format!("Error resolving issuer reference: {unresolved}"))
        })?;
        let (id, keyless) = (issuer.record.id, issuer.record.key.is_none());
        let before = &change.before.issuers_config.value;
        let config = IssuersConfig {
            default: Some(id),
            default_follows_latest_issuer: follows.unwrap_or(before.default_follows_latest_issuer),
        };
        change.put_issuers_config(&config)?;
        let after = change.commit().await?;
        let response = Response::data(&issuers(&after))?;
        Ok(if keyless {
            response.warn("This selected default issuer has no key associated with it. Some operations like issuing certificates and signing CRLs will be unavailable with the requested default issuer until a key is imported or the default issuer is changed.")
        } else {
            response
        })
    }

    /// GET `config/keys`
    pub(super) async fn read_config_keys(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&keys(&*self.store.authorities().await?))
    }

    /// POST `config/keys`
    pub(super) async fn write_config_keys(
        self: Arc<Self>,
        _: Call,
        body: ConfigKeys,
    ) -> Result<Response, Error> {
        if body.default.is_empty() || body.default == DEFAULT {
            return Err(Error::invalid(
                "Invalid key specification; must be non-empty and can't be 'default'.",
            ));
        }
        let mut change = self.store.change().await?;
        let id = change
            .before
            .find_key(&body.default)
            .map_err(|unresolved| Error::invalid(format!("Error resolving issuer reference: {unresolved}")))?
            .record
            .id;
        change.put_keys_config(&KeysConfig { default: Some(id) })?;
        Response::data(&keys(&*change.commit().await?))
    }

    /// GET `config/urls`
    pub(super) async fn read_config_urls(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        Response::data(&shown_urls(&self.store.authorities().await?.urls.value))
    }

    /// POST `config/urls`
    pub(super) async fn write_config_urls(
        self: Arc<Self>,
        _: Call,
        body: ConfigUrls,
    ) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let before = change.before.urls.value.clone();
        let or = |given: Option<Strings>, before: Vec<String>| given.map_or(before, Strings::non_empty);
        let urls = Urls {
            issuing_certificates: or(body.issuing_certificates, before.issuing_certificates),
            crl_distribution_points: or(body.crl_distribution_points, before.crl_distribution_points),
            delta_crl_distribution_points: or(
                body.delta_crl_distribution_points,
                before.delta_crl_distribution_points,
            ),
            ocsp_servers: or(body.ocsp_servers, before.ocsp_servers),
            enable_templating: body.enable_templating.unwrap_or(before.enable_templating),
        };
        if !urls.enable_templating {
            check_urls(urls.lists())?;
        }
        change.put_urls(&urls)?;
        // Templates are tried with an issuer; without one there is nothing to warn of yet.
        let some_issuer = change.before.issuers().next().map(|issuer| issuer.record.id);
        let cluster = change.before.cluster.value.clone();
        change.commit().await?;
        let response = Response::data(&shown_urls(&urls))?;
        let problem = some_issuer.and_then(|id| urls.filled_in(&cluster, Some(id)).err());
        Ok(match problem {
            Some(problem) if urls.enable_templating => response.warn(may_fail(&problem)),
            _ => response,
        })
    }

    /// GET `config/cluster`
    pub(super) async fn read_config_cluster(
        self: Arc<Self>,
        _: Call,
        _: NoFields,
    ) -> Result<Response, Error> {
        Response::data(&shown_cluster(&self.store.authorities().await?.cluster.value))
    }

    /// POST `config/cluster`
    pub(super) async fn write_config_cluster(
        self: Arc<Self>,
        _: Call,
        body: ConfigCluster,
    ) -> Result<Response, Error> {
        let mut change = self.store.change().await?;
        let before = change.before.cluster.value.clone();
        let config = ClusterConfig {
            path: body.path.unwrap_or(before.path),
            aia_path: body.aia_path.unwrap_or(before.aia_path),
        };
        for (name, url) in [("path", &config.path), ("aia_path", &config.aia_path)] {
            if !url.is_empty() && !is_url(url) {
                return Err(one_error(&format_args!("invalid, non-URL {name} given to cluster: {url}")));
            }
        }
        change.put_cluster_config(&config)?;
        change.commit().await?;
        Response::data(&shown_cluster(&config))
    }
}

/// Refuses what is no URL.
pub(super) fn check_urls<'a>(
    lists: impl IntoIterator<Item = (&'static str, &'a Vec<String>)>,
) -> Result<(), Error> {
    for (field, urls) in lists {
        if let Some(url) = urls.iter().find(|url| !is_url(url)) {
            return Err(Error::invalid(format!(
                "invalid URL found in Authority Information Access (AIA) parameter {field}: {url}"
            )));
        }
    }
    Ok(())
}

/// Said where templates cannot be filled in.
pub(super) fn may_fail(problem: &UrlError) -> String {
    format!(
        "issuance may fail: {problem}\n\nConsider setting the cluster-local address if it is not already set."
    )
}

fn issuers(authorities: &Authorities) -> Value {
    let IssuersConfig { default, default_follows_latest_issuer } = &authorities.issuers_config.value;
    json!({
        "default": default.map(|id| id.to_string()).unwrap_or_default(),
        "default_follows_latest_issuer": default_follows_latest_issuer,
    })
}

fn keys(authorities: &Authorities) -> Value {
    let KeysConfig { default } = &authorities.keys_config.value;
    json!({ "default": default.map(|id| id.to_string()).unwrap_or_default() })
}

fn shown_urls(urls: &Urls) -> Value {
    json!({
        "crl_distribution_points": urls.crl_distribution_points,
        "delta_crl_distribution_points": urls.delta_crl_distribution_points,
        "enable_templating": urls.enable_templating,
        "issuing_certificates": urls.issuing_certificates,
        "ocsp_servers": urls.ocsp_servers,
    })
}

fn shown_cluster(config: &ClusterConfig) -> Value {
    json!({ "path": config.path, "aia_path": config.aia_path })
}
