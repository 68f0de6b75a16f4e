//! The announcement of a resource to the registrar CSE, as a create or an update requests it (TS-0004
//! clauses 7.3.3.10 and 7.3.3.11). The request is sent after the commit.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::error::Refusal;
use crate::record::{AnnouncementState, Attributes, Record};
use crate::request::context::Context;
use crate::resource::announced;
use crate::resource::schema::{ANNOUNCE_TO, DEFINITION};
use crate::settings::Settings;
use crate::store::Writer;

/// Starts, changes or ends the announcement of a resource that is about to be created below `parent`.
///
/// # Errors
/// Returns an error if the resource cannot be announced as requested.
pub(crate) fn begin(
    context: &Context<'_>,
    record: &mut Record,
    parent: &Record,
) -> Result<(), Refusal> {
    check(context.settings, record)?;
    let Some(targets) = take_targets(&mut record.attributes) else { return Ok(()) };
    if record.ty.is_instance() && !is_announced(context.settings, parent) {
        return Err(Refusal::NotAllowed("the parent of the instance is not announced"));
    }
    record.announcement = Some(announcement(context, None, &targets)?);
    Ok(())
}

/// Changes the announcement of a resource that is about to be updated. `changed` are the attributes
/// of the update.
///
/// # Errors
/// Returns an error if the resource cannot be announced as requested.
pub(crate) fn change(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
    changed: &[String],
) -> Result<(), Refusal> {
    check(context.settings, record)?;
    if changed.iter().any(|name| name == ANNOUNCE_TO) {
        let state = record.announcement.take();
        let old = state.as_ref().and_then(|state| state.address.clone());
        match take_targets(&mut record.attributes) {
            Some(targets) => record.announcement = Some(announcement(context, state, &targets)?),
            None => {
                if let Some(address) = old {
                    let owner = record.owner.as_deref();
                    writer.move_announcement(owner, &address, None, Some(context.now))?;
                }
            }
        }
    }
    if let Some(state) = &mut record.announcement {
        state.version = state.version.saturating_add(1);
        state.due = Some(context.now);
        if let Some(address) = &state.address {
            record.attributes.insert(ANNOUNCE_TO.into(), json!([address]));
        }
    }
    Ok(())
}

/// Checks the attributes that control the announcement.
fn check(settings: &Settings, record: &Record) -> Result<(), Refusal> {
    if record.ty.announced().is_none() {
        return Ok(());
    }
    let id = record.attributes.get(DEFINITION).and_then(Value::as_str).unwrap_or_default();
    let definition = settings.definitions.get(id);
    let is_custom = |name: &str| definition.is_some_and(|of| of.is_required(name).is_some());
    Ok(announced::check(record.ty, &record.attributes, &is_custom)?)
}

/// Removes the requested targets from the attributes. Those of announcements that exist are added
/// when they are known.
fn take_targets(attributes: &mut Attributes) -> Option<Vec<String>> {
    let list = attributes.remove(ANNOUNCE_TO)?;
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    Some(texts.map(ToOwned::to_owned).collect())
}

/// Returns whether a resource is announced to the registrar CSE.
pub(crate) fn is_announced(settings: &Settings, record: &Record) -> bool {
    let state = record.announcement.as_ref();
    state.is_some_and(|state| state.address.is_some() && is_registrar(settings, &state.cse))
}

fn is_registrar(settings: &Settings, cse: &str) -> bool {
    settings.registrar.is_some() && settings.own_cse(cse) == settings.registrar
}

/// Returns the announcement to these targets. Only the registrar CSE is one, by its CSE-ID or by the
/// address of the announcement that exists.
fn announcement(
    context: &Context<'_>,
    state: Option<AnnouncementState>,
    targets: &[String],
) -> Result<AnnouncementState, Refusal> {
    let Some(registrar) = &context.settings.registrar else {
        let why = "this CSE has no registrar CSE to which it announces resources";
        return Err(Refusal::NotImplemented(why));
    };
    let address = state.as_ref().and_then(|state| state.address.as_deref());
    let is_known = |target: &String| {
        Some(target.as_str()) == address || is_registrar(context.settings, target)
    };
    if !targets.iter().all(is_known) {
        let why = "resources are announced only to the registrar CSE, by its CSE-ID in at";
        return Err(Refusal::NotImplemented(why));
    }
    Ok(state.unwrap_or_else(|| AnnouncementState {
        cse: registrar.to_string(),
        address: None,
        attempted: false,
        sent: BTreeSet::new(),
        policies: Value::Null,
        version: first_version(),
        due: Some(context.now),
    }))
}

/// Returns the number of the first change of an announcement. It is random, so that the outcome of a
/// request for a former announcement of the same resource does not count as that of the present one.
fn first_version() -> u64 {
    rand::random::<u64>() >> 1
}
