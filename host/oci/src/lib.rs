//! Artifacts of OCI registries: what a [`Reference`] names is fetched from its [`Registry`] into a
//! [`Store`], from where it is used.
//!
//! A reference pins a digest. What is fetched is believed for that digest and for nothing else, and
//! so is what lies in the store: neither a registry nor whoever can write the store can put another
//! file in place. Everything that comes from a registry is bounded in size and time.

mod credentials;
mod open;
mod pull;
mod reference;
mod registry;
mod store;

pub use credentials::{Credentials, CredentialsError};
pub use pull::PullError;
pub use reference::{Digest, Reference, ReferenceError};
pub use registry::{Bounds, Registry, RegistryError};
pub use store::{Artifact, File, Store, StoreError};
