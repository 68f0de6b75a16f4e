//! An AE that uses the command line of the gateway.

use std::process::Command;

use crate::client::Credential;
use crate::command_line::{CommandOutput, saegis};
use crate::gateway::Gateway;
use crate::paths;
use crate::process::Running;

/// An AE that uses `saegis ae`.
pub struct Ae<'a> {
    gateway: &'a Gateway,
    file: String,
}

impl<'a> Ae<'a> {
    /// Writes the configuration of an AE next to the configuration of the gateway.
    pub fn new(gateway: &'a Gateway, ae_id: &str, credential: Credential<'_>, name: &str) -> Self {
        Self::at(gateway.port(), gateway, ae_id, credential, name)
    }

    /// Writes the configuration of an AE that connects to this port of the gateway.
    pub fn at(
        port: u16,
        gateway: &'a Gateway,
        ae_id: &str,
        credential: Credential<'_>,
        name: &str,
    ) -> Self {
        let file = format!("{name}.toml");
        let text = format!(
            "[registrar]\naddress = \"127.0.0.1:{port}\"\ncse-id = \"mn-cse-123456\"\n\
             [credential]\nkpsa-id = \"{}\"\nkpsa = \"{}\"\n\
             [ae]\nae-id = \"{ae_id}\"\napp-id = \"Nlight\"\nname = \"{name}\"\n",
            credential.identity, credential.key,
        );
        gateway.write(&file, text);
        Self { gateway, file }
    }

    /// Runs one verb, such as `["send", "lamp", "on"]`.
    pub fn run(&self, verb: &[&str]) -> CommandOutput {
        let arguments = [&["ae", "--config", &self.file], verb].concat();
        saegis(&self.gateway.path(""), &arguments)
    }

    /// Starts a verb that runs until it is interrupted.
    pub fn start(&self, verb: &[&str]) -> Running {
        let mut command = Command::new(paths::binary());
        command.args([&["ae", "--config", &self.file], verb].concat());
        Running::start(command.current_dir(self.gateway.path("")).env_remove("SAEGIS_LOG"))
    }

    /// Runs one verb with JSON output.
    pub fn run_json(&self, verb: &[&str]) -> CommandOutput {
        self.run(&[&["--json"], verb].concat())
    }
}
