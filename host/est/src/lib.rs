//! Enrollment over Secure Transport (RFC 7030), as TS-0003 clause 8.3.6.2 profiles it: certificates
//! for AEs and CSEs that have a pre-provisioned key or an older certificate.
//!
//! The crate has both sides of the protocol. It performs no I/O and has no asynchronous code: the
//! caller establishes the security association, which authenticates the client, and transports the
//! messages.
//!
//! Read the parts in this order:
//!
//! 1. [`Operation`] and [`route`]: the operations of the protocol, and the checks of a request
//!    before its content is used.
//! 2. [`SubjectName`] and [`Client`]: the one name that a certificate has, and the names that an
//!    authenticated client may have certified.
//! 3. [`CertificationRequest`]: a PKCS #10 request, of which only the public key and the name are
//!    used. Everything else that a request asks for is refused.
//! 4. [`Authority`]: the certification authority, which issues by the profile of TS-0003 clause 10.1
//!    and verifies each certificate as a gateway does.
//! 5. [`EnrollmentService`] combines them. [`client`] is the other side.

mod authority;
mod certs_only;
pub mod client;
mod client_names;
mod error;
mod rate;
mod request;
mod route;
mod service;
mod subject;

pub use authority::{Authority, AuthorityError, Issued, Provider};
pub use client_names::Client;
pub use error::Refusal;
pub use request::{CertificationRequest, MAX_REQUEST};
pub use route::{Operation, is_enrollment, route};
pub use service::{Allowed, AllowedError, EnrollmentService, Response, Settings};
pub use subject::SubjectName;

#[cfg(test)]
mod testing;
