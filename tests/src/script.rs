//! Lights that use the WebSocket and MQTT libraries of other languages: `tests/clients`.

use std::env;
use std::process::Command;

use serde_json::{Value, json};

use crate::command_line::{CommandOutput, to_end};
use crate::paths;

/// The language of a light.
#[derive(Debug, Clone, Copy)]
pub enum Script {
    /// Python, with `websockets` and `paho-mqtt`.
    Python,
    /// JavaScript, with `ws` and `mqtt`.
    Node,
}

impl Script {
    /// Returns all languages, without Python if `cargo xtask test` found no version with PSK. It
    /// prints the reason, and passes it on in `SAEGIS_CLIENTS_SKIPPED`.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Node];
        match env::var("SAEGIS_CLIENTS_SKIPPED") {
            Ok(reason) => eprintln!("{reason}"),
            Err(_) => all.push(Self::Python),
        }
        all
    }

    /// Runs the light until it ends.
    pub fn run(self, settings: &Value) -> CommandOutput {
        let folder = paths::clients();
        let scripts = paths::repository().join("tests/clients");
        let mut command = match self {
            Self::Python => Command::new(folder.join("python/bin/python")),
            Self::Node => Command::new("node"),
        };
        match self {
            Self::Python => command.arg("-I").arg(scripts.join("light.py")),
            Self::Node => command.arg(scripts.join("light.mjs")),
        };
        to_end(command.arg(settings.to_string()).env("SAEGIS_CLIENTS", folder))
    }

    /// Runs the light and asserts that it registers, reads its value, is notified of it, is refused
    /// another originator, and deregisters. Returns what it prints.
    #[track_caller]
    pub fn assert_works(self, settings: &Value) -> Value {
        let seen = self.run(settings).expect(0).json();
        assert_eq!(seen["registered"], "Clight-AE1", "{self:?}: {seen}");
        assert_eq!(seen["latest"], "on", "{self:?}: {seen}");
        assert_eq!(seen["notified"], json!(["on"]), "{self:?}: {seen}");
        seen
    }
}

/// Runs the oneM2M server for agents of PyPI as an AE until it ends.
pub fn run_agent(settings: &Value) -> CommandOutput {
    let script = paths::repository().join("tests/clients/agent.py");
    let mut command = Command::new(paths::clients().join("agent/bin/python"));
    to_end(command.arg("-I").arg(script).arg(settings.to_string()))
}

/// Signs or verifies a token with PyJWT, which is a part of the agent's environment.
pub fn run_pyjwt(settings: &Value) -> CommandOutput {
    let script = paths::repository().join("tests/clients/tokens.py");
    let mut command = Command::new(paths::clients().join("agent/bin/python"));
    to_end(command.arg("-I").arg(script).arg(settings.to_string()))
}

/// Returns a certification request (PKCS #10) for this URI in base64, which the Python package
/// `cryptography` makes.
#[track_caller]
pub fn certification_request(uri: &str) -> String {
    let script = paths::repository().join("tests/clients/certification_request.py");
    let mut command = Command::new(paths::clients().join("agent/bin/python"));
    to_end(command.arg("-I").arg(script).arg(uri)).expect(0).out
}
