//! Settings from a file and from the environment.
//!
//! There is one list of settings, the flags of `serve`: a key of the file is a flag's name, a
//! variable is `LENDFILE_` and the name in capitals. Values of the file become the flags'
//! *defaults*, so that clap checks them as it checks the command line's and decides who wins.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::Args;
use crate::failure::Failure;

/// The subcommand that has settings.
const SERVE: &str = "serve";

/// Flags that are about the file and cannot be in it.
const NOT_SETTINGS: [&str; 3] = ["config", "print_config", "help"];

/// The command line, with a variable for every flag of `serve`.
pub(crate) fn command() -> Command {
    Args::command().mut_subcommand(SERVE, |serve| {
        serve.mut_args(|arg| match arg.get_id().as_str() {
            "print_config" | "help" => arg,
            id => {
                let variable = format!("LENDFILE_{}", id.to_uppercase());
                arg.env(variable).hide_env(true)
            }
        })
    })
}

/// What the command line, the environment and the file say together.
pub(crate) fn matches(args: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, Failure> {
    let args: Vec<_> = args.into_iter().collect();
    let mut command = command();
    if let Some(path) = file(&command, &args) {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::new(format_args!("cannot read {}: {error}", path.display()))
        })?;
        command = with_file(command, &path, &text)?;
    }
    match command.clone().try_get_matches_from(&args) {
        Ok(matches) => Ok(matches),
        Err(error) => match blamed(&error, command, &args) {
            Some(variable) => {
                let reason = reason(&error);
                Err(Failure::usage(format_args!("{variable}: {reason}")))
            }
            // Prints help, version and errors, and ends the process.
            None => error.exit(),
        },
    }
}

/// The variable that holds what is wrong. clap names the flag, whoever gave it its value.
fn blamed(error: &clap::Error, mut command: Command, args: &[OsString]) -> Option<String> {
    let mentioned: Vec<&str> = [ContextKind::InvalidArg, ContextKind::PriorArg]
        .into_iter()
        .filter_map(|kind| match error.get(kind)? {
            ContextValue::String(flag) => Some(flag.as_str()),
            _ => None,
        })
        .collect();
    if args.get(1).is_none_or(|word| word != SERVE) {
        return None;
    }
    // Until then its flags cannot be written as the error writes them.
    command.build();
    let serve = command.find_subcommand(SERVE)?;
    let is_given = |arg: &clap::Arg| {
        arg.get_long().is_some_and(|long| {
            let flag = format!("--{long}");
            args.iter().any(|word| {
                let word = word.to_string_lossy();
                word == flag || word.starts_with(&(flag.clone() + "="))
            })
        })
    };
    serve
        .get_arguments()
        .filter(|arg| mentioned.contains(&&*arg.to_string()) && !is_given(arg))
        .filter_map(clap::Arg::get_env)
        .find(|name| std::env::var_os(name).is_some())
        .map(|name| name.to_string_lossy().into_owned())
}

/// The file that is named, whatever else is wrong with the command line.
fn file(command: &Command, args: &[OsString]) -> Option<std::path::PathBuf> {
    let matches = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(args)
        .ok()?;
    let serve = matches.subcommand_matches(SERVE)?;
    serve
        .try_get_one::<std::path::PathBuf>("config")
        .ok()?
        .cloned()
}

/// `command`, whose defaults are what the file says.
fn with_file(command: Command, path: &Path, text: &str) -> Result<Command, Failure> {
    let place = |at: usize, message: &str| {
        let (line, column) = line_and_column(text, at);
        let path = path.display();
        Failure::usage(format_args!("{path}:{line}:{column}: {message}"))
    };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        place(at, error.message().trim_end())
    })?;
    let mut command = command;
    for (key, value) in table.get_ref() {
        let serve = command.find_subcommand(SERVE).expect("it is there");
        let id =
            setting(serve, key.get_ref()).map_err(|message| place(key.span().start, &message))?;
        let mut texts = Vec::new();
        for value in items(value) {
            let text = scalar(value.get_ref())
                .ok_or_else(|| place(value.span().start, "expected a string, number or boolean"))?;
            check(serve, &id, &text).map_err(|message| place(value.span().start, &message))?;
            texts.push(OsStr::from(text));
        }
        command = command.mut_subcommand(SERVE, |serve| {
            serve.mut_arg(&id, |arg| match texts.is_empty() {
                true => arg.default_value(Resettable::Reset),
                false => arg.required(false).default_values(texts),
            })
        });
    }
    Ok(command)
}

