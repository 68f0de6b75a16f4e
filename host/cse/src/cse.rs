//! The interface of the CSE: opened once, and called with request primitives.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;

use crate::access::names;
use crate::attempts::Attempts;
use crate::budget::RequestBudget;
use crate::channel_requests::ChannelResponse;
use crate::notification::answer::{Answer, Outcome, ResultNotifications};
use crate::notification::asynchronous::{self, NonBlockingRequest, ResultTargets};
use crate::notification::awaiting::AwaitingRequest;
use crate::notification::delivery::{self, Delivery};
use crate::notification::due::{self, DueNotifications};
use crate::notification::long_poll::{self, LongPoll};
use crate::notification::message::{Destination, Notification};
use crate::notification::monitor;
use crate::notification::outbox;
use crate::notification::retry;
use crate::notification::verification::{Verification, Verified};
use crate::operation::delete::{self, SWEEP_BATCH};
use crate::operation::error::OperationError;
use crate::operation::execute::{Approval, execute};
use crate::operation::fan_out::{self, Continuation};
use crate::operation::group;
use crate::operation::stored_request;
use crate::record::{Record, Seconds, seconds};
use crate::resource::representation;
use crate::settings::{Settings, SettingsError};
use crate::state::State;
use crate::store::{Store, StoreError, Writer};

/// Version of the layout of the store, and the former one, which is upgraded on opening: its names
/// in resources were not resolved.
const SCHEMA: &str = "2";
const UNRESOLVED_SCHEMA: &str = "1";

/// Target of the events of the audit trail.
const AUDIT: &str = "saegis::audit";

/// Entry that records that the stored resources are counted for their owners, and those without one.
const USAGE_COUNTED: &str = "usage";
const UNOWNED_COUNTED: &str = "usage-without-owner";

/// Entry with the length of the file after its last compaction.
pub(crate) const COMPACTED: &str = "compacted";

/// The embedded CSE.
pub struct EmbeddedCse {
    state: State,
}

impl std::fmt::Debug for EmbeddedCse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCse")
            .field("settings", &self.state.settings)
            .finish_non_exhaustive()
    }
}

/// The result of handling a request.
#[derive(Debug)]
#[must_use]
pub enum Handled {
    /// The request is answered.
    Done(Answer),
    /// The request is not executed yet: the target of a subscription must agree first.
    Verify(Verification),
    /// The request is not executed yet: it waits for another one.
    Await(Box<AwaitingRequest>),
    /// The request is a notification for an AE, whose response goes to the originator.
    Deliver(Delivery),
    /// The originator waits for messages in its polling channel.
    Wait(LongPoll),
    /// The request to a group is not complete: pass it to
    /// [`EmbeddedCse::proceed`](crate::EmbeddedCse::proceed) after other requests had their turn.
    Continue(Box<Continuation>),
}

impl Handled {
    fn of<T>(outcome: Outcome<T>, pending: impl FnOnce(T) -> Self) -> Self {
        match outcome {
            Outcome::Done(answer) => Self::Done(answer),
            Outcome::Pending(work) => pending(work),
        }
    }
}

/// The reason why a CSE cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The file cannot be opened, read or written.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The file is not the store of a CSE.
    #[error("the file is a database, but not of a CSE")]
    Foreign,
    /// The store has an unsupported layout.
    #[error("the store has the layout version {0}; this CSE supports {SCHEMA}")]
    Schema(String),
    /// The store belongs to another CSE.
    #[error("the store belongs to the CSE {stored}, not to {wanted}")]
    OtherCse {
        /// CSE-ID in the store.
        stored: String,
        /// CSE-ID in the settings.
        wanted: String,
    },
    /// The name of the `<CSEBase>` is the resource-ID of another resource, such as the AE-ID of a
    /// registered AE. An address that starts with it would be ambiguous.
    #[error("the CSEBase cannot be named {0}: that is the resource-ID of another resource")]
    NameTaken(String),
}

