//! The folder that issued certificates are written to (`OUTPUT_CERTS`), for programs that read files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::files::KeyFiles;
use super::secret::{Content, KeyPair, TrustBundle};
use super::store::Store;

/// After this long it is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Writes certificates into a folder.
#[derive(Debug, Clone)]
pub struct Output {
    folder: PathBuf,
    mode: u32,
}

impl Output {
    /// Into `folder`; others than the agent's user may read the files if `readable` says so.
    pub fn new(folder: PathBuf, readable: bool) -> Self {
        Self { folder, mode: if readable { 0o644 } else { 0o600 } }
    }

    /// Writes what is in `store`, and what comes there, for ever. What cannot be written is tried again every minute.
    pub(super) async fn follow(&self, store: &Store) {
        let (mut pair, mut roots) = (store.key_pair(), store.roots());
        loop {
            let current = (pair.borrow_and_update().clone(), roots.borrow_and_update().clone());
            let written = match (current.0.as_deref(), current.1.as_deref()) {
                (Some(Content::KeyPair(pair)), Some(Content::Roots(roots))) => self.write(pair, roots),
                _ => Ok(()),
            };
            if let Err(error) = &written {
                let folder = self.folder.display();
                tracing::warn!(%error, %folder, again_in = ?AGAIN, "the certificate cannot be written to the folder of output");
            }
            // The senders live in `store`.
            tokio::select! {
                _ = pair.changed() => {}
                _ = roots.changed() => {}
                () = sleep(AGAIN), if written.is_err() => {}
            }
        }
    }

    /// Writes the key, the chain and the roots, as far as they changed: all of them beside their places first, so that
    /// what has no room leaves everything as it was, then each into its place at once, in this order.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, pair: &KeyPair, roots: &TrustBundle) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let KeyFiles { chain, key, root } = KeyFiles::of(&self.folder);
        let files = [(&key, pair.key.as_str()), (&chain, &pair.chain), (&root, &roots.pem)];
        let mut ready = Vec::new();
        for (path, text) in files {
            if !is_same(path, text) {
                let temporary = beside(path);
                ready.push((temporary.clone(), path));
                if let Err(error) = self.prepare(&temporary, text) {
                    for (temporary, _) in ready {
                        // If one stays, the next attempt removes it.
                        let _ = fs::remove_file(temporary);
                    }
                    return Err(error);
                }
            }
        }
        ready.iter().try_for_each(|(temporary, path)| fs::rename(temporary, path))
    }

    fn prepare(&self, temporary: &Path, text: &str) -> io::Result<()> {
        // What a crash has left is another's size and perhaps another's mode.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.sync_all()
    }
}

fn is_same(path: &Path, text: &str) -> bool {
    fs::read(path).map(zeroize::Zeroizing::new).is_ok_and(|old| old.as_slice() == text.as_bytes())
}

fn beside(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    PathBuf::from(temporary)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::issue::Issued;
    use super::super::test_ca::{Ca, now};
    use super::*;

    fn issued(ca: &Ca) -> Issued {
        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        Issued {
            key_pair: KeyPair::new(&[leaf, ca.root_pem()], key).unwrap(),
            roots: TrustBundle::from_pem(&ca.root_pem()).unwrap(),
            not_after: now() + Duration::from_secs(60),
            received: now(),
        }
    }

    fn write(folder: &Path, readable: bool, issued: &Issued) -> io::Result<()> {
        Output::new(folder.to_owned(), readable).write(&issued.key_pair, &issued.roots)
    }

    #[test]
    fn files_are_written_whole_with_their_mode_and_only_if_they_changed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("made/here");
        let files = KeyFiles::of(&target);
        let ca = Ca::new("root");
        let first = issued(&ca);
        write(&target, false, &first).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before = (inode(&files.chain), inode(&files.root));
        assert_eq!(fs::read_to_string(&files.chain).unwrap(), first.key_pair.chain);
        assert_eq!(fs::read_to_string(&files.key).unwrap(), *first.key_pair.key);
        assert_eq!(fs::read_to_string(&files.root).unwrap(), first.roots.pem);
        for path in [&files.chain, &files.key, &files.root] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        }

        write(&target, false, &first).unwrap();
        assert_eq!((inode(&files.chain), inode(&files.root)), before);

        // What a crash left behind is in nobody's way.
        fs::write(target.join("key.pem.new"), "half").unwrap();
        let second = issued(&ca);
        write(&target, true, &second).unwrap();
        assert_eq!(fs::read_to_string(&files.key).unwrap(), *second.key_pair.key);
        assert_ne!(inode(&files.chain), before.0);
        assert_eq!(inode(&files.root), before.1);
        assert_eq!(fs::metadata(&files.key).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write(&file.join("below"), false, &issued(&Ca::new("root"))).is_err());
    }

    #[test]
    fn if_one_file_cannot_be_written_the_others_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path());
        let ca = Ca::new("root");
        let first = issued(&ca);
        write(folder.path(), false, &first).unwrap();
        // A folder with something in it cannot be removed.
        let blocked = beside(&files.chain);
        fs::create_dir_all(blocked.join("something")).unwrap();
        assert!(write(folder.path(), false, &issued(&ca)).is_err());
        assert_eq!(fs::read_to_string(&files.key).unwrap(), *first.key_pair.key);
        assert_eq!(fs::read_to_string(&files.chain).unwrap(), first.key_pair.chain);
        assert!(!beside(&files.key).exists());
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_tried_again_until_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path());
        let blocked = beside(&files.chain);
        fs::create_dir_all(blocked.join("something")).unwrap();
        let (store, output) = (Store::default(), Output::new(folder.path().to_owned(), false));
        let first = issued(&Ca::new("root"));
        let (chain, key) = (first.key_pair.chain.clone(), first.key_pair.key.clone());
        store.put(first);
        let follow = |time| tokio::time::timeout(time, output.follow(&store));
        assert!(follow(AGAIN * 2).await.is_err());
        assert!(!files.key.exists());
        let unblock = async {
            sleep(AGAIN / 2).await;
            fs::remove_dir_all(&blocked).unwrap();
        };
        assert!(tokio::join!(follow(AGAIN + AGAIN / 2), unblock).0.is_err());
        assert_eq!(fs::read_to_string(&files.chain).unwrap(), chain);
        assert_eq!(fs::read_to_string(&files.key).unwrap(), *key);
    }
}
