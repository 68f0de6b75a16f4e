//! The CSE behind the gateway: the embedded registrar, or another over HTTP.

pub mod embedded;
pub mod maf_store;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::HOST;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use rand::RngExt as _;
use saegis_cse::{
    Answer, Authority, Checked, Continuation, EmbeddedCse, Handled, LongPoll, Recipients,
    RequestBudget,
};
use saegis_maf::Maf;
use saegis_onem2m::http::{read_response, write_request};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::embedded::places::{Entered, Place, Places, UnderWay};
use crate::keyed_limiter::{KeyedLimiter, KeyedPermit};
use crate::notification::sender::Notifier;
use saegis_client::PlainHttp;

/// Requests that the embedded CSE carries out at a time: those that write, of which one has the disk,
/// and long ones that only read. The long ones give way to all others, and share the processors among
/// themselves.
const WRITERS: usize = 8;
const LONG_READERS: usize = 8;

/// Short requests for each processor that only read, at a time: one computes, and one may wait for the
/// disk.
const READERS: usize = 2;

/// Maximum number of acknowledged requests whose results are not sent yet.
const MAX_ACKNOWLEDGED: usize = 256;

/// What each request to the embedded CSE may use.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time, in which it waits for its turn too.
    pub time: Duration,
    /// Look-ups in the store.
    pub steps: u64,
    /// Requests of one credential that are carried out at a time.
    pub per_credential: usize,
}

/// Who asks: the credential that pays for a request, and the authority that it is carried out by.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The credential.
    pub credential: &'a CredentialId,
    /// The authority of its association.
    pub authority: &'a Arc<Authority>,
}

/// The CSE behind the gateway.
pub enum Upstream {
    /// The embedded registrar.
    Embedded {
        /// The registrar.
        registrar: Arc<EmbeddedCse>,
        /// What requests share: each works on a thread that may wait for the disk.
        shared: Box<Shared>,
        /// Sends what it has to tell.
        notifier: Arc<Notifier>,
    },
    /// Another CSE, over the HTTP binding.
    Remote(Box<Remote>),
    /// No CSE but an M2M Authentication Function.
    Maf(Arc<Maf>),
}

/// What requests to the embedded CSE share.
pub struct Shared {
    limits: RequestLimits,
    under_way: Arc<UnderWay>,
    readers: Arc<Places>,
    long_readers: Arc<Places>,
    writers: Arc<Places>,
    /// Requests that are acknowledged, and whose results are not sent yet: of each credential, and
    /// how many more there may be of all.
    acknowledged: KeyedLimiter<CredentialId>,
    may_acknowledge: Arc<Semaphore>,
}

/// Sends the result of a request that was acknowledged.
pub struct ResultSender {
    registrar: Arc<EmbeddedCse>,
    notifier: Arc<Notifier>,
    recipients: Recipients,
    _counted: (KeyedPermit<CredentialId>, OwnedSemaphorePermit),
}

/// The answer to a request, and where it comes from.
pub struct Outcome {
    /// The answer.
    pub response: ResponsePrimitive,
    /// Whether the CSE has given it: then it has done what it confirms, and has not done what it refuses.
    pub is_answered: bool,
}

/// Another CSE.
pub struct Remote {
    connections: PlainHttp,
    url: Uri,
    /// What requests name as their host.
    host: HeaderValue,
    cse: CseId,
}

impl Remote {
    /// The CSE `cse`, whose HTTP binding is at `url`: a scheme and an authority. To be called within a
    /// Tokio runtime.
    pub fn new(url: Uri, cse: CseId, content_bytes: usize) -> Self {
        let host = url.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
        Self { connections: PlainHttp::new(&url, content_bytes), url, host, cse }
    }

