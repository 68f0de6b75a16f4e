//! A notification for an AE that is registered here is passed on to it: to its point of access, or into
//! the queue of its polling channel. Who may have one passed on, the AE's access control says.

use std::time::SystemTime;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::Value;

use crate::access::decision::{Access, Originator, demand};
use crate::cse::{EmbeddedCse, check_expiration, check_release};
use crate::error::Refusal;
use crate::notification::message::Notification;
use crate::notification::outbox;
use crate::notification::point_of_access::{Reach, reach_ae};
use crate::notification::verification::{Answer, Handled};
use crate::record::seconds;
use crate::request::budget::RequestBudget;
use crate::request::target::{self, Place};
use crate::resource::ae_announcement;

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

impl EmbeddedCse {
    /// Passes a notification on to the AE that it is for.
    pub(crate) fn deliver(
        &self,
        request: &RequestPrimitive,
        budget: &RequestBudget,
        now: SystemTime,
    ) -> Result<Handled, Refusal> {
        check_release(request, self.settings())?;
        check_expiration(request, seconds(now))?;
        let snapshot = self.store().snapshot(budget)?;
        let (read, settings, now) = (snapshot.read(), self.settings(), seconds(now));
        let who = Originator::of_request(read, settings, request, now)?;
        let located = ae_announcement::locate(read, &request.to, now)?;
        let to = located.as_ref().unwrap_or(&request.to);
        let ae = match target::resolve(read, settings, to, now)? {
            Place::Resource(found) if found.record.ty == ResourceType::Ae => found.record,
            Place::Resource(_) | Place::Instance { .. } => {
                return Err(Refusal::NotImplemented("notifications are for AEs"));
            }
        };
        demand(&who, Access::Notify, &ae)?;
        let Some(content) = &request.content else {
            return Err(Refusal::NotAllowed("a notification has a content"));
        };
        let about = outbox::reference(settings, &ae.ri);
        let from = request.from.clone().unwrap_or_default();
        let release = request.release.clone().unwrap_or_else(|| outbox::release(settings));
        match reach_ae(read, now, ae)? {
            Reach::Sent(to, named_by) => {
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
                Ok(Handled::Deliver(Delivery { notification, request_id, release }))
            }
            // Whoever is asked whether it wants something has to answer.
            Reach::Channel { .. } if asks(content.bytes()) => {
                Err(Refusal::NoTarget("it has a polling channel, by which nobody can be asked"))
            }
            Reach::Channel { ri, ae } => {
                let id = &request.request_id;
                let message = outbox::primitive(&ae, &from, id, &release, content.bytes());
                if !self.channels().put(&ri, message) {
                    let why = "there is no room in the queues of polling channels";
                    return Err(Refusal::NotAcceptable(why));
                }
                Ok(Handled::Done(ResponsePrimitive::to(request, Rsc::Accepted).into()))
            }
            Reach::Nowhere(why) => Err(Refusal::NoWay(why)),
        }
    }
}

/// Whether it is the question that a target of a subscription is asked.
fn asks(content: &[u8]) -> bool {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    content.pointer("/m2m:sgn/vrq") == Some(&Value::Bool(true))
}
