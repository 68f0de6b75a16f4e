//! `saegis token revoke`.

use std::fs;

use saegis_gateway::admin::reloaded::activation;
use saegis_gateway::config::Config;
use saegis_gateway::replaced_file::{lock, replace};
use saegis_policy::{Fault, Faults, TOKEN_ISSUERS};
use toml_edit::{Array, DocumentMut, value};

use super::error::TokenCommandError;
use crate::admin;

/// Entry of the policy file with the revoked tokens.
const REVOKED: &str = "revoked";

/// Adds a Token-ID to the revoked tokens, and has the running gateway load the file. Returns when the
/// change takes effect.
///
/// # Errors
/// Fails if the file cannot be changed, or the gateway rejects it.
pub fn revoke(id: &str, config: &Config) -> Result<String, TokenCommandError> {
    let folder = &config.policy.folder;
    let _lock = lock(folder).map_err(TokenCommandError::file(folder))?;
    let file = folder.join(TOKEN_ISSUERS);
    let before = fs::read_to_string(&file).map_err(TokenCommandError::file(&file))?;
    let fault = |what: String| Faults(vec![Fault::of(&file, what)]);
    let mut document: DocumentMut = before.parse().map_err(|e| fault(format!("{e}")))?;
    let revoked = document.entry(REVOKED).or_insert_with(|| value(Array::new()));
    let revoked = revoked.as_array_mut().ok_or_else(|| fault("revoked is not a list".into()))?;
    if !revoked.iter().any(|known| known.as_str() == Some(id)) {
        revoked.push(id);
    }
    replace(&file, document.to_string().as_bytes()).map_err(TokenCommandError::file(&file))?;
    let restore = || {
        // It could be written a moment ago. The error of the command is reported anyway.
        let _ = replace(&file, before.as_bytes());
        let _ = admin::reload(config, false);
    };
    activation(admin::reload(config, false), restore).map_err(TokenCommandError::Refused)
}
