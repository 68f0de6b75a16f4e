//! Conversion between CBOR and JSON (TS-0004 clause 8.5), with the data model of JSON.
//!
//! Duplicate names are passed on, because the parser of the JSON rejects them.

use std::fmt;
use std::io::Write as _;

use bytes::Bytes;
use cbor4ii::core::utils::{BufWriter, SliceReader};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Maximum depth, the same as in the JSON parser.
const MAX_DEPTH: usize = 127;

/// Maximum length of a reason in a message, in characters.
const MAX_ERROR: usize = 200;

/// The error for a text that is not CBOR, or has no equivalent in JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not CBOR with the data model of JSON: {0}")]
pub struct CborError(String);

impl CborError {
    fn new(error: &impl fmt::Display) -> Self {
        Self(error.to_string().chars().take(MAX_ERROR).collect())
    }
}

/// Converts CBOR to JSON of at most `max_bytes`.
pub(super) fn to_json(cbor: &[u8], max_bytes: usize) -> Result<Bytes, CborError> {
    if cbor.len() > max_bytes {
        return Err(CborError(format!("it is longer than {max_bytes} bytes")));
    }
    let mut out = Output { json: Vec::with_capacity(cbor.len()), max_bytes };
    let mut reader = cbor4ii::serde::Deserializer::new(SliceReader::new(cbor));
    Translate { out: &mut out, depth: 0 }
        .deserialize(&mut reader)
        .map_err(|e| CborError::new(&e))?;
    let mut rest = reader.into_inner();
    let is_end = cbor4ii::core::dec::Read::fill(&mut rest, 1).is_ok_and(|r| r.as_ref().is_empty());
    if !is_end {
        return Err(CborError("it has trailing bytes".into()));
    }
    Ok(out.json.into())
}

/// Converts JSON to CBOR, with texts of major type 3 and definite lengths.
pub(super) fn from_json(json: &[u8]) -> Result<Bytes, CborError> {
    let value: Value = serde_json::from_slice(json).map_err(|e| CborError::new(&e))?;
    let mut writer =
        cbor4ii::serde::Serializer::new(BufWriter::new(Vec::with_capacity(json.len())));
    Tree(&value).serialize(&mut writer).map_err(|e| CborError::new(&e))?;
    Ok(writer.into_inner().into_inner().into())
}

/// A value that serializes null as CBOR's null. The serializer writes serde's unit as an empty
/// array.
struct Tree<'a>(&'a Value);

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_none(),
            Value::Array(elements) => serializer.collect_seq(elements.iter().map(Tree)),
            Value::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, Tree(value))))
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => self.0.serialize(serializer),
        }
    }
}

struct Output {
    json: Vec<u8>,
    max_bytes: usize,
}

impl Output {
    fn put<E: Error>(&mut self, text: impl fmt::Display) -> Result<(), E> {
        write!(self.json, "{text}").map_err(E::custom)?;
        self.check()
    }

    fn put_string<E: Error>(&mut self, text: &str) -> Result<(), E> {
        serde_json::to_writer(&mut self.json, text).map_err(E::custom)?;
        self.check()
    }

    fn check<E: Error>(&self) -> Result<(), E> {
        if self.json.len() > self.max_bytes {
            return Err(E::custom(format!("it is longer than {} bytes in JSON", self.max_bytes)));
        }
        Ok(())
    }
}

/// A visitor that writes a value as JSON.
struct Translate<'a> {
    out: &'a mut Output,
    depth: usize,
}

impl Translate<'_> {
    fn deeper<E: Error>(&mut self) -> Result<Translate<'_>, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Translate { out: &mut *self.out, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Translate<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Translate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.out.put(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.out.put(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.out.put(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.out.put(number),
            None => Err(E::custom("a number is infinite, or not a number")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.out.put_string(value)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.out.put("null")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.out.put("[")?;
        let mut is_first = true;
        loop {
            let at = self.out.json.len();
            if !is_first {
                self.out.put(",")?;
            }
            if seq.next_element_seed(self.deeper()?)?.is_none() {
                self.out.json.truncate(at);
                return self.out.put("]");
            }
            is_first = false;
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.out.put("{")?;
        let mut is_first = true;
        loop {
            let at = self.out.json.len();
            if !is_first {
                self.out.put(",")?;
            }
            if map.next_key_seed(TranslateName(self.out))?.is_none() {
                self.out.json.truncate(at);
                return self.out.put("}");
            }
            self.out.put(":")?;
            map.next_value_seed(self.deeper()?)?;
            is_first = false;
        }
    }
}

/// A visitor that writes a name, which is a text string.
struct TranslateName<'a>(&'a mut Output);

impl<'de> DeserializeSeed<'de> for TranslateName<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TranslateName<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name that is a text string")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        self.0.put_string(name)
    }
}
