//! One request of the AE, and its result.

use saegis_client::Session;
use saegis_onem2m::primitive::{Operation, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::Value;

use super::error::AeError;

/// Result of a verb.
pub(super) struct VerbResult {
    pub(super) rsc: Rsc,
    /// Content of the response, or null.
    pub(super) content: Value,
    /// Text for people.
    pub(super) text: String,
}

impl VerbResult {
    /// Sets the text for people, from the content.
    pub(super) fn with_text(mut self, text: impl FnOnce(&Value) -> String) -> Self {
        self.text = text(&self.content);
        self
    }
}

/// Returns the address of a container: that of a child of the AE if `container` is a name.
pub(super) fn container_address(own: &str, container: &str) -> String {
    if container.starts_with('/') { container.into() } else { format!("{own}/{container}") }
}

/// Returns an attribute of a resource as text, or an empty text if it is absent.
pub(super) fn text(content: &Value, root: &str, name: &str) -> String {
    match content.get(root).and_then(|r| r.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Sends a request.
///
/// # Errors
/// Returns the refusal, or the reason why there is no response.
pub(super) async fn ask(
    session: &mut Session,
    operation: Operation,
    to: &str,
    content: Option<(ResourceType, Value)>,
) -> Result<VerbResult, AeError> {
    let answer = session.ask(operation, to, content).await?;
    if !answer.rsc.is_success() {
        let why = answer.reason().unwrap_or_else(|| "the response contains no reason".into());
        return Err(AeError::Refused { rsc: answer.rsc, why });
    }
    let ResponsePrimitive { rsc, content, .. } = answer;
    let content = content.and_then(|c| serde_json::from_slice(&c).ok()).unwrap_or(Value::Null);
    Ok(VerbResult { rsc, content, text: String::new() })
}
