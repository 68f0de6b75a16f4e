//! Topics of the MQTT binding (TS-0010 clause 6.4), and the rights of a client to them (clause
//! 7.4).
//!
//! A topic has the form `/oneM2M/<kind>/<originator>/<receiver>/<type>`. Its originator is the
//! originator of the request, also in the topic of the response. An identifier in a topic omits its
//! leading `/`, and has `:` instead of each other `/`.
//!
//! The MQTT server of TS-0010 forwards messages between its clients. Here the CSE is the only peer
//! of each client, so a client needs only the topics between itself and the CSE. All others are
//! refused.

pub mod client;
pub mod packet;

use crate::credential::Entity;
use crate::id::{self, AeIdStem, CseId};
use crate::serialization::Serialization;

/// Prefix of all topics.
const PREFIX: &str = "/oneM2M/";
/// Maximum length of a topic, in bytes: two identifiers, and room for the rest.
pub const MAX_TOPIC: usize = 2 * id::MAX_LEN + 64;

const REQUEST: &str = "req";
const RESPONSE: &str = "resp";
const REGISTRATION_REQUEST: &str = "reg_req";
const REGISTRATION_RESPONSE: &str = "reg_resp";

/// Prefixes of Client Identifiers.
const AE_CLIENT: &str = "A::";
const CSE_CLIENT: &str = "C::";

/// A topic or a filter that the client has no right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The topic is longer than [`MAX_TOPIC`].
    #[error("the topic is longer than {MAX_TOPIC} bytes")]
    TooLong,
    /// The topic does not have the form of oneM2M.
    #[error("the topic is not /oneM2M/<kind>/<originator>/<receiver>/<type>")]
    Form,
    /// The topic names another client.
    #[error("the topic names another originator or receiver than this client")]
    OtherClient,
    /// The topic names another CSE than this one.
    #[error("the topic names another CSE than this one")]
    OtherCse,
    /// The topic is one in which the CSE publishes.
    #[error("a client does not publish in this topic")]
    Direction,
    /// The filter selects topics of other clients.
    #[error("the filter selects topics of other clients")]
    Wildcard,
    /// Another Credential-ID can have the same level in a topic.
    #[error("the Credential-ID has `:`, which stands for `/` in a topic")]
    Ambiguous,
    /// The type is not `json`, `cbor` or `xml`.
    #[error("the last level of the topic is not json, cbor or xml")]
    Type,
}

/// A message that a client publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// A request.
    Request {
        /// The AE that the topic names as the originator. Absent for a CSE.
        ae: Option<AeIdStem>,
        /// The last level of the topic.
        primitive_type: PrimitiveType,
    },
    /// A request of a client that is not registered.
    Registration(PrimitiveType),
    /// A response to a request that was sent to the client.
    Response(PrimitiveType),
}

/// The last level of a topic (TS-0010 clause 6.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimitiveType {
    /// A supported serialization.
    Supported(Serialization),
    /// XML, which gets a response with the reason.
    Xml,
}

impl PrimitiveType {
    fn parse(level: &str) -> Result<Self, TopicError> {
        match level {
            "json" => Ok(Self::Supported(Serialization::Json)),
            "cbor" => Ok(Self::Supported(Serialization::Cbor)),
            "xml" => Ok(Self::Xml),
            _ => Err(TopicError::Type),
        }
    }
}

fn name(serialization: Serialization) -> &'static str {
    match serialization {
        Serialization::Json => "json",
        Serialization::Cbor => "cbor",
    }
}

/// The topics that a client subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Kind of the messages.
    pub messages: Messages,
    /// The client's identifier, in the form in which the filter has it.
    client: Box<str>,
    /// The CSE-ID, in the form in which the filter has it. Absent for a wildcard.
    cse: Option<Box<str>>,
    /// The type that the filter selects. Absent for all types.
    serialization: Option<Serialization>,
}

impl Subscription {
    /// Returns the serialization of requests of the CSE to the client.
    #[must_use]
    pub fn serialization(&self) -> Serialization {
        self.serialization.unwrap_or_default()
    }

    /// Returns whether the filter names an AE of `cse` as the client.
    #[must_use]
    pub fn names_ae(&self, cse: &CseId, ae: &str) -> bool {
        let relative = self.client.strip_prefix(cse.bare()).and_then(|r| r.strip_prefix(':'));
        &*self.client == ae || relative == Some(ae)
    }

