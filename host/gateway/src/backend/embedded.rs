//! The embedded CSE as the backend.

mod announcement_failures;
pub mod announcer;
pub mod fair_slots;
mod heavy_writers;
mod shared;
mod turns;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_cse::{
    Answer, Checked, Compaction, Destination, DueNotifications, EmbeddedCse, Handled, LongPoll,
    Notification, RequestBudget, ResultNotifications, ResultTargets, SWEEP_BATCH, StoreError,
};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_onem2m::timestamp::make_absolute;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;

use self::announcer::{Announcer, announces};
use self::shared::Shared;
use self::turns::Writers;
use self::work::Work;
use crate::backend::outcome::{Asker, Outcome};
use crate::config::RequestLimits;
use crate::keyed_limiter::KeyedPermit;
use crate::notification::failure::Failure;
use crate::notification::sender::Notifier;
use crate::peer_cse::PeerCse;
use crate::session::usage::Usage;

/// Maximum time that an AE waits at its polling channel.
const MAX_POLL: Duration = Duration::from_secs(60);

/// Interval between removals of expired resources.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Interval between checks for notifications that batches and rate limits have held back.
const DUE_INTERVAL: Duration = Duration::from_millis(500);

/// Cause of such notifications, if the registrant of the subscription's AE is unknown.
const OWN_CAUSE: &str = "99-cse";

/// The embedded CSE, and the resources that its requests share.
pub struct EmbeddedBackend {
    cse: Arc<EmbeddedCse>,
    shared: Shared,
    notifier: Arc<Notifier>,
    announcer: Option<Arc<Announcer>>,
}

/// A request that is acknowledged and carried out later.
pub struct AcceptedRequest {
    /// Blocking form of the request.
    pub request: RequestPrimitive,
    /// Response to the originator.
    pub acknowledgment: ResponsePrimitive,
    /// Time of the execution, if not at once.
    pub execute_at: Option<SystemTime>,
    /// Sender of the result.
    pub sender: ResultSender,
}

/// Stores and sends the result of an acknowledged request. If it is dropped before, a stored request
/// is marked as failed.
pub struct ResultSender {
    recipients: PendingResult,
    _permits: (KeyedPermit<CredentialId>, OwnedSemaphorePermit),
}

/// The targets of a result that does not exist yet. If it is dropped without a result, a stored
/// request is marked as failed.
struct PendingResult {
    cse: Arc<EmbeddedCse>,
    /// Absent when there is a result.
    targets: Option<Arc<ResultTargets>>,
    /// Credential that its commits count for, and whose turns they take.
    credential: CredentialId,
    writers: Writers,
    notifier: Arc<Notifier>,
}

impl EmbeddedBackend {
    /// Creates the backend of an opened CSE, whose notifications `notifier` sends.
    pub fn new(
        cse: Arc<EmbeddedCse>,
        notifier: Arc<Notifier>,
        limits: RequestLimits,
        usage: Arc<Usage>,
    ) -> Self {
        let stores = notifier.clone();
        cse.set_stores_for(Box::new(move |ae| stores.stores_for(ae)));
        cse.set_outcome_timeout(notifier.outcome_timeout());
        let shared = Shared::new(limits, usage, notifier.clone());
        Self { cse, shared, notifier, announcer: None }
    }

