//! The content of a primitive: a representation in JSON, and the originators that it names.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::resource::ResourceType;

/// A representation: a JSON object, and the originators that it names.
#[derive(Debug, Clone)]
pub struct Content {
    bytes: Bytes,
    root: String,
    named: Vec<NamedOriginator>,
    security: Option<SecurityInformation>,
}

/// Security information (`m2m:seci`, TS-0004 clause 6.3.5), told apart by its `securityInfoType`
/// (`sit`) and its `esprimObject` (`epo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityInformation {
    /// A primitive that is protected end to end (type 5, ESPrim). Its originator is not visible on
    /// the way.
    Esprim,
    /// Information of another type: dynamic authorization, random objects, a key exchange.
    Other,
    /// It has no type, an unknown one, or one that does not fit its members. Two parsers could take
    /// it for different types.
    Malformed,
}

/// An attribute of a representation that names an originator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedOriginator {
    /// Short name of the attribute.
    pub attribute: &'static str,
    /// Originator that it names.
    pub value: String,
}

/// Attributes in which a request can claim an identity: creator, AE-ID, and the From of a primitive
/// inside a primitive (TS-0004 clause 8.2).
const NAMING_ATTRIBUTES: [&str; 3] = ["cr", "aei", "fr"];

/// The attribute of a `<remoteCSE>` that claims an identity.
const CSE_ID: &str = "csi";

/// The root of a notification. Its `cr` names the creator of the subscription, and does not claim
/// an identity.
const NOTIFICATION: &str = "m2m:sgn";
/// The creator.
const CREATOR: &str = "cr";

/// Maximum number of originators that a content may name. Policy decides on each of them.
const MAX_NAMED: usize = 64;

/// The root of security information.
const SECURITY_INFORMATION: &str = "m2m:seci";
/// The `securityInfoType` of an ESPrim object.
const ESPRIM: u64 = 5;

/// The roots of the content of a Notify (TS-0004 table 7.5.2-1): notification, aggregated
/// notification, security information, response primitive.
const NOTIFIED: [&str; 4] = [NOTIFICATION, "m2m:agn", SECURITY_INFORMATION, "m2m:rsp"];

/// The error for a content that is not the JSON of a representation.
#[derive(Debug, thiserror::Error)]
#[error("the content is not a JSON object with one representation: {0}")]
pub struct ContentError(String);

/// Maximum length of a content error, in characters, because the parser repeats parts of its input.
const MAX_ERROR: usize = 200;

impl ContentError {
    fn new(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        match text.char_indices().nth(MAX_ERROR) {
            None => Self(text),
            Some((end, _)) => Self(format!("{}…", text.get(..end).unwrap_or_default())),
        }
    }
}

impl Content {
    /// Parses a representation: a JSON object with one member, the resource.
    ///
    /// Other JSON parsers may ignore case, or use the first or the last of two members with one
    /// name. So each name may occur once in the object and once in the resource, compared without
    /// case. No parser can then find a value that was not checked.
    ///
    /// # Errors
    /// Returns an error if `bytes` is not such an object, or an attribute that names an originator
    /// is not a text.
    pub fn parse(bytes: Bytes) -> Result<Self, ContentError> {
        let mut found = NamingAttributes::default();
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        ContentVisitor(&mut found, Level::Outer)
            .deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(|e| ContentError::new(&e))?;
        let NamingAttributes { root, named, security } = found;
        let root = root.ok_or_else(|| ContentError("it is empty".into()))?;
        let is_security = root.eq_ignore_ascii_case(SECURITY_INFORMATION);
        let security = is_security.then(|| security.kind());
        Ok(Self { bytes, root, named, security })
    }

    /// Returns whether the resource is of this type.
    #[must_use]
    pub fn is_of(&self, kind: ResourceType) -> bool {
        self.root.eq_ignore_ascii_case(kind.root())
    }

    /// Returns the kind of the content if it is security information.
    #[must_use]
    pub fn security_information(&self) -> Option<SecurityInformation> {
        self.security
    }

    /// Returns whether the content is that of a Notify, which is not a resource.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        NOTIFIED.iter().any(|root| self.root.eq_ignore_ascii_case(root))
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the named originators, in order.
    #[must_use]
    pub fn named_originators(&self) -> &[NamedOriginator] {
        &self.named
    }
}

