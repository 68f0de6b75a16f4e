//! Decisions of `psk-table` and `originator-check` without a sandbox, from the same table and by
//! the same rules, to measure the cost of sandboxes.
//!
//! Only `cargo xtask bench` builds this, with `--cfg saegis_bench`. Released gateways do not
//! contain it.

use saegis_onem2m::credential::Credential;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::saef::Saef;

use crate::data::decision::{Lookup, ModuleFault, PskQuery, Refusal};
use crate::host::bindings::saegis::policy::types::{self, Association, Operation, Primitive};
use crate::sandbox::invocation::CallContext;
use crate::sandbox::reply::{checked, entity, expiry, invalid_response};

#[path = "../../../../guest-modules/originator-check/src/rules.rs"]
mod rules;

/// Responds like `psk-table`. Returns `None` for other modules.
pub(super) fn lookup(
    module: &str,
    view: &CallContext<'_>,
    query: &PskQuery,
) -> Option<Result<Option<Lookup>, ModuleFault>> {
    (module == "psk-table").then(|| find(module, view, query))
}

fn find(
    module: &str,
    view: &CallContext<'_>,
    query: &PskQuery,
) -> Result<Option<Lookup>, ModuleFault> {
    let refused = |reason: &str| {
        let refusal = Refusal { module: module.into(), reason: reason.into() };
        Ok(Some(Lookup::Refused(refusal)))
    };
    let Some(table) = view.tables.get("psk-lookup-table") else {
        return refused("there is no table psk-lookup-table");
    };
    let Some(row) = table.find(&query.psk_identity) else { return Ok(None) };
    let Some(key) = table.key_column("kpsa").and_then(|column| table.key(row, column)) else {
        return refused("psk-lookup-table has no column kpsa");
    };
    let expires = match table.text(row, "expires").map(str::parse) {
        None => None,
        Some(Ok(at)) => Some(at),
        Some(Err(_)) => return refused("the row's expires is not a valid time"),
    };
    let whose = if let Some(stem) = table.text(row, "ae_id") {
        types::Entity::Ae(stem.into())
    } else if let Some(cse) = table.text(row, "cse_id") {
        types::Entity::Cse(cse.into())
    } else {
        types::Entity::NotYetKnown
    };
    let id = CredentialId::parse(&["12-", &query.psk_identity].concat());
    let id = id.map_err(|e| invalid_response(format!("the Credential-ID {e}")))?;
    let (entity, expires) = (entity(whose)?, expiry(expires)?);
    if expires.is_some_and(|at| at <= view.now()) {
        return refused("the credential has expired");
    }
    let saef = Saef::ProvisionedSymmetricKey;
    Ok(Some(Lookup::Found(Credential { saef, entity, id, expires, key })))
}

/// Responds like `originator-check`. Returns `None` for other modules.
pub(super) fn check_originator(
    module: &str,
    association: &Association,
    primitive: &Primitive,
) -> Option<Result<types::Verdict, ModuleFault>> {
    (module == "originator-check").then(|| checked(check(association, primitive)))
}

fn check(association: &Association, primitive: &Primitive) -> types::Verdict {
    let peer = match &association.entity {
        types::Entity::NotYetKnown => rules::Peer::UnknownAe,
        types::Entity::Ae(stem) => rules::Peer::Ae(stem),
        types::Entity::Aes(stems) => rules::Peer::Aes(stems),
        types::Entity::Cse(cse) if association.registrar => {
            rules::Peer::Registrar { cse, own: &association.cse }
        }
        types::Entity::Cse(cse) => rules::Peer::Cse(cse),
        types::Entity::MafClient(id) => rules::Peer::MafClient(id),
    };
    let claims = |attribute: &str| primitive.operation != Operation::Notify || attribute != "cr";
    let creates =
        |ty: u16| primitive.operation == Operation::Create && primitive.resource_type == Some(ty);
    let named = primitive.named_originators.iter();
    let outcome = rules::check(&rules::Request {
        peer,
        service_provider: association.service_provider.as_deref(),
        from: primitive.from.as_deref(),
        creates_ae: creates(2),
        registers_cse: creates(16),
        announces_ae: creates(10002),
        named: named.filter(|n| claims(&n.attribute)).map(|n| n.value.as_str()),
    });
    match outcome {
        rules::Outcome::Allow => types::Verdict::Allow(types::Scope::Originator),
        rules::Outcome::AllowOnce => types::Verdict::Allow(types::Scope::ThisRequest),
        rules::Outcome::Deny(why) => {
            types::Verdict::Deny(types::Denial { rsc: why.rsc(), reason: why.reason().into() })
        }
    }
}
