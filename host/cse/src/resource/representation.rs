//! The representation of a resource: its attributes by their short names (TS-0004 clause 8.2).

use saegis_onem2m::resource::ResourceType;
use serde_json::{Map, Value, json};

use crate::record::{
    Attributes, Record, Seconds, TargetStatistics, timestamp, timestamp_of_milliseconds,
};
use crate::resource::content_instance;
use crate::resource::schema::POLICIES;
use crate::settings::{APPLICATION_NODE, INFRASTRUCTURE, Settings};

/// Returns the attributes of a resource: those of its originator, and those that the CSE maintains.
/// `expires` is the earliest expiration time of the resource and its ancestors.
pub(crate) fn of_resource(
    settings: &Settings,
    record: &Record,
    expires: Option<Seconds>,
) -> Attributes {
    let mut all = record.attributes.clone();
    let mut put = |name: &str, value: Value| {
        all.insert(name.into(), value);
    };
    put("ty", record.ty.number().into());
    put("ri", record.ri.as_str().into());
    put("rn", record.name.as_str().into());
    put("pi", record.parent.as_deref().unwrap_or_default().into());
    put("ct", timestamp(record.created).into());
    put("lt", timestamp(record.modified).into());
    if let Some(at) = expires {
        put("et", timestamp(at).into());
    }
    if let Some(state) = record.state {
        put("st", state.into());
    }
    if let Some(size) = record.size {
        put("cs", size.into());
    }
    if record.ty == ResourceType::Ae {
        // The resource-ID of an AE is its AE-ID-Stem.
        put("aei", record.ri.as_str().into());
    }
    // The contents of a container, and the limits that apply to it.
    if let Some(totals) = record.instances {
        let capacity = content_instance::capacity(record, &settings.limits);
        put("cni", totals.count.into());
        put("cbs", totals.bytes.into());
        put("mni", capacity.count.into());
        put("mbs", capacity.bytes.into());
    }
    if let Some(statistics) = &record.statistics {
        put("nsi", of_statistics(statistics));
    }
    if let Some(series) = &record.series {
        put("mdc", series.missing.len().into());
        if !series.missing.is_empty() {
            // The latest first (TS-0001 clause 9.6.36).
            let list = series.missing.iter().rev().map(|at| timestamp_of_milliseconds(*at));
            put("mdlt", list.collect::<Vec<_>>().into());
        }
    }
    all
}

/// Returns the statistics of a subscription, one entry for each target.
fn of_statistics(all: &[TargetStatistics]) -> Value {
    let entry = |of: &TargetStatistics| json!({ "tg": of.target, "rqs": of.requests, "rsr": of.responses, "noec": of.events });
    all.iter().map(entry).collect()
}

/// Returns the attributes that differ from those of the request (result content `modified
/// attributes`).
pub(crate) fn modified(mut all: Attributes, requested: &Attributes) -> Attributes {
    all.retain(|name, value| requested.get(name) != Some(value));
    all
}

/// Wraps attributes in the root element of a resource, such as `m2m:ae`.
pub(crate) fn in_root_element(of: &Record, attributes: Attributes) -> Value {
    let mut root = Map::new();
    root.insert(of.root().into(), Value::Object(attributes));
    Value::Object(root)
}

/// Returns the attributes of the `<CSEBase>` that come from the settings, beside the common ones.
pub(crate) fn of_csebase(settings: &Settings) -> Attributes {
    let types: Vec<_> = {
        let hosted = ResourceType::ALL.into_iter().filter(|ty| hosts(settings, *ty));
        let mut numbers: Vec<_> = hosted.map(ResourceType::number).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(Value::from).collect()
    };
    let mut all = Attributes::new();
    for (name, value) in [
        ("csi", json!(settings.cse_id.to_string())),
        ("cst", json!(settings.cse_type)),
        ("srt", Value::Array(types)),
        ("srv", json!(settings.release_versions)),
        ("csz", json!(["json", "cbor"])),
    ] {
        all.insert(name.into(), value);
    }
    // Empty lists are omitted.
    if !settings.points_of_access.is_empty() {
        all.insert("poa".into(), json!(settings.points_of_access));
    }
    if !settings.csebase_policies.is_empty() {
        all.insert(POLICIES.into(), json!(settings.csebase_policies));
    }
    all
}

/// Returns whether this CSE hosts resources of a type: service subscriptions (TS-0001 clause
/// 9.6.19) and announced AEs only on an IN-CSE, and no registered CSEs and their resources on an ASN-CSE.
pub(crate) fn hosts(settings: &Settings, ty: ResourceType) -> bool {
    use ResourceType as T;
    match ty {
        T::ServiceSubscriptionProfile
        | T::ServiceSubscribedNode
        | T::ServiceSubscribedAppRule
        | T::AeAnnc => settings.cse_type == INFRASTRUCTURE,
        T::RemoteCse
        | T::CseBaseAnnc
        | T::ContainerAnnc
        | T::ContentInstanceAnnc
        | T::FlexContainerAnnc => settings.cse_type != APPLICATION_NODE,
        _ => true,
    }
}
