//! What a test that failed says of the cluster: its objects, and the last requests.

use std::fmt::Write;

use chancery_testkit::kubernetes::ApiServer;
use serde_json::Value;
use tokio::time::Instant;

use crate::bed::TEST;

/// Requests that are told.
const REQUESTS: usize = 150;

/// Objects of a kind that are told: some tests have hundreds.
const OBJECTS: usize = 12;

/// What is in a cluster, without private keys, and who has asked it for what.
pub(crate) fn of(double: &ApiServer) -> String {
    let (stopped, watches, connections) = (double.stopped_at(), double.watches(), double.connections());
    let mut text = format!("stopped at {stopped:?}; {watches} watches, {connections} connections\n");
    for plural in ["leases", "issuers", "certificates", "certificaterequests", "secrets", "events"] {
        let mut all = double.list(plural, None);
        // The newest tell most.
        all.sort_by_key(|object| {
            let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            std::cmp::Reverse(version.parse::<u64>().unwrap_or_default())
        });
        let _ = writeln!(text, "{} {plural}:", all.len());
        for mut object in all.into_iter().take(OBJECTS) {
            object["metadata"]["managedFields"] = Value::Null;
            if let Some(data) = object["data"].as_object_mut() {
                data.values_mut().for_each(|value| *value = "...".into());
            }
            let _ = writeln!(text, "{object}");
        }
    }
    let (requests, now) = (double.requests(), Instant::now());
    // Tests ask again and again.
    let told: Vec<_> = requests.iter().filter(|request| request.user != TEST).collect();
    let _ = writeln!(text, "the last of {} requests:", told.len());
    for request in told.iter().skip(told.len().saturating_sub(REQUESTS)) {
        let ago = now.duration_since(request.at).as_secs_f64();
        let name = request.name.as_deref().unwrap_or_default();
        let _ =
            writeln!(text, "{ago:8.3} s ago {}: {} {} {name}", request.user, request.verb, request.resource);
    }
    text
}
