//! A notification for an AE that is registered here is passed on to it: to its point of access, or into
//! the queue of its polling channel. Who may have one passed on, the AE's access control says.

use std::time::SystemTime;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::Value;

use crate::access::decision::{Originator, require};
use crate::access::grants::Access;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::answer::{Answer, Outcome};
use crate::notification::message::Notification;
use crate::notification::outbox;
use crate::notification::point_of_access::{Route, route_to_ae};
use crate::record::seconds;
use crate::request::checks::{check_expiration, check_release};
use crate::resource::address::{self, Resolved};
use crate::resource::ae_announcement;
use crate::state::State;

/// A notification that is passed on to an AE, whose answer is the originator's. Whoever has one sends
/// [`notification`](Self::notification), and gives what came of it to [`answered`](Self::answered) or
/// says that there is nothing, with [`unanswered`](Self::unanswered).
#[derive(Debug)]
#[must_use]
pub struct Delivery {
    notification: Notification,
    request_id: String,
    release: Option<String>,
}

impl Delivery {
    /// What to send.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.notification
    }

    /// The AE's answer as the originator gets it.
    pub fn answered(self, response: ResponsePrimitive) -> Answer {
        let Self { request_id, release, .. } = self;
        ResponsePrimitive { request_id, release, content_location: None, ..response }.into()
    }

    /// The AE could not be reached, or did not answer in time. Gives the answer to the originator.
    pub fn unanswered(self) -> Answer {
        let why = "the AE can't be reached";
        let release = self.release.as_deref();
        ResponsePrimitive::refusal(&self.request_id, release, Rsc::TargetNotReachable, why).into()
    }
}

/// Passes a notification on to the AE that it is for.
pub(crate) fn deliver(
    state: &State,
    request: &RequestPrimitive,
    budget: &RequestBudget,
    now: SystemTime,
) -> Result<Outcome<Delivery>, Refusal> {
    check_release(request, &state.settings)?;
    check_expiration(request, seconds(now))?;
    let snapshot = state.store.snapshot(budget)?;
    let (read, settings, now) = (snapshot.read(), &state.settings, seconds(now));
    let who = Originator::of_request(read, settings, request, now)?;
    let located = ae_announcement::locate(read, &request.to, now)?;
    let to = located.as_ref().unwrap_or(&request.to);
    let ae = match address::resolve(read, settings, to, now)? {
        Resolved::Resource(found) if found.record.ty == ResourceType::Ae => found.record,
        Resolved::Resource(_) | Resolved::Instance { .. } => {
            return Err(Refusal::NotImplemented("notifications are for AEs"));
        }
    };
    require(&who, Access::Notify, &ae)?;
    let Some(content) = &request.content else {
        return Err(Refusal::NotAllowed("a notification has a content"));
    };
    let about = outbox::reference(settings, &ae.ri);
    let from = request.from.clone().unwrap_or_default();
    let release = request.release.clone().unwrap_or_else(|| outbox::release(settings));
    match route_to_ae(read, now, ae)? {
        Route::Send(to, named_by) => {
            let notification = Notification {
                to,
                named_by,
                about,
                from,
                request_id: request.request_id.clone(),
                release,
                content: content.bytes().clone(),
            };
            let (request_id, release) = (request.request_id.clone(), request.release.clone());
            Ok(Outcome::Pending(Delivery { notification, request_id, release }))
        }
        // Whoever is asked whether it wants something has to answer.
        Route::PollingChannel { .. } if is_verification(content.bytes()) => {
            Err(Refusal::NoTarget("it has a polling channel, by which nobody can be asked"))
        }
        Route::PollingChannel { ri, ae } => {
            let id = &request.request_id;
            let message = outbox::primitive(&ae, &from, id, &release, content.bytes());
            if !state.queues.put(&ri, message) {
                let why = "there is no room in the queues of polling channels";
                return Err(Refusal::NotAcceptable(why));
            }
            Ok(Outcome::Done(ResponsePrimitive::to(request, Rsc::Accepted).into()))
        }
        Route::Unreachable(why) => Err(Refusal::AeUnreachable(why)),
    }
}

/// Whether it is the question that a target of a subscription is asked.
fn is_verification(content: &[u8]) -> bool {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    content.pointer("/m2m:sgn/vrq") == Some(&Value::Bool(true))
}
