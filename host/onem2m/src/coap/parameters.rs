//! Parameters of primitives as options (TS-0008 clause 6.2.2.4).

use super::format::code_of;
use super::message::Code;
use super::options::{MAX_TEXT, MixedTables, OneM2m, OptionError, Options, Table};
use crate::binding::{BindingError, bad, is_portable};
use crate::parameter::{Parameter, Parameters, ValueType};

/// The error for a message that is not a primitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// Code of the response.
    pub code: Code,
    /// Response Status Code, Request Identifier and reason.
    pub error: BindingError,
}

impl From<BindingError> for Refusal {
    fn from(error: BindingError) -> Self {
        Self { code: code_of(error.rsc, None), error }
    }
}

impl From<OptionError> for Refusal {
    fn from(error: OptionError) -> Self {
        Self { code: Code::BAD_OPTION, error: bad(error.to_string()) }
    }
}

impl From<MixedTables> for Refusal {
    fn from(error: MixedTables) -> Self {
        bad(error.to_string()).into()
    }
}

/// Returns the text of an option, of any characters.
pub(super) fn utf8(number: u16, value: &[u8]) -> Result<&str, Refusal> {
    if value.len() > MAX_TEXT {
        return Err(OptionError { number, why: "has a value that is too long" }.into());
    }
    std::str::from_utf8(value).map_err(|_| bad(format!("the option {number} is not UTF-8")).into())
}

/// Returns the text of an option of oneM2M.
pub(super) fn text(
    options: &Options,
    table: Table,
    option: OneM2m,
) -> Result<Option<String>, Refusal> {
    let Some(number) = table.number(option) else { return Ok(None) };
    let Some(value) = options.single(number)? else { return Ok(None) };
    let text = utf8(number, value)?;
    if !is_portable(text) {
        let why =
            format!("the option {number} has a character outside ASCII, or a control character");
        return Err(bad(why).into());
    }
    Ok(Some(text.into()))
}

/// Returns the number of an option of oneM2M.
pub(super) fn number(
    options: &Options,
    table: Table,
    option: OneM2m,
    max_length: usize,
) -> Result<Option<u32>, Refusal> {
    match table.number(option) {
        Some(number) => Ok(options.uint(number, max_length)?),
        None => Ok(None),
    }
}

/// Returns the parameters that have options.
pub(super) fn read_parameters(
    options: &Options,
    table: Table,
    known: impl IntoIterator<Item = Parameter>,
) -> Result<Parameters, Refusal> {
    let mut parameters = Parameters::default();
    for parameter in known {
        let option = OneM2m::Parameter(parameter);
        let value = if parameter.value_type() == ValueType::Number {
            let max_length = if parameter == Parameter::EventCategory { 1 } else { 2 };
            number(options, table, option, max_length)?.map(|number| number.to_string())
        } else {
            text(options, table, option)?
        };
        if let Some(value) = value {
            parameters.set(parameter, value);
        }
    }
    Ok(parameters)
}

/// The error for a request that CoAP cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CoAP cannot carry {0}")]
pub struct WriteError(pub(super) String);

/// Adds an option with a text, if it fits.
pub(super) fn put_text(options: &mut Options, number: u16, text: &str) -> Result<(), WriteError> {
    if text.len() > MAX_TEXT {
        return Err(WriteError(format!("a value of over {MAX_TEXT} bytes")));
    }
    options.push_text(number, text);
    Ok(())
}

/// Adds the options of parameters.
pub(super) fn put_parameters(
    parameters: &Parameters,
    table: Table,
    options: &mut Options,
) -> Result<(), WriteError> {
    let mut all_fit = Ok(());
    for (parameter, value) in parameters.iter() {
        let Some(number) = table.number(OneM2m::Parameter(parameter)) else {
            all_fit = Err(WriteError(format!("the parameter {parameter}")));
            continue;
        };
        if parameter.value_type() == ValueType::Number {
            match value.parse::<u16>() {
                Ok(value) => options.push_uint(number, value.into()),
                Err(_) => all_fit = Err(WriteError(format!("the value of {parameter}"))),
            }
        } else if let Err(error) = put_text(options, number, value) {
            all_fit = Err(error);
        }
    }
    all_fit
}
