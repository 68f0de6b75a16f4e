//! Converts core modules that contain their contract to components.
//!
//! It is a crate of its own because of its dependencies: the build of the policy modules needs it
//! before there is a gateway, and a gateway does not need it.

use anyhow::Result;
use wit_component::ComponentEncoder;

/// Converts a core module that contains its contract in a custom section to a component.
///
/// # Errors
/// Fails if the module is invalid or has no contract.
pub fn componentize(core: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(core)?.encode()
}

#[cfg(test)]
mod tests {
    #[test]
    fn core_module_without_contract_is_refused() {
        assert!(super::componentize(b"").is_err());
        assert!(super::componentize(b"\0asm").is_err());
    }
}
