//! How long certificates live.

use std::time::Duration;

/// What a request asks for, in seconds, at most the maximum. Zero, negative and absent (which is zero) mean the maximum.
pub fn lifetime(asked: i64, max: Duration) -> Duration {
    match u64::try_from(asked) {
        Ok(0) | Err(_) => max,
        Ok(seconds) => Duration::from_secs(seconds).min(max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_kept_below_the_maximum_and_capped_above() {
        let max = Duration::from_secs(3600);
        for (asked, lives) in [(1, 1), (1800, 1800), (3600, 3600), (3601, 3600), (i64::MAX, 3600)] {
            assert_eq!(lifetime(asked, max), Duration::from_secs(lives), "{asked}");
        }
    }

    #[test]
    fn zero_and_less_mean_the_maximum() {
        let max = Duration::from_secs(3600);
        for asked in [0, -1, i64::MIN] {
            assert_eq!(lifetime(asked, max), max, "{asked}");
        }
    }
}
