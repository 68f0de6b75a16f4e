//! Calls a module, and compares its response with the expected one.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::credential::{Credential, Entity};
use saegis_onem2m::timestamp;
use saegis_policy::{Allowance, Lookup, Mapping, ModuleFault, ModuleHarness, Used, Verdict};
use subtle::ConstantTimeEq as _;

use crate::module::test::cases::{Allow, Expect};
use crate::module::test::question::{Ask, Found, Mafs, Question};

/// Response of a module.
pub enum Answer {
    /// The credential of an identity was found.
    Credential(Credential),
    /// The entity of a certificate was found.
    Entity(Entity, Option<SystemTime>),
    /// The credential is unknown to the module.
    NotMine,
    /// The module rejected the credential.
    Refused(String),
    /// The module allowed the request.
    Allow(Allow),
    /// The module denied the request.
    Deny(u16, String),
    /// The call failed.
    Failed(ModuleFault),
}

/// Calls the module in a fresh sandbox.
pub async fn ask(module: &ModuleHarness, question: &Question) -> (Answer, Used) {
    let mut around = question.around.clone();
    if !question.mafs.is_empty() {
        around.maf_keys = Some(Arc::new(Mafs::new(question.mafs.clone())));
    }
    let generation = module.among(around);
    let answer = match &question.ask {
        Ask::Lookup(query) => match generation.lookup(query).await {
            Lookup::Found(credential) => Answer::Credential(credential),
            Lookup::Unclaimed => Answer::NotMine,
            Lookup::Refused(refusal) => Answer::Refused(refusal.reason),
            Lookup::Failed { fault, .. } => Answer::Failed(fault),
        },
        Ask::Certificate(query) => match generation.map_certificate(query).await {
            Mapping::As { entity, expires } => Answer::Entity(entity, expires),
            Mapping::Unclaimed => Answer::NotMine,
            Mapping::Refused(refusal) => Answer::Refused(refusal.reason),
            Mapping::Failed { fault, .. } => Answer::Failed(fault),
        },
        Ask::Request(association, request) => {
            generation.check_originator(association, request).await.into()
        }
        Ask::Registration(association, registration) => {
            generation.check_registration(association, registration).await.into()
        }
        Ask::KeyRegistration(association, registration) => {
            generation.check_key_registration(association, registration).await.into()
        }
    };
    (answer, module.used())
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow(Allowance::ThisRequest) => Self::Allow(Allow::ThisRequest),
            Verdict::Allow(Allowance::Originator) => Self::Allow(Allow::Originator),
            Verdict::Deny { rsc, reason, .. } => Self::Deny(rsc, reason),
            Verdict::Failed { fault, .. } => Self::Failed(fault),
        }
    }
}

impl Answer {
    /// Describes the difference from the expected response.
    pub fn differs(&self, expected: &Expect, found: Option<&Found>) -> Option<String> {
        let same = match (self, expected) {
            (Self::Credential(credential), Expect::Found(_)) => {
                let found = found?;
                let key = found.key.as_ref();
                let key_differs =
                    key.is_some_and(|key| !bool::from(key.expose().ct_eq(credential.key.expose())));
                if key_differs {
                    return Some(format!("another key than expected: {self}"));
                }
                let id = found.credential_id.as_ref();
                found.entity == credential.entity
                    && id.is_none_or(|id| *id == credential.id.to_string())
                    && found.expires.is_none_or(|at| at == credential.expires)
            }
            (Self::Entity(entity, expires), Expect::Found(_)) => {
                let found = found?;
                found.entity == *entity && found.expires.is_none_or(|at| at == *expires)
            }
            (Self::NotMine, Expect::NotMine) => true,
            (Self::Refused(reason), Expect::Refused(part)) => reason.contains(part),
            (Self::Allow(scope), Expect::Allow(expected)) => scope == expected,
            (Self::Deny(rsc, reason), Expect::Deny(expected)) => {
                *rsc == expected.rsc && reason.contains(&expected.reason)
            }
            (Self::Failed(fault), Expect::Failed(cause)) => fault.cause() == cause.name(),
            _ => false,
        };
        (!same).then(|| self.to_string())
    }
}

/// Formats the response in the syntax of a case. Keys are not printed.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = |expires: &Option<SystemTime>| match expires {
            Some(at) => format!(", expires = {:?}", timestamp::format(*at)),
            None => String::new(),
        };
        match self {
            Self::Credential(found) => write!(
                f,
                "{{ found = {{ entity = {}, credential-id = {:?}{} }} }}",
                written(&found.entity),
                found.id.to_string(),
                until(&found.expires)
            ),
            Self::Entity(entity, expires) => {
                write!(f, "{{ found = {{ entity = {}{} }} }}", written(entity), until(expires))
            }
            Self::NotMine => f.write_str("\"not-mine\""),
            Self::Refused(reason) => write!(f, "{{ refused = {reason:?} }}"),
            Self::Allow(Allow::ThisRequest) => f.write_str("{ allow = \"this-request\" }"),
            Self::Allow(Allow::Originator) => f.write_str("{ allow = \"originator\" }"),
            Self::Deny(rsc, reason) => {
                write!(f, "{{ deny = {{ rsc = {rsc}, reason = {reason:?} }} }}")
            }
            Self::Failed(fault) => {
                write!(f, "{{ failed = {:?} }}, for it {fault}", fault.cause())
            }
        }
    }
}

/// Formats an entity in the syntax of a case.
fn written(entity: &Entity) -> String {
    match entity {
        Entity::NotYetKnown => "\"not-yet-known\"".into(),
        Entity::Ae(stem) => format!("{{ ae = {:?} }}", stem.as_str()),
        Entity::Aes(stems) => {
            let stems: Vec<_> = stems.iter().map(|stem| stem.as_str()).collect();
            format!("{{ aes = {stems:?} }}")
        }
        Entity::Cse(cse) => format!("{{ cse = {:?} }}", cse.bare()),
        Entity::MafClient(id) => format!("{{ maf-client = {:?} }}", id.as_str()),
    }
}
