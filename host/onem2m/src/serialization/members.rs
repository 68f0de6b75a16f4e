//! The members of a JSON object, with unique names and unparsed values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::binding::{BindingError, MAX_VALUE, bad, is_portable};
use crate::parameter::ValueType;

/// Maximum number of members of a primitive, and of an object in it other than its content.
const MAX_MEMBERS: usize = 48;

/// Maximum number of elements of a list.
const MAX_ELEMENTS: usize = 64;

/// Maximum length of a parser error in a message, in characters.
const MAX_ERROR: usize = 200;

/// The members of an object that were not taken yet.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Parses an object. `what` names it in errors.
    ///
    /// # Errors
    /// Returns an error if it is not an object, or a name occurs twice, compared without case.
    pub(super) fn read(text: &'a str, what: &str) -> Result<Self, BindingError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(Visit).and_then(|all| reader.end().map(|()| all));
        members.map(Self).map_err(|e| {
            let why: String = e.to_string().chars().take(MAX_ERROR).collect();
            bad(format!("{what} is not a JSON object with unique names: {why}"))
        })
    }

    /// Returns whether a member exists.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Takes a member.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a text that all bindings can carry.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, BindingError> {
        self.take(name).map(|raw| portable(name, raw)).transpose()
    }

    /// Takes a non-negative integer.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, BindingError> {
        self.take(name).map(|raw| parse(name, raw, "a non-negative integer")).transpose()
    }

    /// Checks that all members were taken.
    ///
    /// # Errors
    /// Returns an error for a remaining member, which is unknown.
    pub(super) fn end(&self, what: &str) -> Result<(), BindingError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String =
                    name.chars().take(32).map(|c| if c.is_control() { '?' } else { c }).collect();
                Err(bad(format!("{name:?} is not a member of {what}")))
            }
        }
    }
}

struct Visit;

impl<'de> Visitor<'de> for Visit {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            if members.len() >= MAX_MEMBERS {
                return Err(A::Error::custom(format!("it has over {MAX_MEMBERS} members")));
            }
            if members.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                return Err(A::Error::custom(format!("{name:?} occurs twice")));
            }
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

/// A name, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Parses a value. `what` describes valid values.
pub(super) fn parse<T: DeserializeOwned>(
    name: &str,
    raw: &RawValue,
    what: &str,
) -> Result<T, BindingError> {
    serde_json::from_str(raw.get()).map_err(|_| bad(format!("{name} is not {what}")))
}

/// Parses a text that all bindings can carry.
pub(super) fn portable(name: &str, raw: &RawValue) -> Result<String, BindingError> {
    let text: String = parse(name, raw, "a string")?;
    if text.len() > MAX_VALUE {
        return Err(bad(format!("{name} is longer than {MAX_VALUE} bytes")));
    }
    if !is_portable(&text) {
        let why = format!("{name} has a character outside ASCII, or a control character");
        return Err(bad(why));
    }
    Ok(text)
}

/// Parses the value of an option into its texts in HTTP.
pub(super) fn texts(
    name: &str,
    value_type: ValueType,
    raw: &RawValue,
) -> Result<Vec<String>, BindingError> {
    let number = |raw: &RawValue| {
        parse::<u64>(name, raw, "a non-negative integer").map(|number| number.to_string())
    };
    let text = |raw: &RawValue| {
        let text: String = parse(name, raw, "a string")?;
        // XML text, such as a SPARQL query, has line breaks and tabs.
        let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
        if text.chars().all(is_text) {
            Ok(text)
        } else {
            Err(bad(format!("{name} has a control character")))
        }
    };
    match value_type {
        ValueType::Text => Ok(vec![text(raw)?]),
        ValueType::Number => Ok(vec![number(raw)?]),
        ValueType::Boolean => Ok(vec![parse::<bool>(name, raw, "a Boolean")?.to_string()]),
        ValueType::Time => Ok(vec![time(name, raw)?]),
        ValueType::Texts => list(name, raw)?.into_iter().map(text).collect(),
        ValueType::Numbers => list(name, raw)?.into_iter().map(number).collect(),
        ValueType::Attributes => Err(bad(format!("{name} is not a list of attributes here"))),
    }
}

/// Parses a timestamp, or a duration, which may be an integer.
pub(super) fn time(name: &str, raw: &RawValue) -> Result<String, BindingError> {
    match serde_json::from_str::<u64>(raw.get()) {
        Ok(milliseconds) => Ok(milliseconds.to_string()),
        Err(_) => portable(name, raw),
    }
}

/// Parses a non-empty list.
pub(super) fn list<'a>(name: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, BindingError> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| bad(format!("{name} is not a list")))?;
    match elements.len() {
        0 => Err(bad(format!("{name} is an empty list"))),
        n if n > MAX_ELEMENTS => Err(bad(format!("{name} has over {MAX_ELEMENTS} elements"))),
        _ => Ok(elements),
    }
}
