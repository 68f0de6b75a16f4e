//! Lookups in the store.

use redb::ReadableTable;
use saegis_onem2m::resource::ResourceType;

use crate::budget::RequestBudget;
use crate::record::{InstanceTotals, Record, Seconds};
use crate::store::error::StoreError;
use crate::store::tables::{Bytes, ChildKey, Id, Name, TimedKey, WaitKey};

/// The end of a container's list of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The first created instance.
    Oldest,
    /// The last created instance.
    Latest,
}

/// An entry in the index of children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    /// Number of its type.
    pub(crate) ty: u16,
    /// Position among the children of its type.
    pub(crate) sequence: u64,
    /// Resource-ID.
    pub(crate) ri: String,
}

/// The lookups in a snapshot or a transaction.
pub(crate) trait Read {
    /// Returns the resource with this resource-ID.
    fn get(&self, ri: &str) -> Result<Option<Record>, StoreError>;
    /// Returns the resource-ID of the child with this name.
    fn named(&self, parent: &str, name: &str) -> Result<Option<String>, StoreError>;
    /// Returns the first child, or the one following `after`, by type and then by order of
    /// creation.
    fn next_child(&self, parent: &str, after: Option<&Child>) -> Result<Option<Child>, StoreError>;
    /// Returns the first child of a type, or the one following the sequence `after`.
    fn next_of_type(
        &self,
        parent: &str,
        ty: ResourceType,
        after: Option<u64>,
    ) -> Result<Option<Child>, StoreError>;
    /// Returns the oldest or latest instance of a container, or the next one after `beyond`. `ty` is
    /// the type of the instances.
    fn instance(
        &self,
        container: &str,
        ty: ResourceType,
        edge: Edge,
        beyond: Option<u64>,
    ) -> Result<Option<Child>, StoreError>;
    /// Returns the number and size of a container's expired instances that are not removed yet.
    fn expired_in(&self, container: &str, now: Seconds) -> Result<InstanceTotals, StoreError>;
    /// Returns the resource-IDs of the resources with a label, or `None` if there are more than
    /// `max`. Some of them may be in a deleted subtree.
    fn labeled(&self, label: &str, max: usize) -> Result<Option<Vec<String>>, StoreError>;
    /// Returns the resource-IDs of the resources of an owner that were created in a period, which does
    /// not include its end, or `None` if there are more than `max`.
    fn created(
        &self,
        owner: &str,
        period: (Seconds, Seconds),
        max: usize,
    ) -> Result<Option<Vec<String>>, StoreError>;
    /// Returns the registrant that ended a wait for an AE-ID-Stem, if the wait has ended.
    fn first(&self, stem: &str, wait: u64) -> Result<Option<String>, StoreError>;
    /// Returns the number of resources.
    fn count(&self) -> Result<u64, StoreError>;
    /// Returns the budget of the lookups.
    fn budget(&self) -> &RequestBudget;
}

/// The tables for lookups, in either kind of transaction.
pub(super) struct Tables<R, N, C, F, A, L> {
    pub(super) budget: RequestBudget,
    pub(super) resources: R,
    pub(super) names: N,
    pub(super) children: C,
    pub(super) firsts: F,
    pub(super) aging: A,
    pub(super) labels: L,
    pub(super) created: A,
}

impl<R, N, C, F, A, L> Tables<R, N, C, F, A, L>
where
    C: ReadableTable<ChildKey, Id>,
{
    pub(super) fn edge(
        &self,
        parent: &str,
        (first, last): ((u16, u64), (u16, u64)),
        edge: Edge,
    ) -> Result<Option<Child>, StoreError> {
        if first > last {
            return Ok(None);
        }
        self.budget.check()?;
        let range = (parent, first.0, first.1)..=(parent, last.0, last.1);
        let mut found = self.children.range(range)?;
        let entry = match edge {
            Edge::Oldest => found.next(),
            Edge::Latest => found.next_back(),
        };
        let Some((key, ri)) = entry.transpose()? else { return Ok(None) };
        let (_, ty, sequence) = key.value();
        Ok(Some(Child { ty, sequence, ri: ri.value().into() }))
    }
}

