//! What a request comes to, and how the targets of a subscription are asked before there is one
//! (TS-0004 clause 7.4.8.2.1).
//!
//! The order is in the types. A [`Verified`] is what it takes to make a subscription that needs
//! verification, and it comes from the last [`Verification`] alone, which comes from the one before
//! it: so each target has been answered for.

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use crate::error::quoted;
use crate::notification::answer::Answer;
use crate::notification::message::{Destination, Notification};

/// A target that is to be asked whether it wants a subscription's notifications. Whoever has one
/// sends [`notification`](Self::notification) and says what came of it, with
/// [`answered`](Self::answered) or [`unanswered`](Self::unanswered). To let it go is to leave the
/// request undone and unanswered.
#[derive(Debug)]
#[must_use]
pub struct Verification {
    request: Box<RequestPrimitive>,
    ri: String,
    asked: Vec<Destination>,
    now: Question,
    /// The targets that follow, the next one last.
    then: Vec<Question>,
}

/// What a target is asked.
#[derive(Debug)]
pub(crate) struct Question {
    /// The target as the subscription names it.
    pub(crate) target: String,
    /// What to send.
    pub(crate) notification: Notification,
}

/// What follows when a target has answered.
#[derive(Debug)]
#[must_use]
pub enum Checked {
    /// Another target is to be asked.
    Next(Verification),
    /// All want it: give it to [`EmbeddedCse::conclude`](crate::EmbeddedCse::conclude).
    Ready(Verified),
    /// One does not: this is the answer to the originator.
    Refused(Answer),
}

/// A request whose targets have all been asked and want what they will get.
#[derive(Debug)]
#[must_use]
pub struct Verified {
    pub(crate) request: Box<RequestPrimitive>,
    /// The resource-ID of the subscription, which the targets were told.
    pub(crate) ri: String,
    /// The addresses that were asked.
    pub(crate) targets: Vec<Destination>,
}

/// Targets that have not been asked yet.
#[derive(Debug)]
pub(crate) struct Unverified {
    /// The resource-ID of the subscription.
    pub(crate) ri: String,
    /// Whom to ask, at least one.
    pub(crate) first: Question,
    /// Whom to ask after it, in reverse order.
    pub(crate) then: Vec<Question>,
}

impl Verification {
    pub(crate) fn begin(request: &RequestPrimitive, unverified: Unverified) -> Self {
        let Unverified { ri, first, then } = unverified;
        Self { request: Box::new(request.clone()), ri, asked: Vec::new(), now: first, then }
    }

    /// What to send.
    #[must_use]
    pub fn notification(&self) -> &Notification {
        &self.now.notification
    }

    /// Goes on with the Response Status Code of the target's answer.
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

    /// The target could not be asked: no rule allows the address, it can't be reached, or there was
    /// no answer in time, or none that will do. Gives the answer to the originator, with the reason.
    pub fn unanswered(self, why: &str) -> Answer {
        refuse(&self.request, &self.now.target, why)
    }
}

/// Whatever a target answers that does not want it, the originator is told this code (TS-0004 clause
/// 7.4.8.2.1).
fn refuse(request: &RequestPrimitive, target: &str, why: &str) -> Answer {
    let (id, release) = (&request.request_id, request.release.as_deref());
    let rsc = Rsc::SubscriptionVerificationInitiationFailed;
    let why =
        format!("the target {} of the subscription has not agreed to it: {why}", quoted(target));
    ResponsePrimitive::refusal(id, release, rsc, &why).into()
}
