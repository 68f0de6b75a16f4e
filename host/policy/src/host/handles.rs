//! Types of the resources of the contract and of WASI.

/// Type of a `key` of the contract.
pub struct KeyHandle;
/// Type of a `row` of the contract.
pub struct RowHandle;
/// Type of a `bucket` of `wasi:keyvalue`: the only store of the module.
pub struct Bucket;
