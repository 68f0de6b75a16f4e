//! JSON without ambiguity: of bounded depth, and with unique names.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Maximum depth of the lists and objects in a token. The rules of a token need nine.
pub const MAX_DEPTH: usize = 12;

/// The reason why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not JSON with unique names and at most {MAX_DEPTH} levels")]
pub struct JsonError;

/// Parses JSON. A name that occurs twice in an object is refused, because readers differ in which of
/// the two they take.
///
/// # Errors
/// Returns an error if the text is not JSON, has a name twice, or is deeper than [`MAX_DEPTH`].
pub fn read_json(text: &[u8]) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: MAX_DEPTH }.deserialize(&mut reader).map_err(|_| JsonError)?;
    reader.end().map_err(|_| JsonError)?;
    Ok(value)
}

/// Reads a value with at most this depth.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut all = Vec::new();
        while let Some(element) = list.next_element_seed(inner)? {
            all.push(element);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut all = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if all.contains_key(&name) {
                return Err(A::Error::custom("a name occurs twice"));
            }
            all.insert(name, object.next_value_seed(inner)?);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn value_is_read_as_it_is() {
        let value = json!({"a": [1, -1, 1.5, "x", true, null], "b": {"a": {}}});
        assert_eq!(read_json(value.to_string().as_bytes()), Ok(value));
    }

    #[test]
    fn ambiguous_or_deep_json_is_refused() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read_json(nested(MAX_DEPTH).as_bytes()).is_ok());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"b":{"a":1,"\u0061":2}}"#,
            r#"[{"a":1,"a":2}]"#,
            "{} {}",
            "{",
            "",
            "{\"a\":NaN}",
            &nested(MAX_DEPTH + 1),
            &nested(8000),
        ] {
            assert_eq!(read_json(bad.as_bytes()), Err(JsonError), "{bad:.40}");
        }
        assert_eq!(read_json(b"\"\xff\""), Err(JsonError));
    }
}
