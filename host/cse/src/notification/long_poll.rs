//! Polling channels: an AE without a point of access fetches its notifications, and waits for them
//! (TS-0001 clause 9.6.21, TS-0004 clause 7.4.22).

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
use serde_json::Value;

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

/// Name of a polling channel's URI, which is polled.
const URI: &str = "pcu";

/// A long poll: a future of the answer to an AE that polls its channel. It completes when a message
/// for the AE arrives, and needs no runtime.
///
/// The caller must limit the time: by [`until`](Self::until), and by a timeout that suits the
/// connection. After that time, it answers with [`timed_out`](Self::timed_out).
///
/// ```text
/// let answer = match tokio::time::timeout(timeout, &mut poll).await {
///    Ok(answer) => answer,
///    Err(_) => poll.timed_out(),
/// };
/// ```
///
/// Only one poll waits at a channel. A later poll replaces it, and the replaced one completes with
/// the answer of [`timed_out`](Self::timed_out). A message that completes a poll has left the
/// queue, so a poll whose connection has ended must be dropped without being polled.
#[derive(Debug)]
#[must_use]
pub struct LongPoll {
    waiting: polling_queues::Waiting,
    request_id: String,
    release: Option<String>,
    until: Option<SystemTime>,
}

impl LongPoll {
    /// Returns the time until which the originator waits (the Request Expiration Timestamp), if
    /// given.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// Returns the answer for a poll without a message in time.
    pub fn timed_out(self) -> Answer {
        self.nothing()
    }

    fn nothing(&self) -> Answer {
        let (rsc, why) = (Rsc::RequestTimeout, "no message for the originator");
        ResponsePrimitive::refusal(&self.request_id, self.release.as_deref(), rsc, why).into()
    }
}

impl Future for LongPoll {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Answer> {
        self.waiting.poll(context).map(|message| match message {
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

/// Returns the polling channel of a URI.
pub(crate) fn channel(to: &Target) -> Option<Target> {
    let resource = to.resource.strip_suffix(URI)?.strip_suffix('/')?;
    Some(Target { scope: to.scope.clone(), resource: resource.into() })
}

/// Checks that a polling channel is created by its own AE, and is its only one.
///
/// # Errors
/// Returns an error if the AE is another one, or has a channel already.
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

/// Returns whether a channel of this AE belongs to the originator, independently of privileges. The
/// From of a registered AE is its AE-ID-Stem, which is its resource-ID.
fn is_own(request: &RequestPrimitive, ae: Option<&str>) -> bool {
    request.from.is_some() && request.from.as_deref() == ae
}

/// Handles a request to the URI of a polling channel.
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
            waiting: state.queues.wait(found.ri),
            request_id: request.request_id.clone(),
            release: request.release.clone(),
            until: until(request, now),
        })),
        // The AE's response to a message.
        Operation::Notify => {
            let content = request.content.as_ref().map(|content| content.bytes().as_ref());
            if let Some((id, rsc)) = content.and_then(response) {
                state.channel_requests.respond(&found.ri, &id, rsc);
            }
            Ok(Outcome::Done(ResponsePrimitive::to(request, Rsc::Ok).into()))
        }
        Operation::Create | Operation::Update | Operation::Delete => {
            Err(Refusal::NotAllowed("pcu can be retrieved and notified"))
        }
    }
}

/// Returns the request identifier and the status of a response primitive in a notification.
fn response(content: &[u8]) -> Option<(String, Rsc)> {
    let content: Value = serde_json::from_slice(content).ok()?;
    let response = content.get("m2m:rsp")?;
    let code = response.get("rsc")?.as_u64()?;
    let id = response.get("rqi")?.as_str()?;
    Some((id.to_owned(), Rsc::from_code(u16::try_from(code).ok()?)))
}

fn until(request: &RequestPrimitive, now: SystemTime) -> Option<SystemTime> {
    parse_relative(request.parameters.get(Parameter::RequestExpiration)?, now).ok()
}
