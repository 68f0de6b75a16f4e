//! Output of the command line, and exit codes that several commands share.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Exit code for a fault in a configuration, a policy file or a module.
pub const BAD_INPUT: u8 = 2;

/// When to use colors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment variable `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Form {
    /// Whether errors are JSON objects.
    pub json: bool,
    /// When to use colors.
    pub color: Color,
}

static FORM: OnceLock<Form> = OnceLock::new();

/// Sets the form of the output, once.
pub fn set_form(form: Form) {
    // It is set at the start only.
    let _ = FORM.set(form);
}

fn form() -> Form {
    FORM.get().copied().unwrap_or_default()
}

/// Returns whether lines on standard error have colors.
pub fn is_colored() -> bool {
    match form().color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && std::io::stderr().is_terminal()
        }
    }
}

/// Prints a line to standard output. Ignores a closed pipe.
pub fn print(line: &str) {
    let mut stdout = std::io::stdout();
    let line = if stdout.is_terminal() { visible(line) } else { line.into() };
    let _ = writeln!(stdout, "{line}");
}

/// Returns a text for a terminal. The text may be that of a device, so characters that control the
/// terminal or reorder the line are escaped, as in JSON.
fn visible(text: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| {
        let is_bidirectional = matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        is_bidirectional || (c.is_control() && !matches!(c, '\n' | '\t'))
    };
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut shown = String::new();
    for c in text.chars() {
        if is_hidden(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// Prints an error to standard error, and returns the exit code `code`. With `--json`, each line of the
/// error is a JSON object.
pub fn print_error(what: &str, code: u8) -> ExitCode {
    let mut stderr = std::io::stderr();
    let (on, off) = if is_colored() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let what = if stderr.is_terminal() { visible(what) } else { what.into() };
    for line in what.lines() {
        let _ = if form().json {
            writeln!(stderr, "{}", serde_json::json!({ "error": line, "code": code }))
        } else {
            writeln!(stderr, "{on}error:{off} {line}")
        };
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_gets_no_control_characters() {
        assert_eq!(visible("a\n\tä █"), "a\n\tä █");
        assert_eq!(visible("\x1b[2Ja\u{9b}\u{202e}b\r"), "\\u001b[2Ja\\u009b\\u202eb\\u000d");
    }
}
