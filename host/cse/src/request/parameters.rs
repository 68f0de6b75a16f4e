//! The parameters of a request besides operation, target and content: result content, filter
//! criteria, and others.
//!
//! Unsupported parameters are never ignored. A request with one is refused, with NOT_IMPLEMENTED if
//! the specification defines it, or else with BAD_REQUEST.

use std::time::SystemTime;

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Operation, ROLE_IDS, RequestPrimitive, TOKEN_REQUEST};
use saegis_onem2m::role::RoleId;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp::{is_immediate, parse_relative};

use crate::definitions::Definitions;
use crate::error::{Refusal, quoted};
use crate::record::parse_timestamp;
use crate::request::filter_criteria::{AttributeMatch, Condition, Filter};
use crate::resource::attributes;

/// Maximum number of resources in one response.
pub(crate) const MAX_RESULTS: usize = 1_000;

/// The content of the response (m2m:resultContent of TS-0004 clause 6.3.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultContent {
    /// 0: nothing.
    Nothing,
    /// 1: the attributes.
    Attributes,
    /// 2: the structured address.
    Address,
    /// 3: the structured address and the attributes.
    AddressAndAttributes,
    /// 4: the attributes and the children.
    AttributesAndChildren,
    /// 5: the attributes and references to the children.
    AttributesAndReferences,
    /// 6: references to the children.
    References,
    /// 8: the children.
    Children,
    /// 9: the attributes that differ from the given ones.
    Modified,
    /// 11: the addresses that a discovery found.
    Discovered,
}

/// The reason why a parameter is invalid or not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    /// The parameter does not exist.
    #[error("unknown parameter or attribute {0}")]
    Unknown(String),
    /// The value is invalid for the parameter.
    #[error("the parameter {0} has an invalid value")]
    Value(&'static str),
    /// A parameter that must occur once is repeated.
    #[error("the parameter {0} occurs more than once")]
    Twice(&'static str),
    /// The result content is not allowed for the operation.
    #[error("the result content {content} is not allowed for a {operation}")]
    ResultContent {
        /// Requested result content.
        content: u64,
        /// Operation.
        operation: &'static str,
    },
    /// The filter criteria have separate parameters for this attribute (TS-0004 clause 7.3.3.17.9).
    #[error("the attribute {0} is not a filter: use {1}")]
    OwnCriterion(&'static str, &'static str),
    /// The filter has too many values to compare each resource with.
    #[error("the filter criteria have more than {MAX_CRITERIA} values")]
    TooManyCriteria,
    /// The parameter is specified, but not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A result that is fetched from a `<request>` is not supported.
    #[error("a response that is fetched later (rt=1) is not supported")]
    NotFetched,
}

impl OptionError {
    /// Returns the Response Status Code.
    pub(crate) fn rsc(&self) -> Rsc {
        match self {
            Self::Unsupported(_) => Rsc::NotImplemented,
            Self::NotFetched => Rsc::NonBlockingSynchRequestNotSupported,
            Self::Unknown(_)
            | Self::Value(_)
            | Self::Twice(_)
            | Self::OwnCriterion(..)
            | Self::TooManyCriteria
            | Self::ResultContent { .. } => Rsc::BadRequest,
        }
    }
}

impl From<OptionError> for Refusal {
    fn from(error: OptionError) -> Self {
        Self::Invalid { rsc: error.rsc(), why: error.to_string() }
    }
}

/// The parsed parameters of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Content of the response.
    pub(crate) content: ResultContent,
    /// Whether the request is a discovery (`fu=1`).
    pub(crate) discovery: bool,
    /// Whether addresses are unstructured (`drt=2`).
    pub(crate) unstructured: bool,
    /// Conditions.
    pub(crate) filter: Filter,
    /// Maximum number of resources (`lim`).
    pub(crate) limit: usize,
    /// Number of skipped results (`ofst`, which counts from 1): of matching resources, or for
    /// nested children of direct children, each with the resources below it.
    pub(crate) skip: usize,
    /// Maximum level below the target (`lvl`).
    pub(crate) levels: Option<u16>,
    /// Path from a matching resource to the result (`arp`): names, `..` for the parent.
    pub(crate) relative: Option<Vec<String>>,
    /// Requested attributes of the target (`atrl`); `None` for all.
    pub(crate) attributes: Option<Vec<String>>,
}

