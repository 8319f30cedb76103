//! Certificates in files that somebody else renews.
//!
//! Files are looked at, not waited for: a look costs a `stat` that follows links, so that a mounted volume's swap of
//! links shows, and there is no event that could be missed. Somebody may be half done when they are read: a key that
//! does not belong to its certificate is read again a little later.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::ca_tls::system_roots;
use super::secret::{Content, KeyPair, TrustBundle};
use super::store::{Follower, replace};

/// A certificate, its key and roots in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The chain.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// The roots.
    pub root: PathBuf,
}

impl KeyFiles {
    /// The files in a folder, under Istio's names.
    pub fn of(folder: &Path) -> Self {
        Self {
            chain: folder.join("cert-chain.pem"),
            key: folder.join("key.pem"),
            root: folder.join("root-cert.pem"),
        }
    }

    /// Whether all of them are there.
    pub fn exist(&self) -> bool {
        [&self.chain, &self.key, &self.root].into_iter().all(|path| path.exists())
    }

    /// Their folder.
    pub fn folder(&self) -> Option<&Path> {
        self.chain.parent()
    }
}

/// What is followed in files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileResource {
    /// A certificate chain and its key.
    KeyPair {
        /// The chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Roots.
    Roots(PathBuf),
    /// The operating system's roots.
    SystemRoots,
}

/// No file is longer: all roots of an operating system are a quarter of it.
const LONGEST: u64 = 1 << 20;
/// So many different files are followed at once, whoever asks.
const MOST: usize = 256;
/// After this long without success it is said in the log.
const PATIENCE: Duration = Duration::from_secs(10);

type Place = watch::Sender<Option<Arc<Content>>>;

/// Follows files, each once, however many ask for it, and for as long as anybody does.
#[derive(Debug)]
pub struct Files {
    poll: Duration,
    debounce: Duration,
    followed: Mutex<HashMap<FileResource, Place>>,
}

impl Files {
    /// Looks at each file every `poll`; what cannot be read is tried again after `debounce`, then after ever longer.
    pub fn new(poll: Duration, debounce: Duration) -> Arc<Self> {
        Arc::new(Self { poll, debounce, followed: Mutex::default() })
    }

    /// Follows a resource. `None` if too many others are followed already.
    pub fn follow(self: &Arc<Self>, resource: FileResource) -> Option<Follower> {
        let mut followed = self.followed();
        if let Some(place) = followed.get(&resource) {
            return Some(place.subscribe());
        }
        if followed.len() >= MOST {
            return None;
        }
        let (place, follower) = watch::channel(None);
        followed.insert(resource.clone(), place.clone());
        drop(followed);
        tokio::spawn(Arc::clone(self).watch(resource, place));
        Some(follower)
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<FileResource, Place>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(self: Arc<Self>, resource: FileResource, place: Place) {
        let mut seen = None;
        let mut failing: Option<(Instant, bool)> = None;
        let mut backoff = self.debounce;
        loop {
            let now = resource.fingerprint();
            let mut wait = self.poll;
            if failing.is_some() || seen.as_ref() != Some(&now) {
                match resource.read() {
                    Ok(content) => {
                        (failing, backoff) = (None, self.debounce);
                        if replace(&place, content) {
                            tracing::info!(?resource, "files were read");
                        }
                    }
                    Err(error) => {
                        let (since, said) = failing.unwrap_or((Instant::now(), false));
                        let say = !said && since.elapsed() >= PATIENCE;
                        if say {
                            metrics::counter!("num_file_secret_failures_total").increment(1);
                            tracing::warn!(?resource, %error, "files cannot be read; what was read before stays");
                        }
                        failing = Some((since, said || say));
                        wait = backoff;
                        backoff = (backoff * 2).clamp(Duration::from_millis(1), self.poll);
                    }
                }
                seen = Some(now);
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = place.closed() => {
                    let mut followed = self.followed();
                    // Somebody may have come while the last one went.
                    if place.receiver_count() == 0 {
                        followed.remove(&resource);
                        return;
                    }
                }
            }
        }
    }
}

/// Device, inode, change and size: another file, or another content.
type Fingerprint = Vec<Option<(u64, u64, i64, i64, u64)>>;

impl FileResource {
    fn fingerprint(&self) -> Fingerprint {
        let paths = match self {
            Self::KeyPair { chain, key } => vec![Some(chain.as_path()), Some(key.as_path())],
            Self::Roots(path) => vec![Some(path.as_path())],
            Self::SystemRoots => vec![system_roots()],
        };
        let of = |path: &Path| {
            let data = fs::metadata(path).ok()?;
            Some((data.dev(), data.ino(), data.ctime(), data.ctime_nsec(), data.size()))
        };
        paths.into_iter().map(|path| path.and_then(of)).collect()
    }

