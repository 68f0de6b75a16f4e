//! Parses primitives in JSON. Parameters are stored in the form that HTTP has for them, because all
//! bindings share it.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::{Members, list, parse, portable, texts, time};
use crate::binding::{
    BindingError, MAX_OPTION_BYTES, MAX_OPTIONS, MAX_TOKENS, MAX_VALUE, bad, check_content,
};
use crate::parameter::{
    FILTER_CRITERIA, OPTIONS, Parameter, Parameters, REQUEST_PARAMETERS, RESPONSE_PARAMETERS,
    ValueType,
};
use crate::primitive::{Content, Operation, Primitive, RequestPrimitive, ResponsePrimitive};
use crate::rsc::Rsc;
use crate::target::Target;

/// Parameters with separate members, which cannot be names of attributes in a filter.
const OWN_MEMBERS: [&str; 9] = ["op", "to", "fr", "rqi", "rvi", "pc", "rt", "fc", "rsc"];

/// Parameters that are not supported in a serialized primitive: the members of a group request, a
/// parameter of responses, and those without text in the specification.
const UNSUPPORTED: [&str; 5] = ["tqf", "grtm", "omr", "prpi", "msu"];

/// Maximum number of bytes in a list of tokens that are not of the tokens.
const MAX_LIST_OVERHEAD: usize = 1024;

type ParseResult<T> = Result<T, BindingError>;

/// Parses a primitive.
///
/// # Errors
/// Returns the reason why it is not one, with the Response Status Code.
pub(super) fn read(bytes: &Bytes) -> ParseResult<Primitive> {
    let text = std::str::from_utf8(bytes).map_err(|_| bad("the primitive is not UTF-8"))?;
    let mut members = Members::read(text, "the primitive")?;
    let is_response = members.has("rsc") && !members.has("op");
    primitive(bytes, &mut members).map_err(|e| BindingError { is_response, ..e })
}

fn primitive(bytes: &Bytes, members: &mut Members<'_>) -> ParseResult<Primitive> {
    // Read first: every refusal that follows repeats it (TS-0004 clause 7.3.2).
    let id = match members.text("rqi")? {
        Some(id) if !id.is_empty() => id,
        _ => return Err(bad("the Request Identifier (rqi) is missing")),
    };
    let with_id = |e: BindingError| BindingError { request_id: Some(id.clone()), ..e };
    match (members.has("op"), members.has("rsc")) {
        (true, false) => {
            let request = request(bytes, members).map_err(with_id)?;
            Ok(Primitive::Request(Box::new(RequestPrimitive { request_id: id, ..request })))
        }
        (false, true) => {
            let response = response(bytes, members).map_err(with_id)?;
            Ok(Primitive::Response(ResponsePrimitive { request_id: id, ..response }))
        }
        (true, true) => Err(with_id(bad("a primitive has op or rsc, not both"))),
        (false, false) => Err(with_id(bad("a primitive has an operation (op) or a status (rsc)"))),
    }
}