    /// Sends a request, and reads the answer. The text of an error is for the log.
    async fn ask(&self, request: &RequestPrimitive) -> Result<ResponsePrimitive, String> {
        let mut request = write_request(request, &self.cse).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, self.host.clone());
        let (parts, body) = self.connections.ask(request.map(Full::new)).await?;
        read_response(parts.status, &parts.headers, body).map_err(|e| e.to_string())
    }

    /// Carries a request out. Whatever happens, there is an answer.
    pub async fn handle(&self, request: RequestPrimitive, patience: Duration) -> ResponsePrimitive {
        self.try_handle(request, patience).await.response
    }

    /// Carries a request out, and says whether the CSE has answered it.
    async fn try_handle(&self, request: RequestPrimitive, patience: Duration) -> Outcome {
        let refuse = |rsc, why: &str| {
            let release = request.release.as_deref();
            ResponsePrimitive::refusal(&request.request_id, release, rsc, why)
        };
        let url = &self.url;
        let response = match tokio::time::timeout(patience, self.ask(&request)).await {
            Ok(Ok(response)) => {
                // What the originator is to match the answer by is its own identifier.
                let response = ResponsePrimitive { request_id: request.request_id, ..response };
                return Outcome { response, is_answered: true };
            }
            Ok(Err(why)) => {
                tracing::warn!(event = "upstream.failed", "the CSE at {url}: {why}");
                refuse(Rsc::TargetNotReachable, "the CSE can't be reached")
            }
            Err(_) => {
                tracing::warn!(event = "upstream.failed", "the CSE at {url}: no answer in time");
                refuse(Rsc::RequestTimeout, "the CSE did not answer in time")
            }
        };
        Outcome { response, is_answered: false }
    }
}

/// A request of our own in the name of an AE, to a CSE-relative address. None, where that is not one.
pub fn as_ae(operation: Operation, resource: &str, stem: &AeIdStem) -> Option<RequestPrimitive> {
    let to = Target::from_address(resource.trim_start_matches('/')).ok()?;
    let id = format!("{:016x}", rand::rng().random::<u64>());
    Some(RequestPrimitive::own(operation, to, stem.to_string(), id))
}

impl Upstream {
    /// The embedded registrar.
    pub fn embedded(
        registrar: Arc<EmbeddedCse>,
        notifier: Arc<Notifier>,
        limits: RequestLimits,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shared = Shared {
            limits,
            under_way: UnderWay::new(limits.per_credential),
            readers: Places::new(READERS * processors),
            long_readers: Places::new(LONG_READERS),
            writers: Places::new(WRITERS),
            acknowledged: KeyedLimiter::new(limits.per_credential),
            may_acknowledge: Arc::new(Semaphore::new(MAX_ACKNOWLEDGED)),
        };
        Self::Embedded { registrar, shared: Box::new(shared), notifier }
    }

    /// The embedded registrar, if it is that.
    pub fn registrar(&self) -> Option<&Arc<EmbeddedCse>> {
        match self {
            Self::Embedded { registrar, .. } => Some(registrar),
            Self::Remote(_) | Self::Maf(_) => None,
        }
    }

