//! The holder of a credential, with which this gateway has an association as the client.

use std::sync::Arc;

use http::Uri;
use saegis_certificate::{OwnCertificate, Trust};
use saegis_onem2m::id::CredentialId;
use saegis_policy::Generation;

/// Returns the name of the holder in messages.
pub fn name(credential: &CredentialId) -> String {
    format!("the holder of {credential}")
}

/// Returns the certificate of this CSE, and the authorities that it trusts.
///
/// # Errors
/// Returns an error if policy has no certificate.
pub fn own_certificate(
    generation: &Generation,
) -> Result<(&Arc<Trust>, &Arc<OwnCertificate>), String> {
    let own = generation.certificates().and_then(|c| Some((&c.trust, c.own.first()?)));
    own.ok_or_else(|| "this CSE has no certificate".into())
}

/// Logs an association with the holder.
pub fn log_established(credential: &CredentialId, uri: &Uri, protocol: &str, suite: &str) {
    let who = name(credential);
    tracing::info!(
        event = "ae.association-established",
        %credential,
        authority = uri.authority().map(http::uri::Authority::as_str),
        protocol,
        suite,
        "association established as the client of {who}"
    );
}
