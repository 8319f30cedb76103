//! Which issuer signs: the one that flags name, or the one that a ConfigMap names at run time.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;

use super::datum;
use chancery_kubernetes::cert_manager::IssuerReference;
use chancery_kubernetes::follow;

/// Why the flags name no issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// Some of the three are given, some are not.
    #[error("the issuer's name, kind and group must be given together, or none of them")]
    Incomplete,
    /// No issuer by flags, and no ConfigMap that could name one.
    #[error(
        "no issuer is given, so a ConfigMap must be named (name and namespace) that gives one at run time"
    )]
    None,
}

/// The issuer that flags name, under the rules for them.
///
/// `runtime` says whether a ConfigMap was named that can give an issuer later.
///
/// # Errors
/// One or two of the three parts are missing; or there is neither an issuer nor a ConfigMap.
pub fn static_issuer(
    is_enabled: bool,
    name: &str,
    kind: &str,
    group: &str,
    runtime: bool,
) -> Result<Option<IssuerReference>, IssuerError> {
    let parts = [name, kind, group];
    let given = parts.iter().filter(|part| !part.is_empty()).count();
    let found = match given {
        _ if !is_enabled => None,
        0 => None,
        3 => Some(IssuerReference::new(name, kind, group)),
        _ => return Err(IssuerError::Incomplete),
    };
    if found.is_none() && !runtime {
        return Err(IssuerError::None);
    }
    Ok(found)
}

/// The issuer that signs now. It is copied out for each signing: a change waits for nobody, and nobody waits for it.
pub type IssuerWatch = watch::Receiver<Option<Arc<IssuerReference>>>;

/// What decides which issuer signs.
#[derive(Debug)]
pub struct ActiveIssuer {
    fixed: Option<Arc<IssuerReference>>,
    active: watch::Sender<Option<Arc<IssuerReference>>>,
}

impl ActiveIssuer {
    /// Begins with the issuer that flags name.
    pub fn new(fixed: Option<IssuerReference>) -> Self {
        let fixed = fixed.map(Arc::new);
        Self { active: watch::Sender::new(fixed.clone()), fixed }
    }

    /// Begins without an issuer, until [`Self::follow_config_map`] knows whether the ConfigMap is there: after a restart
    /// nothing is signed by the one that it stands in for.
    pub fn undecided(fixed: Option<IssuerReference>) -> Self {
        Self { fixed: fixed.map(Arc::new), active: watch::Sender::new(None) }
    }

    /// To be asked, and to be told of changes.
    pub fn subscribe(&self) -> IssuerWatch {
        self.active.subscribe()
    }

    /// Follows a ConfigMap. While it is there and complete, it decides; when it goes, the fixed issuer does. It does not
    /// return.
    pub async fn follow_config_map(&self, client: Client, namespace: &str, name: &str) {
        let api: Api<ConfigMap> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut is_seen = false;
        follow(api, config, "runtime issuer", |event| match event {
            Event::Init => is_seen = false,
            Event::InitApply(map) => {
                is_seen = true;
                self.observe(&map);
            }
            Event::Apply(map) => self.observe(&map),
            // One that is incomplete changes nothing, but somebody has to sign.
            Event::InitDone if is_seen && self.active.borrow().is_some() => {}
            Event::InitDone | Event::Delete(_) => self.set(self.fixed.clone(), "no runtime configuration"),
        })
        .await;
    }

    fn observe(&self, map: &ConfigMap) {
        match runtime_issuer(map) {
            Ok(issuer) => self.set(Some(Arc::new(issuer)), "runtime configuration"),
            Err(missing) => {
                tracing::warn!(missing, "the runtime configuration of the issuer is incomplete and ignored");
            }
        }
    }

    fn set(&self, issuer: Option<Arc<IssuerReference>>, by: &str) {
        self.active.send_if_modified(|active| {
            if *active == issuer {
                return false;
            }
            match &issuer {
                Some(issuer) => tracing::info!(%issuer, by, "another issuer signs from now on"),
                None => tracing::warn!(by, "no issuer is left; nothing can be signed"),
            }
            active.clone_from(&issuer);
            true
        });
    }
}

/// What a ConfigMap says; or which of the three keys it lacks.
fn runtime_issuer(map: &ConfigMap) -> Result<IssuerReference, &'static str> {
    let part = |key: &'static str| datum(map, key).filter(|value| !value.is_empty()).ok_or(key);
    Ok(IssuerReference::new(part("issuer-name")?, part("issuer-kind")?, part("issuer-group")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_parts_of_an_issuer_come_together_or_not_at_all() {
        let issuer = static_issuer(true, "istio-ca", "Issuer", "cert-manager.io", false).expect("an issuer");
        assert_eq!(issuer.expect("an issuer").to_string(), "Issuer.cert-manager.io istio-ca");
        for parts in [("a", "", ""), ("", "b", ""), ("a", "", "c")] {
            let refused = static_issuer(true, parts.0, parts.1, parts.2, true);
            assert_eq!(refused, Err(IssuerError::Incomplete), "{parts:?}");
        }
        assert_eq!(static_issuer(true, "", "", "", true), Ok(None));
        assert_eq!(static_issuer(true, "", "", "", false), Err(IssuerError::None));
        assert_eq!(static_issuer(false, "a", "b", "c", false), Err(IssuerError::None));
        assert_eq!(static_issuer(false, "a", "", "", true), Ok(None));
    }

    #[test]
    fn a_runtime_configuration_must_name_all_three_parts() {
        let map = |pairs: &[(&str, &str)]| ConfigMap {
            data: Some(pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()),
            ..ConfigMap::default()
        };
        let whole = [("issuer-name", "a"), ("issuer-kind", "Issuer"), ("issuer-group", "cert-manager.io")];
        assert!(runtime_issuer(&map(&whole)).is_ok());
        for missing in 0..3 {
            let mut parts = whole.to_vec();
            parts[missing].1 = "";
            assert_eq!(runtime_issuer(&map(&parts)), Err(whole[missing].0));
            parts.remove(missing);
            assert_eq!(runtime_issuer(&map(&parts)), Err(whole[missing].0));
        }
        assert!(runtime_issuer(&ConfigMap::default()).is_err());
    }
}
