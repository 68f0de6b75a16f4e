//! The number, size and age of the instances of a container or a flexContainer (TS-0001 clause
//! 9.6.6, TS-0004 clause 7.4.7). The oldest ones are removed first.

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::error::Refusal;
use crate::record::{InstanceTotals, Record, Seconds, alive, earlier};
use crate::settings::StorageLimits;
use crate::store::{Edge, Read, StoreError, Writer};

/// Whether requests to the instances are refused (`disableRetrieval`).
const DISABLED: &str = "disr";

/// Maximum number of expired instances that a change of their container removes, so that other
/// requests can write in between.
const MAX_EXPIRED_AT_ONCE: usize = 64;

/// Returns the capacity of a container: the requested one, within the limits.
pub(crate) fn capacity(container: &Record, limits: &StorageLimits) -> InstanceTotals {
    let asked = |name| container.attributes.get(name).and_then(Value::as_u64);
    InstanceTotals {
        count: asked("mni").unwrap_or(u64::MAX).min(limits.max_instances),
        bytes: asked("mbs").unwrap_or(u64::MAX).min(limits.max_container_bytes),
    }
}

/// Returns the size of a value: the bytes of a text, or of another value's JSON.
pub(crate) fn size(content: &Value) -> u64 {
    let bytes = match content {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Returns the time at which an instance exceeds the maximum age of its container.
fn too_old(container: &Record, created: Seconds) -> Option<Seconds> {
    let age = container.attributes.get("mia").and_then(Value::as_u64)?;
    Some(created.saturating_add(age))
}

/// Stores a new instance, and removes the oldest ones as needed.
///
/// # Errors
/// Returns an error if it does not even fit into an empty container.
pub(crate) fn admit(
    writer: &mut Writer<'_>,
    limits: &StorageLimits,
    container: &mut Record,
    instance: &mut Record,
) -> Result<(), Refusal> {
    let capacity = capacity(container, limits);
    let size = instance.size.unwrap_or(0);
    if size > limits.max_content_bytes {
        return Err(Refusal::NotAcceptable("the content exceeds the maximum size of an instance"));
    }
    if capacity.count == 0 || size > capacity.bytes {
        return Err(Refusal::NotAcceptable("the instance exceeds the capacity of the container"));
    }
    let too_old = too_old(container, instance.created);
    if too_old.is_some_and(|at| at <= instance.created) {
        return Err(Refusal::NotAcceptable(
            "the maximum age of instances in the container is zero",
        ));
    }
    instance.expires = earlier(instance.expires, too_old);
    drop_expired(writer, container, instance.created)?;
    if instance.ty == ResourceType::ContentInstance {
        container.state = container.state.map(|state| state.saturating_add(1));
        instance.state = container.state;
    }
    container.modified = instance.created;
    writer.put(instance)?;
    let totals = container.instances.get_or_insert_default();
    totals.count = totals.count.saturating_add(1);
    totals.bytes = totals.bytes.saturating_add(size);
    trim(writer, limits, container, instance.created)?;
    writer.put(container)?;
    Ok(())
}

/// Removes a limited number of expired instances, which count for nothing. The sweep removes the
/// rest. The container itself is not stored.
pub(crate) fn drop_expired(
    writer: &mut Writer<'_>,
    container: &mut Record,
    now: Seconds,
) -> Result<(), StoreError> {
    for _ in 0..MAX_EXPIRED_AT_ONCE {
        let Some(ri) = writer.first_expired_in(&container.ri, now)? else { break };
        let record = writer.read().get(&ri)?.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
        writer.remove_tree(&ri, 1)?;
        container.instances.get_or_insert_default().subtract(&record);
    }
    Ok(())
}

/// Adjusts the counters of a container for expired instances that are not removed yet. The result
/// is for responses, and must not be stored.
pub(crate) fn without_expired(
    read: &dyn Read,
    container: &mut Record,
    now: Seconds,
) -> Result<(), StoreError> {
    if let Some(totals) = &mut container.instances {
        let expired = read.expired_in(&container.ri, now)?;
        totals.count = totals.count.saturating_sub(expired.count);
        totals.bytes = totals.bytes.saturating_sub(expired.bytes);
    }
    Ok(())
}

/// Removes the oldest instances until the unexpired ones are within the capacity of the container.
/// The container itself is not stored.
pub(crate) fn trim(
    writer: &mut Writer<'_>,
    limits: &StorageLimits,
    container: &mut Record,
    now: Seconds,
) -> Result<(), StoreError> {
    let capacity = capacity(container, limits);
    let expired = writer.read().expired_in(&container.ri, now)?;
    let totals = container.instances.get_or_insert_default();
    let mut counted = InstanceTotals {
        count: totals.count.saturating_sub(expired.count),
        bytes: totals.bytes.saturating_sub(expired.bytes),
    };
    let corrupt = || StoreError::Corrupt(container.ri.clone());
    let ty = container.ty.instances().ok_or_else(corrupt)?;
    while counted.count > capacity.count || counted.bytes > capacity.bytes {
        let oldest = writer.read().instance(&container.ri, ty, Edge::Oldest, None)?;
        let oldest = oldest.ok_or_else(corrupt)?;
        let record = writer.read().get(&oldest.ri)?.ok_or_else(corrupt)?;
        writer.remove_tree(&oldest.ri, 1)?;
        totals.subtract(&record);
        if alive(record.expires, now) {
            counted.subtract(&record);
        }
    }
    Ok(())
}

/// Applies a new maximum age to existing instances: those that are too old are removed, the others
/// get a new expiration time. A greater age applies to new instances only. The container itself is
/// not stored.
pub(crate) fn shorten(
    writer: &mut Writer<'_>,
    container: &mut Record,
    now: Seconds,
) -> Result<(), StoreError> {
    let ty = container.ty.instances().ok_or_else(|| StoreError::Corrupt(container.ri.clone()))?;
    let mut beyond = None;
    while let Some(child) = writer.read().instance(&container.ri, ty, Edge::Oldest, beyond)? {
        let found = writer.read().get(&child.ri)?;
        let mut instance = found.ok_or_else(|| StoreError::Corrupt(child.ri.clone()))?;
        let expires = earlier(instance.expires, too_old(container, instance.created));
        if !alive(expires, now) {
            writer.remove_tree(&child.ri, 1)?;
            container.instances.get_or_insert_default().subtract(&instance);
        } else if expires != instance.expires {
            instance.expires = expires;
            writer.put(&instance)?;
        }
        beyond = Some(child.sequence);
    }
    Ok(())
}

/// Removes the oldest instances until `count` are left. The container itself is not stored.
pub(crate) fn keep_latest(
    writer: &mut Writer<'_>,
    container: &mut Record,
    count: u64,
) -> Result<(), StoreError> {
    let corrupt = || StoreError::Corrupt(container.ri.clone());
    let ty = container.ty.instances().ok_or_else(corrupt)?;
    let Some(totals) = &mut container.instances else { return Ok(()) };
    while totals.count > count {
        let oldest = writer.read().instance(&container.ri, ty, Edge::Oldest, None)?;
        let oldest = oldest.ok_or_else(corrupt)?;
        let instance = writer.read().get(&oldest.ri)?.ok_or_else(corrupt)?;
        writer.remove_tree(&oldest.ri, 1)?;
        totals.subtract(&instance);
    }
    Ok(())
}

/// Returns whether requests to the instances of a container are refused (`disableRetrieval`).
pub(crate) fn is_closed(container: &Record) -> bool {
    container.attributes.get(DISABLED).is_some_and(|value| value.as_bool() == Some(true))
}

/// Refuses a request to an instance whose container does not allow requests to its instances.
///
/// # Errors
/// Returns [`Refusal::NotAllowed`] if so.
pub(crate) fn check_open(read: &dyn Read, instance: &Record) -> Result<(), Refusal> {
    let Some(parent) = instance.parent.as_deref().filter(|_| instance.ty.is_instance()) else {
        return Ok(());
    };
    let container = read.get(parent)?.ok_or_else(|| StoreError::Corrupt(parent.into()))?;
    if is_closed(&container) {
        return Err(Refusal::NotAllowed("the container has disableRetrieval"));
    }
    Ok(())
}

/// The reason for the removal of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovalReason {
    /// An originator deleted it at this time, which modifies the container.
    Deleted(Seconds),
    /// The instance has expired.
    Expired,
}

/// Removes an instance, and updates the counters of its container.
pub(crate) fn remove(
    writer: &mut Writer<'_>,
    instance: &Record,
    loss: RemovalReason,
) -> Result<(), StoreError> {
    writer.remove_tree(&instance.ri, 1)?;
    let corrupt = || StoreError::Corrupt(instance.ri.clone());
    let parent = instance.parent.as_deref().ok_or_else(corrupt)?;
    let mut container = writer.read().get(parent)?.ok_or_else(corrupt)?;
    container.instances.get_or_insert_default().subtract(instance);
    if let RemovalReason::Deleted(now) = loss {
        if instance.ty == ResourceType::ContentInstance {
            container.state = container.state.map(|s| s.saturating_add(1));
        }
        container.modified = now;
    }
    writer.put(&container)
}

impl InstanceTotals {
    /// Subtracts an instance that is removed.
    pub(crate) fn subtract(&mut self, instance: &Record) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(instance.size.unwrap_or(0));
    }
}
