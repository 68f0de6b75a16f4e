//! Sizes by credential, in their order.

use std::collections::{BTreeSet, HashMap};

use saegis_onem2m::id::CredentialId;

/// Sizes by credential. Those without one have the size zero.
#[derive(Default)]
pub(super) struct Ranking {
    sizes: HashMap<CredentialId, usize>,
    order: BTreeSet<(usize, CredentialId)>,
    total: usize,
}

impl Ranking {
    /// Returns the sum of all sizes.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns the size of a credential.
    pub(super) fn size_of(&self, credential: &CredentialId) -> usize {
        self.sizes.get(credential).copied().unwrap_or_default()
    }

    /// Returns the credentials with their sizes. The largest one is first.
    pub(super) fn largest(&self) -> impl Iterator<Item = (usize, &CredentialId)> {
        self.order.iter().rev().map(|(size, credential)| (*size, credential))
    }

    pub(super) fn add(&mut self, credential: &CredentialId, size: usize) {
        self.set(credential, self.size_of(credential) + size);
    }

    pub(super) fn subtract(&mut self, credential: &CredentialId, size: usize) {
        self.set(credential, self.size_of(credential).saturating_sub(size));
    }

    fn set(&mut self, credential: &CredentialId, size: usize) {
        let before = self.sizes.remove(credential).unwrap_or_default();
        self.order.remove(&(before, credential.clone()));
        if size > 0 {
            self.sizes.insert(credential.clone(), size);
            self.order.insert((size, credential.clone()));
        }
        self.total = self.total + size - before;
    }
}