impl EmbeddedCse {
    /// Opens the store at `path`, or creates it.
    ///
    /// # Errors
    /// Returns an error if the settings are invalid, or the store cannot be opened or belongs to
    /// another CSE.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        Self::open_knowing(path, settings, &|_| None)
    }

    /// Opens the store like [`open`](Self::open). `registrant` returns the Credential-ID that
    /// registered an AE-ID-Stem, which a store of an earlier version does not contain.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open).
    pub fn open_knowing(
        path: &Path,
        settings: Settings,
        registrant: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let (store, in_use) = Store::open(path)?;
        let now = seconds(SystemTime::now());
        let compacted: Option<u64> = store.write(&RequestBudget::unlimited(), |writer| {
            let is_old = prepare(writer, in_use, &settings, now)?;
            if is_old {
                names::resolve_all(writer, &settings, registrant, now)?;
                writer.set_about("schema", SCHEMA)?;
            }
            let compacted = writer.about(COMPACTED)?;
            Ok::<_, OpenError>(compacted.and_then(|length| length.parse().ok()))
        })?;
        let state = State {
            store,
            settings,
            queues: Arc::default(),
            receipts: Arc::default(),
            stores_for: OnceLock::new(),
            attempts: Attempts::default(),
            awaited: Arc::default(),
            channel_requests: Arc::default(),
            retries: Arc::default(),
            compacted_length: AtomicU64::new(compacted.unwrap_or(0)),
        };
        retry::restore(&state)?;
        monitor::restore(&state)?;
        stored_request::fail_all(&state, now)?;
        Ok(Self { state })
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// Sets the function that returns whether the caller stores the notifications of the AE with this
    /// AE-ID-Stem that are sent over its own connection. The CSE does not store them then.
    pub fn set_stores_for(&self, stores_for: Box<dyn Fn(&str) -> bool + Send + Sync>) {
        // It is set once.
        let _ = self.state.stores_for.set(stores_for);
    }

    /// Records the request of an observer in the audit trail, whether or not it is successful: a
    /// refusal reveals something as well. The caller records a request once, and may handle it several
    /// times.
    pub fn record_observation(&self, request: &RequestPrimitive) {
        let originator = request.from.as_deref();
        let mut observers = self.settings().observers.iter();
        let is_observer = observers.any(|stem| Some(stem.as_str()) == originator);
        if !is_observer || request.operation != Operation::Retrieve {
            return;
        }
        let options = request.options.iter();
        let options: Vec<_> =
            options.map(|(name, values)| format!("{name}={}", values.join("+"))).collect();
        let (to, filter) = (&request.to, options.join("&"));
        tracing::info!(target: AUDIT, event = "cse.observed", originator, %to, filter,
            "an observer of the settings retrieves resources");
    }

    /// Sets the time within which the caller reports the outcome of a notification. It is sent again
    /// if there is none. The minimum is ten minutes, and the default.
    pub fn set_outcome_timeout(&self, timeout: Duration) {
        self.state.retries.set_outcome_timeout(timeout);
    }

    /// Handles a request with an authenticated originator at the time `now`.
    ///
    /// A change is on disk before a success is returned. A subscription with targets that must be
    /// verified is not executed yet, and a request to a group is only started. Blocks on the disk.
    pub fn handle(
        &self,
        request: &RequestPrimitive,
        budget: &RequestBudget,
        now: SystemTime,
    ) -> Handled {
        match self.dispatch(request, budget, now) {
            Ok(handled) => handled,
            Err(OperationError::Unverified(targets)) => {
                Handled::Verify(Verification::begin(request, *targets))
            }
            Err(OperationError::Awaits(awaited)) => {
                Handled::Await(Box::new(AwaitingRequest::new(request, *awaited)))
            }
            Err(OperationError::Refused(refusal)) => {
                Handled::Done(self.state.refuse(request, &refusal).into())
            }
        }
    }

    fn dispatch(
        &self,
        request: &RequestPrimitive,
        budget: &RequestBudget,
        now: SystemTime,
    ) -> Result<Handled, OperationError> {
        let state = &self.state;
        if let Some(channel) = long_poll::channel(&request.to) {
            let polled = long_poll::poll(state, request, &channel, budget, now)?;
            return Ok(Handled::of(polled, Handled::Wait));
        }
        if let Some(point) = group::fan_out_point(&request.to) {
            let begun = fan_out::begin(state, request, point, (None, budget), seconds(now))?;
            return Ok(Handled::of(begun, Handled::Continue));
        }
        if request.operation == Operation::Notify {
            let delivered = delivery::deliver(state, request, budget, now)?;
            return Ok(Handled::of(delivered, Handled::Deliver));
        }
        Ok(Handled::Done(execute(state, request, Approval::default(), budget, seconds(now))?))
    }

    /// Continues a request to a group for a short while, at the time `now`. Blocks on the disk.
    pub fn proceed(&self, work: Continuation, now: SystemTime) -> Handled {
        Handled::of(fan_out::proceed(&self.state, work, seconds(now)), Handled::Continue)
    }

    /// Executes a subscription whose targets were verified, at the later time `now`. One through a
    /// group is only started.
    ///
    /// Changes in the meantime count, so it may still be refused. The originator must be the same
    /// as when the request was handled. Blocks on the disk.
    pub fn conclude(&self, verified: Verified, budget: &RequestBudget, now: SystemTime) -> Handled {
        let (state, request, now) = (&self.state, &verified.request, seconds(now));
        let concluded = match group::fan_out_point(&request.to) {
            Some(point) => fan_out::begin(state, request, point, (Some(&verified), budget), now)
                .map(|begun| Handled::of(begun, Handled::Continue)),
            None => {
                let approval = Approval { verified: Some(&verified), group: None };
                execute(state, request, approval, budget, now).map(Handled::Done)
            }
        };
        concluded.unwrap_or_else(|error| {
            Handled::Done(state.refuse(request, &error.into_refusal()).into())
        })
    }

    /// Puts a notification into the polling channel that is its destination. Returns the future of the
    /// response, or nothing if the destination is another one or the queue of the channel is full.
    #[must_use]
    pub fn ask_over_channel(&self, notification: &Notification) -> Option<ChannelResponse> {
        let Destination::PollingChannel { ri, ae } = &notification.to else { return None };
        let Notification { from, request_id, release, content, category, .. } = notification;
        let message = outbox::Message { category: *category, ..content.clone().into() };
        let request = outbox::primitive(ae, from, request_id, release, &message);
        let response = self.state.channel_requests.expect(ri, request_id);
        self.state.queues.put(ri, request).then_some(response)
    }

    /// Decides whether a non-blocking request is acknowledged, at the time `now`. The request is
    /// not executed. Blocks on the disk.
    ///
    /// # Errors
    /// Returns the refusal.
    pub fn accept(
        &self,
        request: RequestPrimitive,
        budget: &RequestBudget,
        now: SystemTime,
    ) -> Result<NonBlockingRequest, Box<ResponsePrimitive>> {
        asynchronous::accept(&self.state, request, budget, seconds(now))
    }

    /// Creates the `<request>` of an accepted request, if its originator is registered here. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// Returns the refusal.
    pub fn store_request(
        &self,
        accepted: NonBlockingRequest,
        budget: &RequestBudget,
        now: SystemTime,
    ) -> Result<NonBlockingRequest, Box<ResponsePrimitive>> {
        stored_request::store(&self.state, accepted, budget, seconds(now))
    }

    /// Returns whether the originator has deleted the `<request>` of a request that is not executed
    /// yet.
    #[must_use]
    pub fn is_recalled(&self, to: &ResultTargets) -> bool {
        to.stored().is_some_and(|ri| stored_request::is_recalled(&self.state, ri))
    }

    /// Stores the result of an accepted request at the time `now` in its `<request>`, if it has one,
    /// and puts it into the polling channels of its targets. Returns the notifications for the other
    /// targets and for subscribers of the `<request>`. Blocks on the disk.
    pub fn result(
        &self,
        to: &ResultTargets,
        response: &ResponsePrimitive,
        now: SystemTime,
    ) -> ResultNotifications {
        let stored = to.stored();
        let stored =
            stored.map(|ri| stored_request::complete(&self.state, ri, response, seconds(now)));
        let (results, lost) = asynchronous::result(&self.state, to, response);
        ResultNotifications { results, lost, events: or_logged(stored) }
    }

    /// Removes the `<request>` of a request whose result all targets have received, unless the
    /// originator has asked to keep it. Returns the notifications for its subscribers. Blocks on the
    /// disk.
    pub fn has_sent_result(&self, to: &ResultTargets, now: SystemTime) -> Vec<Notification> {
        let stored = to.stored().filter(|_| !to.is_kept());
        or_logged(stored.map(|ri| stored_request::remove(&self.state, ri, seconds(now))))
    }

    /// Marks an accepted request without a result as failed, if it has a `<request>`. Returns the
    /// notifications for its subscribers. Blocks on the disk.
    pub fn abandon(&self, to: &ResultTargets, now: SystemTime) -> Vec<Notification> {
        or_logged(to.stored().map(|ri| stored_request::fail(&self.state, ri, seconds(now))))
    }

    /// Returns the notifications that batches and rate limits have held back, and that are due at the
    /// time `now`. Call it until it returns none. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn due_notifications(&self, now: SystemTime) -> Result<Vec<DueNotifications>, StoreError> {
        let due = due::due(&self.state, seconds(now));
        due.inspect_err(|error| self.state.suspect_store(error))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.state.store
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Removes up to [`SWEEP_BATCH`] expired resources and remains of deleted ones. Returns their
    /// number; after the full number another call is due. Expired resources are invisible already;
    /// this only frees space. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn sweep(&self, now: SystemTime) -> Result<usize, StoreError> {
        let swept = self.sweep_some(seconds(now), SWEEP_BATCH).and_then(|expired| {
            self.drop_orphaned_queues()?;
            monitor::end_unneeded(&self.state)?;
            let budget = RequestBudget::unlimited();
            budget.lower_priority();
            Ok(expired + self.remove_detached(&budget, SWEEP_BATCH.saturating_sub(expired))?)
        });
        swept.inspect_err(|error| self.state.suspect_store(error))
    }

    /// Returns whether the store has failed and no write has succeeded since.
    #[must_use]
    pub fn store_fails(&self) -> bool {
        self.state.store.fails()
    }

    /// Drops the queues of polling channels that do not exist.
    fn drop_orphaned_queues(&self) -> Result<(), StoreError> {
        let snapshot = self.state.store.snapshot(&RequestBudget::unlimited())?;
        // The queue of an unreadable channel is retained.
        self.state.queues.retain(|ri| !matches!(snapshot.read().get(ri), Ok(None)));
        Ok(())
    }

    /// Removes up to `limit` remains of deleted resources. Returns their number.
    fn remove_detached(&self, budget: &RequestBudget, limit: usize) -> Result<usize, StoreError> {
        if limit == 0 || !self.state.store.has_detached()? {
            return Ok(0);
        }
        self.state.store.write(budget, |writer| writer.remove_detached(limit))
    }

    fn sweep_some(&self, now: Seconds, limit: usize) -> Result<usize, StoreError> {
        if !self.state.store.has_expired(now)? {
            return Ok(0);
        }
        let budget = RequestBudget::unlimited();
        budget.lower_priority();
        let removed =
            self.state.store.write(&budget, |writer| delete::sweep(writer, now, limit))?;
        tracing::debug!(event = "cse.expired", removed, "expired resources removed");
        Ok(removed)
    }
}

