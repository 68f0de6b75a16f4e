//! The tables of attributes of the resource types that say who may do what, who there is, and that
//! act (TS-0004 clauses 7.4.2, 7.4.4, 7.4.8, 7.4.13, 7.4.18 to 7.4.20, 7.4.22 and 7.4.29).

use crate::attributes::May::{Can, Must, Not};
use crate::attributes::{Row, row};
use crate::values::Kind::{
    Addresses, AppIds, Boolean, Count, Creator, CseId, CseType, Kept, Link, Links, NodeId, Object,
    Patterns, Rules, Stems, Text, Texts, Unsupported,
};
use crate::values::{MAX_ADDRESS, MAX_NAME};

/// Most policies that a resource names, and most other links.
pub(crate) const MAX_POLICIES: usize = 16;
const MAX_LINKS: usize = 256;

/// `<accessControlPolicy>`. It has no `acpi`: it goes by itself.
pub(crate) const ACCESS_CONTROL_POLICY: &[Row] = &[
    row("pv", Rules, Must, Can),
    row("pvs", Rules, Must, Can),
    row("adri", Unsupported, Can, Can),
    row("apri", Unsupported, Can, Can),
    row("airi", Unsupported, Can, Can),
];

/// `<remoteCSE>`. As for an `<AE>`, `srv` is not insisted on.
pub(crate) const REMOTE_CSE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("cst", CseType, Can, Not),
    row("poa", Texts, Can, Can),
    row("cb", Link, Must, Not),
    row("csi", CseId, Must, Not),
    row("mei", Text(256), Can, Can),
    row("tri", Unsupported, Can, Can),
    row("rr", Boolean, Must, Can),
    row("nl", Link, Can, Can),
    row("csz", Texts, Can, Can),
    row("srv", Texts, Can, Can),
    row("trn", Unsupported, Can, Can),
    row("tren", Unsupported, Can, Can),
    row("esi", Unsupported, Can, Can),
    row("ape", Unsupported, Can, Can),
    row("dcse", Texts, Can, Can),
    row("mtcc", Unsupported, Can, Can),
    row("egid", Unsupported, Can, Can),
    row("loc", Unsupported, Can, Can),
];

/// `<node>`.
pub(crate) const NODE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("ni", NodeId, Must, Not),
    row("hcl", Link, Can, Can),
    row("hael", Links(MAX_LINKS), Can, Can),
    row("hsl", Links(MAX_LINKS), Can, Can),
    row("mgca", Text(1024), Can, Can),
    row("rms", Unsupported, Can, Can),
    row("nid", Unsupported, Can, Can),
    row("loc", Unsupported, Can, Can),
];

/// `<m2mServiceSubscriptionProfile>`.
pub(crate) const SERVICE_SUBSCRIPTION_PROFILE: &[Row] =
    &[row("acpi", Links(MAX_POLICIES), Can, Can), row("daci", Unsupported, Can, Can)];

/// `<serviceSubscribedNode>`.
pub(crate) const SERVICE_SUBSCRIBED_NODE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("ni", NodeId, Must, Not),
    row("csi", CseId, Can, Not),
    row("di", Texts, Can, Can),
    row("rlk", Links(MAX_LINKS), Can, Can),
    row("nrq", Boolean, Can, Can),
];

/// `<serviceSubscribedAppRule>`.
pub(crate) const SERVICE_SUBSCRIBED_APP_RULE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("apci", Patterns, Can, Can),
    row("aai", AppIds, Can, Can),
    row("aae", Stems, Can, Can),
    row("ari", Patterns, Can, Can),
];

/// Most targets of a subscription.
pub(crate) const MAX_TARGETS: usize = 16;

/// `<subscription>`.
pub(crate) const SUBSCRIPTION: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("enc", Object, Can, Can),
    row("exc", Count, Can, Can),
    row("nu", Addresses(MAX_TARGETS), Must, Can),
    row("gpi", Unsupported, Can, Can),
    row("nfu", Unsupported, Can, Can),
    row("bn", Unsupported, Can, Can),
    row("rl", Unsupported, Can, Can),
    row("psn", Unsupported, Can, Can),
    row("pn", Unsupported, Can, Can),
    row("nsp", Unsupported, Can, Can),
    row("ln", Unsupported, Can, Can),
    row("nct", Count, Can, Can),
    row("nec", Unsupported, Can, Can),
    row("cr", Creator, Can, Not),
    row("su", Text(MAX_ADDRESS), Can, Not),
    row("acrs", Unsupported, Can, Can),
    row("nse", Unsupported, Can, Can),
    row("nsi", Kept, Not, Not),
    row("ma", Unsupported, Can, Can),
];

/// `<group>`.
pub(crate) const GROUP: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("cr", Creator, Can, Not),
    row("mt", Count, Can, Not),
    row("spty", Unsupported, Can, Not),
    row("cnm", Kept, Not, Not),
    row("mnm", Count, Must, Can),
    row("mid", Texts, Must, Can),
    row("macp", Unsupported, Can, Can),
    row("mtv", Kept, Not, Not),
    row("csy", Count, Can, Not),
    row("gn", Text(MAX_NAME), Can, Can),
    row("ssi", Unsupported, Can, Can),
    row("nar", Unsupported, Can, Can),
];

/// `<pollingChannel>`.
pub(crate) const POLLING_CHANNEL: &[Row] =
    &[row("acpi", Links(MAX_POLICIES), Can, Can), row("rqag", Boolean, Can, Can)];
