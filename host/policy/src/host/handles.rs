//! The types behind the resources of the contract and of WASI.

/// What stands behind a `key` of the contract.
pub struct KeyHandle;
/// What stands behind a `row` of the contract.
pub struct RowHandle;
/// What stands behind a `bucket` of `wasi:keyvalue`: the module's one store.
pub struct Bucket;
