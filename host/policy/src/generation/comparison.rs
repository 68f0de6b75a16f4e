//! Compares a generation with the one before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::data::files::Digest;
use crate::data::table::RowChanges;
use crate::generation::difference::GenerationDifference;
use crate::generation::generation::Generation;
use crate::host::call::Tables;
use crate::sandbox::installed::InstalledModule;

/// Changes of tables, by their names.
pub(crate) type TableChanges = Vec<(String, RowChanges)>;

/// Compares the tables of a generation, with the digests of their files, with those of the one
/// before it. Visits all rows of changed tables.
pub(crate) fn compare_tables(
    last: &Generation,
    tables: &Tables,
    digests: &BTreeMap<String, Digest>,
) -> TableChanges {
    let names: BTreeSet<_> = last.table_digests.keys().chain(digests.keys()).collect();
    let changed =
        names.into_iter().filter(|name| last.table_digests.get(*name) != digests.get(*name));
    let changes = changed.map(|name| {
        let (old, new) = (last.tables.get(name), tables.get(name));
        (name.clone(), RowChanges::of(old.map(|t| &**t), new.map(|t| &**t)))
    });
    changes.collect()
}

/// Compares two generations, whose tables have those changes.
pub(crate) fn compare(
    last: &Generation,
    next: &Generation,
    tables: TableChanges,
) -> GenerationDifference {
    let certificates = |of: &Generation| of.certificates.as_ref().map(Arc::as_ptr);
    GenerationDifference {
        tables,
        modules: modules(&last.modules, &next.modules),
        rules: last.subscription_file.digest != next.subscription_file.digest,
        roles: last.roles.digest != next.roles.digest,
        token_issuers: last.token_issuers.digest != next.token_issuers.digest,
        certificates: certificates(last) != certificates(next),
    }
}

fn modules(last: &[InstalledModule], next: &[InstalledModule]) -> Vec<String> {
    let of = |all: &[InstalledModule], name: &str| {
        all.iter().position(|installed| installed.module.name == name)
    };
    let names: BTreeSet<_> = last.iter().chain(next).map(|i| i.module.name.clone()).collect();
    let changed = names.into_iter().filter_map(|name| match (of(last, &name), of(next, &name)) {
        (None, _) => Some(format!("+{name}")),
        (_, None) => Some(format!("-{name}")),
        (Some(old), Some(new)) => {
            let same = last.get(old).zip(next.get(new)).is_some_and(|(a, b)| a.is_same(b));
            (!same).then(|| format!("~{name}"))
        }
    });
    changed.collect()
}
