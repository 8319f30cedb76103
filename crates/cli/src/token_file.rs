//! The token file `~/.vault-token`, which Vault's and OpenBao's command lines share.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chancery_api::Secret;
use zeroize::Zeroizing;

const NAME: &str = ".vault-token";

/// The token file in a home folder.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The token file in `home`.
    pub fn in_home(home: &Path) -> Self {
        Self(home.join(NAME))
    }

    /// The token, if there is one.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn read(&self) -> Result<Option<Secret>, String> {
        match fs::read_to_string(&self.0).map(Zeroizing::new) {
            Ok(text) => Ok(Some(Secret::new(text.trim())).filter(|token| !token.is_empty())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("error reading the token from {}: {error}", self.0.display())),
        }
    }

    /// Stores a token, readable by its owner only. The old one stays until the new one is whole.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, token: &Secret) -> Result<(), String> {
        let draft = self.0.with_extension(format!("tmp-{}", std::process::id()));
        let written = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(token.expose().as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.0)
        };
        written().map_err(|error| {
            drop(fs::remove_file(&draft));
            format!("error storing the token in {}: {error}", self.0.display())
        })
    }

    /// Removes the token, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn erase(&self) -> Result<(), String> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(format!("error removing {}: {error}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_stored_for_its_owner_only() {
        let home = tempfile::tempdir().expect("a folder");
        let file = TokenFile::in_home(home.path());
        assert!(file.read().expect("readable").is_none());
        file.write(&Secret::from("s.one")).expect("written");
        file.write(&Secret::from("s.two")).expect("written");
        assert_eq!(file.read().expect("readable").expect("a token").expose(), "s.two");
        let mode = fs::metadata(home.path().join(NAME)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 1);
        file.erase().expect("erased");
        file.erase().expect("erasing nothing is fine");
        assert!(file.read().expect("readable").is_none());
    }
}