    /// Announces resources to the registrar CSE from now on.
    pub fn announce_to(&mut self, registrar: Arc<PeerCse>) {
        let usage = self.shared.usage.clone();
        self.announcer = Some(Arc::new(Announcer::new(self.cse.clone(), registrar, usage)));
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

    /// Decides whether a request can be acknowledged and carried out later, and stores it. The CSE
    /// must have a route to each target of the result, and the rules must allow it.
    ///
    /// # Errors
    /// Returns the refusal.
    pub async fn accept(
        &self,
        mut request: RequestPrimitive,
        asker: Asker<'_>,
    ) -> Result<AcceptedRequest, Box<ResponsePrimitive>> {
        make_absolute(&mut request.parameters, SystemTime::now());
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
        let mut check = Work::with(&self.cse, &self.shared, asker, true);
        let _stop_check = check.cancel_on_drop();
        let accept = move |at: &EmbeddedCse, budget: &RequestBudget| {
            at.accept(request, budget, SystemTime::now())
        };
        let accepted = match check.enter_and(accept).await {
            Ok(accepted) => accepted?,
            Err(rsc) => return Err(refuse(rsc, "the CSE timed out")),
        };
        drop(check);
        for there in accepted.destinations() {
            if let Err(why) = self.notifier.check(there).await {
                let why = why.for_originator();
                let why = format!("a target of the result cannot be reached: {why}");
                return Err(refuse(Rsc::TargetNotReachable, &why));
            }
        }
        let mut storing = Work::with(&self.cse, &self.shared, asker, false);
        let _stop_storing = storing.cancel_on_drop();
        let (cse, credential) = (self.cse.clone(), asker.credential.clone());
        let (writers, notifier) = (self.shared.writers.clone(), self.notifier.clone());
        // The pending result is created on the thread that stores the request, because this future
        // may be dropped.
        let store = move |at: &EmbeddedCse, budget: &RequestBudget| {
            let accepted = at.store_request(accepted, budget, SystemTime::now())?;
            let acknowledgment = accepted.acknowledgment(&cse.settings().cse_id);
            let execute_at = accepted.execute_at();
            let (request, targets) = accepted.into_parts();
            let targets = Some(Arc::new(targets));
            let pending = PendingResult { cse, targets, credential, writers, notifier };
            Ok::<_, Box<ResponsePrimitive>>((request, acknowledgment, execute_at, pending))
        };
        let (request, acknowledgment, execute_at, recipients) = match storing.enter_and(store).await
        {
            Ok(stored) => stored?,
            Err(rsc) => return Err(refuse(rsc, "the CSE timed out")),
        };
        let sender = ResultSender { recipients, _permits: permits };
        Ok(AcceptedRequest { request, acknowledgment, execute_at, sender })
    }

    /// Handles a request. Always returns a response. The work stops when this future is dropped,
    /// and when the authority of the credential ends.
    pub async fn handle(&self, mut request: RequestPrimitive, asker: Asker<'_>) -> Outcome {
        // The request may wait, and its times count from its arrival.
        make_absolute(&mut request.parameters, SystemTime::now());
        self.cse.record_observation(&request);
        let (id, release) = (request.request_id.clone(), request.release.clone());
        let announced = self.announcer.as_ref().filter(|_| announces(&request)).map(|announcer| {
            (announcer, (request.operation == Operation::Update).then(|| request.to.clone()))
        });
        let mut work = Work::new(&self.cse, &self.shared, asker, &request);
        let _stop = work.cancel_on_drop();
        match self.finish(&mut work, request).await {
            Ok(answer) => {
                self.notifier.send_all(answer.notifications, asker.credential).await;
                let mut response = answer.response;
                if let Some((announcer, of)) = announced
                    && let Some(of) = of.or_else(|| created(&response))
                    && response.rsc.is_success()
                {
                    work.leave();
                    Box::pin(announcer.complete(of, &mut response)).await;
                }
                Outcome { response, is_answered: true }
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
                    return Ok(match self.ask(delivery.notification(), work.credential()).await {
                        Ok(response) => delivery.answered(response),
                        Err(_) => delivery.unanswered(),
                    });
                }
                Handled::Await(mut awaiting) => {
                    work.leave();
                    let notifications = awaiting.take_notifications();
                    self.notifier.send_all(notifications, work.credential()).await;
                    let limit = deadline(awaiting.until(), work.deadline());
                    if tokio::time::timeout_at(limit, awaiting.changed()).await.is_err() {
                        return Ok(awaiting.timed_out());
                    }
                    handled = work.begin(awaiting.request().clone()).await?;
                }
                // The targets of a subscription agree first, each with its own timeout.
                Handled::Verify(target) => {
                    work.leave();
                    let limit = deadline(target.until(), Instant::now() + self.notifier.timeout());
                    let asked = self.ask(target.notification(), work.credential());
                    let asked = tokio::time::timeout_at(limit, asked).await;
                    let response = match asked.unwrap_or(Err(Failure::Late)) {
                        Ok(response) => response,
                        Err(why) => return Ok(target.unanswered(&why.for_originator())),
                    };
                    match target.answered(response.rsc) {
                        Checked::Next(target) => handled = Handled::Verify(target),
                        Checked::Refused(answer) => return Ok(answer),
                        Checked::Ready(all) => {
                            let conclude = move |at: &EmbeddedCse, budget: &RequestBudget| {
                                at.conclude(all, budget, SystemTime::now())
                            };
                            handled = work.begin_anew(conclude).await?;
                        }
                    }
                }
            }
        }
    }

    /// Sends a notification, and waits for the response.
    async fn ask(
        &self,
        notification: &Notification,
        cause: &CredentialId,
    ) -> Result<ResponsePrimitive, Failure> {
        let Destination::PollingChannel { .. } = &notification.to else {
            return self.notifier.ask(notification, cause).await;
        };
        let asked = self.cse.ask_over_channel(notification).ok_or(Failure::NotConnected)?;
        let rsc = tokio::time::timeout(self.notifier.timeout(), asked).await;
        let rsc = rsc.map_err(|_| Failure::Late)?;
        let (id, release) = (notification.request_id.clone(), notification.release.clone());
        Ok(ResponsePrimitive {
            rsc,
            from: None,
            request_id: id,
            release: Some(release),
            content: None,
            content_location: None,
            parameters: Default::default(),
        })
    }

    /// Removes expired resources, and sends notifications that are due, periodically.
    pub async fn sweep(&self) {
        tokio::join!(self.remove_expired(), self.send_due(), self.announce());
    }

    /// Announces resources to the registrar CSE, if there is one.
    async fn announce(&self) {
        if let Some(announcer) = &self.announcer {
            announcer.run().await;
        }
    }

