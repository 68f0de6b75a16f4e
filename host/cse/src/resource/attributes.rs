//! The attributes of each resource type: their presence in a create and an update, and their kinds
//! (the tables of TS-0004 clauses 7.4.3, 7.4.5, 7.4.6, 7.4.7; other types have separate modules).

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::error::quoted;
use crate::record::{Attributes, Seconds, parse_timestamp};
use crate::resource::access_rules;
use crate::resource::access_tables;
use crate::resource::schema::{AttributeError, NOTIFICATION_CONTENT, Presence, Row, row};
use crate::resource::service_subscription;
use crate::resource::tables;
use crate::resource::values::Kind;
use crate::settings::MAX_POLICIES;

use Kind::{
    Any, AppId, Boolean, ContentInfo, Count, Creator, Entity, FalseOnly, Labels, Link, Links, Name,
    PointsOfAccess, ReadOnly, Rules, Serializations, Text, Texts, Time, Unsupported,
};
use Presence::{M, NP, O};

/// Universal attributes, and the common ones of all supported types (clause 7.4.1).
const COMMON: &[Row] = &[
    row("ty", ReadOnly, NP, NP),
    row("ri", ReadOnly, NP, NP),
    row("rn", Name, O, NP),
    row("pi", ReadOnly, NP, NP),
    row("ct", ReadOnly, NP, NP),
    row("lt", ReadOnly, NP, NP),
    row("et", Time, O, O),
    row("lbl", Labels, O, O),
];

/// Additional attributes of resources that can be announced (same clause).
const ANNOUNCEABLE: &[Row] =
    &[row("at", Unsupported, O, O), row("aa", Unsupported, O, O), row("ast", Unsupported, O, O)];

/// `<AE>`. TS-0004 requires `srv` in a create. It is optional here, because originators of earlier
/// releases do not know it.
const AE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("apn", Text(256), O, O),
    row("api", AppId, M, NP),
    row("aei", ReadOnly, NP, NP),
    row("poa", PointsOfAccess, O, O),
    row("or", Text(1024), O, O),
    row("nl", Link, O, O),
    row("rr", Boolean, M, O),
    row("csz", Serializations, O, O),
    row("srv", Texts, O, O),
    row("esi", Unsupported, O, O),
    row("mei", Unsupported, O, O),
    row("tri", Unsupported, O, O),
    row("trn", Unsupported, O, O),
    row("regs", Unsupported, O, O),
    row("trps", FalseOnly, O, O),
    row("ape", Unsupported, O, O),
    row("scp", Unsupported, O, O),
    row("tren", FalseOnly, O, O),
    row("loc", Unsupported, O, O),
];

/// `<container>`.
const CONTAINER: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("cstn", Entity, O, O),
    row("st", ReadOnly, NP, NP),
    row("cr", Creator, O, NP),
    row("mni", Count, O, O),
    row("mbs", Count, O, O),
    row("mia", Count, O, O),
    row("cni", ReadOnly, NP, NP),
    row("cbs", ReadOnly, NP, NP),
    row("li", ReadOnly, NP, NP),
    row("or", Text(1024), O, O),
    row("disr", FalseOnly, O, O),
    row("loc", Unsupported, O, O),
];

/// `<contentInstance>`. It cannot be updated, and has no access control of its own.
const CONTENT_INSTANCE: &[Row] = &[
    row("st", ReadOnly, NP, NP),
    row("cr", Creator, O, NP),
    row("cnf", ContentInfo, O, NP),
    row("cs", ReadOnly, NP, NP),
    row("con", Any, M, NP),
    row("conr", Unsupported, O, NP),
    row("or", Text(1024), O, NP),
    row("dgt", Time, O, NP),
    row("dcnt", Unsupported, O, NP),
    row("loc", Unsupported, O, NP),
];

fn rows(ty: ResourceType) -> impl Iterator<Item = &'static Row> {
    let own = match ty {
        ResourceType::Ae => AE,
        ResourceType::Container => CONTAINER,
        ResourceType::ContentInstance => CONTENT_INSTANCE,
        ResourceType::Subscription => tables::SUBSCRIPTION,
        ResourceType::Group => tables::GROUP,
        ResourceType::PollingChannel => tables::POLLING_CHANNEL,
        // It is never created or updated by a request.
        ResourceType::CseBase => &[],
        ResourceType::AccessControlPolicy => access_tables::ACCESS_CONTROL_POLICY,
        ResourceType::AeAnnc => access_tables::AE_ANNC,
        ResourceType::RemoteCse => access_tables::REMOTE_CSE,
        ResourceType::Node => access_tables::NODE,
        ResourceType::ServiceSubscriptionProfile => access_tables::SERVICE_SUBSCRIPTION_PROFILE,
        ResourceType::ServiceSubscribedNode => access_tables::SERVICE_SUBSCRIBED_NODE,
        ResourceType::ServiceSubscribedAppRule => access_tables::SERVICE_SUBSCRIBED_APP_RULE,
    };
    let announceable = match ty {
        ResourceType::AccessControlPolicy
        | ResourceType::Ae
        | ResourceType::Container
        | ResourceType::ContentInstance
        | ResourceType::Group
        | ResourceType::Node
        | ResourceType::RemoteCse => ANNOUNCEABLE,
        ResourceType::AeAnnc
        | ResourceType::CseBase
        | ResourceType::PollingChannel
        | ResourceType::ServiceSubscribedAppRule
        | ResourceType::ServiceSubscribedNode
        | ResourceType::ServiceSubscriptionProfile
        | ResourceType::Subscription => &[],
    };
    COMMON.iter().chain(announceable).chain(own)
}

