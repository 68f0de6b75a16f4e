//! Output of the command line, and exit codes that several commands share.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Exit code for a fault in a configuration, a policy file or a module.
pub const BAD_INPUT: u8 = 2;

/// Prints a line to standard output. Ignores a closed pipe.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints an error to standard error, and returns the exit code `code`.
pub fn print_error(what: &str, code: u8) -> ExitCode {
    let mut stderr = std::io::stderr();
    let (on, off) = if stderr.is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    for line in what.lines() {
        let _ = writeln!(stderr, "{on}error:{off} {line}");
    }
    ExitCode::from(code)
}