    /// Returns the topic of a message of this kind that the filter selects. Returns `None` if it
    /// selects another serialization.
    #[must_use]
    pub fn topic(&self, cse: &CseId, serialization: Serialization) -> Option<String> {
        if self.serialization.is_some_and(|selected| selected != serialization) {
            return None;
        }
        let cse = self.cse.as_deref().unwrap_or(cse.bare());
        let (client, primitive_type) = (&self.client, name(serialization));
        Some(match self.messages {
            Messages::Requests => format!("{PREFIX}{REQUEST}/{cse}/{client}/{primitive_type}"),
            Messages::Responses => format!("{PREFIX}{RESPONSE}/{client}/{cse}/{primitive_type}"),
            Messages::RegistrationResponses => {
                format!("{PREFIX}{REGISTRATION_RESPONSE}/{client}/{cse}/{primitive_type}")
            }
        })
    }
}

/// Kinds of messages that the CSE publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// Requests to the client, such as notifications.
    Requests,
    /// Responses to the client's requests.
    Responses,
    /// Responses to requests before the registration.
    RegistrationResponses,
}

/// The Client Identifier of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientId {
    /// It names the entity of the association.
    Own,
    /// It names another entity.
    Other,
    /// It names no entity, as that of a client before its registration.
    Free,
}

/// The rights of one client: those of the entity that its association proves.
#[derive(Debug, Clone, Copy)]
pub struct TopicRights<'a> {
    /// This CSE.
    pub cse: &'a CseId,
    /// Domain name of the service provider, for topics with absolute identifiers.
    pub service_provider: Option<&'a str>,
    /// The client.
    pub entity: &'a Entity,
}

impl TopicRights<'_> {
    /// Classifies the topic of a message that the client publishes.
    ///
    /// # Errors
    /// Returns the reason why the client must not publish in this topic.
    pub fn publication(&self, topic: &str) -> Result<Publication, TopicError> {
        let [kind, first, second, primitive_type] = levels(topic)?;
        let primitive_type = PrimitiveType::parse(primitive_type)?;
        match kind {
            REQUEST => {
                let ae = self.check_client(first)?;
                self.check_cse(second)?;
                Ok(Publication::Request { ae, primitive_type })
            }
            REGISTRATION_REQUEST => {
                // The Credential-ID is not read: the association has its own (clause 7.3).
                check_level(first)?;
                self.check_cse(second)?;
                Ok(Publication::Registration(primitive_type))
            }
            RESPONSE => {
                self.check_cse(first)?;
                self.check_client(second)?;
                Ok(Publication::Response(primitive_type))
            }
            REGISTRATION_RESPONSE => Err(TopicError::Direction),
            _ => Err(TopicError::Form),
        }
    }

    /// Classifies a filter that the client subscribes to.
    ///
    /// # Errors
    /// Returns the reason why the client must not subscribe to it.
    pub fn subscription(&self, filter: &str) -> Result<Subscription, TopicError> {
        let (kind, levels) = filter_levels(filter)?;
        let (messages, client, cse, kind_of_type) = match (kind, levels) {
            (REQUEST, [cse, client, last]) => (Messages::Requests, client, cse, last),
            (RESPONSE, [client, cse, last]) => (Messages::Responses, client, cse, last),
            (REGISTRATION_RESPONSE, [client, cse, last]) => {
                (Messages::RegistrationResponses, client, cse, last)
            }
            (REGISTRATION_REQUEST, _) => return Err(TopicError::Direction),
            _ => return Err(TopicError::Form),
        };
        let Level::Exact(client) = client else { return Err(TopicError::Wildcard) };
        match messages {
            // A client may not know its Credential-ID as this CSE does. Responses go to the level that
            // its request had, so no filter selects those of others.
            Messages::RegistrationResponses => check_level(client)?,
            Messages::Requests | Messages::Responses => self.check_client(client).map(drop)?,
        }
        let cse = match cse {
            Level::Any => None,
            Level::Exact(cse) => {
                self.check_cse(cse)?;
                Some(cse.into())
            }
        };
        let serialization = match kind_of_type {
            Level::Any => None,
            Level::Exact(level) => match PrimitiveType::parse(level)? {
                PrimitiveType::Supported(serialization) => Some(serialization),
                PrimitiveType::Xml => return Err(TopicError::Type),
            },
        };
        Ok(Subscription { messages, client: client.into(), cse, serialization })
    }

    /// Checks the Client Identifier of a client: `A::<AE-ID>` or `C::<CSE-ID>` of its own, or one
    /// without such a prefix (clause 6.3.3).
    #[must_use]
    pub fn client_id(&self, client_id: &str) -> ClientId {
        let (identifier, is_cse) =
            match (client_id.strip_prefix(AE_CLIENT), client_id.strip_prefix(CSE_CLIENT)) {
                (Some(ae), _) => (ae, false),
                (None, Some(cse)) => (cse, true),
                (None, None) => return ClientId::Free,
            };
        // As in a topic, or as in a primitive.
        let level = match identifier.strip_prefix("//") {
            Some(absolute) => format!(":{absolute}"),
            None => identifier.strip_prefix('/').unwrap_or(identifier).into(),
        };
        let is_own = self.check_client(&level.replace('/', ":")).is_ok();
        if is_own && is_cse == matches!(self.entity, Entity::Cse(_)) {
            ClientId::Own
        } else {
            ClientId::Other
        }
    }

    /// Checks that a level of a topic is the identifier of the client: an AE-ID-Stem or
    /// SP-relative AE-ID, or a CSE-ID. Returns the AE.
    fn check_client(&self, level: &str) -> Result<Option<AeIdStem>, TopicError> {
        check_level(level)?;
        let at_cse = level.strip_prefix(self.cse.bare());
        let relative = at_cse.and_then(|rest| rest.strip_prefix(':'));
        let is_ae = |stem: &str| level == stem || relative == Some(stem);
        match self.entity {
            Entity::Ae(_) | Entity::Aes(_) => {
                let ae = self.entity.stems().iter().find(|stem| is_ae(stem.as_str()));
                ae.cloned().map(Some).ok_or(TopicError::OtherClient)
            }
            Entity::Cse(cse) if self.is_cse(level, cse) => Ok(None),
            Entity::Cse(_) | Entity::NotYetKnown | Entity::MafClient(_) => {
                Err(TopicError::OtherClient)
            }
        }
    }

    fn check_cse(&self, level: &str) -> Result<(), TopicError> {
        check_level(level)?;
        if self.is_cse(level, self.cse) { Ok(()) } else { Err(TopicError::OtherCse) }
    }

    /// Whether a level of a topic is a CSE-ID, SP-relative or absolute.
    fn is_cse(&self, level: &str, cse: &CseId) -> bool {
        let absolute = level.strip_prefix(':').and_then(|rest| rest.split_once(':'));
        level == cse.bare()
            || absolute.is_some_and(|(provider, bare)| {
                Some(provider) == self.service_provider && bare == cse.bare()
            })
    }
}

