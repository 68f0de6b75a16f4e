//! Execution of a request at one resource.

use std::time::{Duration, Instant};

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;

use crate::access::decision::require;
use crate::access::grants::Access;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::aggregation;
use crate::notification::answer::Answer;
use crate::notification::awaiting;
use crate::notification::monitor;
use crate::notification::outbox::Outbox;
use crate::notification::verification::Verified;
use crate::operation::delete::SWEEP_BATCH;
use crate::operation::error::OperationError;
use crate::operation::{create, delete, retrieve, update};
use crate::record::Seconds;
use crate::request::checks::{check_expiration, check_release};
use crate::request::context::Context;
use crate::request::parameters::Options;
use crate::resource::address::Resolved;
use crate::state::State;
use crate::store::{Read, Store, StoreError, Writer};

/// Time for which a deletion removes detached resources. Later sweeps remove the rest.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The approval that a request has already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Approval<'a> {
    /// Targets that have agreed to it.
    pub(crate) verified: Option<&'a Verified>,
    /// Resource-ID of the group that forwards the notifications of the subscription.
    pub(crate) group: Option<&'a str>,
}

/// Executes a request at one resource, and reports the attempt to the subscriptions that monitor it.
pub(crate) fn execute(
    state: &State,
    request: &RequestPrimitive,
    approval: Approval<'_>,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<Answer, OperationError> {
    if request.operation == Operation::Delete {
        let notifications = monitor::observe(state, request, now);
        let mut answer = match execute_only(state, request, approval, budget, now) {
            Err(OperationError::Refused(refusal)) if !notifications.is_empty() => {
                state.refuse(request, &refusal).into()
            }
            executed => executed?,
        };
        answer.notifications.splice(0..0, notifications);
        return Ok(answer);
    }
    let executed = execute_only(state, request, approval, budget, now);
    if matches!(executed, Ok(_) | Err(OperationError::Refused(_))) {
        monitor::observe(state, request, now);
    }
    executed
}

fn execute_only(
    state: &State,
    request: &RequestPrimitive,
    Approval { verified, group }: Approval<'_>,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<Answer, OperationError> {
    check_release(request, &state.settings)?;
    check_expiration(request, now)?;
    if request.operation == Operation::Notify {
        return Err(Refusal::NotImplemented("groups take no notifications").into());
    }
    budget.check().map_err(StoreError::from)?;
    let options = Options::read(request, &state.settings.definitions)?;
    let outbox = Outbox::default();
    let (settings, creator) = (&state.settings, None);
    let context = Context { settings, request, options, now, group, creator, budget };
    let response = match request.operation {
        Operation::Create => create_resource(state, &context, &outbox, verified),
        Operation::Update => state.store.write(budget, |writer| {
            check_blocked(writer.read(), state, &context, verified)?;
            let updated = update::update(writer, &context, &outbox, verified);
            let response = updated.map_err(|error| block(state, error))?;
            monitor::note_subscription(state, &context);
            aggregation::store(writer, state, &outbox, now)?;
            Ok(response)
        }),
        Operation::Delete => delete_resource(state, &context, &outbox),
        Operation::Retrieve | Operation::Notify => {
            if let Some(awaited) = awaiting::for_instance(state, &context)? {
                return Err(OperationError::Awaits(Box::new(awaited)));
            }
            retrieve::retrieve(state.store.snapshot(budget)?.read(), &context).map_err(Into::into)
        }
    }?;
    // Queues receive messages only after the commit.
    Ok(Answer { response, notifications: outbox.post(state).0 })
}

/// Creates a resource. The remains of a deleted resource with the same resource-ID are removed
/// first, in parts.
fn create_resource(
    state: &State,
    context: &Context<'_>,
    outbox: &Outbox,
    verified: Option<&Verified>,
) -> Result<ResponsePrimitive, OperationError> {
    loop {
        let created = state.store.write(context.budget, |writer| {
            let response = create::create(writer, context, outbox, verified)?;
            monitor::note_subscription(state, context);
            aggregation::store(writer, state, outbox, context.now)?;
            Ok(response)
        });
        match created {
            Err(OperationError::Refused(Refusal::Remains(ri))) => {
                remove_in_parts(&state.store, &ri, context.budget)?;
            }
            Ok(response) => {
                if context.request.creates(ResourceType::ContentInstance) {
                    announce_instance(state, context);
                }
                return Ok(response);
            }
            refused => return refused,
        }
    }
}

