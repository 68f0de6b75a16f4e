//! The verification of a subscription's targets before it is created (TS-0004 clause 7.4.8.2.1).
//!
//! The types enforce the order. A subscription that needs verification requires a [`Verified`],
//! which only the last [`Verification`] yields, and each [`Verification`] only its predecessor. So
//! every target has agreed.

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use crate::error::quoted;
use crate::notification::answer::Answer;
use crate::notification::message::{Destination, Notification};

/// A target to verify.
///
/// The caller sends [`notification`](Self::notification), and reports the result to
/// [`answered`](Self::answered) or [`unanswered`](Self::unanswered). If the value is dropped, the
/// request is neither executed nor answered.
#[derive(Debug)]
#[must_use]
pub struct Verification {
    request: Box<RequestPrimitive>,
    ri: String,
    asked: Vec<Destination>,
    now: Question,
    /// Remaining targets, the next one last.
    then: Vec<Question>,
}

/// The verification request to a target.
#[derive(Debug)]
pub(crate) struct Question {
    /// The target as the subscription names it.
    pub(crate) target: String,
    /// Notification to send.
    pub(crate) notification: Notification,
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
}

impl Verification {
    pub(crate) fn begin(request: &RequestPrimitive, unverified: Unverified) -> Self {
        let Unverified { ri, first, then } = unverified;
        Self { request: Box::new(request.clone()), ri, asked: Vec::new(), now: first, then }
    }

    /// Returns the notification to send.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.now.notification
    }

    /// Continues with the Response Status Code of the target's response.
    pub fn answered(self, rsc: Rsc) -> Checked {
        let Self { request, ri, mut asked, now, mut then } = self;
        if !rsc.is_success() {
            let why = format!("it answered with {rsc}");
            return Checked::Refused(refuse(&request, &now.target, &why));
        }
        asked.push(now.notification.to);
        match then.pop() {
            Some(next) => Checked::Next(Self { request, ri, asked, now: next, then }),
            None => Checked::Ready(Verified { request, ri, targets: asked }),
        }
    }

    /// Returns the answer to the originator if the target could not be verified. `why` is the
    /// reason: no rule allows its address, it is unreachable, or its response is missing or
    /// invalid.
    pub fn unanswered(self, why: &str) -> Answer {
        refuse(&self.request, &self.now.target, why)
    }
}

/// Returns the refusal, whose code does not depend on the target's response (TS-0004 clause
/// 7.4.8.2.1).
fn refuse(request: &RequestPrimitive, target: &str, why: &str) -> Answer {
    let (id, release) = (&request.request_id, request.release.as_deref());
    let rsc = Rsc::SubscriptionVerificationInitiationFailed;
    let why =
        format!("the target {} of the subscription has not agreed to it: {why}", quoted(target));
    ResponsePrimitive::refusal(id, release, rsc, &why).into()
}
