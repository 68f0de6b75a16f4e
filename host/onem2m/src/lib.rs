//! The oneM2M data types of the gateway: identifiers, credentials, the security association,
//! primitives, Response Status Codes, and the protocol bindings.
//!
//! The crate performs no I/O. Policy modules use it without its default features to check
//! identifiers, so host and sandbox cannot disagree about them.
//!
//! Read the modules in this order:
//!
//! 1. [`id`]: identifiers and their forms, such as [`id::AeIdStem`] and [`id::CseId`] (TS-0001
//!    clause 7.2, TS-0003 clauses 10.4 and 10.5), and [`role::RoleId`].
//! 2. [`credential`] and [`association`]: [`credential::Entity`], the AE or CSE that a credential
//!    stands for, and [`association::SecurityAssociation`] (TS-0003 clause 8.2).
//! 3. [`target`] and [`primitive`]: [`target::Target`], [`primitive::RequestPrimitive`] and
//!    [`primitive::ResponsePrimitive`] (TS-0004 clause 6.4), with their [`parameter`]s and [`rsc`].
//! 4. The bindings: [`http`] with [`http::read_request`] and [`http::write_response`] (TS-0009),
//!    [`coap`] with its messages, blocks and exchanges (TS-0008), [`serialization`] of whole
//!    primitives in JSON and CBOR (TS-0004 clauses 8.4 and 8.5), and the topics of [`mqtt`]
//!    (TS-0010).
//! 5. The rest: [`resource`] types, [`timestamp`]s, [`schedule`]s, [`wildcard`]s, points of access,
//!    and key derivation in [`kdf`] (TS-0003 clause 10.3.7).

pub mod app_rule;
pub mod id;
pub mod role;
pub mod rsc;
pub mod wildcard;

#[cfg(feature = "kdf")]
pub mod kdf;

#[cfg(feature = "host")]
pub mod association;
#[cfg(feature = "host")]
pub mod attribute;
#[cfg(feature = "host")]
pub mod binding;
#[cfg(feature = "host")]
pub mod coap;
#[cfg(feature = "host")]
mod content;
#[cfg(feature = "host")]
pub mod credential;
#[cfg(feature = "host")]
pub mod cse;
#[cfg(feature = "host")]
pub mod exported;
#[cfg(feature = "host")]
pub mod http;
#[cfg(feature = "host")]
pub mod mqtt;
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
pub mod serialization;
#[cfg(feature = "host")]
pub mod target;
#[cfg(feature = "host")]
pub mod timestamp;
#[cfg(feature = "host")]
pub mod token;
