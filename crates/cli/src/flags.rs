//! Flags as Go's flag package reads them.
//!
//! One dash or two, `-name=value` or `-name value`, no bundles of letters, and nothing after the first
//! positional is a flag. Vault's users have this in their fingers and in their scripts. Each command
//! lists its flags in a table; parsing, the environment's defaults and the help text all come from it.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_client::parse_duration;

/// One flag of a command.
#[derive(Debug)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Other names, not shown in the help's list.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub kind: Kind,
    /// The variable that stands in for it, without `BAO_` or `VAULT_`; or empty.
    pub env: &'static str,
    /// Its value when nothing is said; or empty.
    pub default: &'static str,
    /// One or two sentences.
    pub help: &'static str,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or `=true` or `=false`.
    Bool,
    /// A text.
    Text,
    /// A text; the flag may be repeated.
    Texts,
    /// `key=value`; the flag may be repeated.
    Pairs,
    /// A whole number.
    Int,
    /// A whole number from zero.
    Uint,
    /// A length of time.
    Duration,
}

impl Flag {
    /// A flag that takes `kind`, described by `help`.
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, aliases: &[], kind, env: "", default: "", help }
    }

    /// With other names.
    #[must_use]
    pub const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With a variable that stands in for it.
    #[must_use]
    pub const fn env(mut self, name: &'static str) -> Self {
        self.env = name;
        self
    }

    /// With a value for when nothing is said.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// The flags that were given, checked against their kinds.
#[derive(Debug, Default)]
pub struct Flags {
    given: BTreeMap<&'static str, Vec<String>>,
    defaults: BTreeMap<&'static str, String>,
}

/// The outcome of reading a command line.
#[derive(Debug)]
pub enum Parsed {
    /// Flags, and the positionals after them.
    Command(Flags, Vec<String>),
    /// `-h` or `-help`.
    Help,
}

/// Reads `args` by the table of flags. `lookup` knows the environment's stand-ins.
///
/// # Errors
/// One sentence, as Go says it.
pub fn parse<'a>(
    table: impl Iterator<Item = &'static Flag> + Clone,
    args: &'a [String],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Parsed, String> {
    let mut flags = Flags::default();
    for flag in table.clone() {
        let value = Some(flag.env).filter(|env| !env.is_empty()).and_then(&lookup);
        let value = value.or_else(|| Some(flag.default.to_owned()).filter(|value| !value.is_empty()));
        if let Some(value) = value {
            check(flag, &value).map_err(|reason| invalid(flag, flag.name, &value, &reason))?;
            flags.defaults.insert(flag.name, value);
        }
    }
    let mut rest = args.iter();
    let mut remaining: &'a [String] = args;
    while let Some(arg) = rest.next() {
        if !arg.starts_with('-') || arg == "-" {
            break;
        }
        remaining = rest.as_slice();
        if arg == "--" {
            break;
        }
        let body = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or(arg);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = table.clone().find(|flag| flag.answers_to(name)) else {
            if matches!(name, "h" | "help") {
                return Ok(Parsed::Help);
            }
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match (flag.kind, value) {
            (Kind::Bool, None) => "true".to_owned(),
            (_, Some(value)) => value.to_owned(),
            (_, None) => {
                let next = rest.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?;
                remaining = rest.as_slice();
                next.clone()
            }
        };
        check(flag, &value).map_err(|reason| invalid(flag, name, &value, &reason))?;
        let values = flags.given.entry(flag.name).or_default();
        if !matches!(flag.kind, Kind::Texts | Kind::Pairs) {
            values.clear();
        }
        values.push(value);
    }
    Ok(Parsed::Command(flags, remaining.to_vec()))
}

