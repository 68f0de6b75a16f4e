//! The embedded CSE as the backend.

pub mod fair_slots;
mod shared;
mod usage;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_cse::{
    Answer, Checked, EmbeddedCse, Handled, LongPoll, RequestBudget, ResultTargets, SWEEP_BATCH,
    StoreError,
};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;

use self::shared::Shared;
use self::work::Work;
use crate::backend::outcome::{Asker, Outcome};
use crate::config::RequestLimits;
use crate::keyed_limiter::KeyedPermit;
use crate::notification::sender::Notifier;

/// Maximum time that an AE waits at its polling channel.
const MAX_POLL: Duration = Duration::from_secs(60);

/// Interval between removals of expired resources.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The embedded CSE, and the resources that its requests share.
pub struct EmbeddedBackend {
    cse: Arc<EmbeddedCse>,
    shared: Shared,
    notifier: Arc<Notifier>,
}

/// Sends the result of an acknowledged request.
pub struct ResultSender {
    cse: Arc<EmbeddedCse>,
    notifier: Arc<Notifier>,
    recipients: ResultTargets,
    credential: CredentialId,
    _permits: (KeyedPermit<CredentialId>, OwnedSemaphorePermit),
}

impl EmbeddedBackend {
    /// Creates the backend of an opened CSE, whose notifications `notifier` sends.
    pub fn new(cse: Arc<EmbeddedCse>, notifier: Arc<Notifier>, limits: RequestLimits) -> Self {
        Self { cse, shared: Shared::new(limits), notifier }
    }

    /// Returns the CSE, whose methods block on the disk.
    pub fn cse(&self) -> &Arc<EmbeddedCse> {
        &self.cse
    }