fn request(bytes: &Bytes, members: &mut Members<'_>) -> ParseResult<RequestPrimitive> {
    let operation = match members.number("op")? {
        Some(1) => Operation::Create,
        Some(2) => Operation::Retrieve,
        Some(3) => Operation::Update,
        Some(4) => Operation::Delete,
        Some(5) => Operation::Notify,
        _ => return Err(bad("op is not the number of an operation, 1 to 5")),
    };
    let to = members.take("to").ok_or_else(|| bad("the target (to) is missing"))?;
    let to: String = parse("to", to, "a string")?;
    let to = Target::from_address(&to).map_err(|e| bad(e.to_string()))?;
    let from = members.text("fr")?;
    let release = members.text("rvi")?;
    let resource_type = match members.number("ty")? {
        None => None,
        Some(_) if operation != Operation::Create => {
            return Err(bad("only a create has a resource type (ty); a filter has its own"));
        }
        Some(number) => Some(u16::try_from(number).map_err(|_| bad("ty is not a resource type"))?),
    };
    if operation == Operation::Create && resource_type.is_none() {
        return Err(bad("a create has a resource type (ty)"));
    }
    let content = members.take("pc").map(|raw| {
        Content::parse(bytes.slice_ref(raw.get().as_bytes())).map_err(|e| bad(e.to_string()))
    });
    let content = content.transpose()?;
    check_content(operation, resource_type, content.as_ref())?;
    let mut parameters = parameters(members, &REQUEST_PARAMETERS)?;
    if let Some(raw) = members.take(Parameter::Tokens.short_name()) {
        parameters.set(Parameter::Tokens, tokens(raw)?);
    }
    let mut options = Options::default();
    if let Some(raw) = members.take("rt") {
        response_type(raw, &mut options, &mut parameters)?;
    }
    for (name, value_type) in OPTIONS {
        if let Some(raw) = members.take(name) {
            options.put(name, texts(name, value_type, raw)?)?;
        }
    }
    if let Some(raw) = members.take("fc") {
        if matches!(operation, Operation::Create | Operation::Notify) {
            return Err(bad(format!("a {} has no filter criteria (fc)", operation.name())));
        }
        filter_criteria(raw, &mut options)?;
    }
    for name in UNSUPPORTED {
        if members.has(name) {
            let why = format!("the parameter {name} is not supported in a serialized primitive");
            return Err(BindingError { rsc: Rsc::NotImplemented, ..bad(why) });
        }
    }
    members.end("a request")?;
    Ok(RequestPrimitive {
        operation,
        to,
        from,
        // Set by the caller.
        request_id: String::new(),
        release,
        resource_type,
        content,
        options: options.all,
        parameters,
        source_address: None,
        credential: None,
        roles: Vec::new(),
        tokens: Vec::new(),
    })
}

fn response(bytes: &Bytes, members: &mut Members<'_>) -> ParseResult<ResponsePrimitive> {
    let rsc = members.number("rsc")?.and_then(|code| u16::try_from(code).ok());
    let rsc = rsc.ok_or_else(|| bad("rsc is not a status code"))?;
    let from = members.text("fr")?;
    // The connection determines the recipient.
    let _to = members.text("to")?;
    let release = members.text("rvi")?;
    let content = members.take("pc").map(|raw| bytes.slice_ref(raw.get().as_bytes()));
    let mut parameters = parameters(members, &RESPONSE_PARAMETERS)?;
    if let Some(raw) = members.take("ati") {
        parameters.set(Parameter::AssignedTokenIds, assigned_token_ids(raw)?);
    }
    // Authorization Signature Request Information: the CSE refused the request, and requires
    // signatures in the next one. They are not supported.
    let _ = members.take("asri");
    // A parameter of requests, which ACME repeats in each response.
    let _ = members.take("drt");
    members.end("a response")?;
    Ok(ResponsePrimitive {
        rsc: Rsc::from_code(rsc),
        from,
        // Set by the caller.
        request_id: String::new(),
        release,
        content,
        content_location: None,
        parameters,
    })
}

/// Takes the known parameters.
fn parameters(members: &mut Members<'_>, known: &[Parameter]) -> ParseResult<Parameters> {
    let mut parameters = Parameters::default();
    for &parameter in known {
        let name = parameter.short_name();
        if let Some(raw) = members.take(name) {
            let value = match parameter.value_type() {
                ValueType::Number => parse::<u64>(name, raw, "a non-negative integer")?.to_string(),
                ValueType::Time => time(name, raw)?,
                _ => portable(name, raw)?,
            };
            parameters.set(parameter, value);
        }
    }
    Ok(parameters)
}

/// The options of a request, with the same limits as a query string.
#[derive(Default)]
struct Options {
    all: Vec<(String, Vec<String>)>,
    bytes: usize,
}

impl Options {
    fn put(&mut self, name: &str, value: Vec<String>) -> ParseResult<()> {
        self.bytes += name.len() + value.iter().map(|v| v.len() + 1).sum::<usize>();
        if self.bytes > MAX_OPTION_BYTES || self.all.len() >= MAX_OPTIONS {
            return Err(bad(format!(
                "the options and filter criteria are more than {MAX_OPTIONS}, or longer than \
                 {MAX_OPTION_BYTES} bytes"
            )));
        }
        self.all.push((name.into(), value));
        Ok(())
    }
}

