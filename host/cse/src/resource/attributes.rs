//! The attributes of each resource type: their presence in a create and an update, and their kinds
//! (the tables of TS-0004 clauses 7.4.3, 7.4.5, 7.4.6, 7.4.7; other types have separate modules).

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::definitions::Definition;
use crate::error::quoted;
use crate::record::{Attributes, Seconds, parse_timestamp};
use crate::resource::access_rules;
use crate::resource::access_tables;
use crate::resource::announcement_tables;
use crate::resource::location_policy;
use crate::resource::management;
use crate::resource::schedule;
use crate::resource::schema::{
    ANNOUNCE_TO, AttributeError, NOTIFICATION_CONTENT, Presence, Row, row,
};
use crate::resource::service_subscription;
use crate::resource::tables;
use crate::resource::time_series;
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
    &[row("at", Texts, O, O), row("aa", Texts, O, O), row("ast", Count, O, O)];

/// The same attributes of resources that this CSE does not announce.
const NOT_ANNOUNCED: &[Row] =
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
    row("disr", Boolean, O, O),
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

/// `<flexContainer>`, except its custom attributes. `fcied` and the attributes of the instances are
/// those of the release 5 draft.
const FLEX_CONTAINER: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("st", ReadOnly, NP, NP),
    row("cr", Creator, O, NP),
    row("cnd", Text(256), M, NP),
    row("or", Text(1024), O, O),
    row("cs", ReadOnly, NP, NP),
    row("nl", Link, O, O),
    row("fcied", Boolean, O, O),
    row("mni", Count, O, O),
    row("mbs", Count, O, O),
    row("mia", Count, O, O),
    row("cni", ReadOnly, NP, NP),
    row("cbs", ReadOnly, NP, NP),
    row("loc", Unsupported, O, O),
];

/// `<flexContainerInstance>`, except its custom attributes. Only the CSE creates it.
const FLEX_CONTAINER_INSTANCE: &[Row] = &[
    row("st", ReadOnly, NP, NP),
    row("cs", ReadOnly, NP, NP),
    row("org", ReadOnly, NP, NP),
    row("loc", Unsupported, NP, NP),
];

/// `<timeSeries>`.
const TIME_SERIES: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("cr", Creator, O, NP),
    row("mni", Count, O, O),
    row("mbs", Count, O, O),
    row("mia", Count, O, O),
    row("cni", ReadOnly, NP, NP),
    row("cbs", ReadOnly, NP, NP),
    row("pei", Count, O, O),
    row("peid", Count, O, O),
    row("mdd", Boolean, O, O),
    row("mdn", Count, O, O),
    row("mdlt", ReadOnly, NP, NP),
    row("mdc", ReadOnly, NP, NP),
    row("mdt", Count, O, O),
    row("or", Text(1024), O, O),
    row("cnf", ContentInfo, O, NP),
    row("loc", Unsupported, O, O),
];

/// `<timeSeriesInstance>`. It cannot be updated, and has no access control of its own.
const TIME_SERIES_INSTANCE: &[Row] = &[
    row("dgt", Time, M, NP),
    row("con", Any, M, NP),
    row("snr", Count, O, NP),
    row("cs", ReadOnly, NP, NP),
    row("loc", Unsupported, O, NP),
];

/// `<mgmtObj>`, except the attributes of its kind.
const MANAGEMENT_OBJECT: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("mgd", Count, M, NP),
    row("obis", Texts, O, NP),
    row("obps", Texts, O, NP),
    row("dc", Text(1024), O, O),
];

/// The attributes of one resource beyond those of its type.
#[derive(Clone, Copy, Default)]
pub(crate) struct Specialization<'a> {
    /// Definition of a `<flexContainer>`.
    pub(crate) definition: Option<&'a Definition>,
    /// Attributes of a kind of `<mgmtObj>`.
    pub(crate) rows: &'static [Row],
    /// Whether the resource announces another one, and so has only a part of its attributes.
    pub(crate) is_partial: bool,
}