    /// Runs `work` with the CSE on a thread that may block on the disk.
    ///
    /// # Errors
    /// Fails if the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedCse) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let cse = self.cse.clone();
        tokio::task::spawn_blocking(move || work(&cse)).await
    }

    /// Decides whether a request can be acknowledged and carried out later. The CSE must have a
    /// route to each target of the result, and the rules must allow it.
    ///
    /// # Errors
    /// Returns the refusal.
    pub async fn accept(
        &self,
        request: RequestPrimitive,
        asker: Asker<'_>,
    ) -> Result<(RequestPrimitive, ResultSender), Box<ResponsePrimitive>> {
        let (id, release) = (request.request_id.clone(), request.release.clone());
        let refuse = |rsc, why: &str| {
            Box::new(ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why))
        };
        let own = self.shared.acknowledged.take(asker.credential);
        let permit = self.shared.may_acknowledge.clone().try_acquire_owned().ok();
        let Some(permits) = own.zip(permit) else {
            let why = "too many results have not been sent yet; wait for them";
            return Err(refuse(Rsc::NotAcceptable, why));
        };
        let mut work = Work::new(&self.cse, &self.shared, asker, &request);
        let _stop = work.cancel_on_drop();
        let accept = move |at: &EmbeddedCse, budget: &RequestBudget| {
            at.accept(request, budget, SystemTime::now())
        };
        let accepted = match work.enter_and(accept).await {
            Ok(accepted) => accepted?,
            Err(rsc) => return Err(refuse(rsc, "the CSE timed out")),
        };
        for there in accepted.destinations() {
            if let Err(why) = self.notifier.check(there).await {
                let why = why.for_originator();
                let why = format!("a target of the result cannot be reached: {why}");
                return Err(refuse(Rsc::TargetNotReachable, &why));
            }
        }
        let (request, recipients) = accepted.into_parts();
        let (cse, notifier) = (self.cse.clone(), self.notifier.clone());
        let credential = asker.credential.clone();
        let sender = ResultSender { cse, notifier, recipients, credential, _permits: permits };
        Ok((request, sender))
    }

    /// Handles a request. Always returns a response. The work stops when this future is dropped,
    /// and when the authority of the credential ends.
    pub async fn handle(&self, request: RequestPrimitive, asker: Asker<'_>) -> Outcome {
        let (id, release) = (request.request_id.clone(), request.release.clone());
        let mut work = Work::new(&self.cse, &self.shared, asker, &request);
        let _stop = work.cancel_on_drop();
        match self.finish(&mut work, request).await {
            Ok(answer) => {
                self.notifier.send_all(answer.notifications, asker.credential).await;
                Outcome { response: answer.response, is_answered: true }
            }
            Err(rsc) => {
                let why = "the CSE timed out";
                let response = ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why);
                Outcome { response, is_answered: false }
            }
        }
    }

    /// Runs a request slice by slice, and waits for other requests in between.
    async fn finish(&self, work: &mut Work<'_>, request: RequestPrimitive) -> Result<Answer, Rsc> {
        let mut handled = work.begin(request).await?;
        loop {
            match handled {
                Handled::Done(answer) => return Ok(answer),
                Handled::Continue(more) => handled = work.go_on(more).await?,
                Handled::Wait(poll) => {
                    work.leave();
                    return Ok(polled(poll).await);
                }
                Handled::Deliver(delivery) => {
                    work.leave();
                    return Ok(
                        match self.notifier.ask(delivery.notification(), work.credential()).await {
                            Ok(response) => delivery.answered(response),
                            Err(_) => delivery.unanswered(),
                        },
                    );
                }
                // The targets of a subscription are verified first, each with its own timeout.
                Handled::Verify(target) => {
                    work.leave();
                    let response =
                        match self.notifier.ask(target.notification(), work.credential()).await {
                            Ok(response) => response,
                            Err(why) => return Ok(target.unanswered(&why.for_originator())),
                        };
                    match target.answered(response.rsc) {
                        Checked::Next(target) => handled = Handled::Verify(target),
                        Checked::Refused(answer) => return Ok(answer),
                        Checked::Ready(all) => {
                            let conclude = move |at: &EmbeddedCse, budget: &RequestBudget| {
                                Handled::Done(at.conclude(all, budget, SystemTime::now()))
                            };
                            handled = work.begin_anew(conclude).await?;
                        }
                    }
                }
            }
        }
    }

    /// Removes expired resources periodically, in batches.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let batches = |cse: &EmbeddedCse| {
                loop {
                    let begun = Instant::now();
                    if cse.sweep(SystemTime::now())? < SWEEP_BATCH {
                        return Ok::<_, StoreError>(());
                    }
                    // Uses at most half of the time of the writer, so that expiry does not delay
                    // requests.
                    std::thread::sleep(begun.elapsed());
                }
            };
            let failed = match self.run(batches).await {
                Ok(Ok(())) => continue,
                Ok(Err(e)) => e.to_string(),
                Err(e) => e.to_string(),
            };
            tracing::error!(
                event = "cse.store-failed",
                "cannot remove expired resources: {failed}"
            );
        }
    }
}

impl ResultSender {
    /// Sends the result to each target in turn.
    pub async fn send(self, response: &ResponsePrimitive) {
        for notification in self.cse.result(self.recipients, response) {
            // The notifier logs a failure.
            match self.notifier.send_over_connection(notification, &self.credential) {
                Ok(Some(durable)) => drop(durable.wait().await),
                Ok(None) => {}
                Err(notification) => {
                    let _ = self.notifier.ask(&notification, &self.credential).await;
                }
            }
        }
    }
}

/// Waits until a request for an AE is available.
async fn polled(mut poll: LongPoll) -> Answer {
    let until = poll.until().and_then(|at| at.duration_since(SystemTime::now()).ok());
    let timeout = until.unwrap_or(MAX_POLL).min(MAX_POLL);
    match tokio::time::timeout(timeout, &mut poll).await {
        Ok(answer) => answer,
        Err(_) => poll.timed_out(),
    }
}