/// Joins tokens as HTTP does, with `+`.
fn tokens(raw: &RawValue) -> ParseResult<String> {
    if raw.get().len() > MAX_TOKENS + MAX_LIST_OVERHEAD {
        return Err(bad(format!("tkns is longer than {MAX_TOKENS} bytes")));
    }
    let mut all = Vec::new();
    for raw in list("tkns", raw)? {
        let token: String = parse("tkns", raw, "a list of strings")?;
        // Neither of the forms of a token has other characters.
        let is_of_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if token.is_empty() || !token.bytes().all(is_of_token) {
            return Err(bad("tkns has an element that is not a token"));
        }
        all.push(token);
    }
    let joined = all.join("+");
    if joined.is_empty() || joined.len() > MAX_TOKENS {
        return Err(bad(format!("tkns has no token, or is longer than {MAX_TOKENS} bytes")));
    }
    Ok(joined)
}

/// Parses the Response Type with its notification targets: `{"rtv": 2, "nu": ["…"]}`.
fn response_type(
    raw: &RawValue,
    options: &mut Options,
    parameters: &mut Parameters,
) -> ParseResult<()> {
    let mut members = Members::read(raw.get(), "rt")?;
    let value = members.number("rtv")?.ok_or_else(|| bad("rt has no rtv"))?;
    options.put("rt", vec![value.to_string()])?;
    if let Some(raw) = members.take("nu") {
        let targets: Vec<String> = list("nu", raw)?
            .into_iter()
            .map(|raw| portable("nu", raw))
            .collect::<ParseResult<_>>()?;
        // HTTP joins them with `&`, so none of them may contain it.
        if targets.iter().any(|target| target.contains('&')) {
            return Err(bad("a notification target of rt has the character &"));
        }
        let joined = targets.join("&");
        if joined.len() > MAX_VALUE {
            return Err(bad(format!("the targets of rt are longer than {MAX_VALUE} bytes")));
        }
        parameters.set(Parameter::ResponseTargets, joined);
    }
    members.end("rt")
}

/// Parses the Filter Criteria. Each of them becomes an option, as in a query string.
fn filter_criteria(raw: &RawValue, options: &mut Options) -> ParseResult<()> {
    let mut members = Members::read(raw.get(), "fc")?;
    for (name, value_type) in FILTER_CRITERIA {
        let Some(raw) = members.take(name) else { continue };
        if value_type == ValueType::Attributes {
            for element in list(name, raw)? {
                attribute_condition(element, options)?;
            }
        } else {
            options.put(name, texts(name, value_type, raw)?)?;
        }
    }
    members.end("fc")
}

/// Parses a condition on an attribute, which HTTP writes as `name=value`. Its name must not be that
/// of a parameter, because an upstream CSE would interpret it as one.
fn attribute_condition(raw: &RawValue, options: &mut Options) -> ParseResult<()> {
    let mut members = Members::read(raw.get(), "atr")?;
    let name = members.text("nm")?.ok_or_else(|| bad("a condition in atr has no nm"))?;
    let value = members.take("val").ok_or_else(|| bad("a condition in atr has no val"))?;
    members.end("atr")?;
    let is_attribute = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let is = |known: &str| known.eq_ignore_ascii_case(&name);
    let is_parameter = OWN_MEMBERS.into_iter().any(is)
        || OPTIONS.iter().chain(&FILTER_CRITERIA).any(|(known, _)| is(known));
    if !is_attribute || is_parameter {
        return Err(bad(format!("atr has a condition on {name:?}, which is not an attribute")));
    }
    let value_type = match value.get().as_bytes().first() {
        Some(b'"') => ValueType::Text,
        Some(b't' | b'f') => ValueType::Boolean,
        _ => ValueType::Number,
    };
    options.put(&name, texts("val", value_type, value)?)
}

/// Converts Assigned Token Identifiers to the form of HTTP: `lti:tkid`, joined with `+`.
fn assigned_token_ids(raw: &RawValue) -> ParseResult<String> {
    let mut members = Members::read(raw.get(), "ati")?;
    let all = members.take("ltia").ok_or_else(|| bad("ati has no ltia"))?;
    members.end("ati")?;
    let mut pairs = Vec::new();
    for element in list("ltia", all)? {
        let mut members = Members::read(element.get(), "ltia")?;
        let both = (members.text("lti")?, members.text("tkid")?);
        members.end("ltia")?;
        let (Some(local), Some(token)) = both else {
            return Err(bad("an element of ltia has lti and tkid"));
        };
        if local.contains([':', '+']) || token.contains('+') {
            return Err(bad("a token identifier has the character : or +"));
        }
        pairs.push(format!("{local}:{token}"));
    }
    Ok(pairs.join("+"))
}
