//! The nouns of oneM2M that a security gateway speaks: identifiers, credentials and the
//! security association, primitives, Response Status Codes, and the HTTP mapping of TS-0009.
//!
//! Nothing here does I/O or waits. Policy modules use the same crate (without its default
//! features) for the forms of identifiers, so host and sandbox cannot disagree about them.

pub mod app_rule;
pub mod id;
pub mod rsc;
pub mod wildcard;

#[cfg(feature = "kdf")]
pub mod kdf;

#[cfg(feature = "host")]
pub mod association;
#[cfg(feature = "host")]
pub mod attribute;
#[cfg(feature = "host")]
pub mod credential;
#[cfg(feature = "host")]
pub mod cse;
#[cfg(feature = "host")]
pub mod exported;
#[cfg(feature = "host")]
pub mod http;
#[cfg(feature = "host")]
pub mod json;
#[cfg(feature = "host")]
pub mod parameter;
#[cfg(feature = "host")]
pub mod point_of_access;
#[cfg(feature = "host")]
pub mod primitive;
#[cfg(feature = "host")]
pub mod resource;
#[cfg(feature = "host")]
pub mod routing;
#[cfg(feature = "host")]
pub mod saef;
#[cfg(feature = "host")]
pub mod schedule;
#[cfg(feature = "host")]
pub mod serde;
#[cfg(feature = "host")]
pub mod target;
#[cfg(feature = "host")]
pub mod timestamp;