/// Short names of criteria and parameters that are specified, but not supported.
const UNSUPPORTED: [&str; 16] = [
    "asi", "auri", "catr", "cfq", "cfs", "clbl", "da", "gq", "gsf", "ltids", "patr", "plbl", "pty",
    "smf", "sqi", "tids",
];

/// Attributes that are not filters, and the parameters that replace them.
const OWN_CRITERIA: [(&str, &str); 6] = [
    ("ct", "crb and cra"),
    ("lt", "ms and us"),
    ("et", "exb and exa"),
    ("st", "sts and stb"),
    ("cs", "sza and szb"),
    ("cnf", "cty"),
];

/// Maximum number of names in a relative path, and of requested attributes.
const MAX_SEGMENTS: usize = 16;
const MAX_ATTRIBUTES: usize = 64;

/// Maximum number of roles that a request claims.
const MAX_CLAIMS: usize = 16;

/// Maximum number of values in the conditions of a filter.
const MAX_CRITERIA: usize = 64;

#[derive(Default)]
struct RawOptions {
    content: Option<u64>,
    usage: Option<u64>,
    response: Option<u64>,
    persistence: Option<()>,
    result_type: Option<u64>,
    operation: Option<u64>,
    limit: Option<u64>,
    offset: Option<u64>,
    level: Option<u64>,
    relative: Option<Vec<String>>,
    attributes: Option<Vec<String>>,
    claims: usize,
    asks_for_token: Option<()>,
    filter: Filter,
}

impl Options {
    /// Parses the parameters of a request.
    ///
    /// # Errors
    /// Returns the first one that is invalid or not supported.
    pub(crate) fn read(
        request: &RequestPrimitive,
        definitions: &Definitions,
    ) -> Result<Self, OptionError> {
        let execution = request.parameters.get(Parameter::ExecutionTime);
        if execution.is_some_and(|at| !is_immediate(at)) {
            return Err(OptionError::Unsupported("an execution time"));
        }
        let mut raw = RawOptions::default();
        for (name, value) in &request.options {
            raw.take(name, value, definitions)?;
        }
        raw.check(request.operation)
    }
}

impl RawOptions {
    fn take(
        &mut self,
        name: &str,
        value: &[String],
        definitions: &Definitions,
    ) -> Result<(), OptionError> {
        match name {
            "rcn" => once(&mut self.content, number("rcn", value)?, "rcn"),
            "fu" => once(&mut self.usage, number("fu", value)?, "fu"),
            "rt" => once(&mut self.response, number("rt", value)?, "rt"),
            "drt" => once(&mut self.result_type, number("drt", value)?, "drt"),
            "fo" => once(&mut self.operation, number("fo", value)?, "fo"),
            "lim" => once(&mut self.limit, number("lim", value)?, "lim"),
            "ofst" => once(&mut self.offset, number("ofst", value)?, "ofst"),
            "lvl" => once(&mut self.level, number("lvl", value)?, "lvl"),
            "rp" => {
                let text = one("rp", value)?;
                // The time counts from the result on. It has no effect on a blocking request.
                parse_relative(text, SystemTime::now()).map_err(|_| OptionError::Value("rp"))?;
                once(&mut self.persistence, (), "rp")
            }
            ROLE_IDS => self.take_roles(value),
            // The caller of this CSE names the address for a token.
            TOKEN_REQUEST => match one(TOKEN_REQUEST, value)? {
                "true" | "false" | "1" | "0" => once(&mut self.asks_for_token, (), TOKEN_REQUEST),
                _ => Err(OptionError::Value(TOKEN_REQUEST)),
            },
            "ty" => self.take_types(value),
            "lbl" => {
                self.filter.labels.extend_from_slice(value);
                Ok(())
            }
            "cty" => {
                self.filter.content_types.extend_from_slice(value);
                Ok(())
            }
            "atr" => self.take_attribute_matches(value),
            "arp" => {
                let path = relative_path(one("arp", value)?).ok_or(OptionError::Value("arp"))?;
                once(&mut self.relative, path, "arp")
            }
            "atrl" => self.take_attribute_list(value),
            _ => match condition(name, value)? {
                Some(condition) => {
                    self.filter.conditions.push(condition);
                    Ok(())
                }
                None => self.take_attribute(name, value, definitions),
            },
        }
    }

    /// Checks claimed roles. The caller has determined which of them are assigned.
    fn take_roles(&mut self, value: &[String]) -> Result<(), OptionError> {
        self.claims += value.len();
        match self.claims <= MAX_CLAIMS && value.iter().all(|id| RoleId::check(id).is_ok()) {
            true => Ok(()),
            false => Err(OptionError::Value(ROLE_IDS)),
        }
    }

