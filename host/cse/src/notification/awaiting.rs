//! Requests that wait for other requests: for the end of a blocked update, or for an instance of an
//! empty container.

use std::pin::Pin;
use std::time::SystemTime;

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::json;

use crate::access::decision::require;
use crate::access::grants::Access;
use crate::awaited_resources::ResourceChange;
use crate::error::Refusal;
use crate::notification::answer::Answer;
use crate::notification::criteria::{ContentType, Criteria, Event};
use crate::notification::events::may_see;
use crate::notification::message::Notification;
use crate::notification::outbox::{self, Delivery, Outbox};
use crate::notification::policy::Policy;
use crate::notification::sending::Sending;
use crate::notification::subscription;
use crate::request::context::Context;
use crate::request::expiration::until;
use crate::request::parameters::ResultContent;
use crate::resource::address::{Resolved, by_id};
use crate::resource::content_instance;
use crate::resource::representation::{self, in_root_element};
use crate::state::State;
use crate::store::{Read, StoreError};

/// The resource that a request waits for.
#[derive(Debug)]
pub(crate) struct AwaitedResource {
    change: ResourceChange,
    notifications: Vec<Notification>,
    why: &'static str,
}

/// A request that waits for another one.
///
/// The caller sends the [notifications](Self::take_notifications), waits until the resource has
/// [`changed`](Self::changed), and handles the [`request`](Self::request) again. It limits the time,
/// also by [`until`](Self::until), and answers with [`timed_out`](Self::timed_out) after it.
#[derive(Debug)]
#[must_use]
pub struct AwaitingRequest {
    request: RequestPrimitive,
    awaited: AwaitedResource,
}

impl AwaitingRequest {
    pub(crate) fn new(request: &RequestPrimitive, awaited: AwaitedResource) -> Self {
        Self { request: request.clone(), awaited }
    }

    /// Takes out the notifications to send before the wait.
    #[must_use]
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        std::mem::take(&mut self.awaited.notifications)
    }

    /// Waits until the resource has changed.
    pub async fn changed(&mut self) {
        Pin::new(&mut self.awaited.change).await;
    }

    /// Returns the request, which is to be handled again.
    #[must_use]
    pub fn request(&self) -> &RequestPrimitive {
        &self.request
    }

    /// Returns the time until which the originator waits, if given.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        until(&self.request)
    }

    /// Returns the answer after a wait that took too long.
    pub fn timed_out(self) -> Answer {
        let (id, release) = (&self.request.request_id, self.request.release.as_deref());
        ResponsePrimitive::refusal(id, release, Rsc::RequestTimeout, self.awaited.why).into()
    }
}

/// Returns the wait of an update or a deletion for the end of a blocked update of its resource.
pub(crate) fn blocked(change: ResourceChange) -> AwaitedResource {
    AwaitedResource {
        change,
        notifications: Vec::new(),
        why: "an update of the resource waits for its notification target",
    }
}

/// Returns the wait of a retrieval for the first instance of a container, if a subscription to the
/// container requests it (TS-0001 clause 10.2.4.4).
///
/// # Errors
/// Returns an error if the store fails.
pub(crate) fn for_instance(
    state: &State,
    context: &Context<'_>,
) -> Result<Option<AwaitedResource>, StoreError> {
    let is_asked = matches!(
        context.options.content,
        ResultContent::Children | ResultContent::AttributesAndChildren
    );
    if context.request.operation != Operation::Retrieve || !is_asked || context.options.discovery {
        return Ok(None);
    }
    let snapshot = state.store.snapshot(context.budget)?;
    let Some(ri) = empty_container(snapshot.read(), context)? else { return Ok(None) };
    // An instance that is created now completes the wait.
    let change = state.awaited.wait(&ri);
    let snapshot = state.store.snapshot(context.budget)?;
    if empty_container(snapshot.read(), context)?.is_none() {
        return Ok(None);
    }
    let notifications = notify(state, snapshot.read(), context, &ri)?;
    let why = "the container has no instance";
    Ok(notifications.map(|notifications| AwaitedResource { change, notifications, why }))
}

/// Returns the resource-ID of the target, if it is a container without instances that the originator
/// may retrieve.
fn empty_container(read: &dyn Read, context: &Context<'_>) -> Result<Option<String>, StoreError> {
    let of_store = |refusal| match refusal {
        Refusal::Store(error) => Err(error),
        // The retrieval itself is refused.
        _ => Ok(None),
    };
    let mut found = match context.target(read) {
        Ok(Resolved::Resource(found)) if found.record.ty == ResourceType::Container => found,
        Ok(_) => return Ok(None),
        Err(refusal) => return of_store(refusal),
    };
    let allowed =
        context.originator(read).and_then(|who| require(&who, Access::Retrieve, &found.record));
    if let Err(refusal) = allowed {
        return of_store(refusal);
    }
    content_instance::without_expired(read, &mut found.record, context.now)?;
    let is_empty = found.record.instances.is_some_and(|totals| totals.count == 0);
    Ok(is_empty.then_some(found.record.ri))
}

/// Returns the notifications of the subscriptions that report the retrieval, or nothing if none does.
fn notify(
    state: &State,
    read: &dyn Read,
    context: &Context<'_>,
    ri: &str,
) -> Result<Option<Vec<Notification>>, StoreError> {
    let Some(container) = by_id(read, ri, context.now)? else { return Ok(None) };
    let outbox = Outbox::default();
    let sending = Sending { settings: context.settings, now: context.now, outbox: &outbox };
    let mut is_reported = false;
    for subscription in subscription::to(read, ri, context.now)? {
        let Ok(criteria) = Criteria::read(&subscription.attributes) else { continue };
        let record = &container.record;
        if !criteria.wants(Event::RetrieveOfEmpty, record.ty, &Default::default())
            || !criteria.matches(record, container.expires)
            || !may_see(read, &sending, &subscription, record)?
        {
            continue;
        }
        is_reported = true;
        let representation = match criteria.detail {
            ContentType::ResourceId => {
                json!({ "m2m:uri": outbox::reference(context.settings, ri) })
            }
            _ => in_root_element(
                record,
                representation::of_resource(context.settings, record, container.expires),
            ),
        };
        let event = json!({ "rep": representation, "net": Event::RetrieveOfEmpty.number() });
        let content = json!({ "m2m:sgn": sending.notification(&subscription, "nev", event) });
        let policy = Policy::read(&subscription.attributes).unwrap_or_default();
        // The retrieval waits only for a short time.
        let how = (policy.category(false), Delivery::Once);
        sending.send_to_all(read, &subscription, &content, how)?;
    }
    Ok(is_reported.then(|| outbox.post(state).0))
}
