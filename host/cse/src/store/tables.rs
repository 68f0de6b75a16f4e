//! The tables, and the types of their keys and values.

use redb::TableDefinition;

/// The keys and values of the tables.
pub(super) type Id = &'static str;
pub(super) type Bytes = &'static [u8];
pub(super) type Name = (&'static str, &'static str);
pub(super) type ChildKey = (&'static str, u16, u64);
pub(super) type Expiry = (u64, &'static str);
pub(super) type WaitKey = (&'static str, u64);
pub(super) type TimedKey = (&'static str, u64, &'static str);

pub(super) const RESOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("resources");
pub(super) const NAMES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("names");
pub(super) const CHILDREN: TableDefinition<'_, (&str, u16, u64), &str> =
    TableDefinition::new("children");
pub(super) const EXPIRY: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("expiry");
pub(super) const AGING: TableDefinition<'_, (&str, u64, &str), u64> = TableDefinition::new("aging");
pub(super) const CREATED: TableDefinition<'_, (&str, u64, &str), u64> =
    TableDefinition::new("created");
pub(super) const LABELS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("labels");
pub(super) const AWAITS: TableDefinition<'_, (&str, u64, &str), ()> =
    TableDefinition::new("awaits");
pub(super) const FIRSTS: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("firsts");
pub(super) const DETACHED: TableDefinition<'_, &str, ()> = TableDefinition::new("detached");
pub(super) const PENDING: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("pending");
pub(super) const DUE: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("due");
pub(super) const RETRIES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("retries");
pub(super) const ANNOUNCEMENTS: TableDefinition<'_, (&str, u64, &str), ()> =
    TableDefinition::new("announcements_by_owner");
pub(super) const GENERATED: TableDefinition<'_, (&str, u64), &str> =
    TableDefinition::new("generated");
pub(super) const MONITORED: TableDefinition<'_, (&str, &str), ()> =
    TableDefinition::new("monitored");
pub(super) const USAGE: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("usage");
pub(super) const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