fn invalid(flag: &Flag, name: &str, value: &str, reason: &str) -> String {
    match flag.kind {
        Kind::Bool => format!("invalid boolean value {value:?} for -{name}: {reason}"),
        _ => format!("invalid value {value:?} for flag -{name}: {reason}"),
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), String> {
    let number = |parser: &str| format!("strconv.{parser}: parsing {value:?}: invalid syntax");
    match flag.kind {
        Kind::Bool => boolean(value).map(drop).ok_or_else(|| number("ParseBool")),
        Kind::Text | Kind::Texts => Ok(()),
        Kind::Pairs if value.contains('=') => Ok(()),
        Kind::Pairs => Err(format!("missing = in KV pair: {value:?}")),
        Kind::Int => value.parse::<i64>().map(drop).map_err(|_| number("ParseInt")),
        Kind::Uint => value.parse::<u64>().map(drop).map_err(|_| number("ParseUint")),
        // "system" is a mount's word for "the server's default".
        Kind::Duration if value == "system" || value == "-1" => Ok(()),
        Kind::Duration => parse_duration(value).map(drop).map_err(|error| error.to_string()),
    }
}

/// A boolean as Go reads it.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Flags that are understood after the positionals too, as Vault understands them.
const ANYWHERE: [&str; 4] = ["format", "detailed", "output-curl-string", "output-policy"];

impl Flags {
    /// Takes the flags that may stand anywhere out of the positionals, up to a `--`: a few, or with `all` each of them, as
    /// kubectl's users have it in their fingers.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn take_late(
        &mut self,
        positionals: &mut Vec<String>,
        table: impl Iterator<Item = &'static Flag> + Clone,
        all: bool,
    ) -> Result<(), String> {
        let mut kept = Vec::new();
        let mut rest = std::mem::take(positionals).into_iter();
        while let Some(arg) = rest.next() {
            let body = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or_default();
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let may_be_late = |flag: &Flag| all || ANYWHERE.contains(&flag.name);
            let flag = table.clone().find(|flag| may_be_late(flag) && flag.answers_to(name));
            let Some(flag) = flag else {
                if all && !name.is_empty() {
                    return Err(format!("flag provided but not defined: -{name}"));
                }
                let last = arg == "--";
                kept.push(arg);
                if last {
                    kept.extend(rest.by_ref());
                }
                continue;
            };
            let value = match (flag.kind, value) {
                (_, Some(value)) => value,
                (Kind::Bool, None) => "true".to_owned(),
                (_, None) => rest.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
            };
            check(flag, &value).map_err(|reason| invalid(flag, flag.name, &value, &reason))?;
            self.given.insert(flag.name, vec![value]);
        }
        *positionals = kept;
        Ok(())
    }

    /// Whether the flag stands on the command line.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The flag's value: from the command line, the environment, or its default.
    pub fn text(&self, name: &str) -> Option<&str> {
        let given = self.given.get(name).and_then(|values| values.last());
        given.or_else(|| self.defaults.get(name)).map(String::as_str)
    }

    /// The flag's value, unless it is empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// Whether a boolean flag is set.
    pub fn on(&self, name: &str) -> bool {
        self.text(name).and_then(boolean).unwrap_or_default()
    }

    /// All values of a flag that may be repeated, each of which may hold several with commas between; without the empty ones.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.texts(name).iter().flat_map(|value| value.split(',')).map(str::trim);
        values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }

    /// All values of a flag that may be repeated.
    pub fn texts(&self, name: &str) -> &[String] {
        self.given.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// All `key=value` pairs of a flag; a repeated key keeps its last value.
    pub fn pairs(&self, name: &str) -> BTreeMap<String, String> {
        let pairs = self.texts(name).iter().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
    }

    /// The flag's number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// The flag's length of time.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        parse_duration(self.text(name)?).ok()
    }
}

