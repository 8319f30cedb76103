//! The state of the world: each request names all that the stream wants.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::Status;

use super::stream::Protocol;
use super::{check_head, log_refused, names, nonce, secret};
use crate::agent::resources::ResourceName;
use crate::agent::secret::Content;
use crate::proto::SECRET_TYPE;
use crate::proto::envoy::discovery::{DiscoveryRequest, DiscoveryResponse};

/// What a request calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No answer.
    Nothing,
    /// An answer with these.
    Send {
        /// The names, in the order of the request.
        names: Vec<ResourceName>,
        /// The versions that the client has already, from an earlier stream.
        known: HashMap<ResourceName, String>,
    },
}

impl Step {
    pub(super) fn send(names: Vec<ResourceName>) -> Self {
        Self::Send { names, known: HashMap::new() }
    }
}

/// What one stream of `StreamSecrets` has asked for, and what it was told last.
#[derive(Debug, Default)]
pub struct Subscription {
    /// `None` before the first request.
    node: Option<String>,
    names: Vec<ResourceName>,
    nonce: String,
}

impl Subscription {
    /// Takes a request in.
    ///
    /// # Errors
    /// The stream must end: it does not say who asks, or asks for what is not there.
    pub fn request(&mut self, request: &DiscoveryRequest) -> Result<Step, Status> {
        let node = request.node.as_ref().map(|node| node.id.as_str());
        check_head(self.node.is_none(), node, &request.type_url)?;
        let node = self.node.get_or_insert_with(|| node.unwrap_or_default().chars().take(200).collect());

        if let Some(status) = &request.error_detail {
            log_refused(node, &request.response_nonce, status);
            return Ok(Step::Nothing);
        }
        if request.resource_names.is_empty() {
            self.names.clear();
            return Ok(Step::Nothing);
        }
        let fresh = request.response_nonce.is_empty() || self.names.is_empty();
        if !fresh && request.response_nonce != self.nonce {
            // About an answer that another has overtaken.
            return Ok(Step::Nothing);
        }
        let wanted = names(&request.resource_names)?;
        let added: Vec<ResourceName> =
            wanted.iter().filter(|name| fresh || !self.names.contains(name)).cloned().collect();
        self.names = wanted;
        Ok(if added.is_empty() { Step::Nothing } else { Step::send(added) })
    }

    /// The answer with these secrets; the stream's next request is about it.
    pub fn answer(&mut self, secrets: &[(ResourceName, Arc<Content>)]) -> DiscoveryResponse {
        self.nonce = nonce();
        let versions: Vec<&str> = secrets.iter().map(|(_, content)| content.version()).collect();
        DiscoveryResponse {
            version_info: versions.join("."),
            resources: secrets.iter().map(|(name, content)| secret(name, content)).collect(),
            type_url: SECRET_TYPE.to_owned(),
            nonce: self.nonce.clone(),
            control_plane: None,
        }
    }
}

impl Protocol for Subscription {
    type Request = DiscoveryRequest;
    type Answer = DiscoveryResponse;

    fn take(&mut self, request: &DiscoveryRequest) -> Result<Step, Status> {
        self.request(request)
    }

    fn names(&self) -> &[ResourceName] {
        &self.names
    }

