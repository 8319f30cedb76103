//! A connection to a server that can be cut, slowed and mended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// Connections are taken and nothing comes through.
    Stalled,
    /// The connections there are lose everything and never end, as when a machine vanishes; new ones are carried.
    Hole,
    /// Connections are cut as soon as they are made, and so are those there are.
    Cut,
}

pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// How many connections were made so far.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Link {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, watched) = watch::channel(Mode::Open);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(near, server, watched.clone()));
            }
        });
        Self { address, mode, connections }
    }

    /// Returns once those that carry have noticed.
    pub(crate) async fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn carry(mut near: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let (mut watched, mut hole) = (mode.clone(), mode.clone());
    let passed = async {
        if watched.wait_for(|mode| *mode != Mode::Stalled).await.is_err() {
            return;
        }
        let Ok(mut far) = TcpStream::connect(server).await else { return };
        let is_new = *watched.borrow() == Mode::Hole;
        let vanished = async {
            let _ = hole.wait_for(|mode| *mode == Mode::Hole && !is_new).await.is_ok();
        };
        let copied = tokio::io::copy_bidirectional(&mut near, &mut far);
        tokio::select! {
            _ = copied => {}
            _ = watched.wait_for(|mode| *mode == Mode::Stalled) => {}
            () = vanished => {}
        }
        if *watched.borrow() == Mode::Hole {
            std::future::pending::<()>().await;
        }
        // What stalls in the middle is lost; its ends only learn of it when the link is mended.
        watched.wait_for(|mode| *mode != Mode::Stalled).await.ok();
    };
    tokio::select! {
        () = passed => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}
