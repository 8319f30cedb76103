//! What the tests are played with.

mod authority;
mod link;
mod vault;

use std::future::Future;
use std::time::Duration;

pub(crate) use authority::{Authority, csr};
pub(crate) use link::{Link, Mode};
pub(crate) use vault::Vault;

/// Waits until something holds, for at most ten seconds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not come about");
}