    fn give(&mut self, secrets: &[(ResourceName, Arc<Content>)]) -> Vec<DiscoveryResponse> {
        vec![self.answer(secrets)]
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tonic::Code;

    use super::*;
    use crate::agent::secret::TrustBundle;
    use crate::agent::test_ca::Ca;
    use crate::proto::envoy::discovery::{Node, Status as Refused};
    use crate::proto::envoy::tls::Secret;

    fn asks(names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            node: Some(Node { id: "node".to_owned(), ..Node::default() }),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            type_url: SECRET_TYPE.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    fn sends(names: &[&str]) -> Step {
        Step::send(names.iter().map(|name| ResourceName::parse(name).unwrap()).collect())
    }

    fn roots() -> Arc<Content> {
        Arc::new(Content::Roots(TrustBundle::from_pem(&Ca::new("root").root_pem()).unwrap()))
    }

    /// A stream that asked for `names` and got them.
    fn subscribed(names: &[&str]) -> (Subscription, String) {
        let mut subscription = Subscription::default();
        let Ok(Step::Send { names, .. }) = subscription.request(&asks(names, "")) else { panic!("it asks") };
        let found: Vec<_> = names.into_iter().map(|name| (name, roots())).collect();
        let nonce = subscription.answer(&found).nonce;
        (subscription, nonce)
    }

    #[test]
    fn the_first_message_says_who_asks() {
        for node in [None, Some(Node::default())] {
            let request = DiscoveryRequest { node, ..asks(&["default"], "") };
            let status = Subscription::default().request(&request).expect_err("no node");
            assert_eq!(
                (status.code(), status.message()),
                (Code::InvalidArgument, "missing node information")
            );
        }
        // Later ones need not.
        let (mut subscription, nonce) = subscribed(&["default"]);
        let request = DiscoveryRequest { node: None, ..asks(&["default", "ROOTCA"], &nonce) };
        assert_eq!(subscription.request(&request).unwrap(), sends(&["ROOTCA"]));
    }

    #[test]
    fn other_types_are_refused() {
        let request =
            DiscoveryRequest { type_url: "type.googleapis.com/x".to_owned(), ..asks(&["default"], "") };
        let status = Subscription::default().request(&request).expect_err("another type");
        assert_eq!(status.code(), Code::InvalidArgument);
        let request = DiscoveryRequest { type_url: String::new(), ..asks(&["default"], "") };
        assert_eq!(Subscription::default().request(&request).unwrap(), sends(&["default"]));
    }

    #[test]
    fn a_refusal_gets_no_answer_and_changes_nothing() {
        let (mut subscription, nonce) = subscribed(&["default"]);
        let refused = Some(Refused { code: 13, message: "bad PEM".to_owned(), details: Vec::new() });
        // Whatever else it says.
        for names in [&["default"][..], &[], &["ROOTCA"]] {
            let request = DiscoveryRequest { error_detail: refused.clone(), ..asks(names, &nonce) };
            assert_eq!(subscription.request(&request).unwrap(), Step::Nothing);
            assert_eq!(subscription.names, [ResourceName::Default]);
        }
    }

    #[test]
    fn no_names_end_the_subscription() {
        let (mut subscription, nonce) = subscribed(&["default"]);
        assert_eq!(subscription.request(&asks(&[], &nonce)).unwrap(), Step::Nothing);
        assert!(subscription.names.is_empty());
        // Nothing is remembered: the next request begins anew, whatever its nonce.
        assert_eq!(subscription.request(&asks(&["default"], &nonce)).unwrap(), sends(&["default"]));
    }

    #[test]
    fn an_empty_nonce_asks_for_everything_again() {
        let (mut subscription, _) = subscribed(&["default"]);
        let step = subscription.request(&asks(&["default", "ROOTCA", "default"], "")).unwrap();
        assert_eq!(step, sends(&["default", "ROOTCA"]));
    }

    #[test]
    fn an_unknown_nonce_with_nothing_remembered_begins_anew() {
        let mut subscription = Subscription::default();
        let step = subscription.request(&asks(&["ROOTCA"], "of another stream")).unwrap();
        assert_eq!(step, sends(&["ROOTCA"]));
    }

    #[test]
    fn a_stale_nonce_is_ignored() {
        let (mut subscription, old) = subscribed(&["default"]);
        let new = subscription.answer(&[(ResourceName::Default, roots())]).nonce;
        assert_ne!(old, new);
        assert_eq!(subscription.request(&asks(&["default", "ROOTCA"], &old)).unwrap(), Step::Nothing);
        assert_eq!(subscription.names, [ResourceName::Default]);
        assert_eq!(subscription.request(&asks(&["default", "ROOTCA"], &new)).unwrap(), sends(&["ROOTCA"]));
    }

    #[test]
    fn the_same_names_are_an_acknowledgement() {
        let (mut subscription, nonce) = subscribed(&["default", "ROOTCA"]);
        assert_eq!(subscription.request(&asks(&["ROOTCA", "default"], &nonce)).unwrap(), Step::Nothing);
        assert_eq!(subscription.names.len(), 2);
    }

    #[test]
    fn fewer_names_are_remembered_without_an_answer() {
        let (mut subscription, nonce) = subscribed(&["default", "ROOTCA"]);
        assert_eq!(subscription.request(&asks(&["ROOTCA"], &nonce)).unwrap(), Step::Nothing);
        assert_eq!(subscription.names, [ResourceName::RootCa]);
        assert_eq!(subscription.request(&asks(&["ROOTCA", "default"], &nonce)).unwrap(), sends(&["default"]));
    }

    #[test]
    fn further_names_alone_are_answered() {
        let (mut subscription, nonce) = subscribed(&["default"]);
        let step = subscription.request(&asks(&["file-root:/a", "default", "ROOTCA"], &nonce)).unwrap();
        assert_eq!(step, sends(&["file-root:/a", "ROOTCA"]));
    }

    #[test]
    fn an_unknown_name_ends_the_stream_by_name() {
        let mut subscription = Subscription::default();
        let status =
            subscription.request(&asks(&["default", "kubernetes://other"], "")).expect_err("unknown");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("kubernetes://other"), "{status}");
        let many: Vec<String> = (0..=super::super::MOST_NAMES).map(|n| format!("file-root:{n}")).collect();
        let request = DiscoveryRequest { resource_names: many, ..asks(&[], "") };
        let status = Subscription::default().request(&request).expect_err("too many");
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[test]
    fn an_answer_carries_each_secret_under_the_name_asked_for() {
        let (mut subscription, _) = subscribed(&["default"]);
        let (one, other) = (roots(), roots());
        let name = ResourceName::parse("file-root:/etc/a").unwrap();
        let answer = subscription.answer(&[(name.clone(), Arc::clone(&one))]);
        assert_eq!(answer.type_url, SECRET_TYPE);
        assert_eq!(answer.resources.len(), 1);
        assert_eq!(answer.resources[0].type_url, SECRET_TYPE);
        let secret = Secret::decode(answer.resources[0].value.as_slice()).unwrap();
        assert_eq!(secret.name, "file-root:/etc/a");
        // The version tells contents apart, and nothing else does.
        let again = subscription.answer(&[(name.clone(), one)]);
        let changed = subscription.answer(&[(name, other)]);
        assert_eq!(answer.version_info, again.version_info);
        assert_ne!(answer.nonce, again.nonce);
        assert_ne!(answer.version_info, changed.version_info);
    }
}
