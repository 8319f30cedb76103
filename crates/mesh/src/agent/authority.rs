//! Clients that write a socket's path where a host belongs.
//!
//! gRPC's C core, under its clients for Python, Ruby, C++ and others, sends the percent-encoded path of a unix socket as
//! `:authority`: `tmp%2Fsocket`. That is no authority (RFC 3986, 3.2.2: a percent sign may stand in a registered name,
//! but the HTTP library here takes none), and the whole call would be refused. Nobody looks at it on this socket. So,
//! on the way in, the percent signs of a literal `:authority` (RFC 7541, 6.2) become dashes; no length changes, and the
//! compression state of both ends stays the same.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// "PRI * HTTP/2.0" and what belongs to it (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// RFC 9113, 4.1
const FRAME_HEAD: usize = 9;
/// No client may send longer frames, as nobody told it so (RFC 9113, 6.5.2).
const LONGEST: usize = 16 << 10;

/// A stream of HTTP/2 from a client.
pub(super) struct Lenient<S> {
    inner: S,
    /// Read, and not to be handed on yet: a frame of headers of which a part is missing.
    held: Vec<u8>,
    /// To be handed on.
    ready: Vec<u8>,
    /// How much of `ready` has been.
    taken: usize,
    /// How much is to come that is handed on as it is.
    pass: usize,
    begun: Arc<AtomicBool>,
}

impl<S> Lenient<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, held: Vec::new(), ready: Vec::new(), taken: 0, pass: PREFACE, begun: Arc::default() }
    }

    /// Whether the client has said that it speaks HTTP/2, and has begun its first frame.
    pub(super) fn begun(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.begun)
    }

    /// Moves from `held` to `ready` what can be handed on.
    fn advance(&mut self) {
        const HEADERS: u8 = 1;
        let mut at = 0;
        loop {
            let rest = self.held.get_mut(at..).unwrap_or_default();
            if self.pass > 0 {
                let passed = self.pass.min(rest.len());
                self.pass -= passed;
                at += passed;
                if passed == 0 {
                    break;
                }
                continue;
            }
            let &mut [a, b, c, kind, flags, _, _, _, _, ref mut payload @ ..] = rest else { break };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind == HEADERS && length <= LONGEST {
                let Some(payload) = payload.get_mut(..length) else { break };
                // What cannot be read is the HTTP library's to refuse.
                let _ = mend(payload, flags);
            }
            self.pass = FRAME_HEAD + length;
            self.begun.store(true, Ordering::Relaxed);
        }
        self.ready.extend(self.held.drain(..at));
    }
}

/// Mends the payload of a HEADERS frame (RFC 9113, 6.2).
fn mend(payload: &mut [u8], flags: u8) -> Option<()> {
    const PADDED: u8 = 0x08;
    const PRIORITY: u8 = 0x20;
    let (mut begin, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        begin += 1;
    }
    if flags & PRIORITY != 0 {
        begin += 5;
    }
    let block = payload.get_mut(begin..end)?;
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        // RFC 7541, 6.1 to 6.3: an entry of the table, a literal that enters it, a new size, other literals.
        let (bits, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (index, after) = integer(block, at, bits)?;
        at = after;
        if !literal {
            continue;
        }
        // Of the static table, the first entry (appendix A).
        let mut is_authority = index == 1;
        if index == 0 {
            let (name, coded) = string(block, at)?;
            is_authority = !coded && block.get(name.clone())? == b":authority";
            at = name.end;
        }
        let (value, coded) = string(block, at)?;
        at = value.end;
        if is_authority && !coded {
            block.get_mut(value)?.iter_mut().filter(|byte| **byte == b'%').for_each(|byte| *byte = b'-');
        }
    }
    Some(())
}

/// A number that begins in the last `bits` of a byte, and what follows it (RFC 7541, 5.1).
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1 << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut at = at + 1;
    if value < most {
        return Some((value, at));
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(at)?);
        at += 1;
        value += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    // Longer than any frame.
    None
}

