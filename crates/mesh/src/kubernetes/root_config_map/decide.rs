//! What is to be done about the ConfigMap of one namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;

use super::CONFIG_MAP;
use crate::ca::roots::Roots;
use crate::kubernetes::datum;
use chancery_kubernetes::LabelSelector;

/// The key of the roots.
const ROOTS: &str = "root-cert.pem";

/// The label by which Istio knows its configuration.
const LABEL: (&str, &str) = ("istio.io/config", "true");

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    Nothing,
    Create(ConfigMap),
    Update(ConfigMap),
}

/// Compares what is there with what shall be. Labels and annotations of others stay; data of others does not.
pub(super) fn decide(observed: Option<ConfigMap>, pem: &str) -> Action {
    let data = BTreeMap::from([(ROOTS.to_owned(), pem.to_owned())]);
    let Some(observed) = observed else {
        let metadata = ObjectMeta {
            name: Some(CONFIG_MAP.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
            ..ObjectMeta::default()
        };
        return Action::Create(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() });
    };
    let is_alone = observed.data.as_ref().is_some_and(|data| data.len() == 1)
        && observed.binary_data.as_ref().is_none_or(BTreeMap::is_empty);
    let labels = observed.metadata.labels.as_ref();
    let is_labelled = labels.and_then(|labels| labels.get(LABEL.0)).is_some_and(|value| value == LABEL.1);
    if is_alone && is_labelled && datum(&observed, ROOTS) == Some(pem) {
        return Action::Nothing;
    }
    let mut wanted = observed;
    wanted.data = Some(data);
    wanted.binary_data = None;
    wanted.metadata.labels.get_or_insert_default().insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    Action::Update(wanted)
}

/// The namespaces that get the ConfigMap: those chosen that are not going away.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    chosen: std::collections::BTreeSet<String>,
    /// While the list is read anew.
    stale: std::collections::BTreeSet<String>,
}

impl Namespaces {
    /// Takes note; the namespace to look after, if there is one.
    pub(super) fn apply(&mut self, event: Event<Namespace>, selector: &LabelSelector) -> Option<String> {
        match event {
            Event::Init => {
                self.stale = self.chosen.clone();
                None
            }
            Event::InitApply(namespace) | Event::Apply(namespace) => {
                let name = namespace.metadata.name.clone()?;
                self.stale.remove(&name);
                if is_chosen(&namespace, selector) {
                    self.chosen.insert(name.clone());
                    return Some(name);
                }
                self.chosen.remove(&name);
                None
            }
            Event::Delete(namespace) => {
                self.chosen.remove(namespace.metadata.name.as_deref()?);
                None
            }
            Event::InitDone => {
                for name in std::mem::take(&mut self.stale) {
                    self.chosen.remove(&name);
                }
                None
            }
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.chosen.contains(name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        self.chosen.iter()
    }
}

fn is_chosen(namespace: &Namespace, selector: &LabelSelector) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_going = phase == Some("Terminating") || namespace.metadata.deletion_timestamp.is_some();
    let none = BTreeMap::new();
    !is_going && selector.matches(namespace.metadata.labels.as_ref().unwrap_or(&none))
}

/// Why roots are not given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPublishable {
    /// There are none.
    #[error("no roots are known")]
    None,
    /// One of them is an intermediate. OpenSSL and older Envoys accept no chain that ends there, and whoever trusts it
    /// will not trust what the root signs next.
    #[error(
        "{0} is not self-signed: it is an intermediate, not a root; give the root itself (or allow intermediates)"
    )]
    Intermediate(String),
    /// One of them is no authority.
    #[error("{0} is not the certificate of an authority")]
    NotAuthority(String),
    /// None of them is valid now.
    #[error("all roots have expired, the last of them at {0}")]
    Expired(String),
}

