//! What one turn of a connection's task has to say goes out together.
//!
//! HTTP/2 flushes a call's headers and message before it writes the trailers: an answer would be two records of TLS and
//! two calls of the kernel, and its caller would be woken twice. Here a flush waits until the task has had its turn.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As many bytes may wait; whoever has more waits for the other end, as without this.
const MOST: usize = 64 * 1024;

/// A stream whose flushes wait for [`Turn::end`].
pub(super) struct Gathering<S>(Arc<Mutex<Gathered<S>>>);

/// Ends the turns of the stream that was made with it.
pub(super) struct Turn<S>(Arc<Mutex<Gathered<S>>>);

struct Gathered<S> {
    stream: S,
    waiting: BytesMut,
    /// Something was written to the stream since it was last flushed.
    unflushed: bool,
}

/// The stream for whoever reads and writes, and the other end for whoever runs that.
pub(super) fn gathering<S>(stream: S) -> (Gathering<S>, Turn<S>) {
    let shared = Arc::new(Mutex::new(Gathered { stream, waiting: BytesMut::new(), unflushed: false }));
    (Gathering(Arc::clone(&shared)), Turn(shared))
}

fn locked<S>(shared: &Mutex<Gathered<S>>) -> MutexGuard<'_, Gathered<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Sends what waits.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(sent);
            self.unflushed = true;
        }
        // Thousands of agents keep a connection on which nothing happens for an hour.
        self.waiting = BytesMut::new();
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Turn<S> {
    /// Sends what was written in this turn. Pending if the other end takes no more now; the task then has another turn
    /// when it does.
    pub(super) fn end(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        locked(&self.0).drain(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut locked(&self.0).stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = locked(&self.0);
        if gathered.waiting.len() >= MOST {
            ready!(gathered.drain(context))?;
        }
        gathered.waiting.reserve(slices.iter().map(|slice| slice.len()).sum::<usize>().min(MOST));
        let mut taken = 0;
        for slice in slices {
            let room = MOST.saturating_sub(gathered.waiting.len());
            let part = slice.get(..room).unwrap_or(slice);
            gathered.waiting.extend_from_slice(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = locked(&self.0);
        ready!(gathered.drain(context))?;
        Pin::new(&mut gathered.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What the other end can read without waiting.
    async fn there(end: &mut tokio::io::DuplexStream) -> String {
        let mut bytes = vec![0; 4096];
        let read = tokio::time::timeout(std::time::Duration::from_millis(20), end.read(&mut bytes)).await;
        let length = read.map_or(0, Result::unwrap);
        String::from_utf8(bytes.drain(..length).collect()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_flushed_waits_for_the_end_of_the_turn() {
        let (near, mut far) = duplex(4096);
        let (mut stream, turn) = gathering(near);
        stream.write_all(b"head ").await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(b"trailers").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(there(&mut far).await, "");
        poll_fn(|context| turn.end(context)).await.unwrap();
        assert_eq!(there(&mut far).await, "head trailers");
        far.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_before_the_stream_ends() {
        let (near, mut far) = duplex(4096);
        let (mut stream, turn) = gathering(near);
        stream.write_all(b"last words").await.unwrap();
        stream.shutdown().await.unwrap();
        drop((stream, turn));
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "last words");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_not_written_to_without_end() {
        let (near, mut far) = duplex(10);
        let (mut stream, turn) = gathering(near);
        stream.write_all(&vec![b'x'; MOST]).await.unwrap();
        let more =
            tokio::time::timeout(std::time::Duration::from_secs(1), stream.write_all(&[b'y'; 20])).await;
        assert!(more.is_err(), "no more is taken than the far end has room for");
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        stream.write_all(b"z").await.unwrap();
        poll_fn(|context| turn.end(context)).await.unwrap();
        drop((stream, turn));
        let all = reader.await.unwrap();
        assert_eq!((all.len(), all.last()), (MOST + 10 + 1, Some(&b'z')));
    }

    #[tokio::test]
    async fn a_turn_whose_words_nobody_takes_ends_with_an_error() {
        let (near, far) = duplex(4096);
        let (mut stream, turn) = gathering(near);
        drop(far);
        stream.write_all(b"hello").await.unwrap();
        let error = poll_fn(|context| turn.end(context)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
