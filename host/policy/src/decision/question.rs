//! Questions to the policy, as recorded, replayed and passed to shadow modules. They contain no
//! key.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use saegis_certificate::Flavour;
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use serde::{Deserialize, Serialize};

use crate::data::decision::{CertificateQuery, KeyRegistration, PskQuery, Registration, Rules};
use crate::data::service_subscription::{NoNode, Rule, Subscription};
use crate::data::text::printable;
use crate::host::bindings::saegis::policy::types;
use crate::module::hook::Hook;

/// Question about a decision, as recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// The lookup of a psk_identity.
    CredentialLookup {
        /// The psk_identity.
        psk_identity: String,
        /// The server name (SNI).
        server_name: Option<String>,
        /// The peer.
        peer: IpAddr,
    },
    /// The mapping of a certificate.
    CertificateMapping {
        /// Its flavour.
        flavour: MappedFlavour,
        /// Its Credential-ID.
        credential_id: String,
        /// The server name (SNI).
        server_name: Option<String>,
        /// The peer.
        peer: IpAddr,
        /// The rules that applied.
        #[serde(default, skip_serializing_if = "KnownRules::are_of_policy")]
        rules: KnownRules,
    },
    /// Whether a request may use its From.
    ImpersonationCheck {
        /// The association.
        association: Association,
        /// The request.
        primitive: Primitive,
    },
    /// Whether an AE may register.
    RegistrationCheck {
        /// The association.
        association: Association,
        /// The From as received.
        from: Option<String>,
        /// The App-ID.
        app_id: String,
        /// The rules that applied.
        #[serde(default, skip_serializing_if = "KnownRules::are_of_policy")]
        rules: KnownRules,
    },
    /// Whether a client of a MAF may register a key.
    KeyRegistrationCheck {
        /// The association.
        association: Association,
        /// The security usage of the key.
        suid: u8,
        /// The entities that may retrieve it.
        targets: Vec<String>,
    },
}

/// The flavors that policy maps to entities.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappedFlavour {
    /// A raw public key.
    RawPublicKey,
    /// A device certificate.
    Device,
    /// A Node-ID certificate.
    NodeId,
}

/// A security association, as modules receive it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Association {
    saef: Saef,
    entity: Entity,
    credential_id: String,
    peer: String,
    service_provider: Option<String>,
    cse: String,
    registrar: bool,
}

/// A Security Association Establishment Framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Saef {
    /// Provisioned symmetric key.
    ProvisionedSymmetricKey,
    /// Certificates.
    Certificate,
    /// A key of a MAF.
    Maf,
}

/// The entity of a credential or an association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entity {
    /// An AE whose AE-ID is not known yet.
    NotYetKnown,
    /// An AE.
    Ae(String),
    /// Several AEs.
    Aes(Vec<String>),
    /// A CSE.
    Cse(String),
    /// A client of a MAF.
    MafClient(String),
}

/// A request without its content, as modules receive it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Primitive {
    operation: Operation,
    to: String,
    from: Option<String>,
    resource_type: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    named_originators: Vec<NamedOriginator>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Operation {
    Create,
    Retrieve,
    Update,
    Delete,
    Notify,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedOriginator {
    attribute: String,
    value: String,
}

/// The rules of the service subscription that applied. Rules from another source than the policy
/// file are recorded as far as they concern the question.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownRules {
    /// Those of the policy file.
    #[default]
    OfPolicy,
    /// There was no service subscription.
    NoProfile,
    /// It had no node for the CSE.
    NoNode,
    /// These.
    These(Vec<Rule>),
}

/// A question in the types of the runtime.
#[derive(Clone)]
pub(crate) enum RuntimeQuestion {
    Lookup(PskQuery),
    Mapping(CertificateQuery),
    Originator(types::Association, types::Primitive),
    Registration(types::Association, Registration),
    KeyRegistration(types::Association, KeyRegistration),
}

impl RuntimeQuestion {
    pub fn hook(&self) -> Hook {
        match self {
            Self::Lookup(_) => Hook::CredentialLookup,
            Self::Mapping(_) => Hook::CertificateMapping,
            Self::Originator(..) => Hook::ImpersonationCheck,
            Self::Registration(..) => Hook::RegistrationCheck,
            Self::KeyRegistration(..) => Hook::KeyRegistrationCheck,
        }
    }

    /// Returns the rules of the question.
    pub fn rules(&self) -> &Rules {
        match self {
            Self::Mapping(query) => &query.rules,
            Self::Registration(_, registration) => &registration.rules,
            Self::Lookup(_) | Self::Originator(..) | Self::KeyRegistration(..) => {
                &Rules::OfGeneration
            }
        }
    }
}

