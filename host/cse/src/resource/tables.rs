//! The attribute tables of subscriptions, groups and polling channels (TS-0004 clauses 7.4.8,
//! 7.4.13 and 7.4.22).

use crate::identifiers::MAX_NAME;
use crate::resource::schema::Presence::{M, NP, O};
use crate::resource::schema::{Row, row};
use crate::resource::values::Kind::{
    Addresses, Count, Creator, FalseOnly, Links, Members, Object, ReadOnly, Text, Unsupported,
};
use crate::resource::values::MAX_ADDRESS;
use crate::settings::MAX_POLICIES;

/// Maximum number of targets of a subscription.
pub(crate) const MAX_TARGETS: usize = 16;

/// `<subscription>`.
pub(crate) const SUBSCRIPTION: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("enc", Object, O, O),
    row("exc", Count, O, O),
    row("nu", Addresses(MAX_TARGETS), M, O),
    row("gpi", Unsupported, O, O),
    row("nfu", Unsupported, O, O),
    row("bn", Unsupported, O, O),
    row("rl", Unsupported, O, O),
    row("psn", Unsupported, O, NP),
    row("pn", Unsupported, O, O),
    row("nsp", Unsupported, O, O),
    row("ln", FalseOnly, O, O),
    row("nct", Count, O, O),
    row("nec", Unsupported, O, O),
    row("cr", Creator, O, NP),
    row("su", Text(MAX_ADDRESS), O, NP),
    row("acrs", Unsupported, O, O),
    row("nse", FalseOnly, O, O),
    row("nsi", ReadOnly, NP, NP),
    row("ma", Unsupported, O, O),
];

/// `<group>`.
pub(crate) const GROUP: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("cr", Creator, O, NP),
    row("mt", Count, O, NP),
    row("spty", Unsupported, O, NP),
    row("cnm", ReadOnly, NP, NP),
    row("mnm", Count, M, O),
    row("mid", Members, M, O),
    row("macp", Unsupported, O, O),
    row("mtv", ReadOnly, NP, NP),
    row("csy", Count, O, NP),
    row("gn", Text(MAX_NAME), O, O),
    row("ssi", ReadOnly, NP, NP),
    row("nar", Unsupported, O, O),
];

/// `<pollingChannel>`.
pub(crate) const POLLING_CHANNEL: &[Row] =
    &[row("acpi", Links(MAX_POLICIES), O, O), row("rqag", FalseOnly, O, O)];
