//! A request to the embedded CSE, slice by slice.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use saegis_cse::{CancelOnDrop, Continuation, EmbeddedCse, Handled, RequestBudget};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;

use super::fair_slots::{ActiveRequest, FairSlots, Slot};
use super::shared::Shared;
use super::usage::{COMMIT_COST, thread_time};
use crate::backend::outcome::Asker;

/// A request to the embedded CSE.
pub(super) struct Work<'a> {
    cse: &'a Arc<EmbeddedCse>,
    shared: &'a Shared,
    credential: &'a CredentialId,
    /// Whether it only reads.
    reads: bool,
    /// Whether it gives way to other requests.
    low_priority: bool,
    budget: RequestBudget,
    deadline: Instant,
    /// Set while the request is active. Work on a thread has a clone, because the waiting future
    /// may be dropped.
    active: Option<Arc<ActiveRequest>>,
}

impl<'a> Work<'a> {
    /// Creates the work of a request, without starting it.
    pub(super) fn new(
        cse: &'a Arc<EmbeddedCse>,
        shared: &'a Shared,
        asker: Asker<'a>,
        request: &RequestPrimitive,
    ) -> Self {
        let deadline = Instant::now() + shared.limits.time;
        let reads = matches!(request.operation, Operation::Retrieve | Operation::Notify);
        Self {
            cse,
            shared,
            credential: asker.credential,
            reads,
            low_priority: false,
            budget: RequestBudget::new(asker.authority.clone(), deadline, shared.limits.steps),
            deadline,
            active: None,
        }
    }

    /// Returns the credential that the request counts for.
    pub(super) fn credential(&self) -> &'a CredentialId {
        self.credential
    }

    /// Stops the work when the returned value is dropped.
    pub(super) fn cancel_on_drop(&self) -> CancelOnDrop {
        self.budget.cancel_on_drop()
    }

    /// Starts a request. A reader that turns out to be long is restarted among the long readers, so
    /// that a short reader never waits for a long one.
    pub(super) async fn begin(&mut self, request: RequestPrimitive) -> Result<Handled, Rsc> {
        if request.operation == Operation::Retrieve && !self.is_low_priority() {
            let first = self.budget.first_try();
            let (budget, tried) = (first.clone(), request.clone());
            let work = move |at: &EmbeddedCse, _: &_| at.handle(&tried, &budget, SystemTime::now());
            let mut handled = self.enter_and(work).await?;
            while let Handled::Continue(more) = handled {
                handled = self.go_on(more).await?;
            }
            if !first.is_used_up() {
                return Ok(handled);
            }
            self.low_priority = true;
        }
        self.enter_and(move |at, budget| at.handle(&request, budget, SystemTime::now())).await
    }

    /// Restarts with a time limit of its own, after waiting for others.
    pub(super) async fn begin_anew(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> Handled + Send + 'static,
    ) -> Result<Handled, Rsc> {
        self.deadline = Instant::now() + self.shared.limits.time;
        self.budget = self.budget.with_deadline(self.deadline);
        self.enter_and(work).await
    }

    /// Waits for a slot, then works.
    pub(super) async fn enter_and<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let deadline = self.deadline.into();
        if self.active.is_none() {
            let admission = self.shared.active_requests.admit(self.credential);
            let active = tokio::time::timeout_at(deadline, admission).await;
            self.active = Some(Arc::new(active.map_err(|_| Rsc::RequestTimeout)?));
        }
        let taking = self.slots().take(self.credential);
        let slot = tokio::time::timeout_at(deadline, taking).await;
        let slot = slot.map_err(|_| Rsc::RequestTimeout)?;
        self.carried_out(Some(slot), work).await
    }

    /// Continues after others had their turn.
    pub(super) async fn go_on(&mut self, more: Box<Continuation>) -> Result<Handled, Rsc> {
        let slot = self.slots().take(self.credential);
        // After the deadline, only the response is left to do.
        let slot = tokio::time::timeout_at(self.deadline.into(), slot).await.ok();
        self.carried_out(slot, |at, _| at.proceed(*more, SystemTime::now())).await
    }

    /// Returns whether it gives way: it turned out to be long, or its credential has heavy recent
    /// usage.
    fn is_low_priority(&mut self) -> bool {
        if !self.low_priority && self.shared.usage.is_heavy(self.credential) {
            self.low_priority = true;
        }
        if self.low_priority {
            self.budget.lower_priority();
        }
        self.low_priority
    }

    /// Returns the slots for this work. A request that gives way uses other slots, so that no other
    /// request waits for it.
    fn slots(&mut self) -> &'a Arc<FairSlots> {
        match (self.reads, self.is_low_priority()) {
            (true, false) => &self.shared.readers,
            (true, true) => &self.shared.long_readers,
            (false, false) => &self.shared.writers,
            (false, true) => &self.shared.heavy_writers,
        }
    }

    /// Stops counting as active while it waits for others.
    pub(super) fn leave(&mut self) {
        self.active = None;
    }

    /// Works on a thread that may block.
    ///
    /// # Errors
    /// Returns the Response Status Code if the work fails.
    async fn carried_out<T: Send + 'static>(
        &self,
        slot: Option<Slot>,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let (at, budget) = (self.cse.clone(), self.budget.clone());
        let active = self.active.clone();
        let (usage, credential, reads) =
            (self.shared.usage.clone(), self.credential.clone(), self.reads);
        let gives_way = self.low_priority;
        let work = move || {
            // Moved into the work, because the waiting future may be dropped.
            let _active = active;
            let (begun, start) = (Instant::now(), thread_time());
            if !reads && !gives_way {
                usage.note_usual_write();
            }
            let done = work(&at, &budget);
            let used = thread_time().saturating_sub(start);
            usage.charge(&credential, if reads { used } else { used + COMMIT_COST });
            if let Some(slot) = slot.filter(|_| !reads && gives_way) {
                slot.release_after(usage.rest_after(begun.elapsed()));
            }
            done
        };
        // A writer uses the disk, and a lower priority would block other writers for longer.
        let done = if self.reads && self.low_priority {
            self.shared.low_priority.spawn_blocking(work)
        } else {
            tokio::task::spawn_blocking(work)
        };
        done.await.map_err(|e| {
            tracing::error!(event = "cse.store-failed", "the CSE failed: {e}");
            Rsc::InternalServerError
        })
    }
}
