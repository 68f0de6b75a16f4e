//! The attribute tables of the announcements of other CSEs' resources (TS-0001 clause 9.6, columns
//! `Annc`, and TS-0004 clause 7.4.26).

use crate::resource::schema::Presence::{M, NP, O};
use crate::resource::schema::{LINK, POLICIES, Row, row};
use crate::resource::values::Kind::{
    Any, Boolean, ContentInfo, Count, Link, Links, Text, Texts, Unsupported,
};
use crate::settings::MAX_POLICIES;

/// `<CSEBaseAnnc>`.
pub(crate) const CSE_BASE_ANNC: &[Row] = &[
    row(LINK, Link, M, O),
    row(POLICIES, Links(MAX_POLICIES), O, O),
    row("srv", Texts, O, O),
    row("esi", Unsupported, O, O),
];

/// `<containerAnnc>`.
pub(crate) const CONTAINER_ANNC: &[Row] = &[
    row(LINK, Link, M, O),
    row(POLICIES, Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("mni", Count, O, O),
    row("mbs", Count, O, O),
    row("mia", Count, O, O),
    row("li", Link, O, O),
    row("or", Text(1024), O, O),
    row("disr", Boolean, O, O),
    row("loc", Unsupported, O, O),
];

/// `<contentInstanceAnnc>`. It has the access control of its parent.
pub(crate) const CONTENT_INSTANCE_ANNC: &[Row] = &[
    row(LINK, Link, M, O),
    row("cnf", ContentInfo, O, O),
    row("con", Any, O, O),
    row("or", Text(1024), O, O),
    row("conr", Unsupported, O, O),
    row("loc", Unsupported, O, O),
];

/// `<flexContainerAnnc>`, except its custom attributes.
pub(crate) const FLEX_CONTAINER_ANNC: &[Row] = &[
    row(LINK, Link, M, O),
    row(POLICIES, Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row("cnd", Text(256), M, NP),
    row("or", Text(1024), O, O),
    row("nl", Link, O, O),
    row("loc", Unsupported, O, O),
];
