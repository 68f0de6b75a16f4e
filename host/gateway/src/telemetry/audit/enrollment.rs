//! Events of Enrollment over Secure Transport (RFC 7030).

use http::StatusCode;
use saegis_est::Issued;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::timestamp;

use super::repeats::{By, Subject};
use super::{MAX_REASON, TARGET, cut_to, is_single};
use crate::telemetry::recent_refusals;

/// Records that a certificate was issued. The line is always written, because the number of requests
/// is limited.
pub fn certificate_issued(
    association: &SecurityAssociation,
    operation: &str,
    name: &str,
    issued: &Issued,
) {
    let not_after = timestamp::format(issued.not_after);
    tracing::info!(
        target: TARGET,
        event = "certificate.issued",
        association = association.id,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        operation,
        name,
        serial = issued.serial,
        not_after,
        "certificate issued: {name}, until {not_after}"
    );
}

/// Records that a request of EST was refused.
pub fn enrollment_refused(
    association: &SecurityAssociation,
    operation: Option<&str>,
    status: StatusCode,
    why: &str,
) {
    let why = &*cut_to(why, MAX_REASON);
    recent_refusals::of_association("enrollment.refused", association, why);
    let credential = By::Credential(association.credential_id.clone());
    if !is_single("enrollment.refused", credential, status.as_str(), Subject::default()) {
        return;
    }
    tracing::warn!(
        target: TARGET,
        event = "enrollment.refused",
        association = association.id,
        credential_id = %association.credential_id,
        entity = %association.entity(),
        operation,
        status = status.as_u16(),
        why,
        "enrollment refused: {why}"
    );
}