/// The flag behind a key.
fn setting(serve: &Command, key: &str) -> Result<String, String> {
    let names = || {
        let settings = serve
            .get_arguments()
            .filter(|arg| !NOT_SETTINGS.contains(&arg.get_id().as_str()));
        settings.map(|arg| (arg.get_id().as_str(), name(arg)))
    };
    if let Some((id, _)) = names().find(|(_, name)| name == key) {
        return Ok(id.to_owned());
    }
    let alike = names()
        .map(|(_, name)| (strsim::jaro_winkler(&name, key), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(match alike {
        Some((_, name)) => format!("no setting is named {key:?}; did you mean {name:?}?"),
        None => format!("no setting is named {key:?}; they are those of `lendfile serve --help`"),
    })
}

/// A flag's name in the file.
fn name(arg: &clap::Arg) -> String {
    arg.get_long()
        .map_or_else(|| arg.get_id().as_str().to_owned(), str::to_owned)
}

fn items<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Vec<&'a Spanned<DeValue<'i>>> {
    match value.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether the flag would take the value, by giving it to the flag alone.
fn check(serve: &Command, id: &str, text: &str) -> Result<(), String> {
    let arg = serve
        .get_arguments()
        .find(|arg| arg.get_id() == id)
        .expect("the flag was found before")
        .clone();
    let given = match arg.get_long() {
        Some(long) => format!("--{long}={text}"),
        None => text.to_owned(),
    };
    match Command::new(SERVE)
        .no_binary_name(true)
        .arg(arg)
        .try_get_matches_from([given])
    {
        Ok(_) => Ok(()),
        Err(error) => Err(reason(&error)),
    }
}

/// clap's message without its decoration.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line).to_owned();
    let possible = text
        .lines()
        .find(|line| error.kind() == ErrorKind::InvalidValue && line.contains("possible values"));
    line + possible.map(str::trim_end).unwrap_or_default()
}

/// Both from 1 on; the column counts characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// All settings as a file, each with where it comes from. Those without a value are comments.
pub(crate) fn print(matches: &ArgMatches) -> String {
    let command = command();
    let serve = command.find_subcommand(SERVE).expect("it is there");
    let mut out = String::new();
    for arg in serve.get_arguments() {
        let id = arg.get_id().as_str();
        if NOT_SETTINGS.contains(&id) || arg.is_hide_set() {
            continue;
        }
        let values = matches
            .get_raw(id)
            .map(|values| {
                values
                    .map(|value| literal(&value.to_string_lossy()))
                    .collect::<Vec<_>>()
            })
            .unwrap_or_default();
        let default: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| literal(&value.to_string_lossy()))
            .collect();
        // As a file can say of a list: `index = []`.
        let is_emptied = values.is_empty() && !default.is_empty();
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "command line",
            Some(ValueSource::EnvVariable) => "environment",
            // The file's values are defaults to clap.
            Some(_) if default == values => "default",
            Some(_) => "file",
            None if is_emptied => "file",
            None => "not set",
        };
        let name = name(arg);
        let line = match (&*values, arg.get_action()) {
            ([], _) if is_emptied => format!("{name} = []"),
            ([], _) => format!("# {name} ="),
            (values, ArgAction::Append) => format!("{name} = [{}]", values.join(", ")),
            (values, _) => format!("{name} = {}", values.join(", ")),
        };
        out += &format!("{line:<44} # {source}\n");
    }
    out
}

fn literal(text: &str) -> String {
    if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() {
        return text.to_owned();
    }
    // TOML's basic strings escape as JSON's do.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
