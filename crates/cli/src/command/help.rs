//! Help, in the shape of Vault's.

use super::{Command, Group};
use crate::flags::{Flag, Kind};

/// The commands that stand on top of the list.
const COMMON: [&str; 9] = ["read", "write", "delete", "list", "login", "server", "status", "unwrap", "demo"];

/// The help of a command: usage, paragraphs, flags.
pub fn command_help(command: &Command, program: &str) -> String {
    let mut text = format!("Usage: {program} {}", command.name);
    if !command.usage.is_empty() {
        text.push_str(&format!(" {}", command.usage));
    }
    text.push_str(&paragraphs(command.help, program));
    for (title, flags) in command.flags {
        text.push_str(&format!("\n\n{title}:"));
        let mut flags: Vec<&Flag> = flags.iter().collect();
        flags.sort_by_key(|flag| flag.name);
        for flag in flags {
            text.push_str(&format!("\n\n  {}\n{}", usage(flag), describe(flag)));
        }
    }
    text
}

/// The help of a group: usage, paragraphs, its commands.
pub fn group_help<'a>(group: &Group, commands: impl Iterator<Item = &'a Command>, program: &str) -> String {
    let prefix = format!("{} ", group.name);
    let mut rows: Vec<(&str, &str)> = commands
        .filter_map(|command| Some((command.name.strip_prefix(&prefix)?, command.synopsis)))
        .collect();
    rows.sort_unstable();
    format!(
        "Usage: {program} {} <subcommand> [options] [args]{}\n\nSubcommands:\n{}",
        group.name,
        paragraphs(group.help, program),
        listing(&rows)
    )
}

/// The list of all commands.
pub fn overview<'a>(all: impl Iterator<Item = (&'a str, &'a str)>, program: &str) -> String {
    let (mut common, mut other): (Vec<_>, Vec<_>) = all.partition(|(name, _)| COMMON.contains(name));
    common.sort_by_key(|(name, _)| COMMON.iter().position(|common| common == name));
    other.sort_unstable();
    format!(
        "Usage: {program} <command> [args]\n\nCommon commands:\n{}\n\nOther commands:\n{}",
        listing(&common),
        listing(&other)
    )
}

fn listing(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter()
        .map(|(name, synopsis)| format!("    {name:width$}    {synopsis}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Paragraphs, each line indented by two; examples, which start with `$`, by six.
fn paragraphs(help: &str, program: &str) -> String {
    let mut text = String::from("\n");
    for paragraph in help.trim().split("\n\n") {
        let paragraph = paragraph.replace("{p}", program);
        if paragraph.trim_start().starts_with(['$', '|']) {
            for line in paragraph.lines() {
                let line = line.trim().trim_start_matches('|');
                text.push_str(&format!("\n      {line}"));
            }
        } else {
            text.push_str(&fill(&paragraph, 2));
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Words in lines of at most 80, indented.
fn fill(text: &str, indent: usize) -> String {
    let padding = " ".repeat(indent);
    let mut filled = String::new();
    let mut column = usize::MAX;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == usize::MAX || column + 1 + length > 80 {
            filled.push_str(&format!("\n{padding}{word}"));
            column = indent + length;
        } else {
            filled.push_str(&format!(" {word}"));
            column += 1 + length;
        }
    }
    filled
}

fn usage(flag: &Flag) -> String {
    let kind = match flag.kind {
        Kind::Bool => return format!("-{}", flag.name),
        Kind::Text | Kind::Texts => "string",
        Kind::Pairs => "key=value",
        Kind::Int => "int",
        Kind::Uint => "uint",
        Kind::Duration => "duration",
    };
    format!("-{}=<{kind}>", flag.name)
}

fn describe(flag: &Flag) -> String {
    let mut help = flag.help.to_owned();
    if let Some(alias) = flag.aliases.first() {
        help.push_str(&format!(" Short: \"-{alias}\"."));
    }
    if !flag.default.is_empty() {
        help.push_str(&format!(" The default is {}.", flag.default));
    }
    if !flag.env.is_empty() {
        help.push_str(&format!(" Environment: VAULT_{0} or BAO_{0}.", flag.env));
    }
    fill(&help, 6).trim_start_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_described_with_default_alias_and_variable() {
        let flag = Flag::new("limit", Kind::Int, "At most so many.").alias(&["l"]).default("-1").env("LIMIT");
        assert_eq!(usage(&flag), "-limit=<int>");
        assert_eq!(
            describe(&flag),
            "      At most so many. Short: \"-l\". The default is -1. Environment: VAULT_LIMIT\n      or BAO_LIMIT."
        );
    }
}
