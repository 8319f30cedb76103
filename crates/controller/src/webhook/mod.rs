//! The admission webhook: objects are judged before they are stored.

use tokio::sync::watch;

use crate::Error;
use crate::context::Context;

/// Serves until `shutdown` says true or is dropped.
///
/// # Errors
/// The address cannot be listened at.
pub async fn run(_: Context, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let _ = shutdown.wait_for(|stop| *stop).await;
    Ok(())
}
