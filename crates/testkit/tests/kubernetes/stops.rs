//! Writes at which the double stops answering, for clients that are killed there.

use std::time::Duration;

use chancery_testkit::kubernetes::ApiServer;
use tokio::time::timeout;

use crate::bed::{MAPS, ask, map};

/// Sends a write whose answer cannot come, and leaves.
async fn in_vain(server: &ApiServer, name: &str) {
    let sent = ask("POST", MAPS).body(map(name, "1")).open(server);
    assert!(timeout(Duration::from_millis(100), sent).await.is_err(), "{name} is answered");
}

#[tokio::test]
async fn a_write_is_stopped_before_or_after_it_is_done_and_no_write_follows_until_all_is_well_again() {
    for is_done in [false, true] {
        let server = ApiServer::start().await;
        server.stop_at_write(1, is_done);
        ask("POST", "/api/v1/namespaces/default/events").body(map("e", "1")).good(&server).await;
        ask("POST", MAPS).body(map("passes", "1")).good(&server).await;
        assert_eq!(server.stopped_at(), None);
        in_vain(&server, "stops").await;
        assert_eq!(server.stopped_at().expect("it stopped").resource, "configmaps");
        assert_eq!(server.get("configmaps", "default", "stops").is_some(), is_done);
        in_vain(&server, "follows").await;
        assert_eq!(server.get("configmaps", "default", "follows"), None);
        ask("GET", format!("{MAPS}/passes")).good(&server).await;
        server.heal();
        ask("POST", MAPS).body(map("follows", "1")).good(&server).await;
    }
}
