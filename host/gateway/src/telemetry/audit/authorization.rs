//! Events of the authorization of requests.

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::primitive::RequestPrimitive;

use super::repeats::{By, Subject};
use super::{TARGET, cut, is_single};

/// Records that a request claims roles, and which of them are assigned to its originator.
pub fn roles_claimed(association: &SecurityAssociation, request: &RequestPrimitive) {
    let is_assigned = |claim: &&str| request.roles.iter().any(|role| role.id.as_str() == *claim);
    let (assigned, others): (Vec<_>, Vec<_>) = request.claimed_roles().partition(is_assigned);
    let cause = if others.is_empty() { "assigned" } else { "not-assigned" };
    let from = &*cut(request.from.as_deref().unwrap_or_default());
    let credential = By::Credential(association.credential_id.clone());
    let subject = Subject { from: Some(from.into()), ..Subject::default() };
    if !is_single("request.roles-claimed", credential, cause, subject) {
        return;
    }
    let (assigned, others) = (assigned.join(" "), others.join(" "));
    let (roles, not_assigned) = (&*cut(&assigned), &*cut(&others));
    let to = request.to.to_string();
    tracing::info!(
        target: TARGET,
        event = "request.roles-claimed",
        association = association.id,
        credential_id = %association.credential_id,
        request_id = &*cut(&request.request_id),
        operation = request.operation.name(),
        to = &*cut(&to),
        from,
        roles,
        not_assigned,
        "roles claimed: {roles}; not assigned: {not_assigned}"
    );
}

/// Records the verified tokens of a request, by their issuers and Token-IDs.
pub fn tokens_accepted(association: &SecurityAssociation, request: &RequestPrimitive) {
    let from = &*cut(request.from.as_deref().unwrap_or_default());
    let to = request.to.to_string();
    for token in &request.tokens {
        let credential = By::Credential(association.credential_id.clone());
        let subject = Subject { from: Some(from.into()), ..Subject::default() };
        if !is_single("request.token-accepted", credential, &*token.issuer, subject) {
            continue;
        }
        let (issuer, token_id) = (&*cut(&token.issuer), &*cut(&token.id));
        tracing::info!(
            target: TARGET,
            event = "request.token-accepted",
            association = association.id,
            credential_id = %association.credential_id,
            request_id = &*cut(&request.request_id),
            operation = request.operation.name(),
            to = &*cut(&to),
            from,
            issuer,
            token_id,
            "accepted the token {token_id} of {issuer}"
        );
    }
}
