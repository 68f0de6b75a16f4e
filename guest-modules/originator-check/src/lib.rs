//! Checks at the registrar that a request uses the entity of its association as originator (TS-0003
//! clause 7.2.1). The rules are in [`rules`]; this file adapts them to the hook.

pub mod rules;

#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ world: "check-module", path: "../../wit" });
    export!(OriginatorCheck);
    use super::OriginatorCheck;
}

use bindings::exports::saegis::policy::impersonation_check::{
    Association, Guest, Primitive, Verdict,
};
use bindings::saegis::policy::types::{Denial, Entity, Operation, Scope};
use rules::{Outcome, Peer, Request};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: saegis_arena::Arena<32768> = saegis_arena::Arena::new();

/// Resource type numbers.
const AE: u16 = 2;
const REMOTE_CSE: u16 = 16;
const AE_ANNC: u16 = 10002;

struct OriginatorCheck;

impl Guest for OriginatorCheck {
    fn check(association: Association, primitive: Primitive) -> Verdict {
        let peer = match &association.entity {
            Entity::NotYetKnown => Peer::UnknownAe,
            Entity::Ae(stem) => Peer::Ae(stem),
            Entity::Aes(stems) => Peer::Aes(stems),
            Entity::Cse(cse) if association.registrar => {
                Peer::Registrar { cse, own: &association.cse }
            }
            Entity::Cse(cse) => Peer::Cse(cse),
            Entity::MafClient(id) => Peer::MafClient(id),
        };
        // In a notification `cr` is data: it names the creator of the subscription.
        let claims =
            |attribute: &str| primitive.operation != Operation::Notify || attribute != "cr";
        let creates = |ty: u16| {
            primitive.operation == Operation::Create && primitive.resource_type == Some(ty)
        };
        let named = primitive.named_originators.iter();
        let outcome = rules::check(&Request {
            peer,
            service_provider: association.service_provider.as_deref(),
            from: primitive.from.as_deref(),
            creates_ae: creates(AE),
            registers_cse: creates(REMOTE_CSE),
            announces_ae: creates(AE_ANNC),
            named: named.filter(|n| claims(&n.attribute)).map(|n| n.value.as_str()),
        });
        match outcome {
            Outcome::Allow => Verdict::Allow(Scope::Originator),
            Outcome::AllowOnce => Verdict::Allow(Scope::ThisRequest),
            Outcome::Deny(why) => {
                Verdict::Deny(Denial { rsc: why.rsc(), reason: why.reason().into() })
            }
        }
    }
}
