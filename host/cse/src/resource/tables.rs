//! The attributes of the resource types that act: subscriptions, groups, polling channels (the
//! tables of TS-0004 clauses 7.4.8, 7.4.13 and 7.4.22).

use crate::identifiers::MAX_NAME;
use crate::resource::schema::May::{Can, Must, Not};
use crate::resource::schema::{Row, row};
use crate::resource::values::Kind::{
    Addresses, Count, Creator, Kept, Links, Members, NotDone, Object, Text, Unsupported,
};
use crate::resource::values::MAX_ADDRESS;
use crate::settings::MAX_POLICIES;

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
    row("psn", Unsupported, Can, Not),
    row("pn", Unsupported, Can, Can),
    row("nsp", Unsupported, Can, Can),
    row("ln", NotDone, Can, Can),
    row("nct", Count, Can, Can),
    row("nec", Unsupported, Can, Can),
    row("cr", Creator, Can, Not),
    row("su", Text(MAX_ADDRESS), Can, Not),
    row("acrs", Unsupported, Can, Can),
    row("nse", NotDone, Can, Can),
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
    row("mid", Members, Must, Can),
    row("macp", Unsupported, Can, Can),
    row("mtv", Kept, Not, Not),
    row("csy", Count, Can, Not),
    row("gn", Text(MAX_NAME), Can, Can),
    row("ssi", Kept, Not, Not),
    row("nar", Unsupported, Can, Can),
];

/// `<pollingChannel>`.
pub(crate) const POLLING_CHANNEL: &[Row] =
    &[row("acpi", Links(MAX_POLICIES), Can, Can), row("rqag", NotDone, Can, Can)];
