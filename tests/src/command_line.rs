//! Commands that run until they exit: `saegis` itself, and `openssl` as a calculator.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::paths;
use crate::process::{BOUND, Running};

/// The outcome of a command that has exited.
#[derive(Debug)]
pub struct CommandOutput {
    /// The exit code.
    pub code: i32,
    /// The standard output.
    pub out: String,
    /// The standard error.
    pub err: String,
}

impl CommandOutput {
    /// Returns the standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs a command until it exits.
pub(crate) fn to_end(command: &mut Command) -> CommandOutput {
    to_end_with(command, Stdio::piped())
}

/// Runs a command with this standard input until it exits.
pub(crate) fn to_end_with(command: &mut Command, input: Stdio) -> CommandOutput {
    let mut running = Running::start_between(command, input, Stdio::piped());
    running.close_input();
    let status = running.wait(BOUND);
    let status = status.unwrap_or_else(|| panic!("{command:?} does not end"));
    let whole = |_: &[u8], ended: bool| ended.then_some(());
    running.out.wait(BOUND, whole);
    running.err.wait(BOUND, whole);
    let code = status.code().unwrap_or_else(|| panic!("{command:?}: {status}"));
    CommandOutput { code, out: running.out.text(), err: running.err.text() }
}

/// Runs a program until it exits.
pub fn output_of(program: &str, arguments: &[&str]) -> CommandOutput {
    to_end(Command::new(program).args(arguments))
}

/// Runs `saegis` in a folder.
pub fn saegis(folder: &Path, arguments: &[&str]) -> CommandOutput {
    let mut command = Command::new(paths::binary());
    // The binary may be outside the repository, where it does not find the modules by itself.
    command.env("SAEGIS_MODULES", paths::repository().join("policies/modules"));
    to_end(command.args(arguments).current_dir(folder).env_remove("SAEGIS_LOG"))
}

/// Starts `saegis` in a folder, and kills it if it still runs after this time.
pub fn run_and_kill(folder: &Path, arguments: &[&str], after: std::time::Duration) {
    let mut command = Command::new(paths::binary());
    command.args(arguments).current_dir(folder).env_remove("SAEGIS_LOG");
    let mut running = Running::start_between(&mut command, Stdio::null(), Stdio::piped());
    if running.wait(after).is_none() {
        running.signal("KILL");
        running.wait(BOUND);
    }
}

/// Runs `openssl`.
pub fn openssl(arguments: &[&str]) -> CommandOutput {
    to_end(Command::new("openssl").args(arguments))
}

/// Returns the HMAC-SHA-256 of a text, as calculated by OpenSSL. Key and result are hexadecimal
/// digits; the text is written into this file.
pub fn derived_by_openssl(file: &Path, key: &str, text: &str) -> String {
    std::fs::write(file, text).expect("the folder is ours");
    let key = format!("hexkey:{key}");
    let file = file.to_str().expect("temporary folders have plain names");
    let ran = openssl(&["dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-r", file]).expect(0);
    ran.out.split(' ').next().unwrap_or_default().into()
}

/// A response of the metrics listener.
#[derive(Debug)]
pub struct Monitored {
    /// The HTTP status.
    pub status: u16,
    /// The content.
    pub text: String,
}

impl Monitored {
    /// Returns the value of a metric, by its name and labels as they are written, or 0 if it is
    /// absent.
    pub fn value(&self, metric: &str) -> f64 {
        let of = |line: &str| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok();
        self.text.lines().find_map(of).unwrap_or_default()
    }
}

/// Fetches an address with curl.
pub fn curl(address: &str) -> Monitored {
    let ran = to_end(Command::new("curl").args([
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--write-out",
        "\n%{http_code}",
        address,
    ]))
    .expect(0);
    let (text, status) = ran.out.rsplit_once('\n').expect("the status was asked for");
    Monitored { status: status.parse().expect("a number"), text: text.into() }
}