/// The level of a value in a representation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The outer object, whose members are resources.
    Outer,
    /// A resource, whose members are attributes.
    Resource,
    /// The value of an attribute. It is visited so that `serde_json` bounds its depth for
    /// all later parsers.
    Attribute,
}

/// The originators found so far, and the root of the resource.
#[derive(Default)]
struct NamingAttributes {
    root: Option<String>,
    named: Vec<NamedOriginator>,
    security: SecurityMembers,
}

/// Members that tell security information apart.
#[derive(Default)]
struct SecurityMembers {
    /// The `sit`, if it is a number.
    kind: Option<u64>,
    /// Whether there is an `epo`.
    has_object: bool,
    /// Whether it is a list.
    is_list: bool,
}

impl SecurityMembers {
    fn kind(&self) -> SecurityInformation {
        match (self.kind, self.has_object, self.is_list) {
            (Some(ESPRIM), true, false) => SecurityInformation::Esprim,
            (Some(1..=4 | 6..=8), false, false) => SecurityInformation::Other,
            _ => SecurityInformation::Malformed,
        }
    }
}

impl NamingAttributes {
    fn is_security(&self) -> bool {
        self.root.as_ref().is_some_and(|root| root.eq_ignore_ascii_case(SECURITY_INFORMATION))
    }

    /// Returns the attribute by which a member with this name, compared without case, names an
    /// originator.
    fn naming_attribute(&self, key: &str) -> Option<&'static str> {
        let is = |root: &str| self.root.as_ref().is_some_and(|r| r.eq_ignore_ascii_case(root));
        let is_remote_cse = is(ResourceType::RemoteCse.root());
        let is_notification = is(NOTIFICATION);
        let mut names = NAMING_ATTRIBUTES
            .into_iter()
            .filter(|name| !(is_notification && *name == CREATOR))
            .chain(is_remote_cse.then_some(CSE_ID));
        names.find(|name| name.eq_ignore_ascii_case(key))
    }
}

/// ContentVisitors through a value and collects the originators that it names.
struct ContentVisitor<'a>(&'a mut NamingAttributes, Level);