/// Returns the notifications of a changed `<request>`, or logs that it could not be changed.
fn or_logged(changed: Option<Result<Vec<Notification>, StoreError>>) -> Vec<Notification> {
    changed
        .transpose()
        .unwrap_or_else(|error| {
            tracing::error!(event = "cse.store-failed", "cannot store a result: {error}");
            None
        })
        .unwrap_or_default()
}

/// Initializes a new store, or checks that an existing one belongs to this CSE, and updates the
/// `<CSEBase>` to the settings. Returns whether the names in resources must still be resolved.
fn prepare(
    writer: &mut Writer<'_>,
    in_use: bool,
    settings: &Settings,
    now: Seconds,
) -> Result<bool, OpenError> {
    let own = settings.cse_id.to_string();
    let schema = writer.about("schema")?;
    let is_old = schema.as_deref() == Some(UNRESOLVED_SCHEMA);
    match schema {
        None if in_use => return Err(OpenError::Foreign),
        None => {
            writer.set_about("schema", SCHEMA)?;
            writer.set_about("cse", &own)?;
        }
        Some(schema) if schema != SCHEMA && !is_old => return Err(OpenError::Schema(schema)),
        Some(_) => {
            let stored = writer.about("cse")?.unwrap_or_default();
            if stored != own {
                return Err(OpenError::OtherCse { stored, wanted: own });
            }
        }
    }
    if writer.about(USAGE_COUNTED)?.is_none() {
        writer.count_all(|_| true)?;
        writer.set_about(USAGE_COUNTED, SCHEMA)?;
    } else if writer.about(UNOWNED_COUNTED)?.is_none() {
        writer.count_all(|record| record.owner.is_none())?;
    }
    writer.set_about(UNOWNED_COUNTED, SCHEMA)?;
    writer.index_ages()?;
    writer.index_labels()?;
    writer.index_creations()?;
    writer.count_monitors()?;
    let ri = settings.cse_id.bare();
    let name = settings.csebase_name.as_str();
    if name != ri && writer.read().get(name)?.is_some() {
        return Err(OpenError::NameTaken(name.into()));
    }
    let attributes = representation::of_csebase(settings);
    let base = match writer.read().get(ri)? {
        Some(base) if base.attributes == attributes && base.name == name => return Ok(is_old),
        Some(base) => Record { name: name.into(), modified: now, attributes, ..base },
        None => {
            let new = Record::new(ResourceType::CseBase, ri, now);
            Record { name: name.into(), attributes, ..new }
        }
    };
    writer.put(&base)?;
    Ok(is_old)
}
