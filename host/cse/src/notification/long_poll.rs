//! Polling channels: an AE that nobody can reach asks for what is sent to it, and waits (TS-0001
//! clause 9.6.21, TS-0004 clause 7.4.22).

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::SystemTime;

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_onem2m::timestamp::parse_relative;

use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::answer::{Answer, Outcome};
use crate::record::{Record, seconds};
use crate::request::checks::{check_expiration, check_release};
use crate::request::context::Context;
use crate::resource::address;
use crate::resource::registrant;
use crate::state::State;
use crate::store::Read;
use crate::store::polling_queues;

/// The name of a polling channel's URI, which is polled.
const URI: &str = "pcu";

/// A long poll: the answer to an AE that polls its channel. It is a future that is ready when there
/// is something for the AE, and it needs no runtime.
///
/// Whoever waits for it must not wait forever: no longer than [`until`](Self::until), and than is
/// good for a connection. When that time is up, [`timed_out`](Self::timed_out) is the answer.
///
/// ```text
/// let answer = match tokio::time::timeout(timeout, &mut poll).await {
///     Ok(answer) => answer,
///     Err(_) => poll.timed_out(),
/// };
/// ```
///
/// One poll waits at a channel. Another takes its place, and then it is ready with the answer of
/// [`timed_out`](Self::timed_out). What it is ready with has left the queue: a poll whose connection
/// has gone should be dropped and not asked.
#[derive(Debug)]
#[must_use]
pub struct LongPoll {
    place: polling_queues::Waiting,
    request_id: String,
    release: Option<String>,
    until: Option<SystemTime>,
}

impl LongPoll {
    /// Until when the originator waits, if it says so (the Request Expiration Timestamp).
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// The answer when there is nothing for the AE in time.
    pub fn timed_out(self) -> Answer {
        self.nothing()
    }

    fn nothing(&self) -> Answer {
        let (rsc, why) = (Rsc::RequestTimeout, "there is nothing for the originator");
        ResponsePrimitive::refusal(&self.request_id, self.release.as_deref(), rsc, why).into()
    }
}

impl Future for LongPoll {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Answer> {
        self.place.poll(context).map(|message| match message {
            None => self.nothing(),
            Some(message) => ResponsePrimitive {
                rsc: Rsc::Ok,
                from: None,
                request_id: self.request_id.clone(),
                release: self.release.clone(),
                content: Some(message),
                content_location: None,
                parameters: Default::default(),
            }
            .into(),
        })
    }
}

/// The polling channel whose URI a target is.
pub(crate) fn channel(to: &Target) -> Option<Target> {
    let resource = to.resource.strip_suffix(URI)?.strip_suffix('/')?;
    Some(Target { scope: to.scope.clone(), resource: resource.into() })
}

/// Makes sure that a polling channel there is its AE's own, and its only one.
///
/// # Errors
/// When it is another's, or there is one.
pub(crate) fn admit(
    read: &dyn Read,
    context: &Context<'_>,
    parent: &Record,
) -> Result<(), Refusal> {
    if !is_own(context.request, Some(&parent.ri)) {
        return Err(Refusal::NotOwnChannel);
    }
    match read.next_of_type(&parent.ri, ResourceType::PollingChannel, None)? {
        Some(_) => Err(Refusal::NotAllowed("an AE has one pollingChannel")),
        None => Ok(()),
    }
}

/// Whether a channel whose parent is that AE is the originator's, whatever privileges there are. An
/// AE that is registered here writes its AE-ID-Stem, which is its resource-ID.
fn is_own(request: &RequestPrimitive, ae: Option<&str>) -> bool {
    request.from.is_some() && request.from.as_deref() == ae
}

/// Carries out a request to the URI of a polling channel.
pub(crate) fn poll(
    state: &State,
    request: &RequestPrimitive,
    channel: &Target,
    budget: &RequestBudget,
    now: SystemTime,
) -> Result<Outcome<LongPoll>, Refusal> {
    check_release(request, &state.settings)?;
    check_expiration(request, seconds(now))?;
    let snapshot = state.store.snapshot(budget)?;
    let (read, now_seconds) = (snapshot.read(), seconds(now));
    let from = request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    OriginatorId::parse(from).map_err(Refusal::Originator)?;
    let found = match address::resolve(read, &state.settings, channel, now_seconds)? {
        address::Resolved::Resource(found) if found.record.ty == ResourceType::PollingChannel => {
            found.record
        }
        address::Resolved::Resource(_) | address::Resolved::Instance { .. } => {
            return Err(Refusal::NotFound);
        }
    };
    let parent = found.parent.as_deref();
    let ae = parent.map(|ri| read.get(ri)).transpose()?.flatten();
    if !is_own(request, parent) || ae.is_none_or(|ae| registrant::belongs_to_another(&ae, request))
    {
        return Err(Refusal::NotOwnChannel);
    }
    match request.operation {
        Operation::Retrieve => Ok(Outcome::Pending(LongPoll {
            place: state.queues.wait(found.ri),
            request_id: request.request_id.clone(),
            release: request.release.clone(),
            until: until(request, now),
        })),
        // The AE's answer to what it was sent. Nobody waits for it.
        Operation::Notify => Ok(Outcome::Done(ResponsePrimitive::to(request, Rsc::Ok).into())),
        Operation::Create | Operation::Update | Operation::Delete => {
            Err(Refusal::NotAllowed("pcu can be retrieved and notified"))
        }
    }
}

fn until(request: &RequestPrimitive, now: SystemTime) -> Option<SystemTime> {
    parse_relative(request.parameters.get(Parameter::RequestExpiration)?, now).ok()
}
