//! Topics that a client of an MQTT server uses (TS-0010 clause 6.4), in JSON.

use super::{
    MAX_TOPIC, PREFIX, REGISTRATION_REQUEST, REGISTRATION_RESPONSE, REQUEST, RESPONSE, TopicError,
    check_level,
};
use crate::id::CseId;
pub use mqtt_proto::TopicFilter;
pub use mqtt_proto::v3::SubscribeReturnCode;

/// Serialization of the primitives, as the last level of each topic.
const TYPE: &str = "json";

/// The topic of a request, and that of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTopics {
    /// Topic in which the request is published.
    pub request: String,
    /// Topic in which the receiver publishes the response.
    pub response: String,
}

impl RequestTopics {
    /// Returns the topics of a request of `originator` to the CSE `cse`.
    ///
    /// # Errors
    /// Returns an error if the originator cannot be a level of a topic.
    pub fn of(originator: &str, cse: &CseId) -> Result<Self, TopicError> {
        Self::new((REQUEST, RESPONSE), &level(originator)?, cse)
    }

    /// Returns the topics of a registration by an originator without an identifier, which is known
    /// by its Credential-ID (clause 6.4.4).
    ///
    /// # Errors
    /// Returns an error if the Credential-ID cannot be a level of a topic, or if another one can have
    /// the same level.
    pub fn of_registration(credential_id: &str, cse: &CseId) -> Result<Self, TopicError> {
        let kinds = (REGISTRATION_REQUEST, REGISTRATION_RESPONSE);
        check_unambiguous(credential_id)?;
        Self::new(kinds, &credential_id.replace('/', ":"), cse)
    }

    fn new(
        (request, response): (&str, &str),
        originator: &str,
        cse: &CseId,
    ) -> Result<Self, TopicError> {
        check_level(originator)?;
        let topic = |kind: &str| format!("{PREFIX}{kind}/{originator}/{}/{TYPE}", cse.bare());
        let topics = Self { request: topic(request), response: topic(response) };
        if topics.response.len() > MAX_TOPIC { Err(TopicError::TooLong) } else { Ok(topics) }
    }
}

/// Checks that a Credential-ID has no `:`, which the level of a topic has instead of `/`. The scheme of
/// a public key identifier, `ni:` (RFC 6920), is an exception, so `ni/` is not accepted.
fn check_unambiguous(credential_id: &str) -> Result<(), TopicError> {
    let (_, value) = credential_id.split_once('-').unwrap_or(("", credential_id));
    let is_unambiguous = match value.strip_prefix("ni:") {
        Some(rest) => !rest.contains(':'),
        None => !value.contains(':') && !value.starts_with("ni/"),
    };
    if is_unambiguous { Ok(()) } else { Err(TopicError::Ambiguous) }
}

/// Returns the filters of all responses of a CSE, to any originator.
#[must_use]
pub fn filters_of_responses(cse: &CseId) -> [String; 2] {
    [RESPONSE, REGISTRATION_RESPONSE].map(|kind| format!("{PREFIX}{kind}/+/{}/{TYPE}", cse.bare()))
}

/// Returns the filter of the requests to an AE, and the topic of the responses to those of a CSE.
///
/// # Errors
/// Returns an error if the AE-ID cannot be a level of a topic.
pub fn topics_of_notifications(ae_id: &str, cse: &CseId) -> Result<(String, String), TopicError> {
    let ae = level(ae_id)?;
    check_level(&ae)?;
    let filter = format!("{PREFIX}{REQUEST}/+/{ae}/{TYPE}");
    Ok((filter, format!("{PREFIX}{RESPONSE}/{}/{ae}/{TYPE}", cse.bare())))
}

/// Returns the Client Identifier of an AE (clause 6.3.3).
#[must_use]
pub fn client_id_of_ae(ae_id: &str) -> String {
    format!("{}{ae_id}", super::AE_CLIENT)
}

/// Converts an identifier to a level of a topic: without the leading `/`, and with `:` instead of
/// each other `/`.
fn level(id: &str) -> Result<String, TopicError> {
    // An identifier has no colon, so the conversion is unambiguous.
    if id.contains(':') {
        return Err(TopicError::Form);
    }
    let level = match id.strip_prefix("//") {
        Some(absolute) => format!(":{absolute}"),
        None => id.strip_prefix('/').unwrap_or(id).to_owned(),
    };
    Ok(level.replace('/', ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_levels() {
        let cse = CseId::parse("mn-cse").unwrap();
        for (from, level) in [
            ("Clight", "Clight"),
            ("/mn-cse/Clight", "mn-cse:Clight"),
            ("/asn-1", "asn-1"),
            ("//sp.org/asn-1/C1", ":sp.org:asn-1:C1"),
        ] {
            let topics = RequestTopics::of(from, &cse).unwrap();
            assert_eq!(topics.request, format!("/oneM2M/req/{level}/mn-cse/json"));
            assert_eq!(topics.response, format!("/oneM2M/resp/{level}/mn-cse/json"));
        }
        let topics = RequestTopics::of_registration("12-a/b@c.d", &cse).unwrap();
        assert_eq!(topics.request, "/oneM2M/reg_req/12-a:b@c.d/mn-cse/json");
        assert_eq!(topics.response, "/oneM2M/reg_resp/12-a:b@c.d/mn-cse/json");
    }

    #[test]
    fn identifier_that_changes_the_topic_is_refused() {
        let cse = CseId::parse("mn-cse").unwrap();
        for from in ["", "/", "+", "#", "a+", "a#b", "mn-cse:Clight", "a\0", "a\n"] {
            assert!(RequestTopics::of(from, &cse).is_err(), "{from:?}");
        }
        assert!(RequestTopics::of_registration("12-a+b", &cse).is_err());
    }

    #[test]
    fn credential_ids_have_different_topics() {
        let cse = CseId::parse("mn-cse").unwrap();
        let topics = |id: &str| RequestTopics::of_registration(id, &cse).map(|of| of.request);
        let key = "20-ni:///sha-256;f4OxZX";
        assert_eq!(topics(key).unwrap(), "/oneM2M/reg_req/20-ni::::sha-256;f4OxZX/mn-cse/json");
        for id in ["12-a:b", "20-ni:a:b", "20-ni////sha-256;f4OxZX", "20-ni/::/sha-256;f4OxZX"] {
            assert_eq!(topics(id), Err(TopicError::Ambiguous), "{id}");
        }
    }
}
