//! The definitions of `<flexContainer>`s: their root names and custom attributes, by the value of
//! `cnd` (TS-0001 clause 9.6.35, TS-0004 clause 7.4.37).
//!
//! The definitions of TS-0023 for lights, plugs and thermostats are built in. A file of the operator
//! adds others, or replaces them.

use std::collections::{BTreeMap, HashMap};

use saegis_onem2m::timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The built-in definitions.
const HOME: &str = include_str!("definitions/home.toml");

/// Maximum number of definitions in a file, and of custom attributes in a definition.
const MAX_DEFINITIONS: usize = 1024;
const MAX_ATTRIBUTES: usize = 128;

/// Maximum lengths in bytes of an identifier (`cnd`), of a root name or an attribute name, and of a
/// text.
const MAX_IDENTIFIER: usize = 256;
const MAX_NAME: usize = 64;
const MAX_TEXT: usize = 16 << 10;

/// Maximum number of entries in a list.
const MAX_ENTRIES: usize = 256;

/// Names that a custom attribute cannot have: those of other attributes of a `<flexContainer>`, and
/// those in which a request names an originator or a resource.
pub(crate) const RESERVED: [&str; 39] = [
    "aa", "acpi", "aei", "ast", "at", "cbs", "ch", "cnd", "cni", "cr", "cs", "csi", "cstn", "ct",
    "daci", "disr", "et", "fcied", "fr", "lbl", "loc", "lt", "mbs", "mia", "mid", "mni", "nl",
    "nu", "or", "org", "pi", "pv", "pvs", "ri", "rn", "st", "su", "ty", "uri",
];

/// The reason why definitions are invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The file is not TOML of this form.
    #[error("{0}")]
    Toml(String),
    /// A definition is invalid.
    #[error("the definition {0:?} {1}")]
    Definition(String, String),
    /// There are too many definitions.
    #[error("a file has at most {MAX_DEFINITIONS} definitions")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    flex_container: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    definition: String,
    root: String,
    #[serde(default)]
    required: BTreeMap<String, CustomKind>,
    #[serde(default)]
    optional: BTreeMap<String, CustomKind>,
}

/// The kind of a custom attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CustomKind {
    Boolean,
    Integer,
    NonNegativeInteger,
    Number,
    Text,
    Timestamp,
    /// A list of texts, numbers and Booleans.
    List,
}

impl CustomKind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::NonNegativeInteger => value.is_u64(),
            Self::Number => value.is_number(),
            Self::Text => value.as_str().is_some_and(|text| text.len() <= MAX_TEXT),
            Self::Timestamp => value.as_str().is_some_and(|text| timestamp::parse(text).is_ok()),
            Self::List => value.as_array().is_some_and(|list| {
                let is_scalar = |v: &Value| v.is_boolean() || v.is_number() || Self::Text.fits(v);
                list.len() <= MAX_ENTRIES && list.iter().all(is_scalar)
            }),
        }
    }

    fn wanted(self) -> String {
        match self {
            Self::Boolean => "must be true or false".into(),
            Self::Integer => "must be an integer".into(),
            Self::NonNegativeInteger => "must be a non-negative integer".into(),
            Self::Number => "must be a number".into(),
            Self::Text => format!("must be a text of at most {MAX_TEXT} bytes"),
            Self::Timestamp => "must be a time such as 20261124T093000".into(),
            Self::List => {
                format!("must be a list of at most {MAX_ENTRIES} texts, numbers and Booleans")
            }
        }
    }
}

/// A definition: the root name and the custom attributes of one kind of `<flexContainer>`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    root: String,
    attributes: BTreeMap<String, (CustomKind, bool)>,
}

impl Definition {
    /// Returns the root name of the representation.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Checks the value of a custom attribute; `None` if there is no such attribute.
    ///
    /// # Errors
    /// Returns a description of valid values.
    pub(crate) fn check(&self, name: &str, value: &Value) -> Option<Result<(), String>> {
        let (kind, _) = self.attributes.get(name)?;
        Some(if kind.fits(value) { Ok(()) } else { Err(kind.wanted()) })
    }

    /// Returns whether a custom attribute is required; `None` if there is no such attribute.
    pub(crate) fn is_required(&self, name: &str) -> Option<bool> {
        self.attributes.get(name).map(|(_, required)| *required)
    }

    /// Returns the names of the required attributes.
    pub(crate) fn required(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(|(_, (_, required))| *required).map(|(name, _)| name.as_str())
    }
}

/// The definitions of a CSE.
#[derive(Debug, Default)]
pub struct Definitions {
    by_id: HashMap<String, Definition>,
}

impl Definitions {
    /// Returns the built-in definitions.
    #[must_use]
    pub fn home() -> Self {
        // A unit test checks the text.
        Self::parse(HOME).unwrap_or_default()
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// Returns the first fault.
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        let file: File = toml::from_str(text).map_err(|e| DefinitionError::Toml(e.to_string()))?;
        if file.flex_container.len() > MAX_DEFINITIONS {
            return Err(DefinitionError::TooMany);
        }
        let mut all = Self::default();
        for entry in file.flex_container {
            let id = entry.definition.clone();
            let fault = |why: String| DefinitionError::Definition(id.clone(), why);
            if all.by_id.contains_key(&id) {
                return Err(fault("occurs twice".into()));
            }
            let definition = entry.into_definition().map_err(fault)?;
            all.by_id.insert(id, definition);
        }
        Ok(all)
    }