impl<R, N, C, F, A, L> Read for Tables<R, N, C, F, A, L>
where
    R: ReadableTable<Id, Bytes>,
    N: ReadableTable<Name, Id>,
    C: ReadableTable<ChildKey, Id>,
    F: ReadableTable<WaitKey, Id>,
    A: ReadableTable<TimedKey, u64>,
    L: ReadableTable<Name, ()>,
{
    fn get(&self, ri: &str) -> Result<Option<Record>, StoreError> {
        let Some(stored) = self.resources.get(ri)? else {
            self.budget.step(0)?;
            return Ok(None);
        };
        self.budget.step(stored.value().len())?;
        match serde_json::from_slice(stored.value()) {
            Ok(record) => Ok(Some(record)),
            // The text of the error could quote content.
            Err(_) => Err(StoreError::Corrupt(ri.into())),
        }
    }

    fn named(&self, parent: &str, name: &str) -> Result<Option<String>, StoreError> {
        self.budget.step(0)?;
        Ok(self.names.get((parent, name))?.map(|ri| ri.value().into()))
    }

    fn next_child(&self, parent: &str, after: Option<&Child>) -> Result<Option<Child>, StoreError> {
        let first = after.map_or((0, 0), |c| (c.ty, c.sequence.saturating_add(1)));
        self.edge(parent, (first, (u16::MAX, u64::MAX)), Edge::Oldest)
    }

    fn next_of_type(
        &self,
        parent: &str,
        ty: ResourceType,
        after: Option<u64>,
    ) -> Result<Option<Child>, StoreError> {
        let (ty, first) = (ty.number(), after.map_or(0, |at| at.saturating_add(1)));
        self.edge(parent, ((ty, first), (ty, u64::MAX)), Edge::Oldest)
    }

    fn instance(
        &self,
        container: &str,
        ty: ResourceType,
        edge: Edge,
        beyond: Option<u64>,
    ) -> Result<Option<Child>, StoreError> {
        let ty = ty.number();
        let (mut first, mut last) = (0, u64::MAX);
        match (edge, beyond) {
            (_, None) => {}
            (Edge::Oldest, Some(at)) => first = at.saturating_add(1),
            (Edge::Latest, Some(0)) => return Ok(None),
            (Edge::Latest, Some(at)) => last = at - 1,
        }
        self.edge(container, ((ty, first), (ty, last)), edge)
    }

    fn expired_in(&self, container: &str, now: Seconds) -> Result<InstanceTotals, StoreError> {
        expired_in(&self.aging, &self.budget, container, now)
    }

    fn labeled(&self, label: &str, max: usize) -> Result<Option<Vec<String>>, StoreError> {
        self.budget.step(max.saturating_mul(ENTRY_BYTES))?;
        let mut all = Vec::new();
        for entry in self.labels.range((label, "")..)? {
            let (key, _) = entry?;
            let (found, ri) = key.value();
            if found != label {
                break;
            }
            if all.len() == max {
                return Ok(None);
            }
            all.push(ri.to_owned());
        }
        Ok(Some(all))
    }

    fn created(
        &self,
        owner: &str,
        (after, before): (Seconds, Seconds),
        max: usize,
    ) -> Result<Option<Vec<String>>, StoreError> {
        if after >= before {
            return Ok(Some(Vec::new()));
        }
        self.budget.step(max.saturating_mul(ENTRY_BYTES))?;
        let mut all = Vec::new();
        for entry in self.created.range((owner, after, "")..(owner, before, ""))? {
            if all.len() == max {
                return Ok(None);
            }
            all.push(entry?.0.value().2.to_owned());
        }
        Ok(Some(all))
    }

    fn first(&self, stem: &str, wait: u64) -> Result<Option<String>, StoreError> {
        self.budget.step(0)?;
        Ok(self.firsts.get((stem, wait))?.map(|registrant| registrant.value().into()))
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.resources.len()?)
    }

    fn budget(&self) -> &RequestBudget {
        &self.budget
    }
}

/// Returns the number and size of a container's expired instances.
fn expired_in(
    aging: &impl ReadableTable<TimedKey, u64>,
    budget: &RequestBudget,
    container: &str,
    now: Seconds,
) -> Result<InstanceTotals, StoreError> {
    let mut totals = InstanceTotals::default();
    let mut read = 0;
    for entry in aging.range((container, 0, "")..(container, now.saturating_add(1), ""))? {
        totals.count += 1;
        totals.bytes = totals.bytes.saturating_add(entry?.1.value());
        read += ENTRY_BYTES;
        if read >= 4096 {
            budget.step(0)?;
            read = 0;
        }
    }
    Ok(totals)
}

/// Size of an entry in bytes, for the budget.
const ENTRY_BYTES: usize = 64;