/// Whether these roots may be given out at this time, and what to warn of.
///
/// # Errors
/// They must not be.
pub fn publishable(
    roots: &Roots,
    allow_intermediates: bool,
    now: jiff::Timestamp,
) -> Result<Vec<String>, NotPublishable> {
    let mut warnings = Vec::new();
    let is_over = |not_after: jiff::Timestamp| not_after < now;
    for root in &roots.certificates {
        let name = || {
            let name = root
                .common_name()
                .map_or_else(|| "a certificate without a common name".into(), |name| format!("{name:?}"));
            let serial = data_encoding::HEXLOWER.encode(root.serial_number().as_bytes());
            format!("{name} (serial number {serial})")
        };
        if !root.is_ca() {
            return Err(NotPublishable::NotAuthority(name()));
        }
        if !root.is_self_signed() {
            if !allow_intermediates {
                return Err(NotPublishable::Intermediate(name()));
            }
            warnings.push(format!("{} is an intermediate and is given out as a root", name()));
        }
        let not_after = root.not_after().to_timestamp();
        if is_over(not_after) {
            warnings.push(format!("{} expired at {not_after}", name()));
        }
    }
    let last = roots.certificates.iter().map(|root| root.not_after().to_timestamp()).max();
    match last {
        None => Err(NotPublishable::None),
        Some(last) if is_over(last) => Err(NotPublishable::Expired(last.to_string())),
        Some(_) => Ok(warnings),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(labels: &[(&str, &str)], data: &[(&str, &str)]) -> ConfigMap {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let metadata = ObjectMeta {
            name: Some(CONFIG_MAP.into()),
            resource_version: Some("7".into()),
            labels: Some(owned(labels)),
            annotations: Some(owned(&[("a", "kept")])),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, data: Some(owned(data)), ..ConfigMap::default() }
    }

    #[test]
    fn a_missing_map_is_created_with_the_key_and_the_label() {
        let Action::Create(created) = decide(None, "pem") else { panic!("not created") };
        let created = serde_json::to_value(created).expect("JSON");
        let wanted = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "istio-ca-root-cert", "labels": { "istio.io/config": "true" } },
            "data": { "root-cert.pem": "pem" },
        });
        assert_eq!(created, wanted);
    }

    #[test]
    fn a_map_that_is_right_is_left_alone() {
        let labels = [("istio.io/config", "true"), ("other", "label")];
        assert_eq!(decide(Some(map(&labels, &[(ROOTS, "pem")])), "pem"), Action::Nothing);
    }

    #[test]
    fn wrong_values_labels_and_foreign_keys_are_repaired_and_the_rest_is_kept() {
        let label = ("istio.io/config", "true");
        for broken in [
            map(&[label, ("other", "label")], &[(ROOTS, "old")]),
            map(&[label, ("other", "label")], &[]),
            map(&[("other", "label")], &[(ROOTS, "pem")]),
            map(&[("istio.io/config", "false"), ("other", "label")], &[(ROOTS, "pem")]),
            map(&[label, ("other", "label")], &[(ROOTS, "pem"), ("foreign", "data")]),
        ] {
            let Action::Update(repaired) = decide(Some(broken.clone()), "pem") else { panic!("{broken:?}") };
            assert_eq!(repaired, map(&[label, ("other", "label")], &[(ROOTS, "pem")]));
            assert_eq!(decide(Some(repaired), "pem"), Action::Nothing);
        }
        let mut binary = map(&[label], &[(ROOTS, "pem")]);
        binary.binary_data = Some(BTreeMap::from([("b".to_owned(), k8s_openapi::ByteString(vec![1]))]));
        assert!(matches!(decide(Some(binary), "pem"), Action::Update(map) if map.binary_data.is_none()));
    }

    fn namespace(name: &str, label: &str, phase: &str) -> Namespace {
        let namespace =
            json!({ "metadata": { "name": name, "labels": { "l": label } }, "status": { "phase": phase } });
        serde_json::from_value(namespace).expect("a namespace")
    }

    #[test]
    fn namespaces_are_chosen_by_label_unless_they_are_going_away() {
        let selector = LabelSelector::parse("l=on").expect("a selector");
        let mut namespaces = Namespaces::default();
        let mut apply = |event| namespaces.apply(event, &selector);
        assert_eq!(apply(Event::Apply(namespace("a", "on", "Active"))), Some("a".into()));
        assert_eq!(apply(Event::Apply(namespace("b", "off", "Active"))), None);
        assert_eq!(apply(Event::Apply(namespace("a", "on", "Terminating"))), None);
        assert!(!namespaces.contains("a") && !namespaces.contains("b"));
    }

    #[test]
    fn a_namespace_that_went_while_nobody_watched_is_forgotten() {
        let selector = LabelSelector::default();
        let mut namespaces = Namespaces::default();
        for event in [
            Event::Init,
            Event::InitApply(namespace("a", "", "Active")),
            Event::InitApply(namespace("b", "", "Active")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(namespace("b", "", "Active")),
            Event::InitDone,
        ] {
            namespaces.apply(event, &selector);
        }
        assert_eq!(namespaces.all().collect::<Vec<_>>(), ["b"]);
    }
}
