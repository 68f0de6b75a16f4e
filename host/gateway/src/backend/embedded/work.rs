//! One request to the embedded CSE, from turn to turn.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use saegis_cse::{CancelOnDrop, Continuation, EmbeddedCse, Handled, RequestBudget};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;

use super::places::{Entered, Place, Places};
use super::shared::Shared;
use crate::backend::outcome::Asker;
use crate::usage::{COMMIT_COST, thread_time};

/// One request to the embedded CSE.
pub(super) struct Work<'a> {
    cse: &'a Arc<EmbeddedCse>,
    shared: &'a Shared,
    credential: &'a CredentialId,
    /// Whether it only reads.
    reads: bool,
    /// Whether it gives way to other requests.
    gives_way: bool,
    budget: RequestBudget,
    deadline: Instant,
    /// For as long as it is under way. What works on a thread has it too, for who waits may go.
    entered: Option<Arc<Entered>>,
}

impl<'a> Work<'a> {
    /// A request of an asker, which has not begun.
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
            gives_way: false,
            budget: RequestBudget::new(asker.authority.clone(), deadline, shared.limits.steps),
            deadline,
            entered: None,
        }
    }

    /// Stops the work when what is returned is dropped.
    pub(super) fn cancel_on_drop(&self) -> CancelOnDrop {
        self.budget.cancel_on_drop()
    }

    /// Begins with a request. One that only reads and turns out to be long is begun again, among the
    /// long ones: so a short one never waits for a long one.
    pub(super) async fn begin(&mut self, request: RequestPrimitive) -> Result<Handled, Rsc> {
        if request.operation == Operation::Retrieve && !self.gives_way() {
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
            self.gives_way = true;
        }
        self.enter_and(move |at, budget| at.handle(&request, budget, SystemTime::now())).await
    }

    /// Begins again after others were waited for, with a time of its own.
    pub(super) async fn begin_anew(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> Handled + Send + 'static,
    ) -> Result<Handled, Rsc> {
        self.deadline = Instant::now() + self.shared.limits.time;
        self.budget = self.budget.with_deadline(self.deadline);
        self.enter_and(work).await
    }

    /// Waits for its turn, and works.
    pub(super) async fn enter_and<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let deadline = self.deadline.into();
        if self.entered.is_none() {
            let entering = self.shared.under_way.enter(self.credential);
            let entered = tokio::time::timeout_at(deadline, entering).await;
            self.entered = Some(Arc::new(entered.map_err(|_| Rsc::RequestTimeout)?));
        }
        let taking = self.places().take(self.credential);
        let place = tokio::time::timeout_at(deadline, taking).await;
        let place = place.map_err(|_| Rsc::RequestTimeout)?;
        self.carried_out(Some(place), work).await
    }

    /// Goes on after others have had their turn.
    pub(super) async fn go_on(&mut self, more: Box<Continuation>) -> Result<Handled, Rsc> {
        let place = self.places().take(self.credential);
        // After the deadline there is nothing left to do but to answer.
        let place = tokio::time::timeout_at(self.deadline.into(), place).await.ok();
        self.carried_out(place, |at, _| at.proceed(*more, SystemTime::now())).await
    }

    /// Returns whether it gives way: it has turned out to be long, or its credential has used much of late.
    fn gives_way(&mut self) -> bool {
        if !self.gives_way && self.shared.usage.is_heavy(self.credential) {
            self.gives_way = true;
        }
        if self.gives_way {
            self.budget.give_way();
        }
        self.gives_way
    }

    /// The places for such work. A request that gives way has other places, so that no other request
    /// waits for it.
    fn places(&mut self) -> &'a Arc<Places> {
        match (self.reads, self.gives_way()) {
            (true, false) => &self.shared.readers,
            (true, true) => &self.shared.long_readers,
            (false, false) => &self.shared.writers,
            (false, true) => &self.shared.heavy_writers,
        }
    }

    /// It waits for others, and does not count as under way meanwhile.
    pub(super) fn leave(&mut self) {
        self.entered = None;
    }

    /// Works on a thread that may wait.
    ///
    /// # Errors
    /// The Response Status Code of the refusal, where the work fails.
    async fn carried_out<T: Send + 'static>(
        &self,
        place: Option<Place>,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let (at, budget) = (self.cse.clone(), self.budget.clone());
        let entered = self.entered.clone();
        let (usage, credential, reads) =
            (self.shared.usage.clone(), self.credential.clone(), self.reads);
        let work = move || {
            // Kept by the work, for whoever waits for it may go.
            let _kept = (place, entered);
            let start = thread_time();
            let done = work(&at, &budget);
            let used = thread_time().saturating_sub(start);
            usage.charge(&credential, if reads { used } else { used + COMMIT_COST });
            done
        };
        // One that writes has the disk, and would keep others from it for longer.
        let done = if self.reads && self.gives_way {
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
