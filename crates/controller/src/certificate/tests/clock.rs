//! A clock that jumps: it was wrong, or is now.

use std::time::Duration;

use serde_json::json;

use super::world::{Mood, World, start_time};
use crate::Next;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

const NAMES: [&str; 3] = ["a", "b", "c"];

fn revisions(world: &World) -> Vec<i64> {
    NAMES.map(|name| world.status(name)["revision"].as_i64().expect("a revision")).to_vec()
}

fn asked(world: &World) -> usize {
    world.server.count("create", "certificaterequests")
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_renews_once_and_one_that_jumps_back_issues_nothing() {
    let mut world = World::new().await;
    for name in NAMES {
        world.apply(name, &json!({}));
        world.settle(name).await;
    }
    world.clock.advance(YEAR);
    for _ in 0..3 {
        for name in NAMES {
            assert_eq!(world.settle(name).await, Next::After(Duration::from_secs(1801)));
            assert_eq!(world.condition(name, "Ready")["status"], "True");
        }
    }
    assert_eq!((revisions(&world), asked(&world)), (vec![2; 3], 6));

    let before = world.versions();
    for now in [start_time(), "1970-01-01T00:00:01Z".parse().expect("an instant")] {
        world.set_clock(now);
        for name in NAMES {
            let Next::After(pause) = world.settle(name).await else { panic!("it is never looked at again") };
            assert!(pause > YEAR, "{pause:?}");
        }
    }
    assert_eq!((world.versions(), asked(&world)), (before, 6));

    world.set_clock(start_time() + YEAR + Duration::from_secs(1800));
    for name in NAMES {
        assert_eq!(world.settle(name).await, Next::After(Duration::from_secs(1801)));
    }
    assert_eq!((revisions(&world), asked(&world)), (vec![3; 3], 9));
}

#[tokio::test]
async fn a_failure_by_a_clock_that_was_ahead_is_tried_again_at_once_and_then_as_ever() {
    for policy in ["Always", "Never"] {
        let key = json!({ "privateKey": { "rotationPolicy": policy, "algorithm": "ECDSA", "size": 256 } });
        let mut world = World::new().await;
        world.apply("istiod", &key);
        world.settle("istiod").await;
        world.clock.advance(YEAR);
        world.mood = Mood::Refuses;
        world.settle("istiod").await;
        assert_eq!((&world.status("istiod")["failedIssuanceAttempts"], asked(&world)), (&json!(1), 2));

        // Back in time, the certificate is due in half an hour; nothing is before.
        world.set_clock(start_time());
        assert!(matches!(world.settle("istiod").await, Next::After(_)));
        assert_eq!(asked(&world), 2, "{policy}");
        for (attempts, pause) in [(2, 120), (3, 240)] {
            world.clock.advance(Duration::from_secs(if attempts == 2 { 1800 } else { 120 }));
            let now = world.clock_text();
            assert_eq!(world.settle("istiod").await, Next::After(Duration::from_secs(pause)), "{policy}");
            let status = world.status("istiod");
            assert_eq!(status["failedIssuanceAttempts"], attempts, "{policy}");
            assert_eq!(status["lastFailureTime"], now, "{policy}");
            assert_eq!(asked(&world), attempts + 1, "{policy}");
        }
        world.mood = Mood::Signs(Duration::from_secs(3600));
        world.clock.advance(Duration::from_secs(240));
        world.settle("istiod").await;
        let status = world.status("istiod");
        assert_eq!((&status["revision"], asked(&world)), (&json!(2), 5), "{policy}");
        assert!(status.get("lastFailureTime").is_none() && status.get("failedIssuanceAttempts").is_none());
    }
}
