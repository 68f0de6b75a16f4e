//! Commands that run to their end: `saegis` itself, and `openssl` as a calculator.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::client::Credential;
use crate::gateway::Gateway;
use crate::paths;
use crate::process::{BOUND, Running};

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// What it wrote to its standard output.
    pub out: String,
    /// What it wrote to its standard error.
    pub err: String,
}

impl Ran {
    /// Its standard output, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Makes sure of the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

fn to_end(command: &mut Command) -> Ran {
    let mut running = Running::start(command);
    running.close_input();
    let status = running.wait(BOUND);
    let status = status.unwrap_or_else(|| panic!("{command:?} does not end"));
    let whole = |_: &[u8], ended: bool| ended.then_some(());
    running.out.wait(BOUND, whole);
    running.err.wait(BOUND, whole);
    let code = status.code().unwrap_or_else(|| panic!("{command:?}: {status}"));
    Ran { code, out: running.out.text(), err: running.err.text() }
}

/// Runs `saegis` in a folder.
pub fn saegis(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(paths::binary());
    to_end(command.args(arguments).current_dir(folder).env_remove("SAEGIS_LOG"))
}

/// Runs `openssl`.
pub fn openssl(arguments: &[&str]) -> Ran {
    to_end(Command::new("openssl").args(arguments))
}

/// An AE that uses `saegis ae`.
pub struct Ae<'a> {
    gateway: &'a Gateway,
    file: String,
}

impl<'a> Ae<'a> {
    /// Writes the configuration of an AE beside the gateway's.
    pub fn new(gateway: &'a Gateway, ae_id: &str, credential: Credential<'_>, name: &str) -> Self {
        let file = format!("{name}.toml");
        let text = format!(
            "[registrar]\naddress = \"127.0.0.1:{}\"\ncse-id = \"mn-cse-123456\"\n\
             [credential]\nkpsa-id = \"{}\"\nkpsa = \"{}\"\n\
             [ae]\nae-id = \"{ae_id}\"\napp-id = \"Nlight\"\nname = \"{name}\"\n",
            gateway.port(),
            credential.identity,
            credential.key,
        );
        gateway.write(&file, text);
        Self { gateway, file }
    }

    /// Runs one verb, such as `["send", "lamp", "on"]`.
    pub fn run(&self, verb: &[&str]) -> Ran {
        let arguments = [&["ae", "--config", &self.file], verb].concat();
        saegis(&self.gateway.path(""), &arguments)
    }

    /// The same, told in JSON.
    pub fn run_json(&self, verb: &[&str]) -> Ran {
        self.run(&[&["--json"], verb].concat())
    }
}
