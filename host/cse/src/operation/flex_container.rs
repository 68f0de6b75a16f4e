//! The definition, the size and the instances of a `<flexContainer>` (TS-0001 clause 9.6.35, TS-0004
//! clause 7.4.37).
//!
//! The instances are those of the release 5 draft: with `fcied`, each change of a custom attribute
//! or of the labels adds a `<flexContainerInstance>` with the new values.

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::error::Refusal;
use crate::operation::quota::MAX_DEPTH;
use crate::operation::resource_id;
use crate::record::{Attributes, Record, alive};
use crate::request::context::Context;
use crate::resource::attributes::is_known;
use crate::resource::content_instance;
use crate::resource::schema::AttributeError;
use crate::store::Writer;

/// Whether a `<flexContainer>` gets new instances (`flexContainerInstancesEnabled`).
const INSTANCES: &str = "fcied";

/// Labels, which an instance has as well.
const LABELS: &str = "lbl";

/// Attributes that limit the instances.
const LIMITS: [&str; 3] = ["mni", "mbs", "mia"];

/// Returns whether an attribute is defined by the definition.
pub(crate) fn is_custom(name: &str) -> bool {
    !is_known(ResourceType::FlexContainer, name)
}

/// Returns the custom attributes.
fn custom(record: &Record) -> impl Iterator<Item = (&String, &Value)> {
    record.attributes.iter().filter(|(name, _)| is_custom(name))
}

/// Returns the sum of the sizes of the custom attributes: the bytes of a text, or of another value's
/// JSON.
pub(crate) fn size(attributes: &Attributes) -> u64 {
    let custom = attributes.iter().filter(|(name, _)| is_custom(name));
    custom.map(|(_, value)| content_instance::size(value)).fold(0, u64::saturating_add)
}

/// Updates the size and the instances of a `<flexContainer>` that is about to be stored, and that
/// was `before` its update. `changed` are the attributes of the update. Returns a new instance.
///
/// # Errors
/// Returns an error if the attributes are not compatible, or exceed a limit.
pub(crate) fn settle(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
    before: Option<&Record>,
    changed: &[String],
) -> Result<Option<Record>, Refusal> {
    let limits = &context.settings.limits;
    let size = size(&record.attributes);
    if size > limits.max_content_bytes {
        return Err(Refusal::NotAcceptable("the custom attributes exceed the maximum size"));
    }
    record.size = Some(size);
    let enabled = |of: &Record| of.attributes.get(INSTANCES).and_then(Value::as_bool);
    for name in LIMITS {
        match record.attributes.get(name) {
            Some(_) if enabled(record).is_none() => {
                return Err(AttributeError::value(name, "requires the attribute fcied").into());
            }
            Some(limit) if limit.as_u64() == Some(0) => {
                let why = "must be a number from 1 upwards";
                return Err(AttributeError::value(name, why).into());
            }
            _ => {}
        }
    }
    let Some(is_enabled) = enabled(record) else {
        content_instance::keep_latest(writer, record, 0)?;
        record.instances = None;
        return Ok(None);
    };
    let was_enabled = before.and_then(enabled);
    let changes = changed.iter().any(|name| name == LABELS || is_custom(name));
    let adds = was_enabled.is_none() || is_enabled && (changes || was_enabled == Some(false));
    record.instances.get_or_insert_default();
    let mut added = None;
    if adds {
        let mut instance = new_instance(writer, context, record)?;
        content_instance::admit(writer, limits, record, &mut instance)?;
        added = Some(instance);
    } else {
        content_instance::drop_expired(writer, record, context.now)?;
        content_instance::trim(writer, limits, record, context.now)?;
    }
    if changed.iter().any(|name| name == "mia") {
        content_instance::shorten(writer, record, context.now)?;
    }
    if !is_enabled && was_enabled == Some(true) {
        content_instance::keep_latest(writer, record, 1)?;
    }
    Ok(added.filter(|instance| alive(instance.expires, context.now)))
}

/// Creates the instance with the present values.
fn new_instance(
    writer: &Writer<'_>,
    context: &Context<'_>,
    of: &Record,
) -> Result<Record, Refusal> {
    let depth = of.depth + 1;
    if depth > MAX_DEPTH {
        return Err(Refusal::NotAcceptable("the maximum depth of resources is exceeded"));
    }
    let mut attributes: Attributes =
        custom(of).map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(labels) = of.attributes.get(LABELS) {
        attributes.insert(LABELS.into(), labels.clone());
    }
    if let Some(from) = &context.request.from {
        attributes.insert("org".into(), from.as_str().into());
    }
    let ty = ResourceType::FlexContainerInstance;
    let ri = resource_id::fresh(writer.read(), "fci-")?;
    Ok(Record {
        root: of.root.clone(),
        parent: Some(of.ri.clone()),
        sequence: writer.next_sequence(&of.ri, ty)?,
        depth,
        owner: of.owner.clone(),
        state: of.state,
        size: of.size,
        attributes,
        ..Record::new(ty, ri, context.now)
    })
}
