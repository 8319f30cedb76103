//! The incremental variant: each request says what is wanted further, and what no longer.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::Status;

use super::state::Step;
use super::stream::Protocol;
use super::{MOST_NAMES, check_head, log_refused, names, nonce, secret};
use crate::agent::resources::ResourceName;
use crate::agent::secret::Content;
use crate::proto::SECRET_TYPE;
use crate::proto::envoy::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

/// What one stream of `DeltaSecrets` has asked for.
#[derive(Debug, Default)]
pub struct DeltaSubscription {
    /// `None` before the first request.
    node: Option<String>,
    names: Vec<ResourceName>,
}

impl DeltaSubscription {
    /// Takes a request in. Each name that is subscribed to is answered, also one that was before; but not on a
    /// stream's first request, if the client has that version already.
    ///
    /// # Errors
    /// The stream must end: it does not say who asks, or asks for what is not there.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<Step, Status> {
        let first = self.node.is_none();
        let node = request.node.as_ref().map(|node| node.id.as_str());
        check_head(first, node, &request.type_url)?;
        let node = self.node.get_or_insert_with(|| node.unwrap_or_default().chars().take(200).collect());
        if let Some(status) = &request.error_detail {
            log_refused(node, &request.response_nonce, status);
        }

        // What cannot be named is not followed either.
        let unsubscribed = |name: &ResourceName| {
            let name = name.to_string();
            request.resource_names_unsubscribe.contains(&name)
        };
        let added = names(&request.resource_names_subscribe)?;
        self.names.retain(|name| !unsubscribed(name));
        let further: Vec<_> = added.iter().filter(|name| !self.names.contains(name)).cloned().collect();
        self.names.extend(further);
        if self.names.len() > MOST_NAMES {
            return Err(Status::resource_exhausted(format!("more than {MOST_NAMES} secrets are asked for")));
        }
        if added.is_empty() {
            return Ok(Step::Nothing);
        }
        let mut known = HashMap::new();
        for name in added.iter().filter(|_| first) {
            if let Some(version) = request.initial_resource_versions.get(&name.to_string()) {
                known.insert(name.clone(), version.clone());
            }
        }
        Ok(Step::Send { names: added, known })
    }
}

impl Protocol for DeltaSubscription {
    type Request = DeltaDiscoveryRequest;
    type Answer = DeltaDiscoveryResponse;

    fn take(&mut self, request: &DeltaDiscoveryRequest) -> Result<Step, Status> {
        self.request(request)
    }

    fn names(&self) -> &[ResourceName] {
        &self.names
    }

    /// One secret each: Envoy's subscriptions expect exactly one.
    fn give(&mut self, secrets: &[(ResourceName, Arc<Content>)]) -> Vec<DeltaDiscoveryResponse> {
        let answer = |(name, content): &(ResourceName, Arc<Content>)| DeltaDiscoveryResponse {
            system_version_info: content.version().to_owned(),
            resources: vec![Resource {
                version: content.version().to_owned(),
                resource: Some(secret(name, content)),
                name: name.to_string(),
            }],
            type_url: SECRET_TYPE.to_owned(),
            nonce: nonce(),
            removed_resources: Vec::new(),
            control_plane: None,
        };
        secrets.iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::proto::envoy::discovery::{Node, Status as Refused};

    fn asks(subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        DeltaDiscoveryRequest {
            node: Some(Node { id: "node".to_owned(), ..Node::default() }),
            type_url: SECRET_TYPE.to_owned(),
            resource_names_subscribe: texts(subscribe),
            resource_names_unsubscribe: texts(unsubscribe),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn sends(names: &[&str]) -> Step {
        Step::send(names.iter().map(|name| ResourceName::parse(name).unwrap()).collect())
    }

    #[test]
    fn names_come_and_go() {
        let mut subscription = DeltaSubscription::default();
        assert_eq!(
            subscription.request(&asks(&["default", "ROOTCA"], &[])).unwrap(),
            sends(&["default", "ROOTCA"])
        );
        // An acknowledgement.
        assert_eq!(subscription.request(&asks(&[], &[])).unwrap(), Step::Nothing);
        assert_eq!(subscription.request(&asks(&[], &["default", "never"])).unwrap(), Step::Nothing);
        assert_eq!(subscription.names, [ResourceName::RootCa]);
        // What is asked for again is answered again.
        assert_eq!(subscription.request(&asks(&["ROOTCA"], &[])).unwrap(), sends(&["ROOTCA"]));
        assert_eq!(subscription.names, [ResourceName::RootCa]);
    }

    #[test]
    fn what_the_client_has_is_taken_from_the_first_request_only() {
        let mut subscription = DeltaSubscription::default();
        let versions = [("default".to_owned(), "v1".to_owned())].into();
        let request =
            DeltaDiscoveryRequest { initial_resource_versions: versions, ..asks(&["default"], &[]) };
        let Ok(Step::Send { known, .. }) = subscription.request(&request) else { panic!("it asks") };
        assert_eq!(known, [(ResourceName::Default, "v1".to_owned())].into());
        let Ok(Step::Send { known, .. }) = subscription.request(&request) else { panic!("it asks") };
        assert!(known.is_empty());
    }

    #[test]
    fn a_refusal_may_still_change_the_subscription() {
        let mut subscription = DeltaSubscription::default();
        subscription.request(&asks(&["default"], &[])).unwrap();
        let refused = Some(Refused { code: 13, message: "bad PEM".to_owned(), details: Vec::new() });
        let request = DeltaDiscoveryRequest { error_detail: refused, ..asks(&["ROOTCA"], &[]) };
        assert_eq!(subscription.request(&request).unwrap(), sends(&["ROOTCA"]));
        assert_eq!(subscription.names.len(), 2);
    }

    #[test]
    fn unknown_names_the_wildcard_and_too_many_are_refused() {
        let mut subscription = DeltaSubscription::default();
        let request = DeltaDiscoveryRequest { node: None, ..asks(&["default"], &[]) };
        assert_eq!(subscription.request(&request).expect_err("no node").code(), Code::InvalidArgument);
        for name in ["*", "other"] {
            let status = subscription.request(&asks(&[name], &[])).expect_err("unknown");
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(name), "{status}");
        }
        for number in 0..MOST_NAMES {
            subscription.request(&asks(&[&format!("file-root:{number}")], &[])).unwrap();
        }
        let status = subscription.request(&asks(&["default"], &[])).expect_err("too many");
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
}
