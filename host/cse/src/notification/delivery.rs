//! The delivery of notifications to registered AEs: to their point of access, or into the queue of
//! their polling channel. The AE's access control decides on the originator.

use std::time::SystemTime;

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::Value;

use crate::access::decision::{Originator, require};
use crate::access::grants::Access;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::answer::{Answer, Outcome};
use crate::notification::message::{Destination, NamedBy, Notification};
use crate::notification::outbox;
use crate::notification::point_of_access::{Route, route_to_ae};
use crate::receipts::Receipt;
use crate::record::seconds;
use crate::request::checks::{check_expiration, check_release};
use crate::resource::address::{self, Resolved};
use crate::resource::ae_announcement;
use crate::state::State;

/// A notification for an AE, whose response goes to the originator.
///
/// The caller sends [`notification`](Self::notification), and passes the response to
/// [`answered`](Self::answered), or calls [`unanswered`](Self::unanswered).
#[derive(Debug)]
#[must_use]
pub struct Delivery {
    notification: Notification,
    request_id: String,
    release: Option<String>,
}

impl Delivery {
    /// Returns the notification to send.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.notification
    }

    /// Converts the AE's response to the answer for the originator.
    pub fn answered(self, response: ResponsePrimitive) -> Answer {
        let Self { request_id, release, .. } = self;
        ResponsePrimitive { request_id, release, content_location: None, ..response }.into()
    }

    /// Returns the answer for the originator if the AE could not be reached or did not respond in
    /// time.
    pub fn unanswered(self) -> Answer {
        let why = "the AE cannot be reached";
        let release = self.release.as_deref();
        ResponsePrimitive::refusal(&self.request_id, release, Rsc::TargetNotReachable, why).into()
    }
}

/// Delivers a notification to its AE.
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
    let category = request.parameters.get(Parameter::EventCategory);
    let category = category.and_then(|category| category.parse().ok());
    let (to, named_by) = match route_to_ae(read, now, ae)? {
        Route::Send(to, named_by) => (to, named_by),
        // A verification needs a response.
        Route::PollingChannel { ri, ae } if is_verification(content.bytes()) => {
            let named_by = NamedBy::Ae { stem: ae.clone(), registrant: None };
            (Destination::PollingChannel { ri, ae }, named_by)
        }
        Route::PollingChannel { ri, ae } => {
            let id = &request.request_id;
            let message = outbox::Message { category, ..content.bytes().clone().into() };
            let message = outbox::primitive(&ae, &from, id, &release, &message);
            if !state.queues.put(&ri, message) {
                let why = "the queues of polling channels are full";
                return Err(Refusal::NotAcceptable(why));
            }
            return Ok(Outcome::Done(ResponsePrimitive::to(request, Rsc::Accepted).into()));
        }
        Route::Unreachable(why) => return Err(Refusal::AeUnreachable(why)),
    };
    let notification = Notification {
        to,
        named_by,
        about,
        from,
        request_id: request.request_id.clone(),
        release,
        category,
        receipt: Receipt::default(),
        content: content.bytes().clone(),
    };
    let (request_id, release) = (request.request_id.clone(), request.release.clone());
    Ok(Outcome::Pending(Delivery { notification, request_id, release }))
}

/// Returns whether the content is the verification request to a target of a subscription.
fn is_verification(content: &[u8]) -> bool {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    content.pointer("/m2m:sgn/vrq") == Some(&Value::Bool(true))
}
