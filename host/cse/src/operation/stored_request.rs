//! `<request>`: the state and the result of a non-blocking request (TS-0001 clause 9.6.12, TS-0004
//! clauses 7.3.2.2 and 7.4.12).
//!
//! It is below the registration of its originator, with which it ends, and counts for the quota of
//! it. Only the originator has access to it.

use std::time::{Duration, UNIX_EPOCH};

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::{Serialization, json_response};
use saegis_onem2m::timestamp::parse_relative;
use serde_json::{Map, Value, json};

use crate::access::names;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::identifiers::may_be_ae;
use crate::notification::aggregation;
use crate::notification::asynchronous::{NonBlockingRequest, PERSISTENCE};
use crate::notification::events;
use crate::notification::message::Notification;
use crate::notification::outbox::Outbox;
use crate::notification::sending::Sending;
use crate::operation::quota;
use crate::operation::request_status::{PARAMETERS, PENDING, STATUS, is_pending};
use crate::operation::resource_id;
use crate::record::{Attributes, Record, Seconds, seconds};
use crate::request::parameters::OptionError;
use crate::resource::address::by_id;
use crate::resource::registrant;
use crate::resource::remote_cse;
use crate::resource::schema::ORIGINATOR;
use crate::settings::Settings;
use crate::state::State;
use crate::store::{Read, StoreError, Writer};

/// Result of the request (`operationResult`).
const RESULT: &str = "ors";

/// m2m:requestStatus.
const COMPLETED: u64 = 1;
const FAILED: u64 = 2;

/// Maximum number of stored requests of one registree.
const MAX_STORED: usize = 32;

/// Maximum size of a stored result, in bytes.
const MAX_RESULT_BYTES: usize = 1 << 20;

/// Lifetime of a stored request without a requested one, and the maximum, from its execution on.
const LIFETIME: Seconds = 60 * 60;
const MAX_LIFETIME: Seconds = 24 * 60 * 60;

/// The reason why no `<request>` is stored.
enum NotStored {
    /// The originator is not registered here, or has the maximum number of them.
    Unavailable(Refusal),
    Refused(Refusal),
}

