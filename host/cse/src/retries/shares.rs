//! The notifications of each owner of subscriptions, ordered by size and age.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The notifications of all owners, with the keys of their targets.
#[derive(Debug, Default)]
pub(super) struct Shares<K> {
    owners: HashMap<Arc<str>, Share<K>>,
    /// Owners, by the size of their notifications.
    sizes: BTreeSet<(usize, Arc<str>)>,
    bytes: usize,
}

/// The notifications of one owner.
#[derive(Debug, Default)]
struct Share<K> {
    bytes: usize,
    /// Target of each notification. The number of an older one is lower.
    targets: BTreeMap<u64, K>,
}

impl<K: Clone + Default> Shares<K> {
    /// Returns the size of all notifications, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a notification.
    pub(super) fn add(&mut self, owner: &Arc<str>, (key, number): (&K, u64), size: usize) {
        let share = self.owners.entry(owner.clone()).or_default();
        share.targets.insert(number, key.clone());
        let before = share.bytes;
        share.bytes += size;
        self.bytes += size;
        self.sizes.remove(&(before, owner.clone()));
        self.sizes.insert((share.bytes, owner.clone()));
    }

    /// Removes a notification that was added with this size.
    pub(super) fn remove(&mut self, owner: &Arc<str>, number: u64, size: usize) {
        let Some(share) = self.owners.get_mut(owner) else { return };
        share.targets.remove(&number);
        let before = share.bytes;
        share.bytes -= size;
        self.bytes -= size;
        self.sizes.remove(&(before, owner.clone()));
        if share.targets.is_empty() {
            self.owners.remove(owner);
        } else {
            self.sizes.insert((share.bytes, owner.clone()));
        }
    }

    /// Returns the oldest notification of the owner whose notifications have the most bytes.
    pub(super) fn oldest_of_largest(&self) -> Option<(K, u64)> {
        let (_, owner) = self.sizes.last()?;
        let (number, key) = self.owners.get(owner)?.targets.first_key_value()?;
        Some((key.clone(), *number))
    }
}
