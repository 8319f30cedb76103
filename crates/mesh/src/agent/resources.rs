//! From the name that a client asks for to what is behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::files::{FileResource, Files, KeyFiles};
use super::settings::Settings;
use super::store::{Follower, Store};

/// A name of SDS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceName {
    /// `default`: the workload's certificate and key.
    Default,
    /// `ROOTCA`: what the workload trusts.
    RootCa,
    /// `file-cert:CHAIN~KEY`
    FileCert(PathBuf, PathBuf),
    /// `file-root:PATH`
    FileRoot(PathBuf),
    /// `file-root:system`
    SystemRoots,
}

/// Why a name gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// There is no such name.
    #[error("unknown secret {0:?}")]
    Unknown(String),
    /// Too much is followed already.
    #[error("too many files are asked for")]
    TooMany,
    /// Too many follow already.
    #[error("too many calls at once")]
    TooManyCalls,
}

/// Keeps a call's place among all calls.
pub(super) type Place = OwnedSemaphorePermit;

/// No name is longer.
const LONGEST: usize = 4096;
/// So many calls at once, on all connections.
const CALLS: usize = 1000;

impl ResourceName {
    /// Reads a name. Istio answers any other name with the workload's certificate; here it is refused, because whoever
    /// asks for something else does not want that.
    ///
    /// # Errors
    /// There is no such name.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        let unknown = || ResourceError::Unknown(text.chars().take(200).collect());
        if text.len() > LONGEST {
            return Err(unknown());
        }
        let path = |text: &str| if text.is_empty() { Err(unknown()) } else { Ok(PathBuf::from(text)) };
        match (text, text.strip_prefix("file-root:"), text.strip_prefix("file-cert:")) {
            ("default", ..) => Ok(Self::Default),
            ("ROOTCA", ..) => Ok(Self::RootCa),
            (_, Some("system"), _) => Ok(Self::SystemRoots),
            (_, Some(file), _) => Ok(Self::FileRoot(path(file)?)),
            (.., Some(pair)) => match pair.split_once('~') {
                Some((chain, key)) if !key.contains('~') => Ok(Self::FileCert(path(chain)?, path(key)?)),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }
}

impl std::fmt::Display for ResourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::RootCa => f.write_str("ROOTCA"),
            Self::FileCert(chain, key) => write!(f, "file-cert:{}~{}", chain.display(), key.display()),
            Self::FileRoot(path) => write!(f, "file-root:{}", path.display()),
            Self::SystemRoots => f.write_str("file-root:system"),
        }
    }
}

/// All that can be asked for.
#[derive(Debug)]
pub struct Resources {
    store: Option<Arc<Store>>,
    files: Arc<Files>,
    /// The workload's files; `None` if the agent writes them itself.
    own: Option<KeyFiles>,
    calls: Arc<Semaphore>,
}

impl Resources {
    /// What is issued into `store`, and files. Without a store the workload's certificate comes from files only.
    pub fn new(settings: &Settings, store: Option<Arc<Store>>) -> Self {
        let files = Files::new(settings.poll, settings.debounce);
        let own = settings.files_are_input().then(|| settings.files.clone());
        Self { store, files, own, calls: Arc::new(Semaphore::new(CALLS)) }
    }

    /// A place for a call that stays.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn place(&self) -> Result<Place, ResourceError> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| ResourceError::TooManyCalls)
    }

    /// Follows what is behind a name: nothing at first, if it is not there yet.
    ///
    /// Files of the workload that are there go before what is issued, as with Istio.
    ///
    /// # Errors
    /// Too much is followed already.
    pub fn follow(&self, name: &ResourceName) -> Result<Follower, ResourceError> {
        let own = self.own.as_ref();
        // Without a CA they are waited for.
        let from_files =
            |paths: &[&PathBuf]| self.store.is_none() || paths.iter().all(|path| is_filled(path));
        let resource = match name {
            ResourceName::Default => match own.filter(|files| from_files(&[&files.chain, &files.key])) {
                Some(files) => FileResource::KeyPair { chain: files.chain.clone(), key: files.key.clone() },
                None => return self.issued(Store::key_pair),
            },
            ResourceName::RootCa => match own.filter(|files| from_files(&[&files.root])) {
                Some(files) => FileResource::Roots(files.root.clone()),
                None => return self.issued(Store::roots),
            },
            ResourceName::FileCert(chain, key) => {
                FileResource::KeyPair { chain: chain.clone(), key: key.clone() }
            }
            ResourceName::FileRoot(path) => FileResource::Roots(path.clone()),
            ResourceName::SystemRoots => FileResource::SystemRoots,
        };
        self.files.follow(resource).ok_or(ResourceError::TooMany)
    }

    fn issued(&self, follow: impl FnOnce(&Store) -> Follower) -> Result<Follower, ResourceError> {
        let store = self.store.as_deref().ok_or_else(|| ResourceError::Unknown("default".to_owned()))?;
        Ok(follow(store))
    }
}

