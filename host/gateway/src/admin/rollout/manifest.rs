//! Edits the mode in the text of a manifest, and leaves the rest unchanged.

use toml_edit::{DocumentMut, TomlError, value};

/// Maximum size of a manifest, in bytes.
pub const MAX_MANIFEST: u64 = 64 << 10;

/// Returns the manifest with the mode of an active module.
///
/// # Errors
/// Fails if the text is not valid TOML.
pub fn in_force(text: &str) -> Result<String, TomlError> {
    with_mode(text, "in-force")
}

/// Returns the manifest with the mode of a shadow.
///
/// # Errors
/// Fails if the text is not valid TOML.
pub fn shadow(text: &str) -> Result<String, TomlError> {
    with_mode(text, "shadow")
}

fn with_mode(text: &str, mode: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    match document.get_mut("mode").and_then(|item| item.as_value_mut()) {
        // Comments and white space around the value stay.
        Some(old) => {
            let decor = old.decor().clone();
            *old = mode.into();
            *old.decor_mut() = decor;
        }
        None => {
            document.insert("mode", value(mode));
        }
    }
    Ok(document.to_string())
}

/// Returns an entry of a manifest that is a string.
#[must_use]
pub fn entry(text: &str, name: &str) -> Option<String> {
    let document: DocumentMut = text.parse().ok()?;
    Some(document.get(name)?.as_str()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Ours.\norder = 10\nmode = \"shadow\" # until Friday\nreplaces = \"a\"\n";

    #[test]
    fn promotion_changes_only_mode() {
        let promoted = in_force(TEXT).unwrap();
        assert_eq!(promoted, TEXT.replace("\"shadow\"", "\"in-force\""));
        assert_eq!(shadow(&promoted).unwrap(), TEXT);
        assert_eq!(entry(TEXT, "replaces").as_deref(), Some("a"));
        assert_eq!(in_force("").unwrap(), "mode = \"in-force\"\n");
        let with_table = in_force("order = 1\n[limits]\nx = 1\n").unwrap();
        assert_eq!(with_table, "order = 1\nmode = \"in-force\"\n[limits]\nx = 1\n");
    }
}
