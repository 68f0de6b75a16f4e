//! The CoAP binding of TS-0008, over an association of DTLS.
//!
//! Each message of the association is one of CoAP. `saegis-onem2m` recognizes repetitions, joins the
//! blocks of a request and maps it to a primitive ([`saegis_onem2m::coap`]); the module here connects
//! that to the pipeline.

mod requests_to_ae;
mod server;

pub use server::{Link, Shared, serve};
