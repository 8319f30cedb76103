//! The folder that issued certificates are written to (`OUTPUT_CERTS`), for programs that read files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::files::KeyFiles;
use super::issue::Issued;

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

    /// Writes the key, the chain and the roots, in this order, each at once and only if it changed.
    ///
    /// # Errors
    /// A file cannot be written; those before it are.
    pub fn write(&self, issued: &Issued) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let KeyFiles { chain, key, root } = KeyFiles::of(&self.folder);
        self.write_one(&key, &issued.key_pair.key)?;
        self.write_one(&chain, &issued.key_pair.chain)?;
        self.write_one(&root, &issued.roots.pem)
    }

    fn write_one(&self, path: &Path, text: &str) -> io::Result<()> {
        let same =
            fs::read(path).map(zeroize::Zeroizing::new).is_ok_and(|old| old.as_slice() == text.as_bytes());
        if same {
            return Ok(());
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // What a crash has left is another's size and perhaps another's mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    use super::super::secret::{KeyPair, TrustBundle};
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

    #[test]
    fn files_are_written_whole_with_their_mode_and_only_if_they_changed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("made/here");
        let files = KeyFiles::of(&target);
        let ca = Ca::new("root");
        let first = issued(&ca);
        Output::new(target.clone(), false).write(&first).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before = (inode(&files.chain), inode(&files.root));
        assert_eq!(fs::read_to_string(&files.chain).unwrap(), first.key_pair.chain);
        assert_eq!(fs::read_to_string(&files.key).unwrap(), *first.key_pair.key);
        assert_eq!(fs::read_to_string(&files.root).unwrap(), first.roots.pem);
        for path in [&files.chain, &files.key, &files.root] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        }

        Output::new(target.clone(), false).write(&first).unwrap();
        assert_eq!((inode(&files.chain), inode(&files.root)), before);

        // What a crash left behind is in nobody's way.
        fs::write(target.join("key.pem.new"), "half").unwrap();
        let second = issued(&ca);
        Output::new(target.clone(), true).write(&second).unwrap();
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
        assert!(Output::new(file.join("below"), false).write(&issued(&Ca::new("root"))).is_err());
    }
}
