//! The contract in `wit/` as Rust. Generated; what it means is documented there.
#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "saegis:policy/all",
    imports: { default: trappable },
    exports: { default: async },
    with: {
        "saegis:policy/types.key": crate::host::KeyHandle,
        "saegis:policy/policy-tables.row": crate::host::RowHandle,
    },
});

/// The package of the contract, without its version.
pub const PACKAGE: &str = "saegis:policy/";