    /// Adds other definitions. They replace those with the same identifiers.
    pub fn extend(&mut self, other: Self) {
        self.by_id.extend(other.by_id);
    }

    /// Returns the definition with this identifier.
    pub(crate) fn get(&self, id: &str) -> Option<&Definition> {
        self.by_id.get(id)
    }

    /// Returns whether a definition has a custom attribute with this name.
    pub(crate) fn have_attribute(&self, name: &str) -> bool {
        self.by_id.values().any(|definition| definition.attributes.contains_key(name))
    }
}

impl Entry {
    fn into_definition(self) -> Result<Definition, String> {
        let is_name = |text: &str| {
            (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let is_root = |text: &str| {
            let parts = text.split_once(':');
            parts.is_some_and(|(prefix, name)| is_name(prefix) && prefix != "m2m" && is_name(name))
        };
        let id = &self.definition;
        if !(1..=MAX_IDENTIFIER).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("must be a URI of at most {MAX_IDENTIFIER} bytes"));
        }
        if !is_root(&self.root) {
            return Err(format!("has the root {:?}; it must be like cod:binSh", self.root));
        }
        let mut attributes = BTreeMap::new();
        for (all, is_required) in [(self.required, true), (self.optional, false)] {
            for (name, kind) in all {
                if !is_name(&name) || RESERVED.contains(&name.as_str()) {
                    return Err(format!("cannot have an attribute named {name:?}"));
                }
                if attributes.insert(name.clone(), (kind, is_required)).is_some() {
                    return Err(format!("has the attribute {name} twice"));
                }
            }
        }
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(format!("has more than {MAX_ATTRIBUTES} attributes"));
        }
        Ok(Definition { root: self.root, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn built_in_definitions_are_valid() {
        let home = Definitions::parse(HOME).unwrap();
        let switch = home.get("org.onem2m.common.moduleclass.binarySwitch").unwrap();
        assert_eq!(switch.root(), "cod:binSh");
        assert_eq!(switch.required().collect::<Vec<_>>(), ["state"]);
        assert_eq!(switch.check("state", &json!(true)), Some(Ok(())));
        assert!(switch.check("state", &json!("true")).unwrap().is_err());
        assert_eq!(switch.check("power", &json!(true)), None);
        for device in ["deviceLight", "deviceSmartPlug", "deviceThermostat"] {
            assert!(home.get(&format!("org.onem2m.common.device.{device}")).is_some(), "{device}");
        }
        assert!(home.have_attribute("curT0") && !home.have_attribute("position"));
    }

    #[test]
    fn values_have_kind_of_their_definition() {
        use CustomKind as K;
        for (kind, good, bad) in [
            (K::Boolean, json!(false), json!(0)),
            (K::Integer, json!(-1), json!(1.5)),
            (K::NonNegativeInteger, json!(0), json!(-1)),
            (K::Number, json!(21.5), json!("21.5")),
            (K::Number, json!(21), json!(true)),
            (K::Text, json!(""), json!("x".repeat(MAX_TEXT + 1))),
            (K::Timestamp, json!("20261124T093000,5"), json!("today")),
            (K::List, json!([1, "a", true]), json!([[1]])),
            (K::List, json!([]), json!(vec![1; MAX_ENTRIES + 1])),
            (K::List, json!([]), json!({})),
        ] {
            assert!(kind.fits(&good), "{kind:?} {good}");
            assert!(!kind.fits(&bad), "{kind:?}");
            assert!(!kind.wanted().is_empty());
        }
    }

    #[test]
    fn invalid_definitions_are_rejected() {
        let entry = |definition: &str, root: &str, rest: &str| {
            format!("[[flex-container]]\ndefinition = {definition:?}\nroot = {root:?}\n{rest}\n")
        };
        let good = entry("a.b", "my:box", "required = { power = \"number\" }");
        assert!(Definitions::parse(&good).is_ok());
        for bad in [
            "flex = 1".into(),
            good.clone() + &good,
            entry("", "my:box", ""),
            entry("a b", "my:box", ""),
            entry("a.b", "box", ""),
            entry("a.b", "m2m:cnt", ""),
            entry("a.b", "my:bo x", ""),
            entry("a.b", "my:box", "required = { cr = \"text\" }"),
            entry("a.b", "my:box", "required = { po-wer = \"text\" }"),
            entry("a.b", "my:box", "required = { power = \"float\" }"),
            entry("a.b", "my:box", "color = 1"),
            entry("a.b", "my:box", "required = { p = \"text\" }\noptional = { p = \"text\" }"),
        ] {
            assert!(Definitions::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_definition_replaces_built_in_one() {
        let mut all = Definitions::home();
        let id = "org.onem2m.common.moduleclass.binarySwitch";
        let own = format!("[[flex-container]]\ndefinition = {id:?}\nroot = \"my:switch\"\n");
        all.extend(Definitions::parse(&own).unwrap());
        assert_eq!(all.get(id).unwrap().root(), "my:switch");
    }
}
