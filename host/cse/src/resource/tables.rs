//! The attribute tables of subscriptions, schedules, groups and polling channels, and of results
//! (TS-0004 clauses 7.4.8, 7.4.9, 7.4.12, 7.4.13 and 7.4.22).

use crate::identifiers::MAX_NAME;
use crate::resource::schema::Presence::{M, NP, O};
use crate::resource::schema::{Row, row};
use crate::resource::values::Kind::{
    Addresses, Boolean, Count, Creator, FalseOnly, Link, Links, Members, Object,
    OneOrMoreAddresses, ReadOnly, Text, Unsupported,
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
    row("gpi", Link, O, O),
    row("nfu", OneOrMoreAddresses(MAX_TARGETS), O, O),
    row("bn", Object, O, O),
    row("rl", Object, O, O),
    row("psn", Count, O, NP),
    row("pn", Count, O, O),
    row("nsp", Count, O, O),
    row("ln", Boolean, O, O),
    row("nct", Count, O, O),
    row("nec", Count, O, O),
    row("cr", Creator, O, NP),
    row("su", Text(MAX_ADDRESS), O, NP),
    row("acrs", Unsupported, O, O),
    row("nse", Boolean, O, O),
    row("nsi", ReadOnly, NP, NP),
    row("ma", Unsupported, O, O),
];

/// `<schedule>`. `nco` is only for that of a `<node>`.
pub(crate) const SCHEDULE: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("se", Object, M, O),
    row("nco", FalseOnly, O, O),
];

/// `<request>`. Only the CSE creates and changes it.
pub(crate) const REQUEST: &[Row] = &[
    row("acpi", Unsupported, NP, NP),
    row("daci", Unsupported, NP, NP),
    row("op", ReadOnly, NP, NP),
    row("tg", ReadOnly, NP, NP),
    row("org", ReadOnly, NP, NP),
    row("rid", ReadOnly, NP, NP),
    row("mi", ReadOnly, NP, NP),
    row("pc", ReadOnly, NP, NP),
    row("rs", ReadOnly, NP, NP),
    row("ors", ReadOnly, NP, NP),
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
    row("nar", Object, O, O),
];

/// `<pollingChannel>`.
pub(crate) const POLLING_CHANNEL: &[Row] =
    &[row("acpi", Links(MAX_POLICIES), O, O), row("rqag", FalseOnly, O, O)];
