//! Options: their numbers in RFC 7252, RFC 7959 and TS-0008, and their values.

use bytes::Bytes;

use crate::parameter::Parameter;

/// Maximum length of a value that is a text (RFC 7252 clause 5.10, TS-0008 clause 6.2.2.4).
pub const MAX_TEXT: usize = 255;

/// Uri-Host.
pub const URI_HOST: u16 = 3;
/// Uri-Port.
pub const URI_PORT: u16 = 7;
/// Location-Path.
pub const LOCATION_PATH: u16 = 8;
/// Uri-Path.
pub const URI_PATH: u16 = 11;
/// Content-Format.
pub const CONTENT_FORMAT: u16 = 12;
/// Max-Age.
pub const MAX_AGE: u16 = 14;
/// Uri-Query.
pub const URI_QUERY: u16 = 15;
/// Accept.
pub const ACCEPT: u16 = 17;
/// Location-Query.
pub const LOCATION_QUERY: u16 = 20;
/// Block2.
pub const BLOCK2: u16 = 23;
/// Block1.
pub const BLOCK1: u16 = 27;
/// Size2.
pub const SIZE2: u16 = 28;
/// Proxy-Uri.
pub const PROXY_URI: u16 = 35;
/// Proxy-Scheme.
pub const PROXY_SCHEME: u16 = 39;
/// Size1.
pub const SIZE1: u16 = 60;

/// Returns whether a receiver that does not know the option must reject the message.
#[must_use]
pub fn is_critical(number: u16) -> bool {
    number % 2 == 1
}

/// The options of a message, in ascending order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Options(Vec<(u16, Bytes)>);

impl Options {
    /// Adds an option behind those with the same number. A value longer than the format allows is
    /// not added.
    pub fn push(&mut self, number: u16, value: impl Into<Bytes>) {
        let value = value.into();
        if value.len() <= usize::from(u16::MAX) {
            let at = self.0.partition_point(|(n, _)| *n <= number);
            self.0.insert(at, (number, value));
        }
    }

    /// Adds an option with a text.
    pub fn push_text(&mut self, number: u16, text: &str) {
        self.push(number, Bytes::copy_from_slice(text.as_bytes()));
    }

    /// Adds an option with an integer, without leading zeros.
    pub fn push_uint(&mut self, number: u16, value: u32) {
        let bytes = value.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        self.push(number, Bytes::copy_from_slice(bytes.get(zeros..).unwrap_or_default()));
    }

    /// Returns the values of an option.
    pub fn get(&self, number: u16) -> impl Iterator<Item = &Bytes> {
        self.0.iter().filter(move |(n, _)| *n == number).map(|(_, value)| value)
    }

    /// Returns the value of an option that may occur once.
    ///
    /// # Errors
    /// Returns an error if the option occurs more than once.
    pub fn single(&self, number: u16) -> Result<Option<&Bytes>, OptionError> {
        let mut all = self.get(number);
        match (all.next(), all.next()) {
            (_, Some(_)) => Err(OptionError { number, why: "occurs more than once" }),
            (first, None) => Ok(first),
        }
    }

    /// Returns the value of an option that may occur once, and is an integer of at most
    /// `max_length` bytes.
    ///
    /// # Errors
    /// Returns an error if the option occurs more than once, or is longer.
    pub fn uint(&self, number: u16, max_length: usize) -> Result<Option<u32>, OptionError> {
        let Some(value) = self.single(number)? else { return Ok(None) };
        if value.len() > max_length.min(4) {
            return Err(OptionError { number, why: "has a value that is too long" });
        }
        Ok(Some(value.iter().fold(0, |all, byte| all << 8 | u32::from(*byte))))
    }

    /// Returns the options with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Bytes)> {
        self.0.iter().map(|(number, value)| (*number, value))
    }

    /// Returns whether an option occurs.
    #[must_use]
    pub fn has(&self, number: u16) -> bool {
        self.get(number).next().is_some()
    }

    /// Returns the number of options.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no options.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a copy without options of these numbers, and detached from the datagram.
    #[must_use]
    pub fn without(&self, numbers: &[u16]) -> Self {
        let rest = self.iter().filter(|(number, _)| !numbers.contains(number));
        Self(rest.map(|(number, value)| (number, Bytes::copy_from_slice(value))).collect())
    }

    /// Removes the options with a number.
    pub fn remove(&mut self, number: u16) {
        self.0.retain(|(n, _)| *n != number);
    }

    /// Returns the maximum length of the options in a message, in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.iter().map(|(_, value)| value.len() + 5).sum()
    }
}