    pub(super) fn read(&self) -> io::Result<Content> {
        match self {
            Self::KeyPair { chain, key } => {
                let pair = KeyPair::new(&[read(chain)?.as_str()], read(key)?);
                pair.map(Content::KeyPair).map_err(io::Error::other)
            }
            Self::Roots(path) => roots(path),
            Self::SystemRoots => {
                roots(system_roots().ok_or_else(|| io::Error::other("this system has no roots"))?)
            }
        }
    }
}

fn roots(path: &Path) -> io::Result<Content> {
    TrustBundle::from_pem(&read(path)?).map(Content::Roots).map_err(io::Error::other)
}

/// Reads a file, if it is one: a pipe or a device that a client names would keep everybody waiting.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let named = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let no_file = || named(&format_args!("no file, or longer than {LONGEST} bytes"));
    // A device may do something when it is opened.
    if !fs::metadata(path).map_err(|error| named(&error))?.is_file() {
        return Err(no_file());
    }
    let nonblocking = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(|error| named(&error))?;
    // Of what was opened: the path may be another's by now.
    let data = file.metadata().map_err(|error| named(&error))?;
    if !data.is_file() || data.len() > LONGEST {
        return Err(no_file());
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(data.len()).unwrap_or_default() + 1));
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| named(&error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::test_ca::Ca;
    use super::*;

    const POLL: Duration = Duration::from_millis(20);

    async fn until(follower: &mut Follower, wanted: impl Fn(&Content) -> bool) -> Arc<Content> {
        let found = follower.wait_for(|content| content.as_deref().is_some_and(&wanted));
        let found =
            tokio::time::timeout(Duration::from_secs(10), found).await.expect("it must come").unwrap();
        found.clone().unwrap()
    }

    fn chain_of(content: &Content) -> &str {
        match content {
            Content::KeyPair(pair) => &pair.chain,
            Content::Roots(roots) => &roots.pem,
        }
    }

    fn volume(folder: &Path, name: &str, chain: &str, key: &str) {
        let data = folder.join(name);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("tls.crt"), chain).unwrap();
        fs::write(data.join("tls.key"), key).unwrap();
        // As a kubelet does it: a link is put in the place of another.
        symlink(name, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    }

    #[tokio::test]
    async fn a_volume_whose_links_are_swapped_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("root");
        let (first, first_key) = ca.leaf("spiffe://d/ns/a/sa/b");
        volume(folder.path(), "one", &first, &first_key);
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), folder.path().join(file)).unwrap();
        }
        let files = Files::new(POLL, POLL);
        let resource = FileResource::KeyPair {
            chain: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        let mut follower = files.follow(resource.clone()).unwrap();
        let mut second_follower = files.follow(resource).unwrap();
        until(&mut follower, |content| chain_of(content) == first).await;

        let (second, second_key) = ca.leaf("spiffe://d/ns/a/sa/b");
        volume(folder.path(), "two", &second, &second_key);
        until(&mut follower, |content| chain_of(content) == second).await;
        until(&mut second_follower, |content| chain_of(content) == second).await;
        assert_eq!(files.followed().len(), 1);

        drop((follower, second_follower));
        while !files.followed().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_half_written_pair_is_waited_for_and_never_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("c"), folder.path().join("k"));
        let ca = Ca::new("root");
        let (first, first_key) = ca.leaf("spiffe://d/ns/a/sa/b");
        let (second, second_key) = ca.leaf("spiffe://d/ns/a/sa/b");
        let files = Files::new(POLL, Duration::from_millis(5));
        let mut follower =
            files.follow(FileResource::KeyPair { chain: chain.clone(), key: key.clone() }).unwrap();
        fs::write(&chain, &first).unwrap();
        sleep(POLL * 2).await;
        assert!(follower.borrow().is_none());
        fs::write(&key, first_key.as_bytes()).unwrap();
        until(&mut follower, |content| chain_of(content) == first).await;

        fs::write(&chain, &second).unwrap();
        sleep(POLL * 3).await;
        assert_eq!(chain_of(follower.borrow().as_deref().unwrap()), first);
        fs::write(&key, second_key.as_bytes()).unwrap();
        until(&mut follower, |content| chain_of(content) == second).await;
    }

    #[tokio::test]
    async fn roots_are_followed_and_a_file_that_vanishes_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots");
        let (one, other) = (Ca::new("one"), Ca::new("other"));
        fs::write(&path, one.root_pem()).unwrap();
        let files = Files::new(POLL, POLL);
        let mut follower = files.follow(FileResource::Roots(path.clone())).unwrap();
        until(&mut follower, |content| chain_of(content) == one.root_pem()).await;
        fs::remove_file(&path).unwrap();
        sleep(POLL * 3).await;
        assert_eq!(chain_of(follower.borrow().as_deref().unwrap()), one.root_pem());
        fs::write(&path, format!("{}{}", one.root_pem(), other.root_pem())).unwrap();
        until(&mut follower, |content| chain_of(content).matches("BEGIN").count() == 2).await;
    }

    #[test]
    fn only_files_of_a_sober_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [Path::new("/dev/zero"), folder.path(), &folder.path().join("missing"), &pipe] {
            let error = read(path).expect_err("no file");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
        let long = folder.path().join("long");
        File::create(&long).unwrap().set_len(LONGEST + 1).unwrap();
        assert!(read(&long).is_err());
    }

    #[test]
    fn the_systems_roots_are_found_where_it_has_some() {
        match (system_roots(), FileResource::SystemRoots.read()) {
            (Some(_), Ok(Content::Roots(roots))) => assert!(roots.certificates.len() > 1),
            (None, Err(error)) => assert!(error.to_string().contains("no roots"), "{error}"),
            (path, other) => panic!("{path:?}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn there_is_an_end_to_what_is_followed() {
        let files = Files::new(Duration::from_secs(60), POLL);
        let follow = |number: usize| files.follow(FileResource::Roots(PathBuf::from(number.to_string())));
        let kept: Vec<_> = (0..MOST).map(|number| follow(number).expect("not too many yet")).collect();
        assert!(follow(MOST).is_none());
        assert!(follow(0).is_some());
        drop(kept);
    }
}
