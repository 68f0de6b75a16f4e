//! The types behind the resources of the contract and of WASI.

/// The type of a `key` of the contract.
pub struct KeyHandle;
/// The type of a `row` of the contract.
pub struct RowHandle;
/// The type of a `bucket` of `wasi:keyvalue`: the module's one store.
pub struct Bucket;