    /// Sends the notifications that batches and rate limits have held back.
    async fn send_due(&self) {
        let mut interval = DUE_INTERVAL;
        loop {
            tokio::time::sleep(interval).await;
            let begun = Instant::now();
            let due = self.run(|cse| cse.due_notifications(SystemTime::now())).await;
            // Uses at most half of the time of the writer.
            interval = match &due {
                Ok(Ok(due)) if !due.is_empty() => begun.elapsed(),
                _ => DUE_INTERVAL,
            };
            let failed = match due {
                Ok(Ok(due)) => {
                    for DueNotifications { registrant, notifications } in due {
                        let own = || CredentialId::parse(OWN_CAUSE);
                        let cause = registrant.as_deref().map(CredentialId::parse);
                        let cause = cause.and_then(Result::ok).or_else(|| own().ok());
                        let Some(cause) = cause else { continue };
                        self.notifier.send_all(notifications, &cause).await;
                    }
                    continue;
                }
                Ok(Err(e)) => e.to_string(),
                Err(e) => e.to_string(),
            };
            tracing::error!(
                event = "cse.store-failed",
                "cannot read waiting notifications: {failed}"
            );
        }
    }

    /// Makes the file of the store smaller, if most of it is free.
    async fn compact(&self) {
        let failed = match self.run(EmbeddedCse::compact).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(Compaction { before, after, duration, .. }))) => {
                let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                return tracing::info!(
                    event = "cse.store-compacted",
                    before,
                    after,
                    milliseconds,
                    "CSE store compacted from {before} to {after} bytes in {milliseconds} ms"
                );
            }
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        tracing::error!(event = "cse.store-failed", "cannot compact the store: {failed}");
    }

    /// Removes expired resources periodically, in batches.
    async fn remove_expired(&self) {
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
                Ok(Ok(())) => {
                    self.compact().await;
                    continue;
                }
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
    /// Returns whether the originator has recalled the request. It is not executed then.
    pub async fn is_recalled(&self) -> bool {
        self.recipients.run(|cse, targets| cse.is_recalled(targets)).await.unwrap_or(false)
    }

    /// Stores the result, and sends it to each target in turn.
    pub async fn send(mut self, response: &ResponsePrimitive) {
        let response = response.clone();
        let stored = self
            .recipients
            .commit(move |cse, targets| cse.result(targets, &response, SystemTime::now()));
        let Some(ResultNotifications { results, lost, events }) = stored.await else { return };
        let (notifier, cause) = (&self.recipients.notifier, &self.recipients.credential);
        notifier.send_in_background(events, cause);
        let mut is_sent = lost == 0;
        for notification in results {
            // The notifier logs a failure.
            is_sent &= match notifier.send_over_connection(notification, cause) {
                Ok(durable) => match durable {
                    Some(durable) => {
                        durable.wait().await;
                        true
                    }
                    None => false,
                },
                Err(notification) => notifier.ask(&notification, cause).await.is_ok(),
            };
        }
        if is_sent {
            let removed =
                self.recipients.commit(|cse, to| cse.has_sent_result(to, SystemTime::now()));
            notifier.send_in_background(removed.await.unwrap_or_default(), cause);
        }
        self.recipients.targets = None;
    }
}

impl PendingResult {
    /// Runs `work` on a thread that may block on the disk. Returns nothing if it panics.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedCse, &ResultTargets) -> T + Send + 'static,
    ) -> Option<T> {
        let (cse, targets) = (self.cse.clone(), self.targets.clone()?);
        tokio::task::spawn_blocking(move || work(&cse, &targets)).await.ok()
    }

    /// Runs `work` that commits in a turn of the credential. Returns nothing if it panics.
    async fn commit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedCse, &ResultTargets) -> T + Send + 'static,
    ) -> Option<T> {
        let (cse, targets) = (self.cse.clone(), self.targets.clone()?);
        self.writers.commit(&self.credential, move || work(&cse, &targets)).await
    }
}

impl Drop for PendingResult {
    fn drop(&mut self) {
        let (cse, targets) = (self.cse.clone(), self.targets.take());
        // Without a runtime the process ends, and the next start marks the request.
        if let (Some(targets), Ok(runtime)) = (targets, Handle::try_current()) {
            let (writers, credential) = (self.writers.clone(), self.credential.clone());
            let abandon = move || cse.abandon(&targets, SystemTime::now());
            let notifier = self.notifier.clone();
            drop(runtime.spawn(async move {
                if let Some(events) = writers.commit(&credential, abandon).await {
                    notifier.send_in_background(events, &credential);
                }
            }));
        }
    }
}

/// Returns the address of a created resource.
fn created(response: &ResponsePrimitive) -> Option<Target> {
    Target::from_address(response.content_location.as_deref()?).ok()
}

/// Returns the earlier of a time and a deadline.
fn deadline(until: Option<SystemTime>, deadline: Instant) -> tokio::time::Instant {
    let left = until.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
    left.map_or(deadline, |left| deadline.min(Instant::now() + left)).into()
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
