//! Artifacts of OCI registries: a [`Registry`] pulls what a [`Reference`] names into a [`Store`], from
//! where it is used.
//!
//! A reference pins a digest. The digest is verified after each fetch and at each read of the store:
//! neither a registry nor another writer of the store can put another file in its place. Responses of a
//! registry are bounded in size and time.

mod credentials;
mod error;
mod open;
mod pull;
mod reference;
mod registry;
mod store;

pub use credentials::{Credentials, CredentialsError};
pub use error::PullError;
pub use reference::{Digest, Reference, ReferenceError};
pub use registry::{Bounds, Registry, RegistryError};
pub use store::{Artifact, File, Store, StoreError};