    fn take_types(&mut self, value: &[String]) -> Result<(), OptionError> {
        // A list of this type may also have spaces as separators.
        for part in value.iter().flat_map(|v| v.split(' ')) {
            self.filter.types.push(part.parse().map_err(|_| OptionError::Value("ty"))?);
        }
        Ok(())
    }

    fn take_attribute_matches(&mut self, value: &[String]) -> Result<(), OptionError> {
        for part in value {
            let wanted = AttributeMatch::parse(part).ok_or(OptionError::Value("atr"))?;
            self.filter.attributes.push(wanted);
        }
        Ok(())
    }

    fn take_attribute_list(&mut self, value: &[String]) -> Result<(), OptionError> {
        let list = self.attributes.get_or_insert_default();
        list.extend(value.iter().flat_map(|v| v.split(' ')).map(Into::into));
        let is_name = |n: &String| (1..=32).contains(&n.len());
        if list.len() <= MAX_ATTRIBUTES && list.iter().all(is_name) {
            Ok(())
        } else {
            Err(OptionError::Value("atrl"))
        }
    }

    /// Parses any other name as a condition on the attribute with this name, one of whose values
    /// suffices (TS-0009 clause 6.2.2.2).
    fn take_attribute(
        &mut self,
        name: &str,
        value: &[String],
        definitions: &Definitions,
    ) -> Result<(), OptionError> {
        if let Some(known) = UNSUPPORTED.into_iter().find(|n| *n == name) {
            return Err(OptionError::Unsupported(known));
        }
        if let Some((name, instead)) = OWN_CRITERIA.into_iter().find(|(n, _)| *n == name) {
            return Err(OptionError::OwnCriterion(name, instead));
        }
        match name.split_once('.') {
            Some(("c" | "p", attribute)) if attributes::is_name(attribute) => {
                Err(OptionError::Unsupported("a condition on attributes of children or parents"))
            }
            None if attributes::is_name(name) || definitions.have_attribute(name) => {
                let wanted =
                    |value: &String| AttributeMatch { name: name.into(), value: value.clone() };
                self.filter.attributes.extend(value.iter().map(wanted));
                Ok(())
            }
            _ => Err(OptionError::Unknown(quoted(name))),
        }
    }

    fn check(mut self, operation: Operation) -> Result<Options, OptionError> {
        match self.response {
            // Blocking, or at the receiver's choice.
            None | Some(3 | 4) => {}
            Some(1) => return Err(OptionError::NotFetched),
            Some(2 | 5) => return Err(OptionError::Unsupported("a deferred response")),
            Some(_) => return Err(OptionError::Value("rt")),
        }
        let discovery = match self.usage {
            None | Some(2) => false,
            Some(1) => true,
            Some(3) => return Err(OptionError::Unsupported("fu=3")),
            Some(_) => return Err(OptionError::Value("fu")),
        };
        let unstructured = match self.result_type {
            None | Some(1) => false,
            Some(2) => true,
            Some(_) => return Err(OptionError::Value("drt")),
        };
        self.filter.any = match self.operation {
            None | Some(1) => false,
            Some(2) => true,
            Some(3) => return Err(OptionError::Unsupported("a fo other than 1 and 2")),
            Some(_) => return Err(OptionError::Value("fo")),
        };
        let content = result_content(self.content, operation, discovery)?;
        self.check_criteria(operation, content, discovery)?;
        let positive = |value: Option<u64>, name| match value {
            Some(0) => Err(OptionError::Value(name)),
            other => Ok(other),
        };
        let limit = positive(self.limit, "lim")?.map_or(MAX_RESULTS, saturating);
        let skip = positive(self.offset, "ofst")?.map_or(0, |n| saturating(n - 1));
        let levels = positive(self.level, "lvl")?.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        Ok(Options {
            content,
            discovery,
            unstructured,
            filter: self.filter,
            limit: limit.min(MAX_RESULTS),
            skip,
            levels,
            relative: self.relative,
            attributes: self.attributes,
        })
    }

