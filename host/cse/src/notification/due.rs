//! The notifications whose time comes: waiting events of subscriptions, and missing data.

use saegis_onem2m::resource::ResourceType;

use crate::budget::RequestBudget;
use crate::notification::aggregation;
use crate::notification::message::Notification;
use crate::notification::missing_data;
use crate::notification::monitor;
use crate::notification::outbox::Outbox;
use crate::notification::retry::{self, Settled, registrant};
use crate::notification::sending::Sending;
use crate::notification::statistics;
use crate::notification::waiting::deliver;
use crate::record::Seconds;
use crate::resource::address::by_id;
use crate::settings::Settings;
use crate::state::State;
use crate::store::{StoreError, Writer};

/// Number of units of work after which a transaction ends, so that other requests can write. Each
/// subscription, timeSeries, report and message is one.
const MAX_WORK: usize = 16;

/// The notifications of one subscription that were due, or are sent again.
#[derive(Debug)]
pub struct DueNotifications {
    /// Registrant of the AE in whose subtree the subscription is, if known.
    pub registrant: Option<String>,
    /// Notifications to send.
    pub notifications: Vec<Notification>,
}

/// Returns the notifications that are due, up to a maximum amount of work.
pub(crate) fn due(state: &State, now: Seconds) -> Result<Vec<DueNotifications>, StoreError> {
    // A failure of one step, such as a full disk, does not affect the notifications of another one.
    let mut failure = settle_responses(state).err();
    let mut all = Vec::new();
    for step in [retry::due, monitor::settle, waiting_events] {
        match step(state, now) {
            Ok(settled) => all.extend(settled.into_iter().map(|(registrant, outbox)| {
                DueNotifications { registrant, notifications: outbox.post(state).0 }
            })),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        None => Ok(all),
        Some(error) if all.is_empty() => Err(error),
        Some(error) => {
            tracing::error!(
                event = "cse.store-failed",
                "cannot read waiting notifications: {error}"
            );
            state.suspect_store(&error);
            Ok(all)
        }
    }
}

/// Stores the outcomes of notifications that were sent.
fn settle_responses(state: &State) -> Result<(), StoreError> {
    while statistics::settle(state)? {}
    while retry::settle(state)? {}
    Ok(())
}

/// Sends the events of subscriptions and the missing data that are due, up to a maximum amount of
/// work. An unreadable resource is skipped from then on.
fn waiting_events(state: &State, now: Seconds) -> Result<Vec<Settled>, StoreError> {
    if !state.store.has_due(now)? {
        return Ok(Vec::new());
    }
    let budget = RequestBudget::unlimited();
    budget.lower_priority();
    let mut current = None;
    let settled = state.store.write(&budget, |writer| {
        let mut settled = Vec::new();
        let mut work = 0;
        while work < MAX_WORK
            && let Some((at, ri)) = writer.first_due(now)?
        {
            current = Some((at, ri.clone()));
            let (reports, done) = settle(writer, &state.settings, now, (at, &ri))?;
            aggregation::store(writer, state, &done.1, now)?;
            work += 1 + reports + done.1.len();
            settled.push(done);
        }
        Ok::<_, StoreError>(settled)
    });
    if let (Err(StoreError::Corrupt(_)), Some((at, ri))) = (&settled, current) {
        // Nothing was committed. The others are sent with the next call.
        state.store.write(&budget, |writer| writer.set_due(&ri, Some(at), None))?;
    }
    settled
}

/// Handles a subscription, group or timeSeries that is due. Returns the number of reports of missing data,
/// and the notifications.
fn settle(
    writer: &mut Writer<'_>,
    settings: &Settings,
    now: Seconds,
    (at, ri): (Seconds, &str),
) -> Result<(usize, Settled), StoreError> {
    let outbox = Outbox::default();
    let sending = Sending { settings, now, outbox: &outbox };
    let mut reports = 0;
    let Some(mut record) = writer.read().get(ri)? else {
        writer.set_due(ri, Some(at), None)?;
        return Ok((reports, (None, outbox)));
    };
    let is_there = by_id(writer.read(), ri, now)?.is_some();
    if is_there && record.ty == ResourceType::TimeSeries {
        reports = missing_data::detect(writer, &sending, &mut record)?;
    } else if is_there && record.ty == ResourceType::Group {
        aggregation::deliver(writer, &sending, &mut record)?;
    } else if is_there {
        deliver(writer, &sending, &mut record)?;
    } else {
        // It has expired, or is part of a deleted subtree.
        let of_events = record.waiting.as_mut().map(|waiting| &mut waiting.due);
        let of_data = record.series.as_mut().map(|series| &mut series.due);
        let of_group = record.aggregation.as_mut().map(|aggregation| &mut aggregation.due);
        if let Some(due) = of_events.or(of_data).or(of_group) {
            *due = None;
        }
        writer.set_due(ri, Some(at), None)?;
    }
    writer.put(&record)?;
    Ok((reports, (registrant(writer.read(), &record)?, outbox)))
}