/// An option that the receiver cannot process. The response is 4.02 (RFC 7252 clause 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the option {number} {why}")]
pub struct OptionError {
    /// Number of the option.
    pub number: u16,
    /// Reason.
    pub why: &'static str,
}

/// A table of numbers for the options of oneM2M.
///
/// TS-0008 changed the numbers in V3.7.0. The numbers 259, 263 and 267 are the same in both tables,
/// and no other number is in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Table {
    /// The numbers since V3.7.0.
    #[default]
    Current,
    /// The numbers before V3.7.0, which clients of Release 1 and 2 have.
    Former,
}

/// An option of oneM2M.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneM2m {
    /// oneM2M-FR: From.
    From,
    /// oneM2M-RQI: Request Identifier.
    RequestId,
    /// oneM2M-RVI: Release Version Indicator.
    Release,
    /// oneM2M-TY: Resource Type.
    ResourceType,
    /// oneM2M-RSC: Response Status Code.
    Status,
    /// The option of a further parameter.
    Parameter(Parameter),
    /// A parameter that the gateway does not support, by its short name.
    Unsupported(&'static str),
}

/// Each option of oneM2M with its current number, and its former one (TS-0008 clause 6.2.2.4).
const NUMBERS: [(OneM2m, u16, Option<u16>); 22] = [
    (OneM2m::Parameter(Parameter::OriginatingTimestamp), 259, Some(259)),
    (OneM2m::Parameter(Parameter::ResponseTargets), 263, Some(263)),
    (OneM2m::ResourceType, 267, Some(267)),
    (OneM2m::Release, 271, None),
    (OneM2m::Parameter(Parameter::SignatureRequest), 275, None),
    (OneM2m::From, 279, Some(256)),
    (OneM2m::RequestId, 283, Some(257)),
    (OneM2m::Parameter(Parameter::RequestExpiration), 291, Some(260)),
    (OneM2m::Parameter(Parameter::ResultExpiration), 295, Some(261)),
    (OneM2m::Parameter(Parameter::ExecutionTime), 299, Some(262)),
    (OneM2m::Parameter(Parameter::EventCategory), 303, Some(264)),
    (OneM2m::Status, 307, Some(265)),
    (OneM2m::Parameter(Parameter::GroupRequestId), 311, Some(266)),
    (OneM2m::Parameter(Parameter::ContentOffset), 319, None),
    (OneM2m::Parameter(Parameter::ContentStatus), 323, None),
    (OneM2m::Parameter(Parameter::AssignedTokenIds), 327, None),
    (OneM2m::Parameter(Parameter::VendorInformation), 331, None),
    (OneM2m::Unsupported("grtm"), 335, None),
    (OneM2m::Parameter(Parameter::AuthorizationSignatures), 339, None),
    (OneM2m::Unsupported("omr"), 343, None),
    (OneM2m::Unsupported("prpi"), 347, None),
    (OneM2m::Unsupported("msu"), 351, None),
];

impl Table {
    /// Returns the table in which the options of a message are numbered. A message that has only
    /// numbers of both tables is of the current one.
    ///
    /// # Errors
    /// Returns an error if the message has numbers of each table that the other one does not have.
    pub fn of(options: &Options) -> Result<Self, MixedTables> {
        let is_current = |number| NUMBERS.iter().any(|(_, current, _)| *current == number);
        let is_former = |number| NUMBERS.iter().any(|(.., former)| *former == Some(number));
        let mut found = (false, false);
        for (number, _) in options.iter() {
            match (is_current(number), is_former(number)) {
                (true, false) => found.0 = true,
                (false, true) => found.1 = true,
                _ => {}
            }
        }
        match found {
            (true, true) => Err(MixedTables),
            (false, true) => Ok(Self::Former),
            (_, false) => Ok(Self::Current),
        }
    }

    /// Returns the number of an option. The former table does not have all of them.
    #[must_use]
    pub fn number(self, option: OneM2m) -> Option<u16> {
        let (_, current, former) = NUMBERS.iter().find(|(known, ..)| *known == option)?;
        match self {
            Self::Current => Some(*current),
            Self::Former => *former,
        }
    }

    /// Returns the option with this number.
    #[must_use]
    pub fn option(self, number: u16) -> Option<OneM2m> {
        let all = NUMBERS.iter();
        let mut all = all.filter(|(_, current, former)| match self {
            Self::Current => *current == number,
            Self::Former => *former == Some(number),
        });
        all.next().map(|(option, ..)| *option)
    }
}

/// The error for a message with numbers of both tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has oneM2M options with numbers before and after TS-0008 V3.7.0")]
pub struct MixedTables;

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
