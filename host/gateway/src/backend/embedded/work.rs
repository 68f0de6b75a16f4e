//! A request to the embedded CSE, slice by slice.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use saegis_cse::{CancelOnDrop, Continuation, EmbeddedCse, Handled, Notification, RequestBudget};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;
use tokio::runtime::Handle;

use super::fair_slots::ActiveRequest;
use super::shared::Shared;
use super::turns::Turn;
use crate::backend::outcome::Asker;
use crate::session::usage::{COMMIT_COST, thread_time};

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
        let reads = matches!(request.operation, Operation::Retrieve | Operation::Notify);
        Self::with(cse, shared, asker, reads)
    }

    /// Creates work that only reads, or may write.
    pub(super) fn with(
        cse: &'a Arc<EmbeddedCse>,
        shared: &'a Shared,
        asker: Asker<'a>,
        reads: bool,
    ) -> Self {
        let deadline = Instant::now() + shared.limits.time;
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

    /// Returns the time until which the request must be executed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
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
            let work = move |at: &EmbeddedCse, _: &RequestBudget| {
                at.handle(&tried, &budget, SystemTime::now())
            };
            let turn = self.admitted().await?;
            let mut handled = self.handled(Some(turn), work).await?;
            while let Handled::Continue(more) = handled {
                handled = self.go_on(more).await?;
            }
            if !first.is_used_up() {
                return Ok(handled);
            }
            self.low_priority = true;
        }
        let work =
            move |at: &EmbeddedCse, budget: &_| at.handle(&request, budget, SystemTime::now());
        let turn = self.admitted().await?;
        self.handled(Some(turn), work).await
    }

    /// Restarts with a time limit of its own, after waiting for others.
    pub(super) async fn begin_anew(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> Handled + Send + 'static,
    ) -> Result<Handled, Rsc> {
        self.deadline = Instant::now() + self.shared.limits.time;
        self.budget = self.budget.with_deadline(self.deadline);
        let turn = self.admitted().await?;
        self.handled(Some(turn), work).await
    }

    /// Waits for a turn, then works.
    pub(super) async fn enter_and<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let turn = self.admitted().await?;
        self.carried_out(Some(turn), work).await
    }

    /// Waits until the request is active and has a turn.
    async fn admitted(&mut self) -> Result<Turn, Rsc> {
        let deadline = self.deadline.into();
        if self.active.is_none() {
            let admission = self.shared.active_requests.admit(self.credential);
            let active = tokio::time::timeout_at(deadline, admission).await;
            self.active = Some(Arc::new(active.map_err(|_| Rsc::RequestTimeout)?));
        }
        let turn = tokio::time::timeout_at(deadline, self.turn()).await;
        turn.map_err(|_| Rsc::RequestTimeout)
    }

    /// Continues after others had their turn.
    pub(super) async fn go_on(&mut self, more: Box<Continuation>) -> Result<Handled, Rsc> {
        // After the deadline, only the response is left to do.
        let turn = tokio::time::timeout_at(self.deadline.into(), self.turn()).await.ok();
        self.handled(turn, |at, _| at.proceed(*more, SystemTime::now())).await
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

    /// Waits for a turn. A request that gives way uses other slots, so that no other request waits
    /// for it.
    async fn turn(&mut self) -> Turn {
        let slots = match (self.reads, self.is_low_priority()) {
            (true, false) => &self.shared.readers,
            (true, true) => &self.shared.long_readers,
            (false, gives_way) => {
                return self.shared.writers.take(self.credential, gives_way).await;
            }
        };
        Turn::Usual(slots.take(self.credential).await)
    }

    /// Stops counting as active while it waits for others.
    pub(super) fn leave(&mut self) {
        self.active = None;
    }

    /// Returns a slice of work with its turn, for the thread that carries it out.
    fn slice<T, W>(&self, turn: Option<Turn>, work: W) -> impl FnOnce() -> T + Send + use<T, W>
    where
        W: FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    {
        let (at, budget) = (self.cse.clone(), self.budget.clone());
        let active = self.active.clone();
        let (usage, credential, reads) =
            (self.shared.usage.clone(), self.credential.clone(), self.reads);
        let gives_way = self.low_priority;
        move || {
            // Moved into the work, because the waiting future may be dropped.
            let _active = active;
            let (written, start) = (budget.writing_time(), thread_time());
            if !reads && !gives_way {
                usage.note_usual_write();
            }
            let done = work(&at, &budget);
            let used = thread_time().saturating_sub(start);
            usage.charge(&credential, if reads { used } else { used + COMMIT_COST });
            if let Some(turn) = turn {
                turn.end(&usage, budget.writing_time().saturating_sub(written));
            }
            done
        }
    }

    /// Handles a request on a thread that may block.
    async fn handled(
        &self,
        turn: Option<Turn>,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> Handled + Send + 'static,
    ) -> Result<Handled, Rsc> {
        let (notifier, cause) = (self.shared.notifier.clone(), self.credential.clone());
        let send = move |all| notifier.send_in_background(all, &cause);
        let runtime = Handle::current();
        let work = move |at: &EmbeddedCse, budget: &RequestBudget| {
            let handled = Some(work(at, budget));
            Unfetched { handled, send: Some(send), runtime }
        };
        let mut unfetched = self.carried_out(turn, work).await?;
        unfetched.handled.take().ok_or(Rsc::InternalServerError)
    }

    /// Works on a thread that may block.
    ///
    /// # Errors
    /// Returns the Response Status Code if the work fails.
    async fn carried_out<T: Send + 'static>(
        &self,
        turn: Option<Turn>,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let work = self.slice(turn, work);
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

/// The result of a request that the waiting future has not taken yet. If that future was dropped, the
/// notifications are sent nevertheless: the changes that they report are on disk.
struct Unfetched<S: FnOnce(Vec<Notification>)> {
    /// Absent when it was taken.
    handled: Option<Handled>,
    send: Option<S>,
    /// Runtime that sends the notifications. That of the thread may only run blocking work.
    runtime: Handle,
}

impl<S: FnOnce(Vec<Notification>)> Drop for Unfetched<S> {
    fn drop(&mut self) {
        if let (Some(Handled::Done(answer)), Some(send)) = (self.handled.take(), self.send.take()) {
            // If the runtime shuts down, stored notifications are sent after the next start.
            let _entered = self.runtime.enter();
            send(answer.notifications);
        }
    }
}

#[cfg(test)]
mod tests {
    use saegis_onem2m::primitive::ResponsePrimitive;

    use super::*;
    use crate::low_priority::LowPriority;

    #[tokio::test]
    async fn unfetched_notifications_are_sent() {
        let response = ResponsePrimitive::refusal("r1", None, Rsc::NotFound, "");
        let (sent, is_sent) = tokio::sync::oneshot::channel();
        let send = move |_: Vec<Notification>| {
            tokio::spawn(async move { sent.send(()) });
        };
        let handled = Some(Handled::Done(response.into()));
        let runtime = Handle::current();
        let unfetched = Unfetched { handled, send: Some(send), runtime };
        let blocking = LowPriority::for_blocking_work("test", 1);
        blocking.spawn_blocking(move || drop(unfetched)).await.unwrap();
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, is_sent).await.unwrap().unwrap();
    }
}
