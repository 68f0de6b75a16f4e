//! Security associations: which there are, whether they still hold, and the AE-IDs that they learned.

pub mod ae_id_store;
pub mod registry;
pub mod revalidation;
