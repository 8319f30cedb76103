//! What a check may be told: defaults, and the configuration file over them.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_client::{Value, parse_duration};

use super::checks::Check;
use crate::flags::boolean;
use crate::output::Doc;

/// A parameter of a check, with its default.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parameter {
    /// A length of time.
    Duration(&'static str),
    /// A percentage from 1 to 99.
    Percent(&'static str),
    /// A number from 1 up to the second one.
    Count(i64, i64),
    /// A list of names, empty if nothing is said.
    Names,
}

/// The settings of one check.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) enabled: bool,
    durations: BTreeMap<&'static str, Duration>,
    numbers: BTreeMap<&'static str, i64>,
    names: BTreeMap<&'static str, Vec<String>>,
}

/// What `-list` prints of a check.
pub(super) fn defaults(check: &Check) -> Doc {
    let mut fields: Vec<(String, Doc)> = Vec::new();
    if !check.enabled {
        fields.push(("enabled".to_owned(), Doc::from(false)));
    }
    for (name, parameter) in check.parameters {
        let doc = match parameter {
            Parameter::Duration(text) | Parameter::Percent(text) => Doc::from(*text),
            Parameter::Count(count, _) => Doc::from(*count),
            Parameter::Names => Doc::Array(Vec::new()),
        };
        fields.push(((*name).to_owned(), doc));
    }
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Doc::Object(fields)
}

impl Settings {
    /// The defaults of a check, and what the file says of it.
    ///
    /// # Errors
    /// A sentence that names the parameter.
    pub(super) fn merge(check: &Check, given: Option<&Value>, default_enabled: bool) -> Result<Self, String> {
        let name = check.name;
        let nothing = BTreeMap::new();
        let given = match given {
            None => &nothing,
            Some(given) => {
                given.as_object().ok_or_else(|| format!("the configuration of {name} must be an object"))?
            }
        };
        let known =
            |given: &str| given == "enabled" || check.parameters.iter().any(|(name, _)| *name == given);
        if let Some(unknown) = given.keys().find(|given| !known(given)) {
            return Err(format!("unknown configuration option for {name}: {unknown}"));
        }
        let mut settings = Self { enabled: check.enabled && default_enabled, ..Self::default() };
        for (parameter, kind) in check.parameters {
            settings
                .set(name, parameter, *kind, given.get(*parameter))
                .map_err(|reason| format!("error saving merged config for {name}: {reason}"))?;
        }
        if let Some(enabled) = given.get("enabled") {
            settings.enabled = flag(enabled).map_err(|reason| {
                format!("error saving merged config for {name}: error parsing {name}.enabled: {reason}")
            })?;
        }
        Ok(settings)
    }

    fn set(
        &mut self,
        check: &str,
        name: &'static str,
        kind: Parameter,
        given: Option<&Value>,
    ) -> Result<(), String> {
        let whole = format!("{check}.{name}");
        let shown = given.map(shown).unwrap_or_default();
        match kind {
            Parameter::Duration(default) => {
                let value = duration(given.unwrap_or(&Value::from(default))).map_err(|reason| {
                    // One check speaks of its parameters in another way.
                    let (whole, open, close) = if check == "ca_validity_period" {
                        (name, "(", ")")
                    } else {
                        (whole.as_str(), "", "")
                    };
                    format!("failed to parse parameter {open}{whole}={shown}{close}: {reason}")
                })?;
                self.durations.insert(name, value);
            }
            Parameter::Percent(default) => {
                let value = number(given.unwrap_or(&Value::from(default)), 99);
                let value = value.map_err(|reason| format!("error parsing {whole}={shown}: {reason}"))?;
                self.numbers.insert(name, value);
            }
            Parameter::Count(default, most) => {
                let value = given.map_or(Ok(default), |given| number(given, most));
                let value = value.map_err(|reason| format!("error parsing {whole}: {reason}"))?;
                self.numbers.insert(name, value);
            }
            Parameter::Names => {
                let value = given.map_or(Ok(Vec::new()), names);
                let value = value.map_err(|reason| format!("error parsing {whole}: {reason}"))?;
                self.names.insert(name, value);
            }
        }
        Ok(())
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        self.durations.get(name).copied().unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> i64 {
        self.numbers.get(name).copied().unwrap_or_default()
    }

    /// Whether a list holds that name.
    pub(super) fn holds(&self, list: &str, name: &str) -> bool {
        self.names.get(list).is_some_and(|names| names.iter().any(|known| known == name))
    }
}

fn shown(value: &Value) -> String {
    crate::output::plain(&Doc::from(value))
}

/// A boolean, or what stands for one.
pub(super) fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(*value),
        Value::Number(number) => Ok(number.parse::<f64>().is_ok_and(|number| number != 0.0)),
        Value::String(text) => boolean(text).ok_or_else(|| {
            format!("cannot parse '' as bool: strconv.ParseBool: parsing {text:?}: invalid syntax")
        }),
        _ => Err("expected a boolean".to_owned()),
    }
}

