//! Content-Formats (TS-0008 clause 6.2.2.2).

use super::message::{Code, Parts};
use super::options::{ACCEPT, CONTENT_FORMAT, OneM2m, Options, Table};
use crate::primitive::Operation;
use crate::rsc::Rsc;
use crate::serialization::Serialization;

/// `application/json`.
pub const JSON: u16 = 50;
/// `application/cbor`.
pub const CBOR: u16 = 60;

/// Returns the serialization of a Content-Format: the general formats, and those that oneM2M has
/// for representations and notifications.
#[must_use]
pub fn serialization(content_format: u16) -> Option<Serialization> {
    match content_format {
        JSON | 10001 | 10003 => Some(Serialization::Json),
        CBOR | 10010 | 10011 => Some(Serialization::Cbor),
        _ => None,
    }
}

/// The form in which a request asks for its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseForm {
    /// Numbers of the options.
    pub table: Table,
    /// Content-Format of the content.
    pub content_format: u16,
}

impl Default for ResponseForm {
    fn default() -> Self {
        Self { table: Table::default(), content_format: JSON }
    }
}

impl ResponseForm {
    /// Returns the form that a request asks for: the Content-Format in Accept, or else that of its
    /// content. A request that is refused gets an answer too, so a value that is not supported
    /// counts as absent.
    #[must_use]
    pub fn of(request: &Parts) -> Self {
        let options = &request.options;
        let content_format = supported(options, ACCEPT).or(supported(options, CONTENT_FORMAT));
        Self {
            table: Table::of(options).unwrap_or_else(|_| former_if_from_is(options)),
            content_format: content_format.unwrap_or(JSON),
        }
    }
}

impl ResponseForm {
    /// Returns the serialization of the content.
    #[must_use]
    pub fn serialization(self) -> Serialization {
        serialization(self.content_format).unwrap_or_default()
    }
}

fn supported(options: &Options, number: u16) -> Option<u16> {
    let value = u16::try_from(options.uint(number, 2).ok()??).ok()?;
    serialization(value).map(|_| value)
}

/// Returns a table for the refusal of a message that mixes both.
fn former_if_from_is(options: &Options) -> Table {
    let has = |table: Table| table.number(OneM2m::RequestId).is_some_and(|n| options.has(n));
    if has(Table::Former) && !has(Table::Current) { Table::Former } else { Table::Current }
}

/// Returns the code of a Response Status Code (TS-0008 table 6.2.4-1). Codes without a row have
/// that of their class (TS-0004 clause 6.6.2).
#[must_use]
pub fn code_of(rsc: Rsc, operation: Option<Operation>) -> Code {
    match rsc.code() {
        1001 | 2001 => Code::CREATED,
        2002 => Code::DELETED,
        2000 if operation != Some(Operation::Notify) => Code::CONTENT,
        4004 | 4118 | 4119 | 4121 | 5103 | 5107 | 6003 | 6005 => Code::NOT_FOUND,
        4005 => Code::METHOD_NOT_ALLOWED,
        4015 => Code::UNSUPPORTED_CONTENT_FORMAT,
        5207 => Code::NOT_ACCEPTABLE,
        4120 | 4122 => Code::BAD_OPTION,
        4101 | 4103 | 4105..=4109 | 4111..=4117 | 4126..=4128 => Code::FORBIDDEN,
        5105 | 5203 | 5205 | 5208 | 5214 | 5215 | 5218 | 5222 => Code::FORBIDDEN,
        4001 | 4125 | 5001 | 5206 => Code::NOT_IMPLEMENTED,
        4008 | 6030 | 6031 => Code::GATEWAY_TIMEOUT,
        5106 | 5219 | 5220 | 6010 | 6022..=6024 | 6028 | 6029 | 4000..=4999 => Code::BAD_REQUEST,
        1000..=2999 => Code::CHANGED,
        _ => Code::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_follows_ts_0008_table_6_2_4_1() {
        for (code, rows) in [
            (Code::CREATED, &[2001, 1001][..]),
            (Code::DELETED, &[2002]),
            (Code::CHANGED, &[2004, 1002]),
            (Code::CONTENT, &[2000]),
            (
                Code::BAD_REQUEST,
                &[
                    4000, 4102, 4104, 4110, 4123, 4124, 4143, 5106, 5219, 5220, 6010, 6022, 6023,
                    6024, 6028, 6029,
                ],
            ),
            (Code::BAD_OPTION, &[4120, 4122]),
            (
                Code::FORBIDDEN,
                &[
                    4101, 4103, 4105, 4106, 4107, 4108, 4109, 4111, 4112, 4113, 4114, 4115, 4116,
                    4117, 4126, 4127, 4128, 5105, 5203, 5205, 5208, 5214, 5215, 5218, 5222,
                ],
            ),
            (Code::NOT_FOUND, &[4004, 4118, 4119, 4121, 5103, 5107, 6003, 6005]),
            (Code::METHOD_NOT_ALLOWED, &[4005]),
            (Code::NOT_ACCEPTABLE, &[5207]),
            (Code::UNSUPPORTED_CONTENT_FORMAT, &[4015]),
            (
                Code::INTERNAL_SERVER_ERROR,
                &[
                    5000, 5204, 5209, 5210, 5211, 5212, 5216, 5217, 5221, 6020, 6021, 6025, 6026,
                    7000,
                ],
            ),
            (Code::NOT_IMPLEMENTED, &[4001, 4125, 5001, 5206]),
            (Code::GATEWAY_TIMEOUT, &[4008, 6030, 6031]),
        ] {
            for row in rows {
                let found = code_of(Rsc::from_code(*row), Some(Operation::Retrieve));
                assert_eq!(found, code, "{row}");
            }
        }
        assert_eq!(code_of(Rsc::Ok, Some(Operation::Notify)), Code::CHANGED);
    }
}
