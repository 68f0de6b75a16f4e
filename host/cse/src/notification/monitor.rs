//! Reports attempts to access a resource, whether they succeed or not (operationMonitor, TS-0001
//! table 9.6.8-3).

use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::resource::ResourceType;
use serde_json::{Value, json};

use crate::attempts::Attempt;
use crate::budget::RequestBudget;
use crate::notification::aggregation;
use crate::notification::criteria::{ContentType, Criteria, OperationBit};
use crate::notification::events::{may_see, report};
use crate::notification::message::Notification;
use crate::notification::outbox::{self, Delivery, Outbox};
use crate::notification::policy::Policy;
use crate::notification::retry::{Settled, registrant};
use crate::notification::sending::Sending;
use crate::notification::subscription;
use crate::record::{Record, Seconds};
use crate::request::context::Context;
use crate::resource::address::{self, Resolved, ResolvedResource, by_id};
use crate::resource::representation::{self, in_root_element};
use crate::state::State;
use crate::store::StoreError;

/// Maximum number of attempts that are reported in one transaction.
const MAX_REPORTS: usize = 64;

/// Reads whether subscriptions monitor attempts.
pub(crate) fn restore(state: &State) -> Result<(), StoreError> {
    state.attempts.set_monitored(state.store.monitors()? > 0);
    Ok(())
}

/// Records that a request creates or changes a subscription that monitors attempts. Called in its
/// transaction.
pub(crate) fn note_subscription(state: &State, context: &Context<'_>) {
    let criteria = context.representation(ResourceType::Subscription.root());
    let criteria = criteria.ok().and_then(|mut given| given.remove("enc"));
    if criteria.is_some_and(|criteria| criteria.get("om").is_some()) {
        state.attempts.set_monitored(true);
    }
}

/// Ends the observation of requests if no subscription monitors them any more.
pub(crate) fn end_unneeded(state: &State) -> Result<(), StoreError> {
    if !state.attempts.are_monitored() || state.store.monitors()? > 0 {
        return Ok(());
    }
    let budget = RequestBudget::unlimited();
    budget.lower_priority();
    // In a transaction, because a request begins the observation in its own, before its commit.
    state.store.write(&budget, |writer| {
        if writer.monitors()? == 0 {
            state.attempts.set_monitored(false);
        }
        Ok(())
    })
}

/// Returns the operation of a request: its number on the wire, and its bit.
fn operation(request: &RequestPrimitive) -> (u64, OperationBit) {
    let is_discovery = |(name, value): &(String, Vec<String>)| {
        name == "fu" && value.first().is_some_and(|v| v == "1")
    };
    match request.operation {
        Operation::Create => (1, 1),
        Operation::Retrieve if request.options.iter().any(is_discovery) => (2, 32),
        Operation::Retrieve => (2, 2),
        Operation::Update => (3, 4),
        Operation::Delete => (4, 8),
        Operation::Notify => (5, 16),
    }
}

/// Notes an attempt for the subscriptions that monitor it. Returns the notifications of an attempt
/// to delete, whose subscriptions may end with the resource.
pub(crate) fn observe(
    state: &State,
    request: &RequestPrimitive,
    now: Seconds,
) -> Vec<Notification> {
    if !state.attempts.are_monitored() {
        return Vec::new();
    }
    let outbox = Outbox::default();
    let observed = observe_in(state, request, &outbox, now).and_then(|()| {
        if !outbox.has_collected() {
            return Ok(());
        }
        let budget = RequestBudget::unlimited();
        state.store.write(&budget, |writer| aggregation::store(writer, state, &outbox, now))
    });
    if let Err(error) = observed {
        tracing::error!(event = "cse.store-failed", "cannot report an attempt: {error}");
        return Vec::new();
    }
    outbox.post(state).0
}

fn observe_in(
    state: &State,
    request: &RequestPrimitive,
    outbox: &Outbox,
    now: Seconds,
) -> Result<(), StoreError> {
    let snapshot = state.store.snapshot(&RequestBudget::unlimited())?;
    let (read, settings) = (snapshot.read(), &state.settings);
    let Ok(Resolved::Resource(found)) = address::resolve(read, settings, &request.to, now) else {
        return Ok(());
    };
    let Some(from) = request.from.as_deref() else { return Ok(()) };
    let (number, bit) = operation(request);
    let sending = Sending { settings, now, outbox };
    let originator = settings.originator_id(from);
    for subscription in subscription::to(read, &found.record.ri, now)? {
        let Ok(criteria) = Criteria::read(&subscription.attributes) else { continue };
        if !criteria.monitors(settings, bit, &originator)
            || !criteria.matches(&found.record, found.expires)
            || !may_see(read, &sending, &subscription, &found.record)?
        {
            continue;
        }
        let event = json!({
            "rep": representation_of(&sending, &criteria, &found),
            "om": { "op": number, "or": from },
        });
        if request.operation == Operation::Delete {
            let policy = Policy::read(&subscription.attributes).unwrap_or_default();
            let event = sending.notification(&subscription, "nev", event);
            let how = (policy.category(false), Delivery::Once);
            sending.send_to_all(read, &subscription, &json!({ "m2m:sgn": event }), how)?;
        } else {
            let Record { ri, owner, .. } = subscription;
            let owner = owner.unwrap_or_default();
            let originator = originator.clone();
            state.attempts.put(Attempt { subscription: ri, owner, originator, event });
        }
    }
    Ok(())
}

fn representation_of(
    sending: &Sending<'_>,
    criteria: &Criteria,
    found: &ResolvedResource,
) -> Value {
    let ResolvedResource { record, expires } = found;
    match criteria.detail {
        ContentType::ResourceId => {
            json!({ "m2m:uri": outbox::reference(sending.settings, &record.ri) })
        }
        _ => {
            in_root_element(record, representation::of_resource(sending.settings, record, *expires))
        }
    }
}

/// Reports the attempts that were noted. Returns the notifications.
pub(crate) fn settle(state: &State, now: Seconds) -> Result<Vec<Settled>, StoreError> {
    let mut attempts = state.attempts.take(MAX_REPORTS);
    if attempts.is_empty() {
        return Ok(Vec::new());
    }
    let budget = RequestBudget::unlimited();
    budget.lower_priority();
    let mut current = 0;
    let settled = state.store.write(&budget, |writer| {
        let mut settled: Vec<(String, Settled)> = Vec::new();
        for (at, Attempt { subscription: ri, event, .. }) in attempts.iter().enumerate() {
            current = at;
            let Some(found) = by_id(writer.read(), ri, now)? else { continue };
            // Those of one subscription are sent one after the other.
            if settled.last().is_none_or(|(last, _)| last != ri) {
                let registrant = registrant(writer.read(), &found.record)?;
                settled.push((ri.clone(), (registrant, Outbox::default())));
            }
            let Some((_, (_, outbox))) = settled.last() else { continue };
            let sending = Sending { settings: &state.settings, now, outbox };
            let mut subscription = found.record;
            report(writer, &sending, &mut subscription, event.clone())?;
            aggregation::store(writer, state, outbox, now)?;
        }
        Ok::<_, StoreError>(settled.into_iter().map(|(_, settled)| settled).collect())
    });
    if let Err(error) = &settled {
        // Nothing was committed. The attempt at an unreadable resource cannot be reported.
        if matches!(error, StoreError::Corrupt(_)) && current < attempts.len() {
            attempts.remove(current);
        }
        state.attempts.put_back(attempts);
    }
    settled
}
