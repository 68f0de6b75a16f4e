//! Requests that wait for a resource: for the end of a blocked update, or for a new instance.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The resources that requests wait for, by resource-ID.
#[derive(Debug, Default)]
pub(crate) struct AwaitedResources(Mutex<HashMap<String, Awaited>>);

#[derive(Debug, Default)]
struct Awaited {
    /// Whether an update of the resource is blocked.
    is_blocked: bool,
    /// Number of changes since a request waits.
    changes: u64,
    /// Number of requests that wait.
    waits: usize,
    wakers: Vec<Waker>,
}

impl AwaitedResources {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether no request waits, and no update is blocked.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    /// Blocks updates of a resource until the returned value is dropped.
    ///
    /// # Errors
    /// Returns the end of the block if they are blocked already.
    pub(crate) fn block(self: &Arc<Self>, ri: &str) -> Result<BlockedUpdate, ResourceChange> {
        let mut all = self.lock();
        let awaited = all.entry(ri.into()).or_default();
        if std::mem::replace(&mut awaited.is_blocked, true) {
            return Err(self.wait_in(&mut all, ri));
        }
        Ok(BlockedUpdate { resources: self.clone(), ri: ri.into() })
    }

    /// Waits for the next change of a resource, if an update of it is blocked.
    pub(crate) fn wait_if_blocked(self: &Arc<Self>, ri: &str) -> Option<ResourceChange> {
        let mut all = self.lock();
        let is_blocked = all.get(ri).is_some_and(|awaited| awaited.is_blocked);
        is_blocked.then(|| self.wait_in(&mut all, ri))
    }

    /// Reports a change of a resource to the requests that wait for it.
    pub(crate) fn changed(&self, ri: &str) {
        self.change(ri, |_| ());
    }

    fn change(&self, ri: &str, change: impl FnOnce(&mut Awaited)) {
        let mut all = self.lock();
        let Some(awaited) = all.get_mut(ri) else { return };
        change(awaited);
        awaited.changes = awaited.changes.wrapping_add(1);
        let wakers = std::mem::take(&mut awaited.wakers);
        if awaited.waits == 0 && !awaited.is_blocked {
            all.remove(ri);
        }
        drop(all);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for the next change of a resource.
    pub(crate) fn wait(self: &Arc<Self>, ri: &str) -> ResourceChange {
        self.wait_in(&mut self.lock(), ri)
    }

    fn wait_in(self: &Arc<Self>, all: &mut HashMap<String, Awaited>, ri: &str) -> ResourceChange {
        let awaited = all.entry(ri.into()).or_default();
        awaited.waits += 1;
        let changes = awaited.changes;
        ResourceChange { resources: self.clone(), ri: ri.into(), changes }
    }
}

/// The block of updates of a resource, until it is dropped.
#[derive(Debug)]
pub(crate) struct BlockedUpdate {
    resources: Arc<AwaitedResources>,
    ri: String,
}

impl BlockedUpdate {
    /// Returns whether this blocks updates of a resource.
    pub(crate) fn is_of(&self, ri: &str) -> bool {
        self.ri == ri
    }
}

impl Drop for BlockedUpdate {
    fn drop(&mut self) {
        self.resources.change(&self.ri, |awaited| awaited.is_blocked = false);
    }
}

/// The next change of a resource.
#[derive(Debug)]
pub(crate) struct ResourceChange {
    resources: Arc<AwaitedResources>,
    ri: String,
    changes: u64,
}

impl Future for ResourceChange {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut all = self.resources.lock();
        match all.get_mut(&self.ri) {
            Some(awaited) if awaited.changes == self.changes => {
                let own = context.waker();
                if !awaited.wakers.iter().any(|waker| waker.will_wake(own)) {
                    awaited.wakers.push(own.clone());
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for ResourceChange {
    fn drop(&mut self) {
        let mut all = self.resources.lock();
        let Some(awaited) = all.get_mut(&self.ri) else { return };
        awaited.waits = awaited.waits.saturating_sub(1);
        if awaited.waits == 0 && !awaited.is_blocked {
            all.remove(&self.ri);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn is_ready(change: Pin<&mut ResourceChange>) -> bool {
        change.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn blocked_update_is_awaited() {
        let resources = Arc::<AwaitedResources>::default();
        let block = resources.block("a").unwrap();
        assert!(resources.wait_if_blocked("b").is_none());
        let mut change = pin!(resources.wait_if_blocked("a").unwrap());
        let mut other = pin!(resources.block("a").unwrap_err());
        assert!(!is_ready(change.as_mut()) && !is_ready(other.as_mut()));
        drop(block);
        assert!(is_ready(change.as_mut()) && is_ready(other.as_mut()));
        assert!(resources.wait_if_blocked("a").is_none());
        assert!(resources.block("a").is_ok());
    }

    #[test]
    fn change_is_awaited_and_forgotten() {
        let resources = Arc::<AwaitedResources>::default();
        {
            let mut change = pin!(resources.wait("a"));
            resources.changed("b");
            assert!(!is_ready(change.as_mut()));
            resources.changed("a");
            assert!(is_ready(change.as_mut()));
        }
        assert!(resources.lock().is_empty());
    }
}
