//! The root bundle: what is taken, and how changes of its file are followed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::{Clock, FixedClock, SystemClock};
use chancery_issuance::Certificate;
use chancery_mesh::ca::roots::{RootStore, Roots, RootsError, RootsWarning};
use jiff::Timestamp;

use crate::support::{Authority, csr, until};

fn now() -> Timestamp {
    SystemClock.now()
}

fn long_ago() -> Timestamp {
    now().checked_sub(Duration::from_secs(3 * 365 * 24 * 3600)).unwrap()
}

fn parse(text: &str, allow_intermediate: bool) -> Result<(Roots, Vec<RootsWarning>), RootsError> {
    Roots::parse(text, allow_intermediate, now())
}

#[test]
fn several_roots_are_taken_in_any_order_and_none_twice() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let text = format!("words\n{}\n{}{}", other.root.trim_end(), one.root, other.root);
    let (roots, warnings) = parse(&text, false).unwrap();
    assert_eq!(roots.certificates, [other.certificate().clone(), one.certificate().clone()]);
    assert!(warnings.is_empty());
    // What is given out reads the same.
    assert_eq!(Certificate::all_from_pem(&roots.pem).unwrap(), roots.certificates);
    assert!(roots.pem.ends_with("-----\n"));
}

#[test]
fn what_is_no_root_bundle_is_refused() {
    let root = Authority::new("root");
    let leaf = root.sign(&csr(&["a.svc"]).1, Duration::from_secs(3600));
    assert_eq!(parse("", false), Err(RootsError::Empty));
    assert_eq!(parse("no PEM at all", false), Err(RootsError::Empty));
    assert!(matches!(parse(&format!("{}{leaf}", root.root), false), Err(RootsError::NotACa(_))));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(parse(garbage, false), Err(RootsError::Malformed(_))));
}

#[test]
fn a_bundle_cut_off_at_any_place_is_refused_or_lacks_nothing() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let text = format!("{}{}", one.root, other.root);
    // Where the first ends and the second has not begun, nothing shows that there is more.
    let whole = one.root.len() - 1..=one.root.len() + "-----BEGIN".len();
    for end in (0..text.trim_end().len()).filter(|end| !whole.contains(end)) {
        assert!(parse(&text[..end], false).is_err(), "cut at {end}");
    }
}

#[test]
fn an_intermediate_is_no_root_unless_that_is_permitted_and_superfluous_beside_its_issuer() {
    let root = Authority::new("root");
    let below = root.intermediate("below", false);
    let intermediate = below.certificate().pem().to_owned();
    assert_eq!(parse(&intermediate, false), Err(RootsError::Intermediate("below".into())));
    let (roots, warnings) = parse(&intermediate, true).unwrap();
    assert_eq!((roots.certificates.len(), warnings), (1, vec![RootsWarning::Intermediate("below".into())]));
    for text in [format!("{intermediate}{}", root.root), format!("{}{intermediate}", root.root)] {
        let (roots, warnings) = parse(&text, false).unwrap();
        assert_eq!(roots.certificates, [root.certificate().clone()]);
        assert_eq!(warnings, [RootsWarning::LeftOut("below".into())]);
    }
}

#[test]
fn expired_roots_are_left_out_and_nothing_but_expired_roots_is_refused() {
    let (old, new) = (Authority::beginning("old", long_ago()), Authority::new("new"));
    let (roots, warnings) = parse(&format!("{}{}", old.root, new.root), false).unwrap();
    assert_eq!(roots.certificates, [new.certificate().clone()]);
    assert!(matches!(warnings.as_slice(), [RootsWarning::Expired(name, _)] if name == "old"));
    assert!(matches!(parse(&old.root, false), Err(RootsError::Expired(_))));
}

#[test]
fn without_a_file_the_first_root_of_the_signer_counts_and_no_later_one() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let store = RootStore::open(None, false, now()).unwrap();
    assert!(store.current().is_empty());
    let intermediate = one.intermediate("below", false).certificate().pem().to_owned();
    assert!(matches!(store.trust_first(&intermediate, now()), Err(RootsError::Intermediate(_))));
    assert!(store.trust_first(&one.root, now()).unwrap());
    assert!(!store.trust_first(&other.root, now()).unwrap());
    assert_eq!(store.current().certificates, [one.certificate().clone()]);
}