/// A length of time, as a number of seconds or in words.
pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Null => Ok(Duration::ZERO),
        Value::String(text) | Value::Number(text) => parse_duration(text).map_err(|error| error.to_string()),
        _ => Err("could not parse duration from input".to_owned()),
    }
}

fn number(value: &Value, most: i64) -> Result<i64, String> {
    let number = match value {
        Value::String(text) | Value::Number(text) => {
            text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?
        }
        _ => return Err("could not parse value from input".to_owned()),
    };
    match number {
        number if (1..=most).contains(&number) => Ok(number),
        number => Err(format!("error parsing int value; out of range [1 to {most}]: {number}")),
    }
}

/// A list of texts; null is none.
pub(super) fn names(value: &Value) -> Result<Vec<String>, String> {
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err("a list of names is expected".to_owned()),
    };
    let text = |(index, item): (usize, &Value)| {
        item.as_str().map(str::to_owned).ok_or_else(|| format!("the name at index {index} is no text"))
    };
    list.iter().enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::super::checks::CHECKS;
    use super::*;

    fn check(name: &str) -> &'static Check {
        CHECKS.iter().find(|check| check.name == name).expect("a check")
    }

    fn merge(name: &str, json: &str) -> Result<Settings, String> {
        let given = Value::parse(json).expect("JSON");
        Settings::merge(check(name), Some(&given), true)
    }

    #[test]
    fn what_the_file_says_comes_before_the_defaults() {
        let settings = merge("tidy_last_run", r#"{"last_run_warning": "1d"}"#).expect("merges");
        let day = Duration::from_secs(86_400);
        assert_eq!(settings.duration("last_run_warning"), day);
        assert_eq!(settings.duration("last_run_critical"), 7 * day);
        assert!(settings.enabled);
        let settings = merge("too_many_certs", r#"{"count_warning": "7", "enabled": 0}"#).expect("merges");
        assert_eq!((settings.number("count_warning"), settings.number("count_critical")), (7, 250_000));
        assert!(!settings.enabled);
        let settings = merge("audit_visibility", r#"{"ignored_parameters": ["csr"]}"#).expect("merges");
        assert!(settings.holds("ignored_parameters", "csr") && !settings.holds("ignored_parameters", "ttl"));
    }

    #[test]
    fn what_is_off_by_default_is_turned_on_by_name() {
        let merge = |name: &str, given: Option<&Value>, default_enabled: bool| {
            Settings::merge(check(name), given, default_enabled).expect("merges").enabled
        };
        let on = Value::parse(r#"{"enabled":true}"#).expect("JSON");
        assert!(!merge("hardware_backed_root", None, true) && merge("hardware_backed_root", Some(&on), true));
        assert!(!merge("tidy_last_run", None, false) && merge("tidy_last_run", Some(&on), false));
    }

    #[test]
    fn a_parameter_that_cannot_be_read_is_named() {
        let saving = |name: &str| format!("error saving merged config for {name}: ");
        for (name, json, sentence) in [
            (
                "tidy_last_run",
                r#"{"last_run_critical":"x"}"#,
                "failed to parse parameter tidy_last_run.last_run_critical=x: time: invalid duration \"x\"",
            ),
            (
                "ca_validity_period",
                r#"{"root_expiry_critical":"x"}"#,
                "failed to parse parameter (root_expiry_critical=x): time: invalid duration \"x\"",
            ),
            (
                "tidy_last_run",
                r#"{"enabled":"maybe"}"#,
                "error parsing tidy_last_run.enabled: cannot parse '' as bool: strconv.ParseBool: parsing \"maybe\": \
                 invalid syntax",
            ),
            (
                "crl_validity_period",
                r#"{"crl_expiry_pct_critical":100}"#,
                "error parsing crl_validity_period.crl_expiry_pct_critical=100: error parsing int value; out of range \
                 [1 to 99]: 100",
            ),
            (
                "crl_validity_period",
                r#"{"crl_expiry_pct_critical":1.5}"#,
                "error parsing crl_validity_period.crl_expiry_pct_critical=1.5: strconv.ParseInt: parsing \"1.5\": \
                 invalid syntax",
            ),
            (
                "root_issued_leaves",
                r#"{"certs_to_fetch":true}"#,
                "error parsing root_issued_leaves.certs_to_fetch: could not parse value from input",
            ),
        ] {
            assert_eq!(merge(name, json).expect_err("refused"), saving(name) + sentence);
        }
        assert_eq!(
            merge("tidy_last_run", r#"{"foo":1}"#).expect_err("refused"),
            "unknown configuration option for tidy_last_run: foo"
        );
        assert!(merge("tidy_last_run", "7").is_err());
    }
}
