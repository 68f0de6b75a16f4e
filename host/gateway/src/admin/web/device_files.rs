//! The files of the devices, as the pages read and change them.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::context::Context;
use crate::admin::commands::Commands;
use crate::config::Config;
use crate::devices::{DeviceError, table_file};
use crate::replaced_file::is_replaceable;

/// Large files take memory and time, so one request at a time reads them.
static TURN: Semaphore = Semaphore::const_new(1);

/// Runs work that reads or changes the files. It completes even if the browser closes the connection.
///
/// # Errors
/// Returns the error of the work.
pub async fn with_files<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Arc<Commands>) -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    let interrupted = || DeviceError::Argument("it was interrupted; load the page again".into());
    let turn = TURN.acquire().await.map_err(|_| interrupted())?;
    let commands = context.commands.clone();
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&commands);
        drop(turn);
        done
    });
    done.await.unwrap_or_else(|_| Err(interrupted()))
}

/// Returns whether the gateway may change the devices, as far as the folder of their table decides this.
pub fn are_writable(config: &Config) -> bool {
    is_replaceable(&table_file(config))
}

/// Returns a command of `saegis device` for a shell.
pub fn command(config: &Config, words: &[String]) -> String {
    let file = config.file.as_ref().map(|file| file.path.as_path());
    command_with(file, words)
}

fn command_with(file: Option<&Path>, words: &[String]) -> String {
    let mut command = String::from("saegis device");
    let mut add = |word: &str| {
        command.push(' ');
        command.push_str(word);
    };
    // The second word is the name of a device. After the options, it may start with a hyphen.
    let is_name = |at: usize, word: &str| at == 1 && word.starts_with('-');
    let name = words.get(1).filter(|word| is_name(1, word));
    for (at, word) in words.iter().enumerate() {
        if !is_name(at, word) {
            add(&quoted(word));
        }
    }
    if let Some(file) = file {
        let path = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
        add("--config");
        add(&quoted(&path.to_string_lossy()));
    }
    if let Some(name) = name {
        add("--");
        add(&quoted(name));
    }
    command
}

/// Returns a word for a shell.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@:/".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_command_are_quoted() {
        for (word, shown) in [
            ("lamp-2@in.provider.com", "lamp-2@in.provider.com"),
            ("", "''"),
            ("a b;c", "'a b;c'"),
            ("it's $(x)", "'it'\\''s $(x)'"),
            ("~root", "'~root'"),
        ] {
            assert_eq!(quoted(word), shown);
        }
        let of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            command_with(None, &words)
        };
        assert_eq!(of(&["add", "a", "--app-id", "Na"]), "saegis device add a --app-id Na");
        assert_eq!(of(&["revoke", "-a@b"]), "saegis device revoke -- -a@b");
    }
}