impl From<&RuntimeQuestion> for Question {
    fn from(asked: &RuntimeQuestion) -> Self {
        match asked.clone() {
            RuntimeQuestion::Lookup(PskQuery { psk_identity, server_name, peer }) => {
                Self::CredentialLookup { psk_identity, server_name, peer }
            }
            RuntimeQuestion::Mapping(query) => {
                let credential_id = query.credential_id.to_string();
                Self::CertificateMapping {
                    flavour: match query.flavour {
                        Flavour::RawPublicKey => MappedFlavour::RawPublicKey,
                        Flavour::NodeId => MappedFlavour::NodeId,
                        // Other flavors identify an entity themselves, without a module.
                        Flavour::Device | Flavour::AeId | Flavour::CseId | Flavour::Fqdn => {
                            MappedFlavour::Device
                        }
                    },
                    server_name: query.server_name,
                    peer: query.peer,
                    rules: KnownRules::for_credential(&query.rules, &credential_id),
                    credential_id,
                }
            }
            RuntimeQuestion::Originator(association, primitive) => Self::ImpersonationCheck {
                association: association.into(),
                primitive: primitive.into(),
            },
            RuntimeQuestion::Registration(
                association,
                Registration { from, app_id, rules, .. },
            ) => {
                let rules = KnownRules::for_registration(
                    &rules,
                    &association.credential_id,
                    &app_id,
                    from.as_deref(),
                );
                Self::RegistrationCheck { association: association.into(), from, app_id, rules }
            }
            RuntimeQuestion::KeyRegistration(association, KeyRegistration { suid, targets }) => {
                Self::KeyRegistrationCheck {
                    association: association.into(),
                    suid,
                    targets: targets.iter().map(ToString::to_string).collect(),
                }
            }
        }
    }
}

/// A recorded question that a gateway cannot have asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidQuestion(String);

impl TryFrom<&Question> for RuntimeQuestion {
    type Error = InvalidQuestion;

    fn try_from(question: &Question) -> Result<Self, InvalidQuestion> {
        Ok(match question.clone() {
            Question::CredentialLookup { psk_identity, server_name, peer } => {
                Self::Lookup(PskQuery { psk_identity, server_name, peer })
            }
            Question::CertificateMapping { flavour, credential_id, server_name, peer, rules } => {
                let wrong = |e| InvalidQuestion(format!("credential_id {e}"));
                Self::Mapping(CertificateQuery {
                    flavour: match flavour {
                        MappedFlavour::RawPublicKey => Flavour::RawPublicKey,
                        MappedFlavour::Device => Flavour::Device,
                        MappedFlavour::NodeId => Flavour::NodeId,
                    },
                    credential_id: CredentialId::parse(&credential_id).map_err(wrong)?,
                    server_name,
                    peer,
                    rules: rules.into(),
                })
            }
            Question::ImpersonationCheck { association, primitive } => {
                Self::Originator(association.into(), primitive.into())
            }
            Question::RegistrationCheck { association, from, app_id, rules } => {
                // The announcement is already part of the association.
                let rules = rules.into();
                let registration = Registration { from, app_id, rules, announced: None };
                Self::Registration(association.into(), registration)
            }
            Question::KeyRegistrationCheck { association, suid, targets } => {
                let target = |t: &String| {
                    AbsoluteId::parse(t).map_err(|e| InvalidQuestion(format!("a target {e}")))
                };
                let targets = targets.iter().map(target).collect::<Result<_, _>>()?;
                Self::KeyRegistration(association.into(), KeyRegistration { suid, targets })
            }
        })
    }
}

impl Question {
    /// Returns the hook.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::CredentialLookup { .. } => Hook::CredentialLookup,
            Self::CertificateMapping { .. } => Hook::CertificateMapping,
            Self::ImpersonationCheck { .. } => Hook::ImpersonationCheck,
            Self::RegistrationCheck { .. } => Hook::RegistrationCheck,
            Self::KeyRegistrationCheck { .. } => Hook::KeyRegistrationCheck,
        }
    }
}

/// Formats it for logs and lists, on one line of bounded length.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |from: &Option<String>| from.clone().unwrap_or_else(|| "nobody".into());
        let text = match self {
            Self::CredentialLookup { psk_identity, peer, .. } => {
                format!("{psk_identity} from {peer}")
            }
            Self::CertificateMapping { credential_id, peer, .. } => {
                format!("{credential_id} from {peer}")
            }
            Self::ImpersonationCheck { association, primitive } => format!(
                "{}: {} {} as {}",
                association.credential_id,
                format!("{:?}", primitive.operation).to_lowercase(),
                primitive.to,
                name(&primitive.from),
            ),
            Self::RegistrationCheck { association, from, app_id, .. } => {
                format!("{}: {app_id} as {}", association.credential_id, name(from))
            }
            Self::KeyRegistrationCheck { association, suid, targets } => {
                format!("{}: SUID {suid} for {}", association.credential_id, targets.join(" "))
            }
        };
        f.write_str(&printable(&text))
    }
}

