//! Answers of the policy, as recorded and compared: without the key of a credential.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::data::decision::{Allowance, Lookup, Mapping, Verdict};
use crate::data::text::printable;
use crate::decision::question::{Entity, Question, Saef};
use crate::host::bindings::saegis::policy::types;

/// Answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The credential, or the entity of a certificate, was found.
    Found {
        /// The framework of the credential; `None` for a certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saef: Option<Saef>,
        /// The entity.
        entity: Entity,
        /// The Credential-ID of the credential; `None` for a certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential_id: Option<String>,
        /// Expiration time, in seconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    /// No module knows it.
    Unclaimed,
    /// A module rejected it.
    Refused {
        /// The module.
        module: String,
        /// Its reason; `None` if the module can see keys.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Every module allowed it.
    Allowed {
        /// Scope of the allowance.
        scope: Scope,
    },
    /// A module denied it.
    Denied {
        /// The module.
        module: String,
        /// The Response Status Code.
        rsc: u16,
        /// Its reason; `None` if the module can see keys.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A module failed, which also refuses the request.
    Failed {
        /// The module.
        module: String,
        /// The fault, by its short name.
        cause: String,
    },
}

/// Scope of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// For this request.
    ThisRequest,
    /// For this originator.
    Originator,
}

/// Difference between two answers to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// No difference.
    None,
    /// Different details: the module, the reason, or the scope of an allowance.
    Wording,
    /// A different effect.
    Effect,
}

impl Answer {
    pub(crate) fn of_lookup(lookup: &Lookup) -> Self {
        match lookup {
            Lookup::Found(credential) => Self::Found {
                saef: Some(credential.saef.into()),
                entity: types::Entity::from(&credential.entity).into(),
                credential_id: Some(credential.id.to_string()),
                expires: seconds(credential.expires),
            },
            Lookup::Unclaimed => Self::Unclaimed,
            Lookup::Refused(refusal) => Self::Refused {
                module: refusal.module.clone(),
                reason: Some(refusal.reason.clone()),
            },
            Lookup::Failed { module, fault } => {
                Self::Failed { module: module.clone(), cause: fault.cause().into() }
            }
        }
    }

    pub(crate) fn of_mapping(mapping: &Mapping) -> Self {
        match mapping {
            Mapping::As { entity, expires } => Self::Found {
                saef: None,
                entity: types::Entity::from(entity).into(),
                credential_id: None,
                expires: seconds(*expires),
            },
            Mapping::Unclaimed => Self::Unclaimed,
            Mapping::Refused(refusal) => Self::Refused {
                module: refusal.module.clone(),
                reason: Some(refusal.reason.clone()),
            },
            Mapping::Failed { module, fault } => {
                Self::Failed { module: module.clone(), cause: fault.cause().into() }
            }
        }
    }

    pub(crate) fn of_verdict(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Allow(allowance) => Self::Allowed {
                scope: match allowance {
                    Allowance::ThisRequest => Scope::ThisRequest,
                    Allowance::Originator => Scope::Originator,
                },
            },
            Verdict::Deny { module, rsc, reason } => {
                Self::Denied { module: module.clone(), rsc: *rsc, reason: Some(reason.clone()) }
            }
            Verdict::Failed { module, fault } => {
                Self::Failed { module: module.clone(), cause: fault.cause().into() }
            }
        }
    }

    /// Removes the reason if its module can see keys: the reason may contain them.
    pub(crate) fn without_reasons_of(mut self, sees_keys: impl Fn(&str) -> bool) -> Self {
        if let Self::Refused { module, reason } | Self::Denied { module, reason, .. } = &mut self
            && sees_keys(module)
        {
            *reason = None;
        }
        self
    }

    /// Returns whether the hook can have this answer, to validate a recording.
    #[must_use]
    pub fn fits(&self, question: &Question) -> bool {
        let finds = matches!(
            question,
            Question::CredentialLookup { .. } | Question::CertificateMapping { .. }
        );
        match self {
            Self::Found { .. } | Self::Unclaimed | Self::Refused { .. } => finds,
            Self::Allowed { .. } | Self::Denied { .. } => !finds,
            Self::Failed { .. } => true,
        }
    }

    /// Returns the difference from another answer to the same question.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Difference {
        let same_words = |one: &Option<String>, other: &Option<String>| {
            one.is_none() || other.is_none() || one == other
        };
        let wording = |same: bool| if same { Difference::None } else { Difference::Wording };
        match (self, other) {
            (Self::Refused { module, reason }, Self::Refused { module: by, reason: why }) => {
                wording(module == by && same_words(reason, why))
            }
            (
                Self::Denied { module, rsc, reason },
                Self::Denied { module: by, rsc: code, reason: why },
            ) if rsc == code => wording(module == by && same_words(reason, why)),
            (Self::Failed { .. }, Self::Failed { .. })
            | (Self::Allowed { .. }, Self::Allowed { .. }) => wording(self == other),
            _ if self == other => Difference::None,
            _ => Difference::Effect,
        }
    }

    /// Returns a short description of the answer.
    #[must_use]
    pub fn kind(&self) -> String {
        let text = match self {
            Self::Found { .. } => "found".into(),
            Self::Unclaimed => "unclaimed".into(),
            Self::Refused { module, .. } => format!("refused by {module}"),
            Self::Allowed { scope: Scope::ThisRequest } => "allowed".into(),
            Self::Allowed { scope: Scope::Originator } => "allowed for the originator".into(),
            Self::Denied { module, rsc, .. } => format!("denied with {rsc} by {module}"),
            Self::Failed { module, cause } => format!("failed in {module} ({cause})"),
        };
        printable(&text)
    }
}