impl<'de> DeserializeSeed<'de> for ContentVisitor<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.1 {
            Level::Outer => deserializer.deserialize_map(self),
            Level::Resource | Level::Attribute => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for ContentVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let ContentVisitor(found, level) = self;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if level != Level::Attribute {
                if key.contains(char::is_control) {
                    return Err(A::Error::custom("a name has a control character"));
                }
                if !seen.insert(key.to_ascii_lowercase()) {
                    return Err(A::Error::custom(format!("{key:?} occurs twice")));
                }
            }
            match level {
                Level::Outer => {
                    if found.naming_attribute(&key).is_some() {
                        return Err(A::Error::custom(format!("{key:?} is not a resource")));
                    }
                    if found.root.replace(key).is_some() {
                        return Err(A::Error::custom("there is more than one resource"));
                    }
                    map.next_value_seed(ContentVisitor(found, Level::Resource))?;
                }
                Level::Resource => match found.naming_attribute(&key) {
                    Some(attribute) => {
                        if let Some(value) = map.next_value::<Option<String>>()? {
                            if found.named.len() >= MAX_NAMED {
                                let why = format!("it names more than {MAX_NAMED} originators");
                                return Err(A::Error::custom(why));
                            }
                            found.named.push(NamedOriginator { attribute, value });
                        }
                    }
                    // Read as a number only in security information, the one content with it.
                    None if found.is_security() && key.eq_ignore_ascii_case("sit") => {
                        let kind = map.next_value::<serde_json::Value>()?;
                        found.security.kind = kind.as_u64();
                    }
                    None => {
                        found.security.has_object |= key.eq_ignore_ascii_case("epo");
                        map.next_value_seed(ContentVisitor(found, Level::Attribute))?;
                    }
                },
                Level::Attribute => map.next_value_seed(ContentVisitor(found, Level::Attribute))?,
            }
        }
        Ok(())
    }

    /// A resource in a list is a resource.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.security.is_list |= self.1 == Level::Resource;
        while seq.next_element_seed(ContentVisitor(self.0, self.1))?.is_some() {}
        Ok(())
    }

    // A resource that is not an object names no originators.
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
    fn originators_in_content_are_found() {
        assert_eq!(named(r#"{"m2m:cnt":{"rn":"x"}}"#), Some(vec![]));
        assert_eq!(
            named(r#"{"m2m:ae":{"cr":"Ca","rn":"x","aei":"Cb","fr":null}}"#),
            Some(vec![("cr", "Ca".into()), ("aei", "Cb".into())])
        );
        assert_eq!(named(r#"{"m2m:cnt":{"C\u0052":"Ca"}}"#), Some(vec![("cr", "Ca".into())]));
        assert_eq!(named(r#"{"m2m:ae":[{"aei":"Cb"}]}"#), Some(vec![("aei", "Cb".into())]));
        assert_eq!(named(r#"{"m2m:csr":{"csi":"/mn"}}"#), Some(vec![("csi", "/mn".into())]));
        assert_eq!(named(r#"{"m2m:svsn":{"csi":"/mn"}}"#), Some(vec![]));
        assert_eq!(named(r#"{"m2m:uril":["a","b"]}"#), Some(vec![]));
        // A notification's `cr` reports the creator of the subscription. It is not a claim.
        assert_eq!(named(r#"{"m2m:sgn":{"cr":"Ca","fr":"Cb"}}"#), Some(vec![("fr", "Cb".into())]));
    }

    #[test]
    fn security_information_is_told_apart_by_type() {
        use SecurityInformation::{Esprim, Malformed, Other};
        let kind = |json: &str| {
            let content = Content::parse(Bytes::copy_from_slice(json.as_bytes()));
            content.unwrap().security_information()
        };
        assert_eq!(kind(r#"{"m2m:cnt":{"sit":5,"epo":"x"}}"#), None);
        assert_eq!(kind(r#"{"m2m:seci":{"sit":5,"epo":"a..b.c.d"}}"#), Some(Esprim));
        assert_eq!(kind(r#"{"M2M:SECI":{"SIT":5,"EPO":"a..b.c.d"}}"#), Some(Esprim));
        for other in [1, 2, 3, 4, 6, 7, 8] {
            let json = format!(r#"{{"m2m:seci":{{"sit":{other},"x":{{}}}}}}"#);
            assert_eq!(kind(&json), Some(Other), "{json}");
        }
        for malformed in [
            "{}",
            r#"{"sit":5}"#,
            r#"{"epo":"x"}"#,
            r#"{"sit":3,"epo":"x"}"#,
            r#"{"epo":"x","sit":3}"#,
            r#"{"sit":0}"#,
            r#"{"sit":9}"#,
            r#"{"sit":-5}"#,
            r#"{"sit":5.0,"epo":"x"}"#,
            r#"{"sit":"5","epo":"x"}"#,
            r#"{"sit":[5],"epo":"x"}"#,
            r#"{"sit":null}"#,
            r#"[{"sit":5,"epo":"x"}]"#,
            r#"[{"sit":3}]"#,
            r#"[[{"sit":3}]]"#,
            "5",
            "null",
        ] {
            let json = format!(r#"{{"m2m:seci":{malformed}}}"#);
            assert_eq!(kind(&json), Some(Malformed), "{json}");
        }
    }

    #[test]
    fn invalid_representation_is_refused() {
        for bad in [
            "",
            "[]",
            "1",
            "\"x\"",
            "{",
            "{}",
            "{}x",
            "{\"a\":{}}x",
            r#"{"a":{"cr":1}}"#,
            r#"{"a":{"cr":["C"]}}"#,
            // Ambiguous input: two parsers could read it differently.
            r#"{"a":{},"b":{}}"#,
            r#"{"a":{},"a":{}}"#,
            r#"{"cr":"Ca"}"#,
            r#"{"AEI":{}}"#,
            r#"{"a":{"x":1,"x":2}}"#,
            r#"{"a":{"x":1,"X":2}}"#,
            r#"{"a":{"c\u0072":"Ca","cr":"Cb"}}"#,
            r#"{"a":{"cr\u0000x":"Ca"}}"#,
        ] {
            assert_eq!(named(bad), None, "{bad}");
        }
        let naming =
            |count| format!(r#"{{"m2m:ae":[{}]}}"#, vec![r#"{"cr":"C"}"#; count].join(","));
        assert_eq!(named(&naming(MAX_NAMED)).map(|all| all.len()), Some(MAX_NAMED));
        assert_eq!(named(&naming(MAX_NAMED + 1)), None);
        let deep = format!("{{\"a\":{{\"x\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(named(&deep), None);
    }
}