impl KnownRules {
    fn are_of_policy(&self) -> bool {
        matches!(self, Self::OfPolicy)
    }

    fn given(
        rules: &Rules,
        these: impl FnOnce(&Subscription) -> Result<Vec<Rule>, NoNode>,
    ) -> Self {
        match rules {
            Rules::OfGeneration => Self::OfPolicy,
            Rules::Given(None) => Self::NoProfile,
            Rules::Given(Some(subscription)) => match these(subscription) {
                Err(NoNode) => Self::NoNode,
                Ok(rules) => Self::These(rules),
            },
        }
    }

    /// Returns the rules that allow a registration.
    fn for_registration(rules: &Rules, credential: &str, app: &str, from: Option<&str>) -> Self {
        Self::given(rules, |subscription| {
            Ok(subscription.find(credential, app, from)?.into_iter().cloned().collect())
        })
    }

    /// Returns whether there is a rule for the credential, which is all that matters.
    fn for_credential(rules: &Rules, credential: &str) -> Self {
        Self::given(rules, |subscription| {
            let rule = |has: bool| {
                has.then(|| Rule {
                    name: "for this credential".into(),
                    applicable_cred_ids: vec![credential.into()],
                    allowed_app_ids: Vec::new(),
                    allowed_aes: Vec::new(),
                    allowed_role_ids: Vec::new(),
                })
            };
            Ok(rule(subscription.has_rule_for(credential)?).into_iter().collect())
        })
    }
}

impl From<KnownRules> for Rules {
    fn from(rules: KnownRules) -> Self {
        let given = |rules| Self::Given(Some(Arc::new(Subscription::of(rules))));
        match rules {
            KnownRules::OfPolicy => Self::OfGeneration,
            KnownRules::NoProfile => Self::Given(None),
            KnownRules::NoNode => given(None),
            KnownRules::These(rules) => given(Some(rules)),
        }
    }
}

/// Converts an enumeration of the contract to the type of this module and back, case by case.
macro_rules! same_cases {
    ($ours:ident, $theirs:path: $($case:ident $(($inner:ident))?),*) => {
        impl From<$theirs> for $ours {
            fn from(of: $theirs) -> Self {
                use $theirs as Theirs;
                match of { $(Theirs::$case $(($inner))? => Self::$case $(($inner))?),* }
            }
        }
        impl From<$ours> for $theirs {
            fn from(of: $ours) -> Self {
                use $theirs as Theirs;
                match of { $($ours::$case $(($inner))? => Theirs::$case $(($inner))?),* }
            }
        }
    };
}

same_cases!(Saef, types::Saef: ProvisionedSymmetricKey, Certificate, Maf);
same_cases!(Operation, types::Operation: Create, Retrieve, Update, Delete, Notify);
same_cases!(Entity, types::Entity: NotYetKnown, Ae(id), Aes(ids), Cse(id), MafClient(id));

/// Converts a record of the contract to the type of this module and back, field by field.
macro_rules! same_fields {
    ($ours:ident, $theirs:path: $($field:ident),*) => {
        impl From<$theirs> for $ours {
            fn from(of: $theirs) -> Self {
                Self { $($field: of.$field.into()),* }
            }
        }
        impl From<$ours> for $theirs {
            fn from(of: $ours) -> Self {
                Self { $($field: of.$field.into()),* }
            }
        }
    };
}

same_fields!(Association, types::Association: saef, entity, credential_id, peer, service_provider,
    cse, registrar);
same_fields!(NamedOriginator, types::NamedOriginator: attribute, value);

impl From<types::Primitive> for Primitive {
    fn from(of: types::Primitive) -> Self {
        Self {
            operation: of.operation.into(),
            to: of.to,
            from: of.from,
            resource_type: of.resource_type,
            named_originators: of.named_originators.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Primitive> for types::Primitive {
    fn from(of: Primitive) -> Self {
        Self {
            operation: of.operation.into(),
            to: of.to,
            from: of.from,
            resource_type: of.resource_type,
            named_originators: of.named_originators.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<saegis_onem2m::saef::Saef> for Saef {
    fn from(saef: saegis_onem2m::saef::Saef) -> Self {
        use saegis_onem2m::saef::Saef as Theirs;
        match saef {
            Theirs::ProvisionedSymmetricKey => Self::ProvisionedSymmetricKey,
            Theirs::Certificate => Self::Certificate,
            Theirs::Maf => Self::Maf,
        }
    }
}