    /// Checks that the conditions and the attribute list are allowed for the operation and its
    /// result content.
    fn check_criteria(
        &self,
        operation: Operation,
        content: ResultContent,
        discovery: bool,
    ) -> Result<(), OptionError> {
        let criteria = self.limit.is_some()
            || self.offset.is_some()
            || self.level.is_some()
            || self.operation.is_some()
            || self.relative.is_some()
            || !self.filter.is_empty();
        let nests =
            matches!(content, ResultContent::AttributesAndChildren | ResultContent::Children);
        let lists = nests
            || discovery
            || matches!(
                content,
                ResultContent::AttributesAndReferences | ResultContent::References
            );
        if criteria && (!lists || operation != Operation::Retrieve) {
            return Err(OptionError::Unsupported("a condition on the target itself"));
        }
        if self.filter.values() > MAX_CRITERIA {
            return Err(OptionError::TooManyCriteria);
        }
        if self.relative.is_some() && nests {
            return Err(OptionError::Unsupported("arp with nested children"));
        }
        // Only a retrieval of the whole representation can be partial (TS-0001 clause 10.1.3).
        let partial = operation == Operation::Retrieve && content == ResultContent::Attributes;
        if self.attributes.is_some() && !partial {
            return Err(OptionError::Value("atrl"));
        }
        Ok(())
    }
}

/// Returns the only value of a parameter.
fn one<'a>(name: &'static str, value: &'a [String]) -> Result<&'a str, OptionError> {
    match value {
        [one] => Ok(one),
        _ => Err(OptionError::Value(name)),
    }
}

fn number(name: &'static str, value: &[String]) -> Result<u64, OptionError> {
    one(name, value)?.parse().map_err(|_| OptionError::Value(name))
}

/// Sets a parameter that may occur once.
fn once<T>(option: &mut Option<T>, value: T, name: &'static str) -> Result<(), OptionError> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}

/// Returns the condition with this name.
fn condition(name: &str, value: &[String]) -> Result<Option<Condition>, OptionError> {
    use Condition as C;
    let time = |name| parse_timestamp(one(name, value)?).ok_or(OptionError::Value(name));
    Ok(Some(match name {
        "crb" => C::CreatedBefore(time("crb")?),
        "cra" => C::CreatedAfter(time("cra")?),
        "ms" => C::ModifiedSince(time("ms")?),
        "us" => C::UnmodifiedSince(time("us")?),
        "exb" => C::ExpiresBefore(time("exb")?),
        "exa" => C::ExpiresAfter(time("exa")?),
        "sts" => C::StateSmaller(number("sts", value)?),
        "stb" => C::StateBigger(number("stb", value)?),
        "sza" => C::SizeAbove(number("sza", value)?),
        "szb" => C::SizeBelow(number("szb", value)?),
        _ => return Ok(None),
    }))
}

/// Parses a relative path: names, and `..` for the parent of the preceding resource.
fn relative_path(text: &str) -> Option<Vec<String>> {
    let fits = |segment: &str| {
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        segment == ".."
            || !matches!(segment, "" | "." | "~" | "_" | "-") && segment.bytes().all(unreserved)
    };
    let segments: Vec<_> = text.split('/').map(String::from).collect();
    (segments.len() <= MAX_SEGMENTS && segments.iter().all(|s| fits(s))).then_some(segments)
}

fn saturating(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn result_content(
    wanted: Option<u64>,
    operation: Operation,
    discovery: bool,
) -> Result<ResultContent, OptionError> {
    use Operation::{Create, Delete, Retrieve, Update};
    use ResultContent as R;
    if discovery && operation != Retrieve {
        return Err(OptionError::Value("fu"));
    }
    let Some(content) = wanted else {
        return Ok(match operation {
            Retrieve if discovery => R::Discovered,
            Delete => R::Nothing,
            _ => R::Attributes,
        });
    };
    Ok(match (content, operation) {
        (11, Retrieve) if discovery => R::Discovered,
        (6, Retrieve | Delete) => R::References,
        (0, Create | Update | Delete) => R::Nothing,
        (1, _) if !discovery => R::Attributes,
        (2, Create) => R::Address,
        (3, Create) => R::AddressAndAttributes,
        (4, Retrieve | Delete) if !discovery => R::AttributesAndChildren,
        (5, Retrieve | Delete) if !discovery => R::AttributesAndReferences,
        (8, Retrieve | Delete) if !discovery => R::Children,
        (9, Create | Update) => R::Modified,
        (10 | 12, Retrieve) => return Err(OptionError::Unsupported("this result content")),
        _ => return Err(OptionError::ResultContent { content, operation: operation.name() }),
    })
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;
