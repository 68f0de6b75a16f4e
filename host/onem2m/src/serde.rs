//! Deserializers for configuration files.

use serde::de::{Deserialize, Deserializer, Error as _};

/// Deserializes a string with the type's own parser, so that an error has the position of the
/// string.
///
/// # Errors
/// Returns the error of the parser.
pub fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Deserializes a list of strings with the type's own parser.
///
/// # Errors
/// Returns the first error of the parser.
pub fn all_parsed<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let all = Vec::<String>::deserialize(deserializer)?.into_iter();
    all.map(|text| text.parse().map_err(D::Error::custom)).collect()
}
