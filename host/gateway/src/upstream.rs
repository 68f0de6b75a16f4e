//! The CSE behind the gateway: the embedded registrar, or another over HTTP.

mod connections;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::HOST;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use rand::RngExt as _;
use saegis_maf::Maf;
use saegis_onem2m::http::{read_response, write_request};
use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_registrar::{Answer, Checked, Handled, LongPoll, Registrar};
use tokio::sync::Semaphore;

use self::connections::Connections;
use crate::notifier::Notifier;

/// Requests that the embedded registrar carries out at a time.
const AT_A_TIME: usize = 32;

/// The CSE behind the gateway.
pub enum Upstream {
    /// The embedded registrar.
    Embedded {
        /// The registrar.
        registrar: Arc<Registrar>,
        /// Requests that it carries out at a time; they wait for the disk, each on a thread.
        places: Arc<Semaphore>,
        /// Sends what it has to tell.
        notifier: Arc<Notifier>,
    },
    /// Another CSE, over the HTTP binding.
    Remote(Box<Remote>),
    /// No CSE but an M2M Authentication Function.
    Maf(Arc<Maf>),
}

/// Another CSE.
pub struct Remote {
    connections: Connections,
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
        Self { connections: Connections::new(&url, content_bytes), url, host, cse }
    }

    /// Sends a request, and reads the answer. The text of an error is for the log.
    async fn ask(&self, request: &RequestPrimitive) -> Result<ResponsePrimitive, String> {
        let mut request = write_request(request, &self.cse).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, self.host.clone());
        let (parts, body) = self.connections.ask(request.map(Full::new)).await?;
        read_response(parts.status, &parts.headers, body).map_err(|e| e.to_string())
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
    pub fn embedded(registrar: Arc<Registrar>, notifier: Arc<Notifier>) -> Self {
        Self::Embedded { registrar, places: Arc::new(Semaphore::new(AT_A_TIME)), notifier }
    }

    /// The embedded registrar, if it is that.
    pub fn registrar(&self) -> Option<&Arc<Registrar>> {
        match self {
            Self::Embedded { registrar, .. } => Some(registrar),
            Self::Remote(_) | Self::Maf(_) => None,
        }
    }

    /// Carries a request out. Whatever happens, there is an answer.
    pub async fn handle(&self, request: RequestPrimitive, patience: Duration) -> ResponsePrimitive {
        let refuse = {
            let (id, release) = (request.request_id.clone(), request.release.clone());
            move |rsc, why: &str| ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why)
        };
        match self {
            Self::Embedded { registrar, places, notifier } => {
                let at = Arc::clone(registrar);
                let work = move || at.handle(&request, SystemTime::now());
                let mut handled = carried_out(places, patience, work).await;
                let answer = loop {
                    match handled {
                        Err(rsc) => return refuse(rsc, "the registrar could not do it"),
                        Ok(Handled::Done(answer)) => break answer,
                        Ok(Handled::Wait(poll)) => break polled(poll).await,
                        Ok(Handled::Deliver(delivery)) => {
                            break match notifier.ask(delivery.notification()).await {
                                Ok(told) => delivery.answered(told),
                                Err(_) => delivery.unanswered(),
                            };
                        }
                        // A subscription's targets are asked first, each within its own time.
                        Ok(Handled::Verify(target)) => {
                            let told = match notifier.ask(target.notification()).await {
                                Ok(told) => told,
                                Err(why) => break target.unanswered(&why.for_originator()),
                            };
                            match target.answered(told.rsc) {
                                Checked::Next(target) => handled = Ok(Handled::Verify(target)),
                                Checked::Refused(answer) => break answer,
                                Checked::Ready(all) => {
                                    let at = Arc::clone(registrar);
                                    let work = move || at.conclude(all, SystemTime::now());
                                    let answer = carried_out(places, patience, work).await;
                                    handled = answer.map(Handled::Done);
                                }
                            }
                        }
                    }
                };
                notifier.send_all(answer.notifications);
                answer.response
            }
            // Who asks a MAF has to be told it: that is another way.
            Self::Maf(_) => refuse(Rsc::InternalServerError, "the MAF was not asked"),
            Self::Remote(remote) => {
                match tokio::time::timeout(patience, remote.ask(&request)).await {
                    Ok(Ok(response)) => ResponsePrimitive {
                        // What the originator is to match the answer by is its own identifier.
                        request_id: request.request_id,
                        ..response
                    },
                    Ok(Err(why)) => {
                        tracing::warn!(
                            event = "upstream.failed",
                            "the CSE at {}: {why}",
                            remote.url
                        );
                        refuse(Rsc::TargetNotReachable, "the CSE can't be reached")
                    }
                    Err(_) => {
                        tracing::warn!(
                            event = "upstream.failed",
                            "the CSE at {}: no answer in time",
                            remote.url
                        );
                        refuse(Rsc::RequestTimeout, "the CSE did not answer in time")
                    }
                }
            }
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

/// Does work of the registrar on a thread that may wait, in one of its places. What it has begun it
/// ends, whether anybody waits for it or not: there is an answer only after the commit.
///
/// # Errors
/// The Response Status Code of the refusal, where it has too much to do or fails.
async fn carried_out<T: Send + 'static>(
    places: &Arc<Semaphore>,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Rsc> {
    let place = tokio::time::timeout(patience, places.clone().acquire_owned()).await;
    let place = place.map_err(|_| Rsc::RequestTimeout)?.map_err(|_| Rsc::InternalServerError)?;
    let done = tokio::task::spawn_blocking(move || {
        // Kept by the work, for whoever waits for it may go.
        let _place = place;
        work()
    });
    done.await.map_err(|e| {
        tracing::error!(event = "registrar.failed", "the registrar failed: {e}");
        Rsc::InternalServerError
    })
}

/// An error with what is behind it.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
