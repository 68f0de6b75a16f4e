//! The contract in `wit/`: its package and its version.

/// Package of the contract, without its version.
pub const PACKAGE: &str = "saegis:policy/";

/// Version of the contract of this gateway, as in `wit/`.
pub const CONTRACT: &str = "0.1.0";

/// Returns whether records of a version of the contract have the same meaning in this one.
#[must_use]
pub fn is_our_contract(version: &str) -> bool {
    version == "0.1" || version.starts_with("0.1.")
}

/// Returns the name of the interface, if it belongs to a supported version of the contract.
pub(crate) fn contract_interface(full: &str) -> Result<Option<&str>, String> {
    let Some(rest) = full.strip_prefix(PACKAGE) else { return Ok(None) };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    if version == "0.1" || version.starts_with("0.1.") {
        Ok(Some(interface))
    } else {
        Err(format!("belongs to the contract {PACKAGE}…@{version}; this gateway supports 0.1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_matches_wit_package() {
        let wit = include_str!("../../../../wit/types.wit");
        assert!(wit.starts_with(&format!("package saegis:policy@{CONTRACT};")));
        assert!(is_our_contract(CONTRACT) && is_our_contract("0.1.7"));
        assert!(!is_our_contract("0.2.0") && !is_our_contract("0.10.0") && !is_our_contract(""));
    }
}
