//! Durations as flags and headers carry them.

use std::time::Duration;

use chancery_api::duration::ParseError;

/// Parses what a flag or environment variable may say: seconds (`"60"`), Go's notation (`"1h30m"`), or
/// days (`"30d"`).
///
/// # Errors
/// The text is none of these.
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    chancery_api::duration::parse(text)
}

/// Go's own notation, with every unit below the largest: `0s`, `1m0s`, `87600h0m0s`.
pub fn format_duration(duration: Duration) -> String {
    let total = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if total == 0 && nanos > 0 {
        // Go goes down to the largest unit that leaves a whole part.
        return match nanos {
            1_000_000.. => format!("{}ms", trim(nanos, 1_000_000)),
            1_000.. => format!("{}µs", trim(nanos, 1_000)),
            _ => format!("{nanos}ns"),
        };
    }
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if total >= 60 {
        text.push_str(&format!("{minutes}m"));
    }
    if nanos == 0 {
        text.push_str(&format!("{seconds}s"));
    } else {
        let fraction = format!("{nanos:09}");
        text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
    }
    text
}

fn trim(nanos: u32, unit: u32) -> String {
    let fraction = f64::from(nanos) / f64::from(unit);
    format!("{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_secs(3600), "1h0m0s"),
            (Duration::from_secs(3661), "1h1m1s"),
            (Duration::from_secs(87600 * 3600), "87600h0m0s"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_millis(100), "100ms"),
            (Duration::from_micros(1500), "1.5ms"),
        ] {
            assert_eq!(format_duration(duration), text);
        }
    }
}