/// Splits a topic into its kind, its originator, its receiver and its type.
fn levels(topic: &str) -> Result<[&str; 4], TopicError> {
    let rest = bounded(topic)?.strip_prefix(PREFIX).ok_or(TopicError::Form)?;
    let mut levels = rest.split('/');
    let mut next = || levels.next().ok_or(TopicError::Form);
    let found = [next()?, next()?, next()?, next()?];
    if levels.next().is_some() { Err(TopicError::Form) } else { Ok(found) }
}

/// A level of a filter.
#[derive(Debug, Clone, Copy)]
enum Level<'a> {
    Exact(&'a str),
    /// `+`, or a level that `#` stands for.
    Any,
}

/// Splits a filter into its kind and its further levels.
fn filter_levels(filter: &str) -> Result<(&str, [Level<'_>; 3]), TopicError> {
    let rest = bounded(filter)?.strip_prefix(PREFIX).ok_or(TopicError::Form)?;
    let (kind, rest) = rest.split_once('/').ok_or(TopicError::Form)?;
    let mut levels = [Level::Any; 3];
    let mut written = rest.split('/');
    let mut is_whole = false;
    for level in &mut levels {
        *level = match written.next() {
            None => return Err(TopicError::Form),
            Some("#") => {
                is_whole = true;
                break;
            }
            Some("+") => Level::Any,
            Some(exact) if exact.contains(['+', '#']) => return Err(TopicError::Form),
            Some(exact) => Level::Exact(exact),
        };
    }
    // `#` also stands for no level at all.
    match (is_whole, written.next(), written.next()) {
        (_, None, _) | (false, Some("#"), None) => Ok((kind, levels)),
        _ => Err(TopicError::Form),
    }
}

fn bounded(topic: &str) -> Result<&str, TopicError> {
    if topic.len() > MAX_TOPIC { Err(TopicError::TooLong) } else { Ok(topic) }
}

/// Checks a level of a topic that holds an identifier.
fn check_level(level: &str) -> Result<(), TopicError> {
    let is_identifier = !level.is_empty()
        && level.len() <= id::MAX_LEN
        && level.chars().all(|c| !c.is_control() && !matches!(c, '+' | '#'));
    if is_identifier { Ok(()) } else { Err(TopicError::Form) }
}

#[cfg(test)]
#[path = "mqtt_tests.rs"]
mod tests;
