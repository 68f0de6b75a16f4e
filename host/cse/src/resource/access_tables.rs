//! The attribute tables of the resource types for access control and for registered entities
//! (TS-0004 clauses 7.4.2, 7.4.4, 7.4.18, 7.4.19, 7.4.20 and 7.4.29).

use crate::resource::schema::Presence::{M, NP, O};
use crate::resource::schema::{Row, row};
use crate::resource::values::Kind::{
    AppId, AppIds, Boolean, CseId, CseType, FalseOnly, Link, Links, LinksOrNone, NodeId, Patterns,
    PointsOfAccess, ReadOnly, Rules, Serializations, Stems, Text, Texts, Unsupported,
};
use crate::settings::MAX_POLICIES;

const MAX_LINKS: usize = 256;

/// `<accessControlPolicy>`. It has no `acpi`, because it controls access to itself.
pub(crate) const ACCESS_CONTROL_POLICY: &[Row] = &[
    row("pv", Rules, M, O),
    row("pvs", Rules, M, O),
    row("adri", Unsupported, O, O),
    row("apri", Unsupported, O, O),
    row("airi", Unsupported, O, O),
];

/// `<remoteCSE>`. As for an `<AE>`, `srv` is optional.
pub(crate) const REMOTE_CSE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("cst", CseType, O, NP),
    row("poa", PointsOfAccess, O, O),
    row("cb", Link, M, NP),
    row("csi", CseId, O, NP),
    row("mei", Text(256), O, O),
    row("tri", Unsupported, O, O),
    row("rr", Boolean, M, O),
    row("nl", Link, O, O),
    row("csz", Serializations, O, O),
    row("srv", Texts, O, O),
    row("trn", Unsupported, O, O),
    row("tren", FalseOnly, O, O),
    row("esi", Unsupported, O, O),
    row("ape", Unsupported, O, O),
    row("dcse", Texts, O, O),
    row("mtcc", Unsupported, O, O),
    row("egid", Unsupported, O, O),
    row("loc", Unsupported, O, O),
];

/// `<AEAnnc>`. It has the App-ID because the service subscription was checked with it. Other
/// announced attributes of an `<AE>` do not help to locate the AE.
pub(crate) const AE_ANNC: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("lnk", Link, O, O),
    row("apn", Text(256), O, O),
    row("api", AppId, M, NP),
    row("aei", ReadOnly, NP, NP),
    row("poa", Unsupported, O, O),
    row("or", Unsupported, O, O),
    row("nl", Unsupported, O, O),
    row("rr", Unsupported, O, O),
    row("csz", Unsupported, O, O),
    row("srv", Unsupported, O, O),
    row("esi", Unsupported, O, O),
    row("mei", Unsupported, O, O),
    row("regs", Unsupported, O, O),
    row("trps", FalseOnly, O, O),
    row("ape", Unsupported, O, O),
    row("scp", Unsupported, O, O),
    row("tren", FalseOnly, O, O),
    row("loc", Unsupported, O, O),
];

/// `<node>`.
pub(crate) const NODE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("ni", NodeId, M, O),
    row("hcl", Link, O, O),
    row("hael", Links(MAX_LINKS), O, O),
    row("hsl", Links(MAX_LINKS), O, O),
    row("mgca", Text(1024), O, O),
    row("rms", ReadOnly, NP, NP),
    row("nid", ReadOnly, NP, NP),
    row("loc", Unsupported, O, O),
];

/// `<m2mServiceSubscriptionProfile>`.
pub(crate) const SERVICE_SUBSCRIPTION_PROFILE: &[Row] =
    &[row("acpi", Links(MAX_POLICIES), O, O), row("daci", Unsupported, O, O)];

/// `<serviceSubscribedNode>`.
pub(crate) const SERVICE_SUBSCRIBED_NODE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("ni", NodeId, M, NP),
    row("csi", CseId, O, NP),
    row("di", Texts, O, NP),
    row("rlk", LinksOrNone(MAX_LINKS), O, O),
    row("nrq", Boolean, O, O),
];

/// `<serviceSubscribedAppRule>`.
pub(crate) const SERVICE_SUBSCRIBED_APP_RULE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("apci", Patterns, O, O),
    row("aai", AppIds, O, O),
    row("aae", Stems, O, O),
    row("ari", Patterns, O, O),
];
