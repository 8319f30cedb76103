//! From sealed to unsealed and back.

use std::sync::Arc;
use std::time::SystemTime;

use chancery_api::Secret;
use chancery_storage::{Quorum, SealError, Share, ShareScheme, Unsealed, Writes};
use jiff::Timestamp;

use crate::core::{Cluster, Core, ROOT_SCOPE};
use crate::error::{Error, Kind};
use crate::token::TokenStore;

/// What initialisation gives out; it exists nowhere else.
#[derive(Debug)]
pub struct Initialized {
    /// Key shares; recovery shares with an auto-unseal.
    pub shares: Vec<Share>,
    /// A token that may do everything.
    pub root_token: Secret,
}

impl Core {
    /// Makes the keys of a new store and its root token, in one commit.
    ///
    /// With an auto-unseal the server is unsealed afterwards; with key shares it stays sealed until
    /// they are given, as the peer has it, so that nobody forgets to write them down. `root_token`
    /// lets the operator choose the token's text (development mode).
    pub async fn initialize(
        &self,
        scheme: ShareScheme,
        root_token: Option<Secret>,
    ) -> Result<Initialized, Error> {
        let _alone = self.sealing.lock().await;
        let now = self.clock.now();
        let founding = self.barrier.found(scheme, system_time(now)).await?;
        let root = founding.unsealed().view(ROOT_SCOPE)?;
        let mut first = Writes::new();
        Cluster::found(&root, &mut first)?;
        let root_token = TokenStore::found(&root, &mut first, root_token, now)?;
        let (unsealed, shares) = founding.commit(first).await?;
        if self.barrier.status().await?.recovery_seal {
            self.start(unsealed).await?;
        } else {
            self.barrier.seal().await;
        }
        tracing::info!(shares = scheme.shares(), threshold = scheme.threshold(), "initialised");
        Ok(Initialized { shares, root_token })
    }

    /// Takes one key share; the last one needed opens the barrier and starts service before this
    /// returns, so that the very next request works. A share for an open server changes nothing.
    pub async fn unseal(&self, share: &[u8]) -> Result<(), Error> {
        let _alone = self.sealing.lock().await;
        if !self.is_sealed() {
            return Ok(());
        }
        self.close_half_open().await;
        if self.barrier.provide_share(share).await? {
            self.start(self.barrier.unsealed()?).await?;
        }
        Ok(())
    }

    /// Opens the barrier with the configured auto-unseal, if the store has been initialised.
    pub async fn unseal_automatically(&self) -> Result<(), Error> {
        let _alone = self.sealing.lock().await;
        if !self.is_sealed() {
            return Ok(());
        }
        self.close_half_open().await;
        let unsealed = self.barrier.unseal_automatically().await?;
        self.start(unsealed).await
    }

    /// Begins service behind the barrier that was just opened. The caller holds `sealing`.
    async fn start(&self, unsealed: Arc<Unsealed>) -> Result<(), Error> {
        if let Err(error) = self.activate(unsealed).await {
            // Half a server is worse than none.
            self.barrier.seal().await;
            return Err(error);
        }
        tracing::info!("unsealed");
        Ok(())
    }

    /// Closes a barrier behind which there is no service because a start broke off: it is for keys to open
    /// it again. The caller holds `sealing`.
    async fn close_half_open(&self) {
        if !self.barrier.is_sealed() {
            self.barrier.seal().await;
        }
    }

    /// Closes the barrier; all keys are zeroed.
    pub async fn seal(&self) {
        let _alone = self.sealing.lock().await;
        self.deactivate();
        self.barrier.seal().await;
        tracing::info!("sealed");
    }

    /// Checks a key that key holders combined.
    pub(crate) async fn quorum(&self, combined: &[u8]) -> Result<Quorum, Error> {
        Ok(self.barrier.authorize(combined).await?)
    }
}

/// The same instant for the crate that knows only the standard library's clock.
pub(crate) fn system_time(now: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH
        + std::time::Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or(0))
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Storage(error) => error.into(),
            SealError::AlreadyInitialized => Self::invalid("Vault is already initialized"),
            SealError::NotInitialized => Self::of(Kind::InvalidRequest, "server is not yet initialized"),
            other => Self::invalid(other.to_string()),
        }
    }
}
