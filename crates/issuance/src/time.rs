//! Moments as certificates write them: whole seconds, UTC, up to the end of the year 9999.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::Refusal;
use crate::emit::{Element, Emitter, Malformed, tag};

/// A moment in a certificate (RFC 5280, 4.1.2.5): Unix seconds between the years 0 and 9999.
///
/// A type of its own because "no well-defined end", 9999-12-31T23:59:59Z (4.1.2.5), lies beyond
/// the last [`Timestamp`], and many roots carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// 0000-01-01T00:00:00Z
    const MIN: i64 = -62_167_219_200;
    /// 9999-12-31T23:59:59Z
    const MAX: i64 = 253_402_300_799;

    /// From Unix seconds, moved into the range that can be written.
    pub fn from_second(second: i64) -> Self {
        Self(second.clamp(Self::MIN, Self::MAX))
    }

    /// Unix seconds.
    pub fn as_second(self) -> i64 {
        self.0
    }

    /// The last moment certificates can name.
    pub fn end_of_time() -> Self {
        Self(Self::MAX)
    }

    /// As a timestamp; the last 26 hours of the year 9999 become the last timestamp there is.
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp::from_second(self.0).unwrap_or(Timestamp::MAX)
    }

    /// Later by this much, whole seconds, at most the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_second(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Earlier by this much, whole seconds.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_second(self.0.saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Parses RFC 3339; a fraction of a second is dropped.
    ///
    /// # Errors
    /// [`Refusal::NotATime`] with the sentence clients know.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Rfc3339 { text, rest: text }.parse()
    }

    /// Year, month, day, hour, minute, second.
    fn civil(self) -> [i64; 6] {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        [year, month, day, second / 3600, second / 60 % 60, second % 60]
    }

    fn from_civil([year, month, day, hour, minute, second]: [i64; 6]) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last_day = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let in_range = (1..=last_day).contains(&day) && hour < 24 && minute < 60 && second < 60;
        in_range
            .then(|| Self(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second))
    }

    /// Reads UTCTime or GeneralizedTime, in Zulu with seconds (RFC 5280, 4.1.2.5).
    pub(crate) fn read(element: Element<'_>) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("a time that is not one");
        let (digits, short_year) = match element.tag {
            tag::UTC_TIME => (12, true),
            tag::GENERALIZED_TIME => (14, false),
            _ => return Err(Malformed("a validity without times")),
        };
        let Some((b'Z', text)) = element.content.split_last() else { return Err(BAD) };
        if text.len() != digits || !text.iter().all(u8::is_ascii_digit) {
            return Err(BAD);
        }
        let mut pairs = text
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')));
        let mut next = || pairs.next().unwrap_or(0);
        let first = next();
        let year = match short_year {
            // RFC 5280, 4.1.2.5.1
            true if first >= 50 => 1900 + first,
            true => 2000 + first,
            false => first * 100 + next(),
        };
        Self::from_civil([year, next(), next(), next(), next(), next()]).ok_or(BAD)
    }

    /// Writes UTCTime through 2049 and GeneralizedTime from 2050 on, as RFC 5280, 4.1.2.5 demands.
    pub(crate) fn emit(self, out: &mut Emitter) {
        let civil = self.civil();
        let [year, ..] = civil;
        let text = digits(civil);
        if (1950..2050).contains(&year) {
            out.element(tag::UTC_TIME, text.get(2..).unwrap_or(&[]));
        } else {
            out.element(tag::GENERALIZED_TIME, &text);
        }
    }

    /// Writes GeneralizedTime whatever the year, as OCSP has it (RFC 6960, 4.2.1).
    pub(crate) fn emit_generalized(self, out: &mut Emitter) {
        out.element(tag::GENERALIZED_TIME, &digits(self.civil()));
    }
}

/// `YYYYMMDDHHMMSSZ`
fn digits([year, month, day, hour, minute, second]: [i64; 6]) -> [u8; 15] {
    let mut text = [b'Z'; 15];
    let pairs = [year / 100, year % 100, month, day, hour, minute, second];
    for (pair, value) in text.chunks_exact_mut(2).zip(pairs) {
        if let [tens, ones] = pair {
            *tens = digit(value / 10);
            *ones = digit(value % 10);
        }
    }
    text
}

fn digit(value: i64) -> u8 {
    b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0)
}