fn rows(ty: ResourceType) -> impl Iterator<Item = &'static Row> {
    let own = match ty {
        ResourceType::Ae => AE,
        ResourceType::Container => CONTAINER,
        ResourceType::ContentInstance => CONTENT_INSTANCE,
        ResourceType::FlexContainer => FLEX_CONTAINER,
        ResourceType::FlexContainerInstance => FLEX_CONTAINER_INSTANCE,
        ResourceType::Subscription => tables::SUBSCRIPTION,
        ResourceType::Group => tables::GROUP,
        ResourceType::ManagementObject => MANAGEMENT_OBJECT,
        ResourceType::PollingChannel => tables::POLLING_CHANNEL,
        ResourceType::Request => tables::REQUEST,
        ResourceType::Schedule => tables::SCHEDULE,
        ResourceType::TimeSeries => TIME_SERIES,
        ResourceType::TimeSeriesInstance => TIME_SERIES_INSTANCE,
        // It is never created or updated by a request.
        ResourceType::CseBase => &[],
        ResourceType::AccessControlPolicy => access_tables::ACCESS_CONTROL_POLICY,
        ResourceType::AeAnnc => access_tables::AE_ANNC,
        ResourceType::CseBaseAnnc => announcement_tables::CSE_BASE_ANNC,
        ResourceType::ContainerAnnc => announcement_tables::CONTAINER_ANNC,
        ResourceType::ContentInstanceAnnc => announcement_tables::CONTENT_INSTANCE_ANNC,
        ResourceType::FlexContainerAnnc => announcement_tables::FLEX_CONTAINER_ANNC,
        ResourceType::LocationPolicy => location_policy::LOCATION_POLICY,
        ResourceType::RemoteCse => access_tables::REMOTE_CSE,
        ResourceType::Node => access_tables::NODE,
        ResourceType::ServiceSubscriptionProfile => access_tables::SERVICE_SUBSCRIPTION_PROFILE,
        ResourceType::ServiceSubscribedNode => access_tables::SERVICE_SUBSCRIBED_NODE,
        ResourceType::ServiceSubscribedAppRule => access_tables::SERVICE_SUBSCRIBED_APP_RULE,
    };
    let announceable = match ty {
        ResourceType::Container | ResourceType::ContentInstance | ResourceType::FlexContainer => {
            ANNOUNCEABLE
        }
        ResourceType::AccessControlPolicy
        | ResourceType::Ae
        | ResourceType::Group
        | ResourceType::LocationPolicy
        | ResourceType::ManagementObject
        | ResourceType::Node
        | ResourceType::RemoteCse
        | ResourceType::Schedule
        | ResourceType::TimeSeries
        | ResourceType::TimeSeriesInstance => NOT_ANNOUNCED,
        ResourceType::AeAnnc
        | ResourceType::ContainerAnnc
        | ResourceType::ContentInstanceAnnc
        | ResourceType::CseBase
        | ResourceType::CseBaseAnnc
        | ResourceType::FlexContainerAnnc
        | ResourceType::FlexContainerInstance
        | ResourceType::PollingChannel
        | ResourceType::Request
        | ResourceType::ServiceSubscribedAppRule
        | ResourceType::ServiceSubscribedNode
        | ResourceType::ServiceSubscriptionProfile
        | ResourceType::Subscription => &[],
    };
    COMMON.iter().chain(announceable).chain(own)
}

/// Returns whether a resource of this type can have an attribute.
pub(crate) fn is_known(ty: ResourceType, name: &str) -> bool {
    let of_kinds = || management::all_rows().any(|row| row.name == name);
    rows(ty).any(|row| row.name == name) || ty == ResourceType::ManagementObject && of_kinds()
}

/// Returns whether any resource type has an attribute with this name.
pub(crate) fn is_name(name: &str) -> bool {
    ResourceType::ALL.into_iter().any(|ty| is_known(ty, name))
}

