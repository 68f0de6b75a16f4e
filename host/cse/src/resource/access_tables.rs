//! The tables of attributes of the resource types that say who may do what, and who there is
//! (TS-0004 clauses 7.4.2, 7.4.4, 7.4.18, 7.4.19, 7.4.20 and 7.4.29).

use crate::resource::schema::May::{Can, Must, Not};
use crate::resource::schema::{Row, row};
use crate::resource::values::Kind::{
    AppId, AppIds, Boolean, CseId, CseType, Kept, Link, Links, LinksOrNone, NodeId, NotDone,
    Patterns, PointsOfAccess, Rules, Serializations, Stems, Text, Texts, Unsupported,
};
use crate::settings::MAX_POLICIES;

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
    row("poa", PointsOfAccess, Can, Can),
    row("cb", Link, Must, Not),
    row("csi", CseId, Can, Not),
    row("mei", Text(256), Can, Can),
    row("tri", Unsupported, Can, Can),
    row("rr", Boolean, Must, Can),
    row("nl", Link, Can, Can),
    row("csz", Serializations, Can, Can),
    row("srv", Texts, Can, Can),
    row("trn", Unsupported, Can, Can),
    row("tren", NotDone, Can, Can),
    row("esi", Unsupported, Can, Can),
    row("ape", Unsupported, Can, Can),
    row("dcse", Texts, Can, Can),
    row("mtcc", Unsupported, Can, Can),
    row("egid", Unsupported, Can, Can),
    row("loc", Unsupported, Can, Can),
];

/// `<AEAnnc>`. The App-ID goes with it because it is what was checked; what else an `<AE>` may have
/// announced is of no use to whoever has to find the AE.
pub(crate) const AE_ANNC: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("lnk", Link, Can, Can),
    row("apn", Text(256), Can, Can),
    row("api", AppId, Must, Not),
    row("aei", Kept, Not, Not),
    row("poa", Unsupported, Can, Can),
    row("or", Unsupported, Can, Can),
    row("nl", Unsupported, Can, Can),
    row("rr", Unsupported, Can, Can),
    row("csz", Unsupported, Can, Can),
    row("srv", Unsupported, Can, Can),
    row("esi", Unsupported, Can, Can),
    row("mei", Unsupported, Can, Can),
    row("regs", Unsupported, Can, Can),
    row("trps", NotDone, Can, Can),
    row("ape", Unsupported, Can, Can),
    row("scp", Unsupported, Can, Can),
    row("tren", NotDone, Can, Can),
    row("loc", Unsupported, Can, Can),
];

/// `<node>`.
pub(crate) const NODE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), Can, Can),
    row("daci", Unsupported, Can, Can),
    row("ni", NodeId, Must, Can),
    row("hcl", Link, Can, Can),
    row("hael", Links(MAX_LINKS), Can, Can),
    row("hsl", Links(MAX_LINKS), Can, Can),
    row("mgca", Text(1024), Can, Can),
    row("rms", Kept, Not, Not),
    row("nid", Kept, Not, Not),
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
    row("di", Texts, Can, Not),
    row("rlk", LinksOrNone(MAX_LINKS), Can, Can),
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