impl From<Timestamp> for Time {
    /// The whole second that the moment lies in.
    fn from(timestamp: Timestamp) -> Self {
        Self::from_second(timestamp.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: years are counted from March, so
/// that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// A parser that stops where the peer's would, to say the same sentence.
struct Rfc3339<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Rfc3339<'_> {
    fn parse(mut self) -> Result<Time, Refusal> {
        let year = self.number(4, "2006")?;
        self.literal("-")?;
        let month = self.number(2, "01")?;
        self.literal("-")?;
        let day = self.number(2, "02")?;
        self.literal("T")?;
        let hour = self.number(2, "15")?;
        self.literal(":")?;
        let minute = self.number(2, "04")?;
        self.literal(":")?;
        let second = self.number(2, "05")?;
        if let Some(fraction) = self.rest.strip_prefix('.') {
            self.rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(self.failed(&format!(": extra text: {:?}", self.rest)));
        }
        let local = Time::from_civil([year, month, day, hour, minute, second]).ok_or_else(|| {
            let part = match () {
                () if !(1..=12).contains(&month) => "month",
                () if hour >= 24 => "hour",
                () if minute >= 60 => "minute",
                () if second >= 60 => "second",
                () => "day",
            };
            self.failed(&format!(": {part} out of range"))
        })?;
        Ok(Time::from_second(local.as_second() - offset))
    }

    fn offset(&mut self) -> Result<i64, Refusal> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.expected("Z07:00")),
        };
        self.rest = self.rest.get(1..).unwrap_or("");
        let hours = self.number(2, "Z07:00")?;
        self.literal(":")?;
        let minutes = self.number(2, "Z07:00")?;
        Ok(sign * (hours * 3600 + minutes * 60))
    }

    fn number(&mut self, digits: usize, layout: &str) -> Result<i64, Refusal> {
        let (number, rest) = self.rest.split_at_checked(digits).ok_or_else(|| self.expected(layout))?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.expected(layout));
        }
        self.rest = rest;
        Ok(number.bytes().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')))
    }

    fn literal(&mut self, literal: &str) -> Result<(), Refusal> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.expected(literal))?;
        Ok(())
    }

    fn expected(&self, layout: &str) -> Refusal {
        self.failed(&format!(" as \"2006-01-02T15:04:05Z07:00\": cannot parse {:?} as {layout:?}", self.rest))
    }

    fn failed(&self, reason: &str) -> Refusal {
        Refusal::NotATime { value: self.text.to_owned(), reason: reason.to_owned() }
    }
}

/// A duration as Go prints it: `1h0m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}h{minutes}m{seconds}s")
    } else if minutes > 0 {
        format!("{minutes}m{seconds}s")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Reader;

    #[test]
    fn every_moment_reads_back_from_der_and_text() {
        for second in [
            Time::MIN,
            -1,
            0,
            951_782_399,
            951_782_400,
            1_795_491_949,
            2_524_607_999,
            2_524_608_000,
            Time::MAX,
        ] {
            let time = Time::from_second(second);
            let mut out = Emitter::new(0);
            time.emit(&mut out);
            let der = out.finish();
            assert_eq!(Time::read(Reader::new(&der).next().unwrap()), Ok(time), "{time}");
            assert_eq!(Time::parse(&time.to_string()), Ok(time));
        }
        assert_eq!(Time::from_second(Time::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Time::from_second(Time::MIN).to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Time::from_second(951_782_400).to_string(), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn utc_time_ends_with_2049() {
        let mut out = Emitter::new(0);
        Time::parse("2049-12-31T23:59:59Z").unwrap().emit(&mut out);
        assert_eq!(out.finish(), b"\x17\x0d491231235959Z");
        let mut out = Emitter::new(0);
        Time::parse("2050-01-01T00:00:00Z").unwrap().emit(&mut out);
        assert_eq!(out.finish(), b"\x18\x0f20500101000000Z");
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        let time = Time::parse("2027-01-01T00:00:00.5+02:00").unwrap();
        assert_eq!(time.to_string(), "2026-12-31T22:00:00Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused_in_the_peers_words() {
        for (text, sentence) in [
            (
                "bogus",
                r#"parsing time "bogus" as "2006-01-02T15:04:05Z07:00": cannot parse "bogus" as "2006""#,
            ),
            ("2027", r#"parsing time "2027" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "-""#),
            (
                "2027-01-01 00:00:00Z",
                r#"parsing time "2027-01-01 00:00:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 00:00:00Z" as "T""#,
            ),
            ("2027-02-29T00:00:00Z", r#"parsing time "2027-02-29T00:00:00Z": day out of range"#),
            ("2027-13-01T00:00:00Z", r#"parsing time "2027-13-01T00:00:00Z": month out of range"#),
            ("2027-01-01T24:00:00Z", r#"parsing time "2027-01-01T24:00:00Z": hour out of range"#),
            ("2027-01-01T00:60:00Z", r#"parsing time "2027-01-01T00:60:00Z": minute out of range"#),
            ("2027-01-01T00:00:60Z", r#"parsing time "2027-01-01T00:00:60Z": second out of range"#),
            ("2027-01-01T00:00:00Zx", r#"parsing time "2027-01-01T00:00:00Zx": extra text: "x""#),
        ] {
            assert_eq!(Time::parse(text).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (2_764_800, "768h0m0s")]
        {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}
