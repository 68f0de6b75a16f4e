//! Compares a generation with the one before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::data::table::RowChanges;
use crate::generation::difference::GenerationDifference;
use crate::generation::generation::Generation;
use crate::sandbox::installed::InstalledModule;

/// Compares two generations.
pub(crate) fn compare(last: &Generation, next: &Generation) -> GenerationDifference {
    let names: BTreeSet<_> = last.table_digests.keys().chain(next.table_digests.keys()).collect();
    let has_changed =
        |name: &&&String| last.table_digests.get(**name) != next.table_digests.get(**name);
    let tables = names.iter().filter(has_changed).map(|name| {
        let (old, new) = (last.tables.get(*name), next.tables.get(*name));
        ((*name).clone(), RowChanges::of(old.map(|t| &**t), new.map(|t| &**t)))
    });
    let certificates = |of: &Generation| of.certificates.as_ref().map(Arc::as_ptr);
    GenerationDifference {
        tables: tables.collect(),
        modules: modules(&last.modules, &next.modules),
        rules: last.subscription_digest != next.subscription_digest,
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
