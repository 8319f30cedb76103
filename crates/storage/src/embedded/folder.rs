//! The folder of a store: its files, who may read them, and the lock that keeps a second process out.

use std::error::Error;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::StorageError;

const DATABASE: &str = "store.db";
const LOCK: &str = "lock";

/// A folder that this process, and no other, has open.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The system releases the lock with the file, however this process ends.
    _lock: File,
}

impl Folder {
    /// Creates what is missing, for this user only, and takes the lock.
    pub(super) fn lock(path: PathBuf) -> Result<Self, StorageError> {
        let failed = |doing: &str, error| explain_io(&path, doing, error);
        let gaining = folders_that_gain_a_name(&path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed("creating the folder", error))?;
        // The names of new folders must be as durable as what will lie in them.
        for folder in gaining {
            sync(&folder).map_err(|error| failed("creating the folder", error))?;
        }
        let mut lock = private(&path.join(LOCK)).map_err(|error| failed("opening the lock file", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let holder = lock.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(StorageError::Locked { path, holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking the store", error)),
        }
        // Only a courtesy to whoever finds the store locked, so it may fail.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        // SQLite gives its log files the mode of the database.
        private(&path.join(DATABASE)).map_err(|error| failed("opening the database", error))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Makes the names of the files in the folder durable.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        sync(&self.path).map_err(|error| explain_io(&self.path, "syncing the folder", error))
    }

    /// What an error of SQLite, after which nothing is written, means to an operator.
    pub(super) fn explain(&self, doing: &str, error: rusqlite::Error) -> StorageError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StorageError::Full { path: self.path.clone() },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StorageError::ReadOnly { path: self.path.clone(), source: Arc::new(error) }
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StorageError::corrupt(format!(
                "the database {} is damaged ({error}); restore it from a backup",
                self.database().display()
            )),
            _ => StorageError::unavailable(format!("{doing} in {}", self.path.display()), error),
        }
    }
}

/// Opens a file for reading and writing that nobody else may read, and creates it if it is missing.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The folders in which a name appears when this one is created: the parents of all that are missing.
fn folders_that_gain_a_name(path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().take_while(|folder| !folder.is_dir());
    let parents = missing.filter_map(Path::parent);
    // A relative path begins in the working directory, which has no name there.
    let named = parents.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    named.map(Path::to_owned).collect()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn explain_io(path: &Path, doing: &str, error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StorageError::ReadOnly { path: path.to_owned(), source: Arc::new(error) }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StorageError::Full { path: path.to_owned() }
        }
        _ => {
            let source: Box<dyn Error + Send + Sync> = Box::new(error);
            StorageError::unavailable(format!("{doing} {}", path.display()), source)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gains_a_name_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        assert_eq!(folders_that_gain_a_name(here), Vec::<PathBuf>::new());
        assert_eq!(folders_that_gain_a_name(&here.join("a")), [here]);
        let above = [here.join("a/b"), here.join("a"), here.to_owned()];
        assert_eq!(folders_that_gain_a_name(&here.join("a/b/c")), above);
        let relative = |path: &str| folders_that_gain_a_name(Path::new(path));
        assert_eq!(relative("."), Vec::<PathBuf>::new());
        assert_eq!(relative("no-such-folder"), [Path::new(".")]);
        assert_eq!(relative("./no-such-folder/a"), [Path::new("./no-such-folder"), Path::new(".")]);
    }
}
