//! The agent as its clients see it, over its real socket, against a double of the CA.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure of a test is a panic"
)]

#[path = "../common/ca_double.rs"]
mod ca_double;
#[path = "../common/channel.rs"]
mod channel;
#[path = "../common/test_ca.rs"]
mod test_ca;

mod ca;
mod sds;
mod workload;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_api::SystemClock;
use chancery_issuance::{Certificate, KeyForm, KeySpec, PrivateKey, Signer as _};
use chancery_mesh::agent::{AgentError, CaSettings, Issuer, KeyPair, Settings, run};
use chancery_mesh::proto::SECRET_TYPE;
use chancery_mesh::proto::envoy::discovery::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, Node, Status as Refused,
};
use chancery_mesh::proto::envoy::secret::secret_discovery_service_client::SecretDiscoveryServiceClient;
use chancery_mesh::proto::envoy::tls::data_source::Specifier;
use chancery_mesh::proto::envoy::tls::secret::Type;
use chancery_mesh::proto::envoy::tls::{DataSource, Secret};
use chancery_mesh::proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use chancery_mesh::proto::workload::{JwtsvidRequest, X509BundlesRequest, X509svidRequest};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use ca_double::CaDouble;
use channel::Channel;
use test_ca::Ca;

const ID: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

/// A CA, the files of a pod, and perhaps an agent.
struct World {
    folder: tempfile::TempDir,
    double: CaDouble,
    variables: BTreeMap<String, String>,
}

struct Agent {
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("root");
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("roots.pem"), ca.root_pem()).unwrap();
        std::fs::write(path("token"), " the token\n").unwrap();
        let double = CaDouble::start(ca, "127.0.0.1:0").await;
        let variables = [
            ("CA_ADDR", double.address.to_string()),
            ("CA_ROOT_CA", path("roots.pem")),
            ("CHANCERY_AGENT_TOKEN_FILE", path("token")),
            ("CHANCERY_AGENT_CERTS", path("certs")),
            ("CHANCERY_AGENT_SOCKET", path("run/socket")),
            ("CHANCERY_AGENT_FILES_SOCKET", path("run/files-socket")),
            ("POD_NAMESPACE", "sandbox".to_owned()),
            ("SERVICE_ACCOUNT", "httpbin".to_owned()),
            ("ISTIO_META_CLUSTER_ID", "Kubernetes".to_owned()),
            ("CA_HEADER_X-REGION", "eu".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Self { folder, double, variables }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> Settings {
        let settings = Settings::read(&self.variables).unwrap();
        let look = Duration::from_millis(20);
        Settings { poll: look, spread: Duration::ZERO, look, ..settings }
    }

    fn issuer(&self) -> Issuer {
        let settings = self.settings();
        Issuer::new(settings.ca.clone().unwrap(), &settings, Arc::new(SystemClock))
    }

    async fn agent(&self) -> Agent {
        self.agent_at(self.settings().socket).await
    }

    async fn agent_at(&self, socket: PathBuf) -> Agent {
        let (stop, stopped) = oneshot::channel();
        let settings = self.settings();
        let task = tokio::spawn(async move {
            run(settings, async move { drop(stopped.await) }).await.expect("it must start");
        });
        until(|| Channel::to(&socket), Option::is_some).await;
        Agent { socket, stop, task }
    }
}

impl Agent {
    async fn sds(&self) -> SecretDiscoveryServiceClient<Channel> {
        SecretDiscoveryServiceClient::new(Channel::to(&self.socket).await.unwrap())
    }

    async fn workload(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(Channel::to(&self.socket).await.unwrap())
    }

    /// A stream that has sent this request.
    async fn stream(&self, names: &[&str]) -> Stream {
        let (send, requests) = mpsc::channel(4);
        send.send(asks(names, "")).await.unwrap();
        let answers =
            self.sds().await.stream_secrets(ReceiverStream::new(requests)).await.unwrap().into_inner();
        Stream { send, answers }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(5), self.task).await.expect("it must stop").unwrap();
    }
}

struct Stream {
    send: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        timeout(Duration::from_secs(10), self.answers.message())
            .await
            .expect("it must answer")
            .map(Option::unwrap)
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(200), self.answers.message()).await.is_err()
    }
}

async fn until<T, F: Future<Output = T>>(mut look: impl FnMut() -> F, wanted: impl Fn(&T) -> bool) -> T {
    timeout(Duration::from_secs(10), async {
        loop {
            let seen = look().await;
            if wanted(&seen) {
                return seen;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it must come to that")
}

fn asks(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: "sidecar~10.0.0.1~httpbin".to_owned(), ..Node::default() }),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET_TYPE.to_owned(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn text(source: Option<DataSource>) -> String {
    match source.unwrap().specifier.unwrap() {
        Specifier::InlineBytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The secrets of an answer: names, and chains or roots.
fn secrets(answer: &DiscoveryResponse) -> Vec<(String, String)> {
    let read = |any: &prost_types::Any| {
        assert_eq!(any.type_url, SECRET_TYPE);
        let secret = Secret::decode(any.value.as_slice()).unwrap();
        let pem = match secret.r#type.unwrap() {
            Type::TlsCertificate(certificate) => {
                let chain = text(certificate.certificate_chain);
                let key = PrivateKey::from_pem(&text(certificate.private_key)).unwrap();
                assert_eq!(Certificate::from_pem(&chain).unwrap().public_key(), Some(key.public_key()));
                chain
            }
            Type::ValidationContext(context) => text(context.trusted_ca),
        };
        (secret.name, pem)
    };
    answer.resources.iter().map(read).collect()
}
