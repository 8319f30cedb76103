//! The unix socket, and who is called on it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::fs::{FlockOperation, OFlags, flock};
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
/// Who has not begun to speak HTTP/2 in this time does not want to.
const SPEAKS: Duration = Duration::from_secs(10);
/// How often another agent that is just starting is looked at, and how long.
const STARTS: (Duration, u32) = (Duration::from_millis(50), 100);
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
    /// somebody else answers there, who is not disturbed. Every user of this machine who reaches the socket may connect
    /// if its folder keeps others out, or if `shared` says that all who are here are the same workload; otherwise the
    /// agent's user alone.
    ///
    /// # Errors
    /// It cannot be listened on, what is there is no socket, or it cannot be told whether somebody answers there.
    pub async fn bind(path: &Path, shared: bool) -> Result<Option<Self>, SocketError> {
        let failed = |error: io::Error| SocketError { path: path.to_owned(), reason: error.to_string() };
        if Self::answers(path).await.map_err(failed)? {
            return Ok(None);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(failed)?;
        // Of two that start at once, the second must not remove what the first has just made.
        let _lock = lock(path).await.map_err(failed)?;
        if Self::answers(path).await.map_err(failed)? {
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
        let closed = fs::metadata(folder).map_err(failed)?.mode() & 0o001 == 0;
        let listener = UnixListener::bind(path).map_err(failed)?;
        // The proxy and the workload may be other users than the agent; the folder, or the pod, keeps strangers out.
        let mode = if shared || closed { 0o666 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        if mode == 0o600 {
            tracing::info!(path = %path.display(),
                "the socket is for the agent's user alone, because its folder is open to everybody");
        }
        let data = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Some(Self { listener, path: path.to_owned(), identity: (data.dev(), data.ino()) }))
    }

    /// Whether somebody takes connections at this path.
    ///
    /// # Errors
    /// It cannot be told: it is not allowed, or whoever is there is too busy.
    pub async fn answers(path: &Path) -> io::Result<bool> {
        match timeout(HEALTHY, UnixStream::connect(path)).await {
            Ok(Ok(_)) => Ok(true),
            Err(_) => Ok(false),
            Ok(Err(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Holds the file beside a socket that whoever makes the socket has locked. The file stays.
async fn lock(path: &Path) -> io::Result<fs::File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
    let mut file = fs::File::options();
    file.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let named = |error: io::Error| io::Error::other(format!("{}: {error}", Path::new(&beside).display()));
    let file = file.open(&beside).map_err(named)?;
    let (pause, most) = STARTS;
    for _ in 0..most {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => sleep(pause).await,
            locked => return locked.map(|()| file).map_err(|error| named(error.into())),
        }
    }
    Err(named(io::Error::other("another process has locked it")))
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
    let stream = Lenient::new(stream);
    let begun = stream.begun();
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
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let silent = async {
        sleep(SPEAKS).await;
        if begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => return tracing::debug!("a client that says nothing is left"),
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
        let first = Socket::bind(&path, false).await.unwrap().expect("nobody is there");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o750);
        assert!(Socket::bind(&path, false).await.unwrap().is_none());

        // As after a crash: the file stays, nobody listens.
        let kept = folder.path().join("kept");
        fs::hard_link(&path, &kept).unwrap();
        drop(first);
        assert!(!path.exists());
        fs::rename(&kept, &path).unwrap();
        let second = Socket::bind(&path, false).await.unwrap().expect("nobody answers");

        // Another's file in its place is not removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        let error = Socket::bind(&path, false).await.expect_err("no socket");
        assert!(error.to_string().contains("made/socket"), "{error}");
    }

    #[tokio::test]
    async fn in_a_folder_that_is_open_to_all_the_socket_is_the_agents_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for (open, shared, mode) in
            [(0o755, false, 0o600), (0o711, false, 0o600), (0o755, true, 0o666), (0o750, false, 0o666)]
        {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(open)).unwrap();
            let socket = Socket::bind(&path, shared).await.unwrap().expect("nobody is there");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode, "{open:o} {shared}");
            drop(socket);
        }
    }

    #[tokio::test]
    async fn of_those_who_start_at_once_one_has_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let starts: JoinSet<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                async move { Socket::bind(&path, false).await.unwrap() }
            })
            .collect();
        let sockets: Vec<_> = starts.join_all().await.into_iter().flatten().collect();
        assert_eq!(sockets.len(), 1);
        assert!(Socket::answers(&path).await.unwrap());
    }

    #[tokio::test]
    async fn who_is_too_busy_to_answer_keeps_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let kind = rustix::net::SocketType::STREAM;
        let listener = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
        let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = UnixStream::connect(&path).await.unwrap();
        Socket::bind(&path, false).await.expect_err("the queue is full");
        drop(first);
        assert!(path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_to_speak_is_left() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::bind(&folder.path().join("socket"), false).await.unwrap().expect("nobody");
        let path = socket.path().to_owned();
        let variables = [("FILE_MOUNTED_CERTS", "true")].map(|(name, value)| (name.into(), value.into()));
        let settings = super::super::settings::Settings::read(&variables.into()).unwrap();
        let stop = watch::Sender::new(false);
        let serving = tokio::spawn(serve(socket, Arc::new(Resources::new(&settings, None)), Stop::on(&stop)));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        for (says, is_left) in
            [(&b""[..], true), (&preface[..10], true), (&[&preface[..], &settings].concat(), false)]
        {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(says).await.unwrap();
            let all = async { while client.read(&mut [0; 100]).await.is_ok_and(|read| read > 0) {} };
            // Before it is left for not answering either.
            assert_eq!(timeout(SPEAKS + Duration::from_secs(5), all).await.is_ok(), is_left, "{says:?}");
        }
        stop.send_replace(true);
        serving.await.unwrap();
    }
}
