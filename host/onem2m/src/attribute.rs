//! Access to single attributes of JSON representations.

use bytes::Bytes;

use crate::resource::ResourceType;

/// Returns a text attribute of the AE that `content` represents.
#[must_use]
pub fn attribute(content: &Bytes, name: &str) -> Option<String> {
    let content = serde_json::from_slice::<serde_json::Value>(content).ok()?;
    Some(content.get(ResourceType::Ae.root())?.get(name)?.as_str()?.into())
}
