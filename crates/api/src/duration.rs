//! Durations as Vault writes them.
//!
//! On the wire a duration is a number of seconds, a string of seconds (`"3600"`), Go's notation
//! (`"1h30m"`, `"87600h0m0s"`), or days (`"30d"`). Answers carry whole seconds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time; on the wire, whole seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(pub Duration);

impl Ttl {
    /// No time at all; in most places of the API this means "the default".
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A whole number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A whole number of hours.
    pub const fn hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }

    /// Whether this is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// `self`, or `other` when `self` is zero.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.is_zero() { other } else { self }
    }

    /// The smaller of the two, where zero means "no limit".
    #[must_use]
    pub fn capped(self, limit: Self) -> Self {
        match (self.is_zero(), limit.is_zero()) {
            (_, true) => self,
            (true, false) => limit,
            (false, false) => self.min(limit),
        }
    }
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// Go's notation, as the command line prints it: `768h`, `1h30m`, `15s`.
impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.as_secs();
        let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
        if total == 0 {
            return f.write_str("0s");
        }
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if seconds > 0 {
            write!(f, "{seconds}s")?;
        }
        Ok(())
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.as_secs())
    }
}

/// Whole seconds, as [`Ttl`]'s `Serialize` writes them into stored records.
impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::seconds)
    }
}

impl std::str::FromStr for Ttl {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text).map(Self)
    }
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text follows none of the notations.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit, inside Go's notation.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that is none of `ns us ms s m h d`.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stood where a unit was expected.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Negative lengths of time, here in seconds, are refused everywhere.
    #[error("cannot provide negative value '{0}'")]
    Negative(i64),
}

/// Parses a duration in any of the notations above. The empty text is zero.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if let Some(positive) = trimmed.strip_prefix('-') {
        // One sign, or each further one would be another call on the stack.
        let unsigned = positive.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let length = if unsigned { parse(positive).ok() } else { None };
        return match length.and_then(|length| i64::try_from(length.as_secs()).ok()) {
            // Less than a second below zero is none at all.
            Some(0) => Ok(Duration::ZERO),
            Some(seconds) => Err(ParseError::Negative(-seconds)),
            None => Err(ParseError::Invalid(text.to_owned())),
        };
    }
    let invalid = || ParseError::Invalid(text.to_owned());
    let unsigned = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return unsigned.parse().map(Duration::from_secs).map_err(|_| invalid());
    }
    if let Some(days) = unsigned.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()) {
        return days.checked_mul(86_400).map(Duration::from_secs).ok_or_else(invalid);
    }

    let mut rest = unsigned;
    let mut total: u128 = 0; // nanoseconds
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(ParseError::MissingUnit(text.to_owned())),
            other => return Err(ParseError::UnknownUnit { unit: other.to_owned(), text: text.to_owned() }),
        };
        total = total.checked_add(scaled(number, scale).ok_or_else(invalid)?).ok_or_else(invalid)?;
        rest = next;
    }
    // Go counts nanoseconds in 64 signed bits: about 292 years.
    if total > i64::MAX as u128 {
        return Err(invalid());
    }
    let nanoseconds = u64::try_from(total).map_err(|_| invalid())?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// `number` (digits, perhaps with one point) times `scale`, in whole units.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() } * scale;
    let mut digit_scale = scale;
    for digit in fraction.bytes() {
        digit_scale /= 10;
        total += u128::from(digit - b'0') * digit_scale;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_is_understood() {
        for (text, seconds) in [
            ("", 0),
            ("0", 0),
            ("3600", 3600),
            ("87600h", 315_360_000),
            ("87600h0m0s", 315_360_000),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("30d", 2_592_000),
            ("1500ms", 1),
        ] {
            assert_eq!(parse(text).map(|d| d.as_secs()), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_in_the_peers_words() {
        for (text, message) in [
            ("abc", "time: invalid duration \"abc\""),
            ("1h3", "time: missing unit in duration \"1h3\""),
            ("1y", "time: unknown unit \"y\" in duration \"1y\""),
            ("-5s", "cannot provide negative value '-5'"),
            ("-1h", "cannot provide negative value '-3600'"),
            ("--1h", "time: invalid duration \"--1h\""),
            ("-", "time: invalid duration \"-\""),
            ("-abc", "time: invalid duration \"-abc\""),
            ("9999999999999h", "time: invalid duration \"9999999999999h\""),
        ] {
            assert_eq!(parse(text).map_err(|e| e.to_string()), Err(message.to_owned()));
        }
    }

    #[test]
    fn a_text_of_nothing_but_signs_is_refused_and_not_followed() {
        let signs = "-".repeat(1 << 20);
        assert!(matches!(parse(&signs), Err(ParseError::Invalid(_))));
        assert!(matches!(parse(&format!("{signs}1h")), Err(ParseError::Invalid(_))));
        // Blanks between them hide nothing.
        assert!(matches!(parse(&"- ".repeat(1 << 20)), Err(ParseError::Invalid(_))));
    }

    #[test]
    fn printed_durations_follow_go() {
        assert_eq!(Ttl::hours(768).to_string(), "768h");
        assert_eq!(Ttl::seconds(5400).to_string(), "1h30m");
        assert_eq!(Ttl::seconds(61).to_string(), "1m1s");
        assert_eq!(Ttl::ZERO.to_string(), "0s");
    }

    #[test]
    fn zero_means_no_limit_when_capping() {
        assert_eq!(Ttl::hours(2).capped(Ttl::ZERO), Ttl::hours(2));
        assert_eq!(Ttl::ZERO.capped(Ttl::hours(1)), Ttl::hours(1));
        assert_eq!(Ttl::hours(2).capped(Ttl::hours(1)), Ttl::hours(1));
    }
}