fn is_filled(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in
            ["default", "ROOTCA", "file-cert:/a/c~/a/k", "file-root:/a/r", "file-root:system", "file-root:r"]
        {
            assert_eq!(ResourceName::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_names_are_unknown() {
        let long = format!("file-root:/{}", "a".repeat(LONGEST));
        for text in [
            "",
            "Default",
            "rootca",
            "*",
            "file-cert:a",
            "file-cert:a~b~c",
            "file-cert:~b",
            "file-cert:a~",
            "file-root:",
            &long,
        ] {
            let ResourceError::Unknown(named) = ResourceName::parse(text).expect_err(text) else {
                panic!("{text}")
            };
            assert!(text.starts_with(&named) && named.len() <= 200);
        }
    }

    fn settings(folder: &Path, more: &[(&str, &str)]) -> Settings {
        let least = [
            ("POD_NAMESPACE", "a"),
            ("SERVICE_ACCOUNT", "b"),
            ("CHANCERY_AGENT_CERTS", folder.to_str().unwrap()),
        ];
        let pairs = least.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings { poll: std::time::Duration::from_millis(10), ..Settings::read(&pairs.collect()).unwrap() }
    }

    async fn comes(follower: Result<Follower, ResourceError>) -> bool {
        let mut follower = follower.unwrap();
        let limit = std::time::Duration::from_millis(300);
        tokio::time::timeout(limit, follower.wait_for(Option::is_some)).await.is_ok()
    }

    #[tokio::test]
    async fn files_that_are_there_go_before_what_is_issued_unless_they_are_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let ca = super::super::test_ca::Ca::new("root");
        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        let store = || Some(Arc::new(Store::default()));
        let resources = Resources::new(&settings(folder.path(), &[]), store());
        assert!(!comes(resources.follow(&ResourceName::RootCa)).await);
        std::fs::write(folder.path().join("root-cert.pem"), ca.root_pem()).unwrap();
        assert!(comes(resources.follow(&ResourceName::RootCa)).await);
        assert!(!comes(resources.follow(&ResourceName::Default)).await);

        std::fs::write(folder.path().join("cert-chain.pem"), leaf).unwrap();
        std::fs::write(folder.path().join("key.pem"), "").unwrap();
        assert!(!comes(resources.follow(&ResourceName::Default)).await);
        std::fs::write(folder.path().join("key.pem"), key.as_bytes()).unwrap();
        assert!(comes(resources.follow(&ResourceName::Default)).await);

        let own = settings(folder.path(), &[("OUTPUT_CERTS", folder.path().to_str().unwrap())]);
        let resources = Resources::new(&own, store());
        assert!(!comes(resources.follow(&ResourceName::Default)).await);
        assert!(!comes(resources.follow(&ResourceName::RootCa)).await);
    }

    #[test]
    fn there_is_room_for_so_many_calls() {
        let resources = Resources::new(&settings(Path::new("/none"), &[]), None);
        let mut places: Vec<_> = (0..CALLS).map(|_| resources.place().unwrap()).collect();
        assert_eq!(resources.place().err(), Some(ResourceError::TooManyCalls));
        places.pop();
        assert!(resources.place().is_ok());
    }

    #[tokio::test]
    async fn without_a_ca_files_are_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let resources = Resources::new(&settings(folder.path(), &[("FILE_MOUNTED_CERTS", "true")]), None);
        let follower = resources.follow(&ResourceName::RootCa);
        std::fs::write(
            folder.path().join("root-cert.pem"),
            super::super::test_ca::Ca::new("root").root_pem(),
        )
        .unwrap();
        assert!(comes(follower).await);
    }
}