impl<E: Into<Refusal>> From<E> for NotStored {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Creates the `<request>` of an accepted request. Without one, a request whose originator fetches
/// the result is refused.
///
/// # Errors
/// Returns the refusal.
pub(crate) fn store(
    state: &State,
    accepted: NonBlockingRequest,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<NonBlockingRequest, Box<ResponsePrimitive>> {
    let stored = state.store.write(budget, |writer| insert(writer, state, &accepted, now));
    match stored {
        Ok(ri) => Ok(accepted.stored_as(ri)),
        Err(NotStored::Unavailable(_)) if !accepted.is_fetched() => Ok(accepted),
        Err(NotStored::Unavailable(refusal) | NotStored::Refused(refusal)) => {
            Err(Box::new(state.refuse(accepted.original(), &refusal)))
        }
    }
}

/// Returns the registration of an originator, which must be registered here.
fn registration(
    read: &dyn Read,
    state: &State,
    request: &RequestPrimitive,
    now: Seconds,
) -> Result<Record, NotStored> {
    let from = request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    let ae = registrant::registered_ae(read, from, now)?;
    let found = match ae {
        Some(ae) if registrant::belongs_to_another(&ae, request) => None,
        None if from.starts_with('/') && !may_be_ae(from.trim_start_matches('/')) => {
            remote_cse::of(read, &state.settings, from, now)?
        }
        ae => ae,
    };
    found.ok_or_else(|| NotStored::Unavailable(OptionError::NotFetched.into()))
}

/// Stores an accepted request. Returns its resource-ID.
fn insert(
    writer: &mut Writer<'_>,
    state: &State,
    accepted: &NonBlockingRequest,
    now: Seconds,
) -> Result<String, NotStored> {
    let request = accepted.original();
    let parent = registration(writer.read(), state, request, now)?;
    let ty = ResourceType::Request;
    let mut number = 0;
    let mut after = None;
    while let Some(child) = writer.read().next_of_type(&parent.ri, ty, after)? {
        (number, after) = (number + 1, Some(child.sequence));
    }
    if number >= MAX_STORED {
        let why = "the originator has the maximum number of results: delete some first";
        return Err(NotStored::Unavailable(Refusal::NotAcceptable(why)));
    }
    let before = quota::usage(writer, parent.owner.as_deref())?;
    let ri = resource_id::fresh(writer.read(), "req-")?;
    let attributes = attributes(request);
    let execution = accepted.execute_at().map_or(now, seconds);
    let mut record = Record {
        sequence: writer.next_sequence(&parent.ri, ty)?,
        depth: parent.depth + 1,
        owner: parent.owner,
        parent: Some(parent.ri),
        expires: Some(expiration(request, execution)?),
        attributes,
        ..Record::new(ty, ri, now)
    };
    let (read, from) = (writer.read(), request.from.as_deref());
    names::store_registrant(read, &state.settings, &mut record, ORIGINATOR, from, now)?;
    writer.put(&record)?;
    quota::check_count(writer.read(), &state.settings.limits)?;
    quota::check(writer, &state.settings.limits, record.owner.as_deref(), before)?;
    Ok(record.ri)
}

/// Returns the attributes of a new `<request>`.
fn attributes(request: &RequestPrimitive) -> Attributes {
    let serialized = Serialization::Json.write_request(request).unwrap_or_default();
    let mut members: Map<String, Value> = serde_json::from_slice(&serialized).unwrap_or_default();
    let mut attributes = Attributes::new();
    for (member, attribute) in
        [("op", "op"), ("to", "tg"), ("fr", ORIGINATOR), ("rqi", "rid"), ("pc", "pc")]
    {
        if let Some(value) = members.remove(member) {
            attributes.insert(attribute.into(), value);
        }
    }
    // A token is a credential, and others may be allowed to retrieve the resource.
    members.remove(Parameter::Tokens.short_name());
    attributes.insert(PARAMETERS.into(), members.into());
    attributes.insert("lbl".into(), json!([request.from]));
    attributes.insert(STATUS.into(), PENDING.into());
    let result = json!({ "rsc": Rsc::Accepted.code(), "rqi": request.request_id });
    attributes.insert(RESULT.into(), result);
    attributes
}

/// Returns the expiration time of a stored request that is executed at a time: its Result Expiration
/// Timestamp, and its Result Persistence beyond it.
fn expiration(request: &RequestPrimitive, execution: Seconds) -> Result<Seconds, Refusal> {
    let name = Parameter::ResultExpiration;
    let mut at = request
        .parameters
        .get(name)
        .map(|text| time(text, execution).ok_or(OptionError::Value(name.short_name())));
    let persistence = request.options.iter().find(|(name, _)| name == PERSISTENCE);
    if let Some(text) = persistence.and_then(|(_, value)| value.first()) {
        let from = at.take().transpose()?.unwrap_or(execution);
        at = Some(time(text, from).ok_or(OptionError::Value(PERSISTENCE)));
    }
    let at = at.transpose()?.unwrap_or(execution.saturating_add(LIFETIME));
    if at > execution.saturating_add(MAX_LIFETIME) {
        return Err(Refusal::NotAcceptable("a result is stored for at most a day"));
    }
    Ok(at.max(execution.saturating_add(1)))
}

/// Parses a time that is absolute, or relative to `from`.
fn time(text: &str, from: Seconds) -> Option<Seconds> {
    parse_relative(text, UNIX_EPOCH + Duration::from_secs(from)).ok().map(seconds)
}

/// Stores the result of a request. Returns the notifications of its subscribers.
///
/// # Errors
/// Returns an error if the store fails.
pub(crate) fn complete(
    state: &State,
    ri: &str,
    response: &ResponsePrimitive,
    now: Seconds,
) -> Result<Vec<Notification>, StoreError> {
    let from = state.settings.cse_id.to_string();
    settle(state, ri, now, |originator| {
        let result = json_response(response, &from, originator);
        if result.to_string().len() <= MAX_RESULT_BYTES {
            let status = if response.rsc.is_success() { COMPLETED } else { FAILED };
            return (status, result);
        }
        let why = "the result is too large to be stored: request less";
        let (id, release) = (&response.request_id, response.release.as_deref());
        let refusal = ResponsePrimitive::refusal(id, release, Rsc::NotAcceptable, why);
        (FAILED, json_response(&refusal, &from, originator))
    })
}

/// Marks a request as failed that has no result: its work was stopped. Returns the notifications of
/// its subscribers.
///
/// # Errors
/// Returns an error if the store fails.
pub(crate) fn fail(state: &State, ri: &str, now: Seconds) -> Result<Vec<Notification>, StoreError> {
    let outbox = Outbox::default();
    let settled = state.store.write(&RequestBudget::unlimited(), |writer| {
        let Some(before) = pending(writer.read(), ri)? else { return Ok(()) };
        let mut record = before.clone();
        interrupt(writer, &state.settings, &mut record, now)?;
        report(writer, state, &outbox, &before, now)
    });
    settled.inspect_err(|error| state.suspect_store(error))?;
    Ok(outbox.post(state).0)
}

fn settle(
    state: &State,
    ri: &str,
    now: Seconds,
    result: impl FnOnce(Option<&str>) -> (u64, Value),
) -> Result<Vec<Notification>, StoreError> {
    let outbox = Outbox::default();
    let settled = state.store.write(&RequestBudget::unlimited(), |writer| {
        let Some(former) = pending(writer.read(), ri)? else { return Ok(()) };
        let mut record = former.clone();
        let originator = record.attributes.get(ORIGINATOR).and_then(Value::as_str);
        let (status, result) = result(originator);
        let (owner, limits) = (record.owner.clone(), &state.settings.limits);
        let before = quota::usage(writer, owner.as_deref())?;
        // The persistence counts from the result on.
        let persistence = record.attributes.get(PARAMETERS).and_then(|of| of.get(PERSISTENCE));
        let text = persistence.map(|value| match value {
            Value::String(text) => text.clone(),
            number => number.to_string(),
        });
        let until = text.and_then(|text| time(&text, now)).map(|at| at.max(now + 1));
        record.expires = record.expires.max(until);
        finish(writer, &mut record, (status, result), now)?;
        // The originator may have used its quota meanwhile.
        if quota::check(writer, limits, owner.as_deref(), before).is_err() {
            interrupt(writer, &state.settings, &mut record, now)?;
        }
        report(writer, state, &outbox, &former, now)
    });
    settled.inspect_err(|error| state.suspect_store(error))?;
    Ok(outbox.post(state).0)
}

/// Reports the end of a request to the subscribers of its `<request>`, in the same transaction.
fn report(
    writer: &mut Writer<'_>,
    state: &State,
    outbox: &Outbox,
    before: &Record,
    now: Seconds,
) -> Result<(), StoreError> {
    let Some(found) = by_id(writer.read(), &before.ri, now)? else { return Ok(()) };
    let sending = Sending { settings: &state.settings, now, outbox };
    events::updated(writer, &sending, before, &found.record, found.expires)?;
    aggregation::store(writer, state, outbox, now)
}

/// Returns a stored request without a result. It may have been deleted.
fn pending(read: &dyn Read, ri: &str) -> Result<Option<Record>, StoreError> {
    Ok(read.get(ri)?.filter(|record| record.parent.is_some() && is_pending(record)))
}

/// Returns whether a request was recalled before its execution.
pub(crate) fn is_recalled(state: &State, ri: &str) -> bool {
    let snapshot = state.store.snapshot(&RequestBudget::unlimited());
    // A request whose state is unknown is executed, as it was acknowledged.
    snapshot.is_ok_and(|snapshot| matches!(pending(snapshot.read(), ri), Ok(None)))
}

/// Removes the `<request>` of a request whose result was sent. Returns the notifications of its
/// subscribers.
///
/// # Errors
/// Returns an error if the store fails.
pub(crate) fn remove(
    state: &State,
    ri: &str,
    now: Seconds,
) -> Result<Vec<Notification>, StoreError> {
    let outbox = Outbox::default();
    let removed = state.store.write(&RequestBudget::unlimited(), |writer| {
        match by_id(writer.read(), ri, now)? {
            Some(found) if found.record.ty == ResourceType::Request => {
                let sending = Sending { settings: &state.settings, now, outbox: &outbox };
                events::ended(writer.read(), &sending, &found)?;
                aggregation::store(writer, state, &outbox, now)?;
                writer.remove_tree(ri, usize::MAX).map(drop)
            }
            // The next sweep removes an expired one.
            _ => Ok::<_, StoreError>(()),
        }
    });
    removed.inspect_err(|error| state.suspect_store(error))?;
    Ok(outbox.post(state).0)
}

/// Marks a request as failed that has no result.
fn interrupt(
    writer: &mut Writer<'_>,
    settings: &Settings,
    record: &mut Record,
    now: Seconds,
) -> Result<(), StoreError> {
    let text = |name| record.attributes.get(name).and_then(Value::as_str);
    let id = text("rid").unwrap_or_default();
    let why = "the request has no result: it was interrupted";
    let refusal = ResponsePrimitive::refusal(id, None, Rsc::InternalServerError, why);
    let result = json_response(&refusal, &settings.cse_id.to_string(), text(ORIGINATOR));
    finish(writer, record, (FAILED, result), now)
}

fn finish(
    writer: &mut Writer<'_>,
    record: &mut Record,
    (status, result): (u64, Value),
    now: Seconds,
) -> Result<(), StoreError> {
    record.attributes.insert(STATUS.into(), status.into());
    record.attributes.insert(RESULT.into(), result);
    record.modified = now;
    writer.put(record)
}

/// Marks the requests as failed that a former run of the CSE did not complete. Their subscribers are
/// notified with the next notifications that are due.
///
/// # Errors
/// Returns an error if the store fails.
pub(crate) fn fail_all(state: &State, now: Seconds) -> Result<(), StoreError> {
    let outboxes = state.store.write(&RequestBudget::unlimited(), |writer| {
        let mut outboxes = Vec::new();
        for ty in [ResourceType::Ae, ResourceType::RemoteCse] {
            let (base, mut registree) = (state.settings.cse_id.bare(), None);
            while let Some(parent) = writer.read().next_of_type(base, ty, registree)? {
                let mut after = None;
                while let Some(child) =
                    writer.read().next_of_type(&parent.ri, ResourceType::Request, after)?
                {
                    if let Some(before) = pending(writer.read(), &child.ri)? {
                        let (mut record, outbox) = (before.clone(), Outbox::default());
                        interrupt(writer, &state.settings, &mut record, now)?;
                        report(writer, state, &outbox, &before, now)?;
                        outboxes.push(outbox);
                    }
                    after = Some(child.sequence);
                }
                registree = Some(parent.sequence);
            }
        }
        Ok::<_, StoreError>(outboxes)
    })?;
    outboxes.into_iter().for_each(|outbox| outbox.send_later(state));
    Ok(())
}
