//! The verification of a subscription's targets before it is created (TS-0004 clause 7.4.8.2.1).
//!
//! The types enforce the order. A subscription that needs verification requires a [`Verified`],
//! which only the last [`Verification`] yields, and each [`Verification`] only its predecessor. So
//! every target has agreed.

use std::time::SystemTime;

use bytes::Bytes;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use crate::awaited_resources::BlockedUpdate;
use crate::error::quoted;
use crate::notification::answer::Answer;
use crate::notification::message::{Destination, NamedBy, Notification};
use crate::notification::outbox;
use crate::notification::point_of_access::Route;
use crate::request::expiration::until;
use crate::settings::Settings;

/// A target to verify.
///
/// The caller sends [`notification`](Self::notification), and reports the result to
/// [`answered`](Self::answered) or [`unanswered`](Self::unanswered). If the value is dropped, the
/// request is neither executed nor answered.
///
/// It can also be the target that must approve an update. Other updates of the resource wait until
/// then.
#[derive(Debug)]
#[must_use]
pub struct Verification {
    request: Box<RequestPrimitive>,
    ri: String,
    asked: Vec<Destination>,
    now: Question,
    /// Remaining targets, the next one last.
    then: Vec<Question>,
    /// Block of other updates, if the target must approve one.
    block: Option<BlockedUpdate>,
}

/// The verification request to a target.
#[derive(Debug)]
pub(crate) struct Question {
    /// The target as the subscription names it.
    pub(crate) target: String,
    /// Notification to send.
    pub(crate) notification: Box<Notification>,
}

/// The step after the response of a target.
#[derive(Debug)]
#[must_use]
pub enum Checked {
    /// Another target must be verified.
    Next(Verification),
    /// All targets have agreed: pass this to
    /// [`EmbeddedCse::conclude`](crate::EmbeddedCse::conclude).
    Ready(Verified),
    /// A target has not agreed: this is the answer to the originator.
    Refused(Answer),
}

/// A request whose targets have all agreed to their notifications.
#[derive(Debug)]
#[must_use]
pub struct Verified {
    pub(crate) request: Box<RequestPrimitive>,
    /// Resource-ID of the subscription, which the targets received.
    pub(crate) ri: String,
    /// Verified addresses.
    pub(crate) targets: Vec<Destination>,
    /// Block of other updates, if the target has approved one.
    block: Option<BlockedUpdate>,
}

impl Verified {
    /// Returns whether the target of a subscription has approved an update of a resource.
    pub(crate) fn approves(&self, subscription: &str, resource: &str) -> bool {
        self.ri == subscription && self.blocks(resource)
    }

    /// Returns whether other updates of a resource wait for this request.
    pub(crate) fn blocks(&self, resource: &str) -> bool {
        self.block.as_ref().is_some_and(|block| block.is_of(resource))
    }
}

/// Targets that are not verified yet.
#[derive(Debug)]
pub(crate) struct Unverified {
    /// Resource-ID of the subscription.
    pub(crate) ri: String,
    /// First target to verify.
    pub(crate) first: Question,
    /// Further targets, in reverse order.
    pub(crate) then: Vec<Question>,
    /// Resource-ID of the resource whose update the target must approve.
    pub(crate) blocks: Option<String>,
    /// Block of other updates of this resource.
    pub(crate) block: Option<BlockedUpdate>,
}

/// Creates a notification whose response is awaited. Returns nothing if its target is unreachable.
pub(crate) fn question(
    settings: &Settings,
    route: Route,
    about: String,
    content: Bytes,
) -> Option<Notification> {
    let to = match route {
        Route::Send(there, named_by) => (there, named_by),
        Route::PollingChannel { ri, ae } => {
            let named_by = NamedBy::Ae { stem: ae.clone(), registrant: None };
            (Destination::PollingChannel { ri, ae }, named_by)
        }
        Route::Unreachable(_) => return None,
    };
    Some(outbox::notification(settings, to, about, content))
}

impl Verification {
    pub(crate) fn begin(request: &RequestPrimitive, unverified: Unverified) -> Self {
        let Unverified { ri, first, then, block, .. } = unverified;
        let request = Box::new(request.clone());
        Self { request, ri, asked: Vec::new(), now: first, then, block }
    }

    /// Returns the notification to send.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.now.notification
    }

    /// Continues with the Response Status Code of the target's response.
    pub fn answered(self, rsc: Rsc) -> Checked {
        if !rsc.is_success() {
            let code = match rsc {
                Rsc::TargetNotReachable => Rsc::RemoteEntityNotReachable,
                _ => Rsc::OperationDeniedByRemoteEntity,
            };
            return Checked::Refused(self.refuse(code, &format!("it answered with {rsc}")));
        }
        let Self { request, ri, mut asked, now, mut then, block } = self;
        asked.push(now.notification.to);
        match then.pop() {
            Some(next) => Checked::Next(Self { request, ri, asked, now: next, then, block }),
            None => Checked::Ready(Verified { request, ri, targets: asked, block }),
        }
    }

    /// Returns the answer to the originator if the target could not be verified. `why` is the
    /// reason: no rule allows its address, it is unreachable, or its response is missing or
    /// invalid.
    pub fn unanswered(self, why: &str) -> Answer {
        self.refuse(Rsc::RemoteEntityNotReachable, why)
    }

    /// Returns the time until which the originator waits, if given.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        until(&self.request)
    }

    /// Returns the refusal. Only that of an update depends on the target's response (TS-0004 clauses
    /// 7.4.8.2.1 and 7.3.2.9).
    fn refuse(&self, of_update: Rsc, why: &str) -> Answer {
        let (id, release) = (&self.request.request_id, self.request.release.as_deref());
        let target = quoted(&self.now.target);
        let (rsc, why) = match self.block {
            Some(_) => {
                (of_update, format!("the target {target} has not approved the update: {why}"))
            }
            None => (
                Rsc::SubscriptionVerificationInitiationFailed,
                format!("the target {target} of the subscription has not agreed to it: {why}"),
            ),
        };
        ResponsePrimitive::refusal(id, release, rsc, &why).into()
    }
}