/// Where a string stands, and whether it is Huffman-coded (RFC 7541, 5.2).
fn string(block: &[u8], at: usize) -> Option<(Range<usize>, bool)> {
    let coded = *block.get(at)? & 0x80 != 0;
    let (length, begin) = integer(block, at, 7)?;
    let range = begin..begin + length;
    (range.end <= block.len()).then_some((range, coded))
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            let mut bytes = [0; 4096];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // The end, perhaps within a frame.
                std::mem::swap(&mut this.held, &mut this.ready);
                break;
            }
            this.held.extend_from_slice(read.filled());
            this.advance();
        }
        let rest = this.ready.get(this.taken..).unwrap_or_default();
        let given = rest.get(..into.remaining().min(rest.len())).unwrap_or_default();
        into.put_slice(given);
        this.taken += given.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What gRPC's C core sends, as far as it matters.
    fn headers(authority: &[u8]) -> Vec<u8> {
        let length = [u8::try_from(authority.len()).unwrap()];
        [b"@\x05:path\x04/a%b@\x0a:authority", &length[..], authority, b"\x83\x86@\x02te\x08trailers"]
            .concat()
    }

    /// What comes out, whatever the pieces that go in.
    async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(64);
        let bytes = bytes.to_vec();
        let writing = async move {
            for piece in bytes.chunks(piece) {
                client.write_all(piece).await.unwrap();
            }
            drop(client);
        };
        let mut read = Vec::new();
        let mut lenient = Lenient::new(server);
        let (_, read_all) = tokio::join!(writing, lenient.read_to_end(&mut read));
        read_all.unwrap();
        read
    }

    #[tokio::test]
    async fn percent_signs_of_an_authority_become_dashes_and_nothing_else_changes() {
        let preface = [b'%'; PREFACE];
        let data = frame(0, 0, b"@\x0a:authority\x03a%b");
        let padded = |block: &[u8]| [&[3][..], &[0; 5], block, &[b'%'; 3]].concat();
        let stream = |authority: &[u8]| {
            [
                &preface[..],
                &frame(4, 0, b""),
                &frame(1, 4, &headers(authority)),
                &data,
                &frame(1, 0x2c, &padded(&headers(authority))),
                // By its number in the static table; not entering the table; never to.
                &frame(
                    1,
                    4,
                    &[
                        b"\x41\x03",
                        &authority[..3],
                        b"\x01\x03",
                        &authority[..3],
                        b"\x11\x03",
                        &authority[..3],
                    ]
                    .concat(),
                ),
            ]
            .concat()
        };
        let sent = stream(b"t%2Fa%2Fb");
        for piece in [1, 7, 50, sent.len()] {
            assert_eq!(through(&sent, piece).await, stream(b"t-2Fa-2Fb"), "{piece}");
        }
    }

    #[tokio::test]
    async fn mutated_streams_keep_their_length_and_all_that_is_no_percent_sign() {
        use chancery_testkit::mutate::{Dice, mutate};
        let seed = [&[0; PREFACE][..], &frame(1, 4, &headers(b"t%2Fa%2Fb")), &frame(0, 0, b"data")].concat();
        let mut dice = Dice::new(1);
        for _ in 0..2000 {
            let sent = mutate(&seed, b"@\x0a:authority\x7f\xff%", &mut dice);
            let came = through(&sent, 1 + dice.below(60)).await;
            assert_eq!(came.len(), sent.len());
            let same = |(came, sent): (&u8, &u8)| came == sent || (*came, *sent) == (b'-', b'%');
            assert!(came.iter().zip(&sent).all(same), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_passes_as_it_is() {
        let coded = b"\x41\x83%%%";
        for block in
            [&b"\x41"[..], b"\x7f", b"\x7f\xff\xff\xff\xff", b"\x41\x7f%", b"\x40\x7f", b"\x00", b"", coded]
        {
            for flags in [0, 0x08, 0x20, 0x28] {
                let sent = [&[0; PREFACE][..], &frame(1, flags, block), &frame(1, 0, b"half")[..11]].concat();
                assert_eq!(through(&sent, 3).await, sent, "{block:?} {flags}");
            }
        }
        // A frame that is longer than any may be is not waited for.
        let long = [&[0; PREFACE][..], &[0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 1], &[b'%'; 100]].concat();
        assert_eq!(through(&long, 40).await, long);
    }
}
