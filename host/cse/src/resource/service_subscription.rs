//! Service subscriptions: the applications that may register at each CSE (TS-0001 clauses 9.6.19,
//! 9.6.20 and 9.6.29).
//!
//! They exist on an IN-CSE only, and only its administrators may change them. A
//! `<serviceSubscribedNode>` has the CSE-ID in its resource-ID, so a CSE has one node, which is
//! found by the CSE-ID. This CSE stores the rules; the component that retrieves them applies them.

use saegis_onem2m::id::CseId;
use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::record::{Attributes, Record, Seconds, alive};
use crate::resource::address;
use crate::resource::links;
use crate::resource::schema::AttributeError;
use crate::settings::Settings;
use crate::store::{Child, Read, StoreError};

/// The attribute of a node with the addresses of its rules.
const RULE_LINKS: &str = "rlk";

/// The attribute of a rule with the Credential-IDs, and its name in TS-0013.
const CREDENTIALS: &str = "apci";
const CREDENTIALS_IN_TESTS: &str = "aci";

/// The service subscription of a CSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSubscription {
    /// There is no service subscription.
    NoProfile,
    /// No service subscription has a node with the CSE-ID.
    NoNode,
    /// The CSE has a node.
    Node {
        /// Linked rules; `None` if the node has no list of rules. With an empty list, no
        /// application may register.
        rules: Option<Vec<AppRule>>,
    },
}

/// A rule: combinations of credential, application and AE-ID that may register. `*` stands for zero
/// or more characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRule {
    /// Credential-IDs to which the rule applies; `None` for AEs without a security association.
    pub credential_ids: Option<Vec<String>>,
    /// Allowed App-IDs.
    pub app_ids: Option<Vec<String>>,
    /// Allowed AE-ID-Stems.
    pub ae_ids: Option<Vec<String>>,
    /// Role-IDs allowed in requests.
    pub role_ids: Option<Vec<String>>,
}

impl AppRule {
    fn read(record: &Record) -> Self {
        let list = |name: &str| {
            let list = record.attributes.get(name)?.as_array()?;
            Some(list.iter().filter_map(Value::as_str).map(Into::into).collect())
        };
        Self {
            credential_ids: list(CREDENTIALS),
            app_ids: list("aai"),
            ae_ids: list("aae"),
            role_ids: list("ari"),
        }
    }
}

/// Returns whether resources of a type belong to a service subscription.
pub(crate) fn is_part(ty: ResourceType) -> bool {
    use ResourceType as T;
    matches!(
        ty,
        T::ServiceSubscriptionProfile | T::ServiceSubscribedNode | T::ServiceSubscribedAppRule
    )
}

/// Returns the service subscription of a CSE.
pub(crate) fn about(
    read: &dyn Read,
    settings: &Settings,
    cse: &CseId,
    now: Seconds,
) -> Result<ServiceSubscription, StoreError> {
    if !has_profile(read, settings, now)? {
        return Ok(ServiceSubscription::NoProfile);
    }
    let node = address::by_id(read, &ri_of(cse), now)?.map(|found| found.record);
    let Some(node) = node.filter(|r| r.ty == ResourceType::ServiceSubscribedNode) else {
        return Ok(ServiceSubscription::NoNode);
    };
    let Some(list) = node.attributes.get(RULE_LINKS).and_then(Value::as_array) else {
        return Ok(ServiceSubscription::Node { rules: None });
    };
    let mut rules = Vec::new();
    for link in list.iter().filter_map(Value::as_str) {
        // A link without a resource is ignored.
        let rule = links::resolve(read, settings, link, now)?;
        rules.extend(
            rule.filter(|r| r.ty == ResourceType::ServiceSubscribedAppRule)
                .map(|r| AppRule::read(&r)),
        );
    }
    Ok(ServiceSubscription::Node { rules: Some(rules) })
}

fn has_profile(read: &dyn Read, settings: &Settings, now: Seconds) -> Result<bool, StoreError> {
    let base = settings.cse_id.bare();
    let ty = ResourceType::ServiceSubscriptionProfile.number();
    let mut last = Child { ty: ty - 1, sequence: u64::MAX, ri: String::new() };
    while let Some(child) = read.next_child(base, Some(&last))?.filter(|c| c.ty == ty) {
        let profile = read.get(&child.ri)?.ok_or_else(|| StoreError::Corrupt(child.ri.clone()))?;
        if alive(profile.expires, now) {
            return Ok(true);
        }
        last = child;
    }
    Ok(false)
}

/// Returns the resource-ID of the node with this CSE-ID.
pub(crate) fn ri_of(cse: &CseId) -> String {
    format!("svsn-{}", cse.bare())
}

/// Checks a `<serviceSubscribedNode>` as a whole.
///
/// # Errors
/// Returns an error if it has rules but no CSE.
pub(crate) fn check_whole(attributes: &Attributes) -> Result<(), AttributeError> {
    if attributes.contains_key(RULE_LINKS) && !attributes.contains_key("csi") {
        return Err(AttributeError::value(RULE_LINKS, "requires a csi"));
    }
    Ok(())
}

/// Converts the names and Credential-IDs of TS-0013 clause 8.4 to those of TS-0004: `aci` to
/// `apci`, and the type `00` of a pre-shared key to `12`.
///
/// # Errors
/// Returns an error if both names are given.
pub(crate) fn canonical(mut rule: Attributes) -> Result<Attributes, AttributeError> {
    const OLD_PREFIX: &str = "00-";
    if let Some(list) = rule.remove(CREDENTIALS_IN_TESTS)
        && rule.insert(CREDENTIALS.into(), list).is_some()
    {
        return Err(AttributeError::value(CREDENTIALS, "is a duplicate of aci"));
    }
    if let Some(Value::Array(list)) = rule.get_mut(CREDENTIALS) {
        for entry in list {
            if let Some(value) = entry.as_str().and_then(|text| text.strip_prefix(OLD_PREFIX)) {
                *entry = format!("12-{value}").into();
            }
        }
    }
    Ok(rule)
}