/// Wakes the retrievals that wait for the first instance of a container.
fn announce_instance(state: &State, context: &Context<'_>) {
    if state.awaited.is_idle() {
        return;
    }
    let snapshot = state.store.snapshot(&RequestBudget::unlimited());
    if let Ok(snapshot) = snapshot
        && let Ok(Resolved::Resource(container)) = context.target(snapshot.read())
    {
        state.awaited.changed(&container.record.ri);
    }
}

/// Lets a request wait while another update of its resource waits for the approval of a target. One
/// that is refused anyway does not wait.
fn check_blocked(
    read: &dyn Read,
    state: &State,
    context: &Context<'_>,
    verified: Option<&Verified>,
) -> Result<(), OperationError> {
    if state.awaited.is_idle() {
        return Ok(());
    }
    // A wrong target is refused later.
    let Ok(Resolved::Resource(found)) = context.target(read) else { return Ok(()) };
    let ri = &found.record.ri;
    if verified.is_some_and(|verified| verified.blocks(ri)) {
        return Ok(());
    }
    let Some(change) = state.awaited.wait_if_blocked(ri) else { return Ok(()) };
    let allowed = match context.request.operation {
        Operation::Update => update::admit(read, context).map(|_| ()),
        _ => context.originator(read).and_then(|who| require(&who, Access::Delete, &found.record)),
    };
    match allowed {
        Ok(()) => Err(OperationError::Awaits(Box::new(awaiting::blocked(change)))),
        Err(_) => Ok(()),
    }
}

/// Blocks other updates of a resource whose update needs an approval.
fn block(state: &State, error: OperationError) -> OperationError {
    let OperationError::Unverified(mut unverified) = error else { return error };
    let Some(ri) = unverified.blocks.clone() else {
        return OperationError::Unverified(unverified);
    };
    match state.awaited.block(&ri) {
        Ok(block) => {
            unverified.block = Some(block);
            OperationError::Unverified(unverified)
        }
        Err(change) => OperationError::Awaits(Box::new(awaiting::blocked(change))),
    }
}

/// Deletes a resource. Slow steps run outside of write transactions.
fn delete_resource(
    state: &State,
    context: &Context<'_>,
    outbox: &Outbox,
) -> Result<ResponsePrimitive, OperationError> {
    let deletion = delete::prepare(state.store.snapshot(context.budget)?.read(), context)?;
    if let Some(deletion) = &deletion {
        deletion.announce(&state.store, context, outbox)?;
    }
    let ri = deletion.as_ref().map(|deletion| deletion.ri().to_owned());
    let response = state.store.write(context.budget, |writer| {
        check_blocked(writer.read(), state, context, None)?;
        let response = delete::delete(writer, context, outbox, deletion)?;
        aggregation::store(writer, state, outbox, context.now)?;
        Ok::<_, OperationError>(response)
    })?;
    if let Some(ri) = ri {
        // The resource is deleted already. The next sweep removes the rest.
        let budget = context.budget.unmetered();
        let until = Instant::now() + REMOVAL_TIMEOUT;
        while Instant::now() < until && matches!(remove_part(&state.store, &ri, &budget), Ok(true))
        {
        }
    }
    Ok(response)
}

/// Removes a part of a deleted resource's remains. Returns whether there may be more.
fn remove_part(store: &Store, ri: &str, budget: &RequestBudget) -> Result<bool, StoreError> {
    let is_left = |read: &dyn Read| {
        Ok::<_, StoreError>(read.get(ri)?.is_some_and(|top| {
            // A new resource with the same resource-ID has a parent.
            top.parent.is_none() && top.ty != ResourceType::CseBase
        }))
    };
    if !is_left(store.snapshot(budget)?.read())? {
        return Ok(false);
    }
    store.write(budget, |writer| match is_left(writer.read())? {
        true => Ok(writer.remove_tree(ri, SWEEP_BATCH)? == SWEEP_BATCH),
        false => Ok(false),
    })
}

/// Removes the remains of a deleted resource.
pub(crate) fn remove_in_parts(
    store: &Store,
    ri: &str,
    budget: &RequestBudget,
) -> Result<(), StoreError> {
    let budget = budget.unmetered();
    // Detached first, so that no request sees it in parts.
    store.write(&budget, |writer| match writer.read().get(ri)? {
        Some(top) if top.parent.is_some() => writer.detach(ri),
        _ => Ok::<_, StoreError>(()),
    })?;
    let part = |writer: &mut Writer<'_>| match writer.read().get(ri)? {
        Some(_) => writer.remove_tree(ri, SWEEP_BATCH),
        None => Ok::<_, StoreError>(0),
    };
    while store.write(&budget, part)? >= SWEEP_BATCH {}
    Ok(())
}