    /// Decides whether a request is acknowledged that is carried out later: the embedded registrar
    /// knows a way to each target of its result, and may send there.
    ///
    /// # Errors
    /// The refusal.
    pub async fn accept(
        &self,
        request: RequestPrimitive,
        asker: Asker<'_>,
    ) -> Result<(RequestPrimitive, ResultSender), Box<ResponsePrimitive>> {
        let (id, release) = (request.request_id.clone(), request.release.clone());
        let refuse = |rsc, why: &str| {
            Box::new(ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why))
        };
        let Self::Embedded { registrar, shared, notifier } = self else {
            return Err(refuse(Rsc::NotImplemented, "an answer that is deferred is not supported"));
        };
        let own = shared.acknowledged.take(asker.credential);
        let permit = shared.may_acknowledge.clone().try_acquire_owned().ok();
        let Some(counted) = own.zip(permit) else {
            let why = "too many results are still to be sent: wait for them";
            return Err(refuse(Rsc::NotAcceptable, why));
        };
        let mut work = Work::new(registrar, shared, asker, &request);
        let _stop = work.budget.cancel_on_drop();
        let accept = move |at: &EmbeddedCse, budget: &RequestBudget| {
            at.accept(request, budget, SystemTime::now())
        };
        let accepted = match work.enter_and(accept).await {
            Ok(accepted) => accepted?,
            Err(rsc) => return Err(refuse(rsc, "the CSE could not do it in time")),
        };
        for there in accepted.destinations() {
            if let Err(why) = notifier.check(there).await {
                let why = why.for_originator();
                let why = format!("a target of the result can't be reached: {why}");
                return Err(refuse(Rsc::TargetNotReachable, &why));
            }
        }
        let (request, recipients) = accepted.into_parts();
        let (registrar, notifier) = (registrar.clone(), notifier.clone());
        Ok((request, ResultSender { registrar, notifier, recipients, _counted: counted }))
    }

    /// Carries a request out. Whatever happens, there is an answer. The work on it stops when this
    /// future is dropped, and when the authority of who asks ends.
    pub async fn handle(
        &self,
        request: RequestPrimitive,
        asker: Asker<'_>,
        patience: Duration,
    ) -> Outcome {
        let refuse = {
            let (id, release) = (request.request_id.clone(), request.release.clone());
            move |rsc, why: &str| {
                let response = ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why);
                Outcome { response, is_answered: false }
            }
        };
        match self {
            Self::Embedded { registrar, shared, notifier } => {
                let mut work = Work::new(registrar, shared, asker, &request);
                let _stop = work.budget.cancel_on_drop();
                let mut handled = work.begin(request).await;
                let answer = loop {
                    match handled {
                        Err(rsc) => return refuse(rsc, "the CSE could not do it in time"),
                        Ok(Handled::Done(answer)) => break answer,
                        Ok(Handled::Continue(more)) => handled = work.go_on(more).await,
                        Ok(Handled::Wait(poll)) => {
                            work.leave();
                            break polled(poll).await;
                        }
                        Ok(Handled::Deliver(delivery)) => {
                            work.leave();
                            break match notifier.ask(delivery.notification()).await {
                                Ok(told) => delivery.answered(told),
                                Err(_) => delivery.unanswered(),
                            };
                        }
                        // A subscription's targets are asked first, each within its own time.
                        Ok(Handled::Verify(target)) => {
                            work.leave();
                            let told = match notifier.ask(target.notification()).await {
                                Ok(told) => told,
                                Err(why) => break target.unanswered(&why.for_originator()),
                            };
                            match target.answered(told.rsc) {
                                Checked::Next(target) => handled = Ok(Handled::Verify(target)),
                                Checked::Refused(answer) => break answer,
                                Checked::Ready(all) => {
                                    let conclude =
                                        move |at: &EmbeddedCse, budget: &RequestBudget| {
                                            Handled::Done(at.conclude(
                                                all,
                                                budget,
                                                SystemTime::now(),
                                            ))
                                        };
                                    handled = work.begin_anew(conclude).await;
                                }
                            }
                        }
                    }
                };
                notifier.send_all(answer.notifications);
                Outcome { response: answer.response, is_answered: true }
            }
            // Who asks a MAF has to be told it: that is another way.
            Self::Maf(_) => refuse(Rsc::InternalServerError, "the MAF was not asked"),
            Self::Remote(remote) => remote.try_handle(request, patience).await,
        }
    }
}

impl ResultSender {
    /// Sends the result to each target, one after the other.
    pub async fn send(self, response: &ResponsePrimitive) {
        for notification in self.registrar.result(self.recipients, response) {
            // A target that does not take it is logged.
            let _ = self.notifier.ask(&notification).await;
        }
    }
}

