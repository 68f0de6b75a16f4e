//! A resource as an originator sees it: its attributes by their short names (TS-0004 clause 8.2).

use saegis_onem2m::resource::ResourceType;
use serde_json::{Map, Value, json};

use crate::record::{Attributes, Record, Seconds, timestamp};
use crate::resource::content_instance;
use crate::resource::schema::POLICIES;
use crate::settings::{APPLICATION_NODE, INFRASTRUCTURE, Settings};

/// The attributes of a resource that expires then, itself or with an ancestor.
pub(crate) fn attributes(
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
        put("aei", record.ri.as_str().into());
    }
    if let Some(stock) = record.stock {
        let most = content_instance::capacity(record, &settings.limits);
        put("cni", stock.count.into());
        put("cbs", stock.bytes.into());
        put("mni", most.count.into());
        put("mbs", most.bytes.into());
    }
    all
}

/// What of `all` is not as the originator gave it.
pub(crate) fn modified(mut all: Attributes, given: &Attributes) -> Attributes {
    all.retain(|name, value| given.get(name) != Some(value));
    all
}

/// The attributes under the root name of their type.
pub(crate) fn rooted(ty: ResourceType, attributes: Attributes) -> Value {
    let mut root = Map::new();
    root.insert(ty.root().into(), Value::Object(attributes));
    Value::Object(root)
}

/// The attributes that the `<CSEBase>` gets from the settings.
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
        ("csz", json!(["json"])),
    ] {
        all.insert(name.into(), value);
    }
    // A list has a member, or there is none.
    if !settings.points_of_access.is_empty() {
        all.insert("poa".into(), json!(settings.points_of_access));
    }
    if !settings.csebase_policies.is_empty() {
        all.insert(POLICIES.into(), json!(settings.csebase_policies));
    }
    all
}

/// Whether resources of that type are hosted: service subscriptions on an IN-CSE only (TS-0001
/// clause 9.6.19), as are announced AEs, and an ASN-CSE registers no CSE.
pub(crate) fn hosts(settings: &Settings, ty: ResourceType) -> bool {
    use ResourceType as T;
    match ty {
        T::ServiceSubscriptionProfile
        | T::ServiceSubscribedNode
        | T::ServiceSubscribedAppRule
        | T::AeAnnc => settings.cse_type == INFRASTRUCTURE,
        T::RemoteCse => settings.cse_type != APPLICATION_NODE,
        _ => true,
    }
}