/// The warning for flags that come after a positional, where Go does not look for them.
pub fn misplaced(positionals: &[String]) -> Option<String> {
    let late: Vec<&str> =
        positionals.iter().map(String::as_str).filter(|arg| arg.starts_with('-') && *arg != "-").collect();
    (!late.is_empty()).then(|| {
        format!(
            "Command flags must be provided before positional arguments. The following arguments will not \
             be parsed as flags: [{}]",
            late.join(",")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [Flag; 6] = [
        Flag::new("path", Kind::Text, ""),
        Flag::new("force", Kind::Bool, "").alias(&["f"]),
        Flag::new("policy", Kind::Texts, ""),
        Flag::new("ttl", Kind::Duration, ""),
        Flag::new("options", Kind::Pairs, ""),
        Flag::new("limit", Kind::Int, "").default("-1"),
    ];

    fn read(args: &[&str]) -> Result<(Flags, Vec<String>), String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        match parse(TABLE.iter(), &args, |_| None)? {
            Parsed::Command(flags, rest) => Ok((flags, rest)),
            Parsed::Help => Err("help".to_owned()),
        }
    }

    #[test]
    fn one_dash_or_two_with_or_without_equals_sign() {
        for args in [["-path", "x"], ["--path", "x"], ["-path=x", "y"], ["--path=x", "y"]] {
            let (flags, _) = read(&args).expect("parses");
            assert_eq!(flags.text("path"), Some("x"), "{args:?}");
        }
    }

    #[test]
    fn flags_end_at_the_first_positional_or_at_two_dashes() {
        let (flags, rest) = read(&["-f", "a", "-path=x"]).expect("parses");
        assert!(flags.on("force") && !flags.given("path"));
        assert_eq!(rest, ["a", "-path=x"]);
        let (_, rest) = read(&["--", "-path=x"]).expect("parses");
        assert_eq!(rest, ["-path=x"]);
        let (_, rest) = read(&["-f", "-"]).expect("parses");
        assert_eq!(rest, ["-"]);
        let (_, rest) = read(&["-f"]).expect("parses");
        assert!(rest.is_empty());
    }

    #[test]
    fn repeated_flags_collect_and_others_keep_the_last() {
        let (flags, _) = read(&["-policy=a", "-policy", "b", "-path=x", "-path=y"]).expect("parses");
        assert_eq!(flags.texts("policy"), ["a", "b"]);
        assert_eq!(flags.text("path"), Some("y"));
        let (flags, _) = read(&["-options=a=b=c"]).expect("parses");
        assert_eq!(flags.pairs("options")["a"], "b=c");
    }

    #[test]
    fn a_few_flags_are_understood_after_the_positionals() {
        static FORMAT: [Flag; 2] =
            [Flag::new("format", Kind::Text, ""), Flag::new("detailed", Kind::Bool, "")];
        let mut flags = Flags::default();
        let args = ["a", "-format=json", "k=v", "--detailed", "-x=1", "--", "-format=yaml"];
        let mut args = args.map(str::to_owned).to_vec();
        flags.take_late(&mut args, FORMAT.iter(), false).expect("parses");
        assert_eq!((flags.text("format"), flags.on("detailed")), (Some("json"), true));
        assert_eq!(args, ["a", "k=v", "-x=1", "--", "-format=yaml"]);
    }

    #[test]
    fn where_all_flags_may_be_late_an_unknown_one_is_no_argument() {
        const TABLE: &[Flag] =
            &[Flag::new("namespace", Kind::Text, "").alias(&["n"]), Flag::new("all", Kind::Bool, "")];
        let late = |typed: &[&str]| {
            let mut flags = Flags::default();
            let mut args: Vec<String> = typed.iter().map(|&arg| arg.to_owned()).collect();
            flags.take_late(&mut args, TABLE.iter(), true).map(|()| (flags, args))
        };
        let (flags, args) = late(&["a", "-n", "x", "b", "--all", "--", "-c"]).expect("parses");
        assert_eq!(args, ["a", "b", "--", "-c"]);
        assert_eq!((flags.text("namespace"), flags.on("all")), (Some("x"), true));
        assert_eq!(late(&["a", "-q"]).err().as_deref(), Some("flag provided but not defined: -q"));
        assert_eq!(late(&["a", "-n"]).err().as_deref(), Some("flag needs an argument: -n"));
    }

    #[test]
    fn mistakes_are_named_as_go_names_them() {
        for (args, sentence) in [
            (&["-bogus"][..], "flag provided but not defined: -bogus"),
            (&["-path"], "flag needs an argument: -path"),
            (&["---path=x"], "bad flag syntax: ---path=x"),
            (&["-=x"], "bad flag syntax: -=x"),
            (
                &["-f=maybe"],
                "invalid boolean value \"maybe\" for -f: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                &["-limit=x"],
                "invalid value \"x\" for flag -limit: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (&["-ttl=zzz"], "invalid value \"zzz\" for flag -ttl: time: invalid duration \"zzz\""),
            (&["-options=x"], "invalid value \"x\" for flag -options: missing = in KV pair: \"x\""),
            (&["-h"], "help"),
        ] {
            assert_eq!(read(args).expect_err("refused"), sentence);
        }
    }

    #[test]
    fn defaults_stand_until_something_is_said() {
        assert_eq!(read(&[]).expect("parses").0.int("limit"), Some(-1));
        assert_eq!(read(&["-limit=3"]).expect("parses").0.int("limit"), Some(3));
    }
}
