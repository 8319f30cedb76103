//! What is particular to the store on disk: its files, its lock, and what happens when the machine says no.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use chancery_storage::{Backend, Batch, Embedded, Key, StorageError};

async fn put(store: &Embedded, key: &str, value: Vec<u8>) -> Result<(), StorageError> {
    let mut batch = Batch::new();
    batch.put(key.into(), value);
    store.commit(batch).await
}

#[tokio::test]
async fn folder_and_files_are_for_this_user_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/store");
    let store = Embedded::open(&path).unwrap();
    put(&store, "a", b"1".to_vec()).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// In a process of its own, whose working directory is no other test's.
#[test]
fn nested_and_relative_paths_are_created() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_opens_nested_and_relative_paths", "--ignored", "--nocapture"]);
    assert!(child.current_dir(folder.path()).status().unwrap().success());
    for path in ["one", "two/three/four", "five"] {
        assert!(folder.path().join(path).join("store.db").is_file(), "{path}");
    }
}

#[tokio::test]
#[ignore = "run by nested_and_relative_paths_are_created in a process of its own"]
async fn child_opens_nested_and_relative_paths() {
    let absolute = std::env::current_dir().unwrap().join("two/three/four");
    for path in [Path::new("one"), absolute.as_path(), Path::new("./five"), Path::new("one")] {
        let store = Embedded::open(path).unwrap();
        put(&store, "a", b"1".to_vec()).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let error = Embedded::open(folder.path()).unwrap_err();
    let expected = format!(
        "the store {} is in use by another process (pid {}); stop that process or choose another path",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    drop(store);
    Embedded::open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_store_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    for contents in [b"not a database at all, but long enough for a header".repeat(40), vec![0; 4096]] {
        fs::write(&path, &contents).unwrap();
        let error = Embedded::open(folder.path()).unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("store.db"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), contents);
    }
    fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs(x)").unwrap();
    drop(other);
    let error = Embedded::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("is not a store that this version of the program wrote"), "{error}");
}

#[tokio::test]
async fn a_damaged_page_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    for i in 0..200 {
        put(&store, &format!("key/{i:03}"), vec![b'x'; 2000]).await.unwrap();
    }
    drop(store);
    let path = folder.path().join("store.db");
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    assert!(length > 5 * 8192);
    bytes[2 * 8192..].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let mut corrupt = 0;
    for i in 0..200 {
        let key = Key::from(format!("key/{i:03}").as_str());
        match store.get(&key).await {
            Ok(_) => {}
            Err(StorageError::Corrupt { what }) => {
                assert!(what.contains("restore it from a backup"), "{what}");
                corrupt += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(corrupt > 0);
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open_limited(folder.path(), Some(1 << 20)).unwrap();
    let mut written = 0;
    let error = loop {
        match put(&store, &format!("key/{written:03}"), vec![b'x'; 20_000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(written > 20, "{written}");
    assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing was written. Free some space and try again"), "{error}");
    assert_eq!(store.keys(b"key/", None, 1000).await.unwrap().len(), written);

    // One that is too large does not take the others of its group with it.
    let mut batch = Batch::new();
    batch.delete(Key::from("key/000"));
    store.commit(batch).await.unwrap();
    let (large, small) =
        tokio::join!(put(&store, "large", vec![0; 900_000]), put(&store, "small", vec![0; 10]));
    assert!(matches!(large, Err(StorageError::Full { .. })), "{large:?}");
    small.unwrap();
    drop(store);
    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(store.keys(b"", None, 1000).await.unwrap().len(), written);
}

#[tokio::test]
async fn a_batch_beyond_the_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let error = put(&store, "a", vec![0; (256 << 20) + 1]).await.unwrap_err();
    assert_eq!(error.to_string(), "a commit of 268435458 bytes is larger than the limit of 268435456 bytes");
}

/// Runs one ignored test of this file in a process of its own, as another user if we are root.
fn run_as_nobody(test: &str, folder: &Path) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored", "--nocapture"]).env("STORE", folder);
    if rustix::process::geteuid().is_root() {
        child.uid(65534).gid(65534);
    }
    child.status().is_ok_and(|status| status.success())
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    assert!(run_as_nobody("child_finds_a_read_only_folder", folder.path()));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "run by a_folder_that_may_not_be_written_is_refused_with_advice in a process of its own"]
fn child_finds_a_read_only_folder() {
    let folder = std::env::var("STORE").unwrap();
    for path in [folder.clone(), format!("{folder}/below")] {
        let error = Embedded::open(&path).unwrap_err();
        assert!(matches!(error, StorageError::ReadOnly { .. }), "{error:?}");
        let sentence = error.to_string();
        assert!(sentence.starts_with(&format!("the store {path} cannot be written (")), "{sentence}");
        assert!(
            sentence.ends_with("give this user write permission there or choose another path"),
            "{sentence}"
        );
    }
}

/// A file system of three megabytes in a mount namespace of our own; skipped where that is not allowed.
#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=3m none "$STORE" || exit 77
                    exec "$TEST" --exact child_fills_its_disk --ignored --nocapture"#;
    let status = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .env("STORE", folder.path())
        .env("TEST", std::env::current_exe().unwrap())
        .status();
    match status.ok().and_then(|status| status.code()) {
        Some(0) => {}
        // No such program, no user namespaces, or no mounting in them.
        None | Some(1 | 77) => eprintln!("skipped: this machine does not let tests mount a small disk"),
        Some(code) => panic!("the child failed with {code}"),
    }
}

#[tokio::test]
#[ignore = "run by a_full_disk_refuses_writes_until_there_is_room_again on a disk of its own"]
async fn child_fills_its_disk() {
    let folder = std::env::var("STORE").unwrap();
    let ballast = format!("{folder}/ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let store = Embedded::open(format!("{folder}/store")).unwrap();
    let mut written = 0;
    let error = loop {
        match put(&store, &format!("key/{written:03}"), vec![b'x'; 20_000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
    assert!(written > 20, "{written}");
    assert_eq!(store.keys(b"key/", None, 1000).await.unwrap().len(), written, "reading goes on");

    fs::remove_file(&ballast).unwrap();
    put(&store, "key/after", vec![b'x'; 20_000]).await.unwrap();
    drop(store);
    let store = Embedded::open(format!("{folder}/store")).unwrap();
    assert_eq!(store.keys(b"key/", None, 1000).await.unwrap().len(), written + 1);
}