/// Returns whether a resource of this type can have an attribute.
pub(crate) fn is_known(ty: ResourceType, name: &str) -> bool {
    rows(ty).any(|row| row.name == name)
}

/// Returns whether any resource type has an attribute with this name.
pub(crate) fn is_name(name: &str) -> bool {
    ResourceType::ALL.into_iter().any(|ty| is_known(ty, name))
}

fn find(of: ResourceType, name: &str) -> Result<&'static Row, AttributeError> {
    rows(of)
        .find(|r| r.name == name)
        .ok_or_else(|| AttributeError::Unknown { of, name: quoted(name) })
}

/// Checks a given value other than null.
fn check(row: &Row, may: Presence, value: &Value) -> Result<(), AttributeError> {
    if row.kind == Unsupported {
        return Err(AttributeError::Unsupported(row.name));
    }
    if may == NP {
        return Err(AttributeError::NotPermitted(row.name));
    }
    match row.kind {
        Rules => return access_rules::check(row.name, value),
        FalseOnly if value == &Value::Bool(true) => {
            return Err(AttributeError::Unsupported(row.name));
        }
        _ => {}
    }
    row.kind.check(value).map_err(|why| AttributeError::Value { name: row.name, why })
}

/// Converts names and values of other releases to the stored ones.
fn canonical(ty: ResourceType, representation: Attributes) -> Result<Attributes, AttributeError> {
    match ty {
        ResourceType::ServiceSubscribedAppRule => service_subscription::canonical(representation),
        _ => Ok(representation),
    }
}

/// Checks that the attributes of a resource are compatible.
///
/// # Errors
/// Returns an error if they are not.
pub(crate) fn check_whole(ty: ResourceType, all: &Attributes) -> Result<(), AttributeError> {
    match ty {
        ResourceType::AccessControlPolicy => access_rules::check_whole(all),
        ResourceType::ServiceSubscribedNode => service_subscription::check_whole(all),
        _ => Ok(()),
    }
}

/// Parses an expiration time, which must be in the future.
fn future(value: &Value, now: Seconds) -> Result<Seconds, AttributeError> {
    match value.as_str().and_then(parse_timestamp) {
        Some(at) if at > now => Ok(at),
        _ => Err(AttributeError::value("et", "must be in the future")),
    }
}

/// The given representation of a new resource.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct GivenAttributes {
    /// Requested name.
    pub(crate) name: Option<String>,
    /// Requested expiration time.
    pub(crate) expires: Option<Seconds>,
    /// Whether the creator is to be stored.
    pub(crate) creator: bool,
    /// Other attributes, checked.
    pub(crate) attributes: Attributes,
}

/// Checks the representation of a new resource.
///
/// # Errors
/// Returns the first invalid attribute.
pub(crate) fn for_create(
    ty: ResourceType,
    representation: Attributes,
    now: Seconds,
) -> Result<GivenAttributes, AttributeError> {
    let mut given = GivenAttributes::default();
    for (name, value) in canonical(ty, representation)? {
        let row = find(ty, &name)?;
        if value.is_null() {
            match row.kind {
                Creator => given.creator = true,
                Unsupported => return Err(AttributeError::Unsupported(row.name)),
                _ if row.create == M => return Err(AttributeError::Missing(row.name)),
                _ => return Err(AttributeError::Null(row.name)),
            }
            continue;
        }
        check(row, row.create, &value)?;
        match row.kind {
            Name => given.name = value.as_str().map(Into::into),
            Time if row.name == "et" => given.expires = Some(future(&value, now)?),
            _ => {
                given.attributes.insert(name, value);
            }
        }
    }
    match rows(ty).find(|r| r.create == M && !given.attributes.contains_key(r.name)) {
        Some(missing) => Err(AttributeError::Missing(missing.name)),
        None => check_whole(ty, &given.attributes).map(|()| given),
    }
}

/// A change of a resource.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// New expiration time; `Some(None)` if the CSE chooses it.
    pub(crate) expires: Option<Option<Seconds>>,
    /// New values.
    pub(crate) set: Attributes,
    /// Removed attributes.
    pub(crate) removed: Vec<&'static str>,
}

/// Checks the representation of an update.
///
/// # Errors
/// Returns the first invalid attribute.
pub(crate) fn for_update(
    ty: ResourceType,
    representation: Attributes,
    now: Seconds,
) -> Result<Change, AttributeError> {
    let mut change = Change::default();
    for (name, value) in canonical(ty, representation)? {
        let row = find(ty, &name)?;
        if !value.is_null() {
            check(row, row.update, &value)?;
            if row.name == "et" {
                change.expires = Some(Some(future(&value, now)?));
            } else {
                change.set.insert(name, value);
            }
        } else if row.kind == Unsupported {
            return Err(AttributeError::Unsupported(row.name));
        } else if row.update == NP {
            return Err(AttributeError::NotPermitted(row.name));
        } else if row.create == M || row.name == NOTIFICATION_CONTENT {
            return Err(AttributeError::Null(row.name));
        } else if row.name == "et" {
            change.expires = Some(None);
        } else {
            change.removed.push(row.name);
        }
    }
    Ok(change)
}

#[cfg(test)]
#[path = "attributes_tests.rs"]
mod tests;
