//! The URLs that certificates carry: checked, and their templates filled in.

use chancery_issuance::AiaUrls;

use super::records::{ClusterConfig, IssuerId, Urls};

/// Why URLs cannot be put into a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    /// A template without a value.
    #[error("unable to template AIA URLs as we lack local cluster address information ({0})")]
    NoCluster(&'static str),
    /// An issuer's id where no issuer exists yet.
    #[error("unable to template AIA URLs as we lack an issuer_id for this operation")]
    NoIssuer,
    /// What came out is no URL.
    #[error("error validating templated {field}; invalid URI: {url}")]
    NotAUrl {
        /// Where it stands.
        field: &'static str,
        /// What came out.
        url: String,
    },
}

impl Urls {
    /// The lists with their names in the API, in the order in which they are checked.
    pub(super) fn lists(&self) -> [(&'static str, &Vec<String>); 4] {
        let Self {
            issuing_certificates,
            crl_distribution_points,
            delta_crl_distribution_points,
            ocsp_servers,
            enable_templating: _,
        } = self;
        [
            ("issuing_certificates", issuing_certificates),
            ("crl_distribution_points", crl_distribution_points),
            ("delta_crl_distribution_points", delta_crl_distribution_points),
            ("ocsp_servers", ocsp_servers),
        ]
    }

    /// Whether nothing is said here. As the peer has it, a freshest CRL alone says nothing: it only
    /// complements what the CRL distribution points lead to.
    pub(super) fn say_nothing(&self) -> bool {
        let Self { issuing_certificates, crl_distribution_points, ocsp_servers, .. } = self;
        issuing_certificates.is_empty() && crl_distribution_points.is_empty() && ocsp_servers.is_empty()
    }

    /// As a certificate carries them; `issuer` is `None` for a root that does not exist yet.
    pub(super) fn filled_in(
        &self,
        cluster: &ClusterConfig,
        issuer: Option<IssuerId>,
    ) -> Result<AiaUrls, UrlError> {
        if self.say_nothing() {
            return Ok(AiaUrls::default());
        }
        let [issuing, crl, delta, ocsp] = self.lists();
        let fill = |(field, urls): (&'static str, &Vec<String>)| -> Result<Vec<String>, UrlError> {
            if !self.enable_templating {
                return Ok(urls.clone());
            }
            urls.iter().map(|url| filled_in(field, url, cluster, issuer)).collect()
        };
        Ok(AiaUrls {
            issuing_certificates: fill(issuing)?,
            crl_distribution_points: fill(crl)?,
            delta_crl_distribution_points: fill(delta)?,
            ocsp_servers: fill(ocsp)?,
        })
    }
}

fn filled_in(
    field: &'static str,
    url: &str,
    cluster: &ClusterConfig,
    issuer: Option<IssuerId>,
) -> Result<String, UrlError> {
    let ClusterConfig { path, aia_path } = cluster;
    let mut filled = url.to_owned();
    for (template, value, name) in
        [("{{cluster_path}}", path, "path"), ("{{cluster_aia_path}}", aia_path, "aia_path")]
    {
        if url.contains(template) && value.is_empty() {
            return Err(UrlError::NoCluster(name));
        }
        filled = filled.replace(template, value);
    }
    if url.contains("{{issuer_id}}") {
        filled = filled.replace("{{issuer_id}}", &issuer.ok_or(UrlError::NoIssuer)?.to_string());
    }
    if is_url(&filled) { Ok(filled) } else { Err(UrlError::NotAUrl { field, url: filled }) }
}

/// A scheme, `://`, a host; no spaces, no template that should have been filled in, and nothing beyond
/// ASCII, because certificates carry URLs as IA5Strings (RFC 5280, 4.2.1.6).
pub(super) fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let templates = ["{{issuer_id}}", "{{cluster_path}}", "{{cluster_aia_path}}"];
    let encoded = |part: &str| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let scheme_fine = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    scheme_fine
        && text.is_ascii()
        && !host.is_empty()
        && rest.split('%').skip(1).all(encoded)
        && !templates.iter().any(|template| text.contains(template))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(issuing: &str) -> Urls {
        Urls { issuing_certificates: vec![issuing.to_owned()], enable_templating: true, ..Urls::default() }
    }

    #[test]
    fn templates_are_filled_in_or_refused_by_what_is_missing() {
        let cluster = ClusterConfig { path: "http://c/v1/pki".to_owned(), aia_path: String::new() };
        let id = IssuerId::fresh();
        let filled = urls("{{cluster_path}}/issuer/{{issuer_id}}/der").filled_in(&cluster, Some(id)).unwrap();
        assert_eq!(filled.issuing_certificates, [format!("http://c/v1/pki/issuer/{id}/der")]);
        for (url, issuer, error) in [
            ("{{cluster_aia_path}}/x", Some(id), UrlError::NoCluster("aia_path")),
            ("{{cluster_path}}/{{issuer_id}}", None, UrlError::NoIssuer),
            (
                "{{nonsense}}/x",
                Some(id),
                UrlError::NotAUrl { field: "issuing_certificates", url: "{{nonsense}}/x".to_owned() },
            ),
        ] {
            assert_eq!(urls(url).filled_in(&cluster, issuer), Err(error), "{url}");
        }
    }

    #[test]
    fn a_url_has_a_scheme_and_a_host() {
        for url in
            ["http://x", "HTTPS://x:80/y?z#a", "ldap://x/cn=a", "http://[::1]/%20", "http://x/{{other}}"]
        {
            assert!(is_url(url), "{url}");
        }
        for no_url in [
            "",
            "x",
            "x.y/z",
            "://x",
            "ldap:///x",
            "http:///x",
            "http://x/a b",
            "http://x/%zz",
            "http://x/%2",
            "http://x/{{issuer_id}}",
            "http://x\u{e4}/y",
            "http://x/\u{fc}",
        ] {
            assert!(!is_url(no_url), "{no_url}");
        }
    }

    #[test]
    fn a_freshest_crl_alone_says_nothing() {
        let delta = vec!["http://x/delta".to_owned()];
        let alone = Urls { delta_crl_distribution_points: delta.clone(), ..Urls::default() };
        assert_eq!(alone.filled_in(&ClusterConfig::default(), None), Ok(AiaUrls::default()));
        let beside = Urls { ocsp_servers: vec!["http://x/ocsp".to_owned()], ..alone };
        let filled = beside.filled_in(&ClusterConfig::default(), None).unwrap();
        assert_eq!(filled.delta_crl_distribution_points, delta);
    }
}
