//! One stream: requests in, answers out, and changes pushed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{StreamExt as _, StreamMap};
use tonic::{Status, Streaming};

use super::refusal;
use super::state::Step;
use crate::agent::resources::{ResourceName, Resources};
use crate::agent::secret::Content;
use crate::agent::socket::Stop;
use crate::agent::store::Follower;

/// The two variants of the protocol.
pub(super) trait Protocol: Send + 'static {
    /// What the client sends.
    type Request: Send + Sync + 'static;
    /// What it gets.
    type Answer: Send + 'static;

    /// Takes a request in.
    fn take(&mut self, request: &Self::Request) -> Result<Step, Status>;
    /// All that is subscribed to.
    fn names(&self) -> &[ResourceName];
    /// The answers that carry these secrets.
    fn give(&mut self, secrets: &[(ResourceName, Arc<Content>)]) -> Vec<Self::Answer>;
}

/// Begins a conversation, if there is room for one more. It ends when the client goes, asks for what is not there, or
/// with `stop`.
pub(super) fn converse<P: Protocol>(
    protocol: P,
    resources: Arc<Resources>,
    inbound: Streaming<P::Request>,
    stop: Stop,
) -> Result<ReceiverStream<Result<P::Answer, Status>>, Status> {
    let place = resources.place().map_err(refusal)?;
    // One answer waits for the client; the next is not made, and no request read, before it is taken.
    let (out, answers) = mpsc::channel(1);
    let conversation = Conversation {
        protocol,
        resources,
        followers: HashMap::new(),
        changes: StreamMap::new(),
        sent: HashMap::new(),
        out,
    };
    tokio::spawn(async move {
        conversation.run(inbound, stop).await;
        drop(place);
    });
    Ok(ReceiverStream::new(answers))
}

struct Conversation<P: Protocol> {
    protocol: P,
    resources: Arc<Resources>,
    followers: HashMap<ResourceName, Follower>,
    changes: StreamMap<ResourceName, WatchStream<Option<Arc<Content>>>>,
    /// The versions that the client has.
    sent: HashMap<ResourceName, String>,
    out: mpsc::Sender<Result<P::Answer, Status>>,
}

impl<P: Protocol> Conversation<P> {
    async fn run(mut self, mut inbound: Streaming<P::Request>, mut stop: Stop) {
        let ended = loop {
            let next = tokio::select! {
                () = self.out.closed() => return,
                () = stop.wait() => Err(Status::unavailable("the agent stops")),
                request = inbound.message() => match request {
                    Ok(Some(request)) => self.request(&request).await,
                    Ok(None) => return,
                    Err(status) => {
                        tracing::debug!(%status, "a stream broke off");
                        return;
                    }
                },
                Some((name, content)) = self.changes.next() => {
                    let news = content.filter(|content| self.is_news(&name, content));
                    self.send(news.map(|content| (name, content)).into_iter().collect()).await
                }
            };
            if let Err(status) = next {
                break status;
            }
        };
        tracing::info!(status = %ended, "a stream of secrets is ended");
        // Nobody may be there any more to be told.
        let _ = self.out.send(Err(ended)).await;
    }

    async fn request(&mut self, request: &P::Request) -> Result<(), Status> {
        let step = self.protocol.take(request)?;
        self.follow()?;
        let Step::Send { names, known } = step else { return Ok(()) };
        let mut found = Vec::new();
        for name in names {
            self.sent.remove(&name);
            if let Some(version) = known.get(&name) {
                self.sent.insert(name.clone(), version.clone());
            }
            // What is not there yet is sent as soon as it is.
            let content = self.followers.get(&name).and_then(|follower| follower.borrow().clone());
            if let Some(content) = content.filter(|content| self.is_news(&name, content)) {
                found.push((name, content));
            }
        }
        self.send(found).await
    }

    /// Follows what is subscribed to, and nothing else.
    fn follow(&mut self) -> Result<(), Status> {
        let wanted = self.protocol.names();
        let gone: Vec<_> = self.followers.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in gone {
            self.followers.remove(&name);
            self.changes.remove(&name);
            self.sent.remove(&name);
        }
        for name in wanted {
            if !self.followers.contains_key(name) {
                let follower = self.resources.follow(name).map_err(refusal)?;
                self.changes.insert(name.clone(), WatchStream::from_changes(follower.clone()));
                self.followers.insert(name.clone(), follower);
            }
        }
        Ok(())
    }

    fn is_news(&self, name: &ResourceName, content: &Content) -> bool {
        self.sent.get(name).is_none_or(|version| version != content.version())
    }

    async fn send(&mut self, secrets: Vec<(ResourceName, Arc<Content>)>) -> Result<(), Status> {
        if secrets.is_empty() {
            return Ok(());
        }
        for answer in self.protocol.give(&secrets) {
            if self.out.send(Ok(answer)).await.is_err() {
                // The loop's next round notices that the client is gone.
                return Ok(());
            }
        }
        for (name, content) in secrets {
            self.sent.insert(name, content.version().to_owned());
        }
        Ok(())
    }
}
