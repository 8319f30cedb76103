//! The unix socket, and who is called on it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service as _;

use super::authority::Lenient;
use super::resources::Resources;
use super::sds::Sds;
use super::workload_api::WorkloadApi;
use crate::proto::envoy::secret::secret_discovery_service_server::SecretDiscoveryServiceServer;
use crate::proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;

/// A provider that does not take a connection in this time is none.
const HEALTHY: Duration = Duration::from_secs(1);
/// What is under way when the agent stops has this time.
const GRACE: Duration = Duration::from_secs(1);

/// So many clients at once; more wait.
const CONNECTIONS: usize = 128;
/// So many calls at once on one connection. Envoy has one for each secret that it knows.
const STREAMS: u32 = 500;
/// A request names secrets and repeats an error: it is not longer than this.
const REQUEST: usize = 256 << 10;
/// What one call, and one connection, may send ahead of what is read.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("socket {}: {reason}", path.display())]
pub struct SocketError {
    /// Where it should be.
    pub path: PathBuf,
    /// Why it is not there.
    pub reason: String,
}

/// A socket that is listened on.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: the file may have become another's.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at a path, in a folder that is made if it is missing. What a crash left there is removed; `None` if
    /// somebody else answers there, who is not disturbed.
    ///
    /// # Errors
    /// It cannot be listened on, or what is there is no socket.
    pub async fn bind(path: &Path) -> Result<Option<Self>, SocketError> {
        let failed = |error: io::Error| SocketError { path: path.to_owned(), reason: error.to_string() };
        if Self::answers(path).await {
            return Ok(None);
        }
        match fs::symlink_metadata(path) {
            Ok(data) if data.file_type().is_socket() => {
                tracing::info!(path = %path.display(), "a socket that nobody answers on is removed");
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(failed(io::Error::other("what is there is no socket"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // The proxy and the workload may be other users than the agent; the folder keeps strangers out.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        let data = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Some(Self { listener, path: path.to_owned(), identity: (data.dev(), data.ino()) }))
    }

    /// Whether somebody takes connections at this path.
    pub async fn answers(path: &Path) -> bool {
        matches!(timeout(HEALTHY, UnixStream::connect(path)).await, Ok(Ok(_)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = |data: fs::Metadata| (data.dev(), data.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // If it cannot be removed, the next agent does.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Says when the agent stops.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// It stops once this sends true, or is gone.
    pub fn on(stop: &watch::Sender<bool>) -> Self {
        Self(stop.subscribe())
    }

    /// Waits for that.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Serves secret discovery and the Workload API until `stop`; then the socket is removed, and what is under
/// way is ended in order.
pub async fn serve(socket: Socket, resources: Arc<Resources>, mut stop: Stop) {
    let sds = SecretDiscoveryServiceServer::new(Sds::new(Arc::clone(&resources), stop.clone()))
        .max_decoding_message_size(REQUEST);
    let workload = SpiffeWorkloadApiServer::new(WorkloadApi::new(resources, stop.clone()))
        .max_decoding_message_size(REQUEST);
    let services = Services { sds, workload };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // It is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (socket.listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.wait() => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, services.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: UnixStream, services: Services, mut stop: Stop) {
    let answer = service_fn(move |request| {
        let services = services.clone();
        async move { Ok::<_, Infallible>(services.call(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(16 << 10)
        // Who reads nothing answers nothing.
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(16 << 10)
        .serve_connection(TokioIo::new(Lenient::new(stream)), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection broke off");
    }
}

#[derive(Clone)]
struct Services {
    sds: SecretDiscoveryServiceServer<Sds>,
    workload: SpiffeWorkloadApiServer<WorkloadApi>,
}

impl Services {
    async fn call(mut self, request: Request<Incoming>) -> Response<Body> {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let answer = match service {
            Some(("envoy.service.secret.v3.SecretDiscoveryService", _)) => self.sds.call(request).await,
            Some(("SpiffeWorkloadAPI", _)) => self.workload.call(request).await,
            _ => Ok(Status::new(Code::Unimplemented, "there is no such service here").into_http()),
        };
        match answer {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/socket");
        let first = Socket::bind(&path).await.unwrap().expect("nobody is there");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o750);
        assert!(Socket::bind(&path).await.unwrap().is_none());

        // As after a crash: the file stays, nobody listens.
        let kept = folder.path().join("kept");
        fs::hard_link(&path, &kept).unwrap();
        drop(first);
        assert!(!path.exists());
        fs::rename(&kept, &path).unwrap();
        let second = Socket::bind(&path).await.unwrap().expect("nobody answers");

        // Another's file in its place is not removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        let error = Socket::bind(&path).await.expect_err("no socket");
        assert!(error.to_string().contains("made/socket"), "{error}");
    }
}
