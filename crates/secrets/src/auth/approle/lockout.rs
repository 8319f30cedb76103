//! Counts wrong guesses, and refuses a guesser for a while.
//!
//! What is locked is a pair: a role and the network a caller comes from. What is counted are *different*
//! wrong secret ids. A client whose secret id has expired or was destroyed repeats the same one for ever,
//! counts once, and locks nobody out; a guesser has to try different ones. The state is in memory only,
//! bounded, and gone after a restart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use chancery_api::Ttl;
use jiff::Timestamp;
use quick_cache::sync::Cache;

use crate::engine::Tuning;

/// How many pairs of role and network are remembered; the ones asked for least go first.
const REMEMBERED: usize = 16_384;

/// When to lock, and for how long; tuned per mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockoutPolicy {
    threshold: usize,
    duration: Ttl,
    reset: Ttl,
    disabled: bool,
}

impl From<&Tuning> for LockoutPolicy {
    /// The mount's settings; the peer's defaults (5 guesses, 15 minutes, 15 minutes) for the rest.
    fn from(tuning: &Tuning) -> Self {
        let text = |name: &str| tuning.user_lockout.get(name).map(String::as_str);
        let time = |name: &str| text(name).and_then(|text| text.parse::<Ttl>().ok()).unwrap_or_default();
        let quarter = Ttl::seconds(15 * 60);
        Self {
            threshold: text("lockout_threshold")
                .and_then(|text| text.parse().ok())
                .filter(|threshold| *threshold > 0)
                .unwrap_or(5),
            duration: time("lockout_duration").or(quarter),
            reset: time("lockout_counter_reset_duration").or(quarter),
            disabled: text("lockout_disable") == Some("true"),
        }
    }
}

/// A role, by its uuid, and the network that a caller comes from.
type Origin = (Box<str>, IpAddr);

#[derive(Debug, Default)]
struct Guesses {
    /// The heads of the keyed hashes of the wrong secret ids, each once.
    seen: Vec<[u8; 16]>,
    /// When the last new one came.
    last: Timestamp,
    locked_until: Option<Timestamp>,
}

/// Who guessed wrong lately.
#[derive(Debug)]
pub(super) struct Lockout {
    guesses: Cache<Origin, Arc<Mutex<Guesses>>>,
}

impl Lockout {
    pub(super) fn new() -> Self {
        Self { guesses: Cache::new(REMEMBERED) }
    }

    /// Whether a caller from `address` must wait.
    pub(super) fn locked(&self, role: &str, address: Option<IpAddr>, now: Timestamp) -> bool {
        // Almost always nobody has guessed wrong, and then the question costs nothing.
        if self.guesses.is_empty() {
            return false;
        }
        self.guesses.get(&origin(role, address)).is_some_and(|guesses| {
            let guesses = guesses.lock().unwrap_or_else(PoisonError::into_inner);
            guesses.locked_until.is_some_and(|until| now < until)
        })
    }

    /// Remembers a wrong secret id. Answers whether this one locked the caller out.
    pub(super) fn failed(
        &self,
        role: &str,
        address: Option<IpAddr>,
        guess: [u8; 16],
        policy: LockoutPolicy,
        now: Timestamp,
    ) -> bool {
        if policy.disabled {
            return false;
        }
        let origin = origin(role, address);
        let guesses =
            self.guesses.get_or_insert_with(&origin, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(guesses) = guesses;
        let mut guesses = guesses.lock().unwrap_or_else(PoisonError::into_inner);
        let over = guesses.locked_until.is_some_and(|until| until <= now);
        if over || guesses.last.checked_add(policy.reset.0).is_ok_and(|end| end <= now) {
            *guesses = Guesses::default();
        }
        if guesses.seen.contains(&guess) {
            return false;
        }
        guesses.seen.push(guess);
        guesses.last = now;
        if guesses.seen.len() < policy.threshold {
            return false;
        }
        guesses.locked_until = Some(now.checked_add(policy.duration.0).unwrap_or(Timestamp::MAX));
        true
    }
}

/// Callers of one IPv6 subnet count as one: its holder has all 2^64 addresses.
fn origin(role: &str, address: Option<IpAddr>) -> Origin {
    let network = match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        Some(address) => address,
        None => Ipv4Addr::UNSPECIFIED.into(),
    };
    (role.into(), network)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn policy() -> LockoutPolicy {
        LockoutPolicy::from(&Tuning::default())
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn guess(number: u8) -> [u8; 16] {
        [number; 16]
    }

    #[test]
    fn the_same_wrong_secret_id_locks_nobody_out_however_often_it_comes() {
        let lockout = Lockout::new();
        for _ in 0..1_000 {
            assert!(!lockout.failed("web", address("10.0.0.1"), guess(1), policy(), NOW));
        }
        assert!(!lockout.locked("web", address("10.0.0.1"), NOW));
    }

    #[test]
    fn five_different_wrong_secret_ids_lock_their_network_out_of_the_role_for_fifteen_minutes() {
        let lockout = Lockout::new();
        for number in 1..=4 {
            assert!(!lockout.failed("web", address("2001:db8::1"), guess(number), policy(), NOW));
        }
        assert!(lockout.failed("web", address("2001:db8::2"), guess(5), policy(), NOW));

        assert!(lockout.locked("web", address("2001:db8::3"), NOW), "the same subnet");
        assert!(!lockout.locked("web", address("2001:db8:0:1::1"), NOW), "another subnet");
        assert!(!lockout.locked("other", address("2001:db8::1"), NOW), "another role");
        let end = NOW + std::time::Duration::from_secs(15 * 60);
        assert!(!lockout.locked("web", address("2001:db8::1"), end));
        assert!(
            !lockout.failed("web", address("2001:db8::1"), guess(6), policy(), end),
            "counting starts anew"
        );
    }

    #[test]
    fn guesses_further_apart_than_the_reset_time_do_not_add_up() {
        let lockout = Lockout::new();
        let mut now = NOW;
        for number in 1..=20 {
            assert!(!lockout.failed("web", None, guess(number), policy(), now));
            now += std::time::Duration::from_secs(15 * 60);
        }
    }

    #[test]
    fn a_mount_can_be_tuned_or_do_without() {
        let tuning = |name: &str, value: &str| Tuning {
            user_lockout: [(name.to_owned(), value.to_owned())].into(),
            ..Tuning::default()
        };
        let lockout = Lockout::new();
        assert!(lockout.failed("web", None, guess(1), (&tuning("lockout_threshold", "1")).into(), NOW));
        let lockout = Lockout::new();
        for number in 1..=20 {
            assert!(!lockout.failed(
                "web",
                None,
                guess(number),
                (&tuning("lockout_disable", "true")).into(),
                NOW
            ));
        }
    }
}