/// Removes the attributes of a resource that cannot be given in its creation. Attributes of its
/// specialization stay.
pub(crate) fn creatable(ty: ResourceType, mut all: Attributes) -> Attributes {
    all.retain(|name, _| {
        let row = rows(ty).find(|row| row.name == name);
        let is_given = row.is_none_or(|row| row.create != NP && row.kind != Creator);
        // Its addresses are those of announcements of the original.
        is_given && name != ANNOUNCE_TO
    });
    all
}

fn find(
    of: ResourceType,
    more: &'static [Row],
    name: &str,
) -> Result<&'static Row, AttributeError> {
    rows(of)
        .chain(more)
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
        ResourceType::LocationPolicy => location_policy::check(all),
        ResourceType::Schedule => schedule::entries(all).map(|_| ()),
        ResourceType::TimeSeries => time_series::check_whole(all),
        _ => Ok(()),
    }
}

/// Checks that the attributes in a request are compatible.
fn check_given(ty: ResourceType, given: &Attributes) -> Result<(), AttributeError> {
    match ty {
        ResourceType::ManagementObject => management::check(given),
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
    Specialization { definition, rows: more, is_partial }: Specialization<'_>,
    representation: Attributes,
    now: Seconds,
) -> Result<GivenAttributes, AttributeError> {
    let mut given = GivenAttributes::default();
    for (name, value) in canonical(ty, representation)? {
        if let Some(fits) = definition.and_then(|of| of.check(&name, &value)) {
            fits.map_err(|why| AttributeError::Custom { name: name.clone(), why })?;
            given.attributes.insert(name, value);
            continue;
        }
        let row = find(ty, more, &name)?;
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
            Name if row.name == "rn" => given.name = value.as_str().map(Into::into),
            Time if row.name == "et" => given.expires = Some(future(&value, now)?),
            _ => {
                given.attributes.insert(name, value);
            }
        }
    }
    let missing = |name: &str| !given.attributes.contains_key(name);
    if let Some(row) = rows(ty).chain(more).find(|r| r.create == M && missing(r.name)) {
        return Err(AttributeError::Missing(row.name));
    }
    let mut whole = definition.filter(|_| !is_partial).into_iter().flat_map(Definition::required);
    if let Some(name) = whole.find(|name| missing(name)) {
        return Err(AttributeError::Custom { name: name.into(), why: "is missing".into() });
    }
    check_given(ty, &given.attributes)?;
    check_whole(ty, &given.attributes).map(|()| given)
}

/// A change of a resource.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// New expiration time; `Some(None)` if the CSE chooses it.
    pub(crate) expires: Option<Option<Seconds>>,
    /// New values.
    pub(crate) set: Attributes,
    /// Removed attributes.
    pub(crate) removed: Vec<String>,
}

/// Checks the representation of an update.
///
/// # Errors
/// Returns the first invalid attribute.
pub(crate) fn for_update(
    ty: ResourceType,
    Specialization { definition, rows: more, is_partial }: Specialization<'_>,
    representation: Attributes,
    now: Seconds,
) -> Result<Change, AttributeError> {
    let mut change = Change::default();
    for (name, value) in canonical(ty, representation)? {
        if let (Some(of), true) = (definition, value.is_null())
            && let Some(is_required) = of.is_required(&name)
        {
            if is_required && !is_partial {
                return Err(AttributeError::Custom { name, why: "cannot be null".into() });
            }
            change.removed.push(name);
            continue;
        }
        if let Some(fits) = definition.and_then(|of| of.check(&name, &value)) {
            fits.map_err(|why| AttributeError::Custom { name: name.clone(), why })?;
            change.set.insert(name, value);
            continue;
        }
        let row = find(ty, more, &name)?;
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
            change.removed.push(row.name.into());
        }
    }
    check_given(ty, &change.set)?;
    Ok(change)
}

#[cfg(test)]
#[path = "attributes_tests.rs"]
mod tests;