/// Formats it for logs and lists, on one line of bounded length.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.kind();
        match self {
            Self::Found { entity, credential_id, expires, .. } => {
                text.push_str(&format!(" {entity}"));
                if let Some(id) = credential_id {
                    text.push_str(&format!(", {id}"));
                }
                if let Some(expires) = expires {
                    let at = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(*expires));
                    let at = at.map(saegis_onem2m::timestamp::format).unwrap_or_default();
                    text.push_str(&format!(", until {at}"));
                }
            }
            Self::Refused { reason: Some(reason), .. }
            | Self::Denied { reason: Some(reason), .. } => text.push_str(&format!(": {reason}")),
            Self::Refused { reason: None, .. }
            | Self::Denied { reason: None, .. }
            | Self::Unclaimed
            | Self::Allowed { .. }
            | Self::Failed { .. } => {}
        }
        f.write_str(&printable(&text))
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetKnown => f.write_str("an AE not yet known"),
            Self::Ae(stem) => write!(f, "AE {stem}"),
            Self::Aes(stems) => write!(f, "AEs {}", stems.join(" ")),
            Self::Cse(cse) => write!(f, "CSE {cse}"),
            Self::MafClient(id) => write!(f, "MAF client {id}"),
        }
    }
}

fn seconds(time: Option<SystemTime>) -> Option<u64> {
    let since = time?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(module: &str, rsc: u16, reason: Option<&str>) -> Answer {
        Answer::Denied { module: module.into(), rsc, reason: reason.map(Into::into) }
    }

    #[test]
    fn outcome_differs_from_wording() {
        let one = denied("a", 4103, Some("no"));
        assert_eq!(one.differs(&one), Difference::None);
        assert_eq!(one.differs(&denied("a", 4103, None)), Difference::None);
        assert_eq!(one.differs(&denied("a", 4103, Some("never"))), Difference::Wording);
        assert_eq!(one.differs(&denied("b", 4103, Some("no"))), Difference::Wording);
        assert_eq!(one.differs(&denied("a", 4106, Some("no"))), Difference::Effect);
        let scope = |scope| Answer::Allowed { scope };
        let once = scope(Scope::ThisRequest);
        assert_eq!(one.differs(&once), Difference::Effect);
        assert_eq!(once.differs(&scope(Scope::Originator)), Difference::Wording);
        assert_eq!(Answer::Unclaimed.differs(&Answer::Unclaimed), Difference::None);
    }

    #[test]
    fn reason_of_key_reading_module_is_hidden() {
        let one = denied("psk-derived", 4103, Some("the key is 00ff"));
        assert_eq!(one.clone().without_reasons_of(|m| m == "other"), one);
        let told = one.without_reasons_of(|m| m == "psk-derived");
        assert_eq!(told, denied("psk-derived", 4103, None));
    }
}