/// How long an AE may wait at its polling channel.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// Waits for something to be there for an AE.
async fn polled(mut poll: LongPoll) -> Answer {
    let until = poll.until().and_then(|at| at.duration_since(SystemTime::now()).ok());
    let patience = until.unwrap_or(LONGEST_POLL).min(LONGEST_POLL);
    match tokio::time::timeout(patience, &mut poll).await {
        Ok(answer) => answer,
        Err(_) => poll.timed_out(),
    }
}

/// One request to the embedded CSE.
struct Work<'a> {
    registrar: &'a Arc<EmbeddedCse>,
    shared: &'a Shared,
    credential: &'a CredentialId,
    /// Those who do such work.
    places: &'a Arc<Places>,
    /// Whether it gives way to other requests.
    is_long: bool,
    budget: RequestBudget,
    deadline: Instant,
    /// For as long as it is under way. What works on a thread has it too, for who waits may go.
    entered: Option<Arc<Entered>>,
}

impl<'a> Work<'a> {
    fn new(
        registrar: &'a Arc<EmbeddedCse>,
        shared: &'a Shared,
        asker: Asker<'a>,
        request: &RequestPrimitive,
    ) -> Self {
        let deadline = Instant::now() + shared.limits.time;
        let reads = matches!(request.operation, Operation::Retrieve | Operation::Notify);
        Self {
            registrar,
            shared,
            credential: asker.credential,
            places: if reads { &shared.readers } else { &shared.writers },
            is_long: false,
            budget: RequestBudget::new(asker.authority.clone(), deadline, shared.limits.steps),
            deadline,
            entered: None,
        }
    }

    /// Begins with a request. One that only reads and turns out to be long is begun again, among the
    /// long ones: so a short one never waits for a long one.
    async fn begin(&mut self, request: RequestPrimitive) -> Result<Handled, Rsc> {
        if request.operation == Operation::Retrieve {
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
            (self.places, self.is_long) = (&self.shared.long_readers, true);
        }
        self.enter_and(move |at, budget| at.handle(&request, budget, SystemTime::now())).await
    }

    /// Begins again after others were waited for, with a time of its own.
    async fn begin_anew(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> Handled + Send + 'static,
    ) -> Result<Handled, Rsc> {
        self.deadline = Instant::now() + self.shared.limits.time;
        self.budget = self.budget.with_deadline(self.deadline);
        self.enter_and(work).await
    }

    async fn enter_and<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&EmbeddedCse, &RequestBudget) -> T + Send + 'static,
    ) -> Result<T, Rsc> {
        let deadline = self.deadline.into();
        if self.entered.is_none() {
            let entering = self.shared.under_way.enter(self.credential);
            let entered = tokio::time::timeout_at(deadline, entering).await;
            self.entered = Some(Arc::new(entered.map_err(|_| Rsc::RequestTimeout)?));
        }
        let place = tokio::time::timeout_at(deadline, self.places.take(self.credential)).await;
        let place = place.map_err(|_| Rsc::RequestTimeout)?;
        self.carried_out(Some(place), work).await
    }

    /// Goes on after others have had their turn.
    async fn go_on(&mut self, more: Box<Continuation>) -> Result<Handled, Rsc> {
        let place = self.places.take(self.credential);
        // After the deadline there is nothing left to do but to answer.
        let place = tokio::time::timeout_at(self.deadline.into(), place).await.ok();
        self.carried_out(place, |at, _| at.proceed(*more, SystemTime::now())).await
    }

    /// It waits for others, and does not count as under way meanwhile.
    fn leave(&mut self) {
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
        let (at, budget) = (self.registrar.clone(), self.budget.clone());
        let entered = self.entered.clone();
        let work = move || {
            // Kept by the work, for whoever waits for it may go.
            let _kept = (place, entered);
            work(&at, &budget)
        };
        let done = if self.is_long {
            embedded::threads::run_at_low_priority(work).await
        } else {
            tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())
        };
        done.map_err(|e| {
            tracing::error!(event = "cse.store-failed", "the registrar failed: {e}");
            Rsc::InternalServerError
        })
    }
}
