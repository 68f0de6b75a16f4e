//! An AE that uses the gateway's own command line.

use crate::client::Credential;
use crate::command_line::{Ran, saegis};
use crate::gateway::Gateway;

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
