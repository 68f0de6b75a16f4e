//! Rust bindings of the contract in `wit/`, and of the supported WASI interfaces. Generated; the
//! documentation is in `wit/`.
#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package saegis:host;
        world host {
            include saegis:policy/all@0.1.0;
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import wasi:keyvalue/batch@0.2.0-draft;
            import wasi:config/store@0.2.0-rc.1;
        }
    ",
    world: "saegis:host/host",
    imports: {
        "wasi:keyvalue/store": async | trappable,
        "wasi:keyvalue/atomics": async | trappable,
        "wasi:keyvalue/batch": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "saegis:policy/types.key": crate::host::handles::KeyHandle,
        "saegis:policy/policy-tables.row": crate::host::handles::RowHandle,
        "wasi:keyvalue/store.bucket": crate::host::handles::Bucket,
    },
});
