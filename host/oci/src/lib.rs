//! Artifacts of OCI registries: pulled once, stored by digest, and used from the store.
//!
//! A reference pins a digest. The digest is verified after each fetch and at each read of the
//! store, so neither a registry nor another writer of the store can replace a file. Responses of a
//! registry are bounded in size and time.
//!
//! Read the parts in this order:
//!
//! 1. [`Reference`] and [`Digest`]: the name of an artifact, `oci://host/name@sha256:…`.
//! 2. [`Registry`]: the HTTPS client, with [`Credentials`] and [`Bounds`]. [`Registry::pull`]
//!    fetches an artifact; [`PullError`] lists its failures.
//! 3. [`Store`]: the files on disk. [`Store::find`] returns an [`Artifact`] with its [`File`]s.

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