#[test]
fn a_missing_or_empty_file_is_fatal_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let open = || RootStore::open(Some(path.clone()), false, now());
    assert!(matches!(open(), Err(RootsError::File { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(open(), Err(RootsError::Empty)));
}

/// A store that follows the file, and its watcher.
fn follow(path: &Path) -> (Arc<RootStore>, tokio::task::JoinHandle<()>) {
    let store = Arc::new(RootStore::open(Some(path.to_owned()), false, now()).unwrap());
    let follower = Arc::clone(&store);
    (store, tokio::spawn(async move { follower.follow(&SystemClock).await }))
}

fn has(store: &RootStore, authorities: &[&Authority]) -> bool {
    let expected: Vec<_> = authorities.iter().map(|authority| authority.certificate().clone()).collect();
    store.current().certificates == expected
}

#[tokio::test]
async fn the_swapped_symlink_of_a_kubernetes_volume_is_followed() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    for (folder, authority) in [("..first", &one), ("..second", &other)] {
        fs::create_dir(at(folder)).unwrap();
        fs::write(at(folder).join("ca.pem"), &authority.root).unwrap();
    }
    symlink("..first", at("..data")).unwrap();
    symlink("..data/ca.pem", at("ca.pem")).unwrap();
    let (store, task) = follow(&at("ca.pem"));
    let mut watch = store.subscribe();
    assert!(has(&store, &[&one]));
    symlink("..second", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
    assert!(has(&store, &[&other]));
    task.abort();
}

#[tokio::test]
async fn a_half_written_or_missing_file_keeps_the_previous_roots_until_it_is_whole() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, &one.root).unwrap();
    let (store, task) = follow(&path);
    let settle = || tokio::time::sleep(Duration::from_millis(3200));
    let both = format!("{}{}", one.root, other.root);
    fs::write(&path, &both[..both.len() - 200]).unwrap();
    settle().await;
    assert!(has(&store, &[&one]));
    fs::remove_file(&path).unwrap();
    settle().await;
    assert!(has(&store, &[&one]));
    fs::write(&path, &both).unwrap();
    until("both roots", || async { has(&store, &[&one, &other]) }).await;
    task.abort();
}

#[tokio::test]
async fn who_writes_slowly_is_not_read_in_the_middle() {
    let (one, two, three) = (Authority::new("one"), Authority::new("two"), Authority::new("three"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, &one.root).unwrap();
    let (store, task) = follow(&path);
    let mut watch = store.subscribe();
    let writer = async {
        let mut text = String::new();
        for authority in [&two, &three, &one] {
            // Whole certificates each time: the text alone does not show that more is to come.
            text.push_str(&authority.root);
            fs::write(&path, &text).unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    let (changed, ()) = tokio::join!(watch.changed(), writer);
    changed.unwrap();
    assert!(has(&store, &[&two, &three, &one]));
    task.abort();
}

#[tokio::test]
async fn a_root_that_expires_meanwhile_is_left_out_and_the_last_one_stays() {
    let day = Duration::from_secs(24 * 3600);
    let (old, new) =
        (Authority::beginning("old", now().checked_sub(day * 364).unwrap()), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, format!("{}{}", old.root, new.root)).unwrap();
    let clock = Arc::new(FixedClock::at(now()));
    let store = Arc::new(RootStore::open(Some(path), false, clock.now()).unwrap());
    assert!(has(&store, &[&old, &new]));
    let (follower, watch) = (Arc::clone(&store), Arc::clone(&clock));
    let task = tokio::spawn(async move { follower.follow(watch.as_ref()).await });
    clock.advance(day * 2);
    until("the old root's end", || async { has(&store, &[&new]) }).await;
    // Something must be given out; probes tell that it is no use.
    clock.advance(day * 400);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(has(&store, &[&new]));
    task.abort();
}
