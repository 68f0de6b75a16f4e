//! Request and response primitives (TS-0004 clause 6.4), as far as a gateway reads them.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::rsc::Rsc;
use crate::target::Target;

/// The operation of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create a resource.
    Create,
    /// Retrieve a resource, or discover some.
    Retrieve,
    /// Update a resource.
    Update,
    /// Delete a resource.
    Delete,
    /// Notify.
    Notify,
}

impl Operation {
    /// The name of the operation, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Retrieve => "retrieve",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Notify => "notify",
        }
    }
}

/// A request primitive.
#[derive(Debug, Clone)]
pub struct RequestPrimitive {
    /// What to do.
    pub operation: Operation,
    /// With what.
    pub to: Target,
    /// Who asks, as written; absent where the originator wrote none.
    pub from: Option<String>,
    /// The Request Identifier.
    pub request_id: String,
    /// The Release Version Indicator, absent in releases before 3.
    pub release: Option<String>,
    /// The resource type of a create.
    pub resource_type: Option<u16>,
    /// The representation in JSON.
    pub content: Option<Content>,
    /// Filter criteria, result content and whatever else the query string held, in order.
    pub query: Vec<(String, String)>,
    /// Further parameters that travel in header fields of their own, by lower-case field name.
    pub parameters: Vec<(&'static str, String)>,
}

impl RequestPrimitive {
    /// The value of a parameter of the query string.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A response primitive.
#[derive(Debug, Clone)]
pub struct ResponsePrimitive {
    /// How it went.
    pub rsc: Rsc,
    /// The Request Identifier of the request; empty where the request had none to repeat.
    pub request_id: String,
    /// The Release Version Indicator.
    pub release: Option<String>,
    /// The representation in JSON.
    pub content: Option<Bytes>,
    /// The address of what was created.
    pub content_location: Option<String>,
    /// Further parameters that travel in header fields of their own, by lower-case field name.
    pub parameters: Vec<(&'static str, String)>,
}

impl ResponsePrimitive {
    /// The answer `rsc` to `request`, without content.
    #[must_use]
    pub fn to(request: &RequestPrimitive, rsc: Rsc) -> Self {
        Self {
            rsc,
            request_id: request.request_id.clone(),
            release: request.release.clone(),
            content: None,
            content_location: None,
            parameters: Vec::new(),
        }
    }

    /// A refusal that says why, in the debugging information of TS-0004 (`m2m:dbg`).
    #[must_use]
    pub fn refusal(request_id: &str, release: Option<&str>, rsc: Rsc, why: &str) -> Self {
        let body = serde_json::json!({ "m2m:dbg": why });
        Self {
            rsc,
            request_id: request_id.into(),
            release: release.map(Into::into),
            content: Some(body.to_string().into()),
            content_location: None,
            parameters: Vec::new(),
        }
    }
}

/// A representation: a JSON object, and the originators that it names.
#[derive(Debug, Clone)]
pub struct Content {
    bytes: Bytes,
    named: Vec<NamedOriginator>,
}

/// An attribute of a representation that names an originator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedOriginator {
    /// The attribute's short name.
    pub attribute: &'static str,
    /// The originator it names.
    pub value: String,
}

/// Attributes in which a request can claim to be somebody's: creator, AE-ID, and the From of a
/// primitive inside a primitive (TS-0004 clause 8.2).
const NAMING: [&str; 3] = ["cr", "aei", "fr"];

/// A content that is not the JSON of a representation.
#[derive(Debug, thiserror::Error)]
#[error("the content is not a JSON object of one representation: {0}")]
pub struct ContentError(serde_json::Error);

impl Content {
    /// Reads a representation: a JSON object whose members are resources. Each mention of an
    /// originator counts, also where a name is repeated, so that no second reader can find one
    /// that was not checked.
    ///
    /// # Errors
    /// When it is no JSON object, or an attribute that names an originator is no text.
    pub fn parse(bytes: Bytes) -> Result<Self, ContentError> {
        let mut named = Vec::new();
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        Walk(&mut named, Place::Outer)
            .deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(ContentError)?;
        Ok(Self { bytes, named })
    }

    /// The JSON text.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The originators named, in order.
    #[must_use]
    pub fn named_originators(&self) -> &[NamedOriginator] {
        &self.named
    }
}

/// Where in a representation a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The outer object, whose members are resources.
    Outer,
    /// A resource, whose members are attributes.
    Resource,
    /// An attribute's value. It is walked through so that its depth is bounded (by `serde_json`)
    /// for every reader that comes after.
    Attribute,
}

/// Walks through a value and notes the originators that it names.
struct Walk<'a>(&'a mut Vec<NamedOriginator>, Place);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.1 {
            Place::Outer => deserializer.deserialize_map(self),
            Place::Resource | Place::Attribute => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let naming = NAMING.into_iter().find(|n| *n == key);
            match (self.1, naming) {
                (Place::Outer, _) => map.next_value_seed(Walk(self.0, Place::Resource))?,
                (Place::Resource, Some(attribute)) => {
                    if let Some(value) = map.next_value::<Option<String>>()? {
                        self.0.push(NamedOriginator { attribute, value });
                    }
                }
                (Place::Resource | Place::Attribute, _) => {
                    map.next_value_seed(Walk(self.0, Place::Attribute))?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk(self.0, Place::Attribute))?.is_some() {}
        Ok(())
    }

    // What stands where a resource would and is no object names nobody.
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(json: &str) -> Option<Vec<(&'static str, String)>> {
        let content = Content::parse(Bytes::copy_from_slice(json.as_bytes())).ok()?;
        Some(content.named.into_iter().map(|n| (n.attribute, n.value)).collect())
    }

    #[test]
    fn every_mention_of_an_originator_is_found() {
        assert_eq!(named(r#"{"m2m:cnt":{"rn":"x"}}"#), Some(vec![]));
        assert_eq!(
            named(r#"{"m2m:ae":{"cr":"Ca","rn":"x","aei":"Cb","cr":"Cc","cr":null}}"#),
            Some(vec![("cr", "Ca".into()), ("aei", "Cb".into()), ("cr", "Cc".into())])
        );
        assert_eq!(
            named(r#"{"m2m:cnt":{"c\u0072":"Ca"},"m2m:cnt":{"cr":"Cb"}}"#),
            Some(vec![("cr", "Ca".into()), ("cr", "Cb".into())])
        );
        assert_eq!(named(r#"{"m2m:uril":["a","b"],"x":1,"y":null,"z":"t"}"#), Some(vec![]));
    }

    #[test]
    fn what_is_no_representation_is_refused() {
        for bad in
            ["", "[]", "1", "\"x\"", "{", "{}x", "{\"a\":{\"cr\":1}}", "{\"a\":{\"cr\":[\"C\"]}}"]
        {
            assert_eq!(named(bad), None, "{bad}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(named(&deep), None);
    }
}
