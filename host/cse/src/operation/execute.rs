//! Execution of a request at one resource.

use std::time::{Duration, Instant};

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;

use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::answer::Answer;
use crate::notification::outbox::Outbox;
use crate::notification::verification::Verified;
use crate::operation::delete::SWEEP_BATCH;
use crate::operation::error::OperationError;
use crate::operation::{create, delete, retrieve, update};
use crate::record::Seconds;
use crate::request::checks::{check_expiration, check_release};
use crate::request::context::Context;
use crate::request::parameters::Options;
use crate::state::State;
use crate::store::{Read, Store, StoreError, Writer};

/// Time for which a deletion removes detached resources. Later sweeps remove the rest.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Executes a request at one resource.
pub(crate) fn execute(
    state: &State,
    request: &RequestPrimitive,
    verified: Option<&Verified>,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<Answer, OperationError> {
    check_release(request, &state.settings)?;
    check_expiration(request, now)?;
    if request.operation == Operation::Notify {
        return Err(Refusal::NotImplemented("groups take no notifications").into());
    }
    budget.check().map_err(StoreError::from)?;
    let options = Options::read(request)?;
    let outbox = Outbox::default();
    let context = Context { settings: &state.settings, request, options, now, budget };
    let response = match request.operation {
        Operation::Create => create_resource(state, &context, &outbox, verified),
        Operation::Update => {
            state.store.write(budget, |writer| update::update(writer, &context, &outbox, verified))
        }
        Operation::Delete => delete_resource(state, &context, &outbox),
        Operation::Retrieve | Operation::Notify => {
            retrieve::retrieve(state.store.snapshot(budget)?.read(), &context).map_err(Into::into)
        }
    }?;
    // Queues receive messages only after the commit.
    Ok(Answer { response, notifications: outbox.post(&state.queues).0 })
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
        let created = state
            .store
            .write(context.budget, |writer| create::create(writer, context, outbox, verified));
        match created {
            Err(OperationError::Refused(Refusal::Remains(ri))) => {
                remove_in_parts(&state.store, &ri, context.budget)?;
            }
            done => return done,
        }
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
    let response = state
        .store
        .write(context.budget, |writer| delete::delete(writer, context, outbox, deletion))?;
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

fn remove_in_parts(store: &Store, ri: &str, budget: &RequestBudget) -> Result<(), StoreError> {
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
