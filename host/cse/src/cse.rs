//! The CSE as the gateway sees it: opened once, asked with request primitives.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;

use crate::access::names;
use crate::budget::RequestBudget;
use crate::notification::answer::{Answer, Outcome};
use crate::notification::asynchronous::{self, Accepted, Recipients};
use crate::notification::delivery::{self, Delivery};
use crate::notification::long_poll::{self, LongPoll};
use crate::notification::message::Notification;
use crate::notification::verification::{Verification, Verified};
use crate::operation::delete::{self, SWEEP_BATCH};
use crate::operation::error::OperationError;
use crate::operation::execute::execute;
use crate::operation::fan_out::{self, Continuation};
use crate::operation::group;
use crate::record::names::Names;
use crate::record::{Record, Seconds, seconds};
use crate::resource::representation;
use crate::settings::{Settings, SettingsError};
use crate::state::State;
use crate::store::{Store, StoreError, Writer};

/// The version of the layout of the store, and the one that is brought to it when it is opened: there
/// the names in resources were not resolved.
const SCHEMA: &str = "2";
const UNRESOLVED_SCHEMA: &str = "1";

/// The fact that what is stored is counted for its owners.
const USAGE_COUNTED: &str = "usage";

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

/// What a request comes to.
#[derive(Debug)]
#[must_use]
pub enum Handled {
    /// It is answered.
    Done(Answer),
    /// Nothing is done yet: the target of a subscription has to be asked first.
    Verify(Verification),
    /// It is a notification for an AE, whose answer is the originator's.
    Deliver(Delivery),
    /// The originator polls its channel, and waits.
    Wait(LongPoll),
    /// It is a request to a group, and not done yet: give it to
    /// [`EmbeddedCse::proceed`](crate::EmbeddedCse::proceed), after others have had their turn.
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

/// Why a CSE can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The settings make no CSE.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The file can't be opened, read or written.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The file holds something else.
    #[error("the file is a database, but not of a CSE")]
    Foreign,
    /// The store has a layout that this version does not know.
    #[error("the store has the layout version {0}; this CSE knows {SCHEMA}")]
    Schema(String),
    /// The store is that of another CSE.
    #[error("the store is that of the CSE {stored}, not of {wanted}")]
    OtherCse {
        /// Whose it is.
        stored: String,
        /// Who we are.
        wanted: String,
    },
    /// The `<CSEBase>` is to be named with another resource's resource-ID, such as the AE-ID of a
    /// registered AE: an address that starts with it would lead to two places.
    #[error("the CSEBase can't be named {0}: that is the resource-ID of another resource")]
    NameTaken(String),
}

impl EmbeddedCse {
    /// Opens the store at `path`, or makes one where there is no file.
    ///
    /// # Errors
    /// When the settings make no CSE, or the store can't be had or is not ours.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        Self::open_knowing(path, settings, &|_| None)
    }

    /// [`open`](Self::open), where `registrant` tells the Credential-ID with which an AE has registered
    /// whose AE-ID-Stem it is given: a store of an earlier version does not say it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_knowing(
        path: &Path,
        settings: Settings,
        registrant: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let (store, in_use) = Store::open(path)?;
        let now = seconds(SystemTime::now());
        store.write(&RequestBudget::unlimited(), |writer| {
            let is_old = prepare(writer, in_use, &settings, now)?;
            if is_old {
                names::resolve_all(writer, &settings, registrant, now)?;
                writer.note("schema", SCHEMA)?;
            }
            Ok::<_, OpenError>(())
        })?;
        Ok(Self { state: State { store, settings, queues: Arc::default() } })
    }

    /// Who this CSE is.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// Carries out a request whose originator is authentic, at the time `now`, and answers. A
    /// change is on disk before it is answered with a success. A subscription with targets that
    /// have to be asked is not carried out yet, and a request to a group is begun. Blocks on the
    /// disk.
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
            let begun = fan_out::begin(state, request, point, budget, seconds(now))?;
            return Ok(Handled::of(begun, Handled::Continue));
        }
        if request.operation == Operation::Notify {
            let delivered = delivery::deliver(state, request, budget, now)?;
            return Ok(Handled::of(delivered, Handled::Deliver));
        }
        Ok(Handled::Done(execute(state, request, None, budget, seconds(now))?))
    }

    /// Goes on with a request to a group, for a short while, at the time `now`. Blocks on the disk.
    pub fn proceed(&self, work: Continuation, now: SystemTime) -> Handled {
        Handled::of(fan_out::proceed(&self.state, work, seconds(now)), Handled::Continue)
    }

    /// Carries out a subscription whose targets have been asked, at the time `now`, which is later:
    /// what has changed meanwhile counts, so it may still be refused. The originator must still be
    /// who it was when the request was handled. Blocks on the disk.
    pub fn conclude(&self, verified: Verified, budget: &RequestBudget, now: SystemTime) -> Answer {
        let request = &verified.request;
        execute(&self.state, request, Some(&verified), budget, seconds(now))
            .unwrap_or_else(|error| self.state.refuse(request, &error.into_refusal()).into())
    }

    /// Decides whether an asynchronous request is acknowledged, at the time `now`. Nothing of it is
    /// carried out. Blocks on the disk.
    ///
    /// # Errors
    /// The refusal.
    pub fn accept(
        &self,
        request: RequestPrimitive,
        budget: &RequestBudget,
        now: SystemTime,
    ) -> Result<Accepted, Box<ResponsePrimitive>> {
        asynchronous::accept(&self.state, request, budget, seconds(now))
    }

    /// Puts the result of an accepted request into the polling channels that it is for. Returns the
    /// notifications that are to be sent to the other targets.
    pub fn result(&self, to: Recipients, response: &ResponsePrimitive) -> Vec<Notification> {
        asynchronous::result(&self.state, to, response)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.state.store
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Removes resources that have expired, and what is left of those that were deleted, at most
    /// [`SWEEP_BATCH`] of them. Gives how many: at the full number there may be more, and another
    /// call is due. Nobody could see them before either; this gives back their room. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sweep(&self, now: SystemTime) -> Result<usize, StoreError> {
        let swept = self.sweep_some(seconds(now), SWEEP_BATCH).and_then(|expired| {
            self.forget_channels()?;
            let budget = RequestBudget::unlimited();
            budget.give_way();
            Ok(expired + self.remove_detached(&budget, SWEEP_BATCH.saturating_sub(expired))?)
        });
        swept.inspect_err(|error| self.state.suspect_store(error))
    }

    /// Whether the store has failed and has not been written since, which the next change tries.
    #[must_use]
    pub fn store_fails(&self) -> bool {
        self.state.store.fails()
    }

    /// Forgets what waits in polling channels that are not there any more.
    fn forget_channels(&self) -> Result<(), StoreError> {
        let snapshot = self.state.store.snapshot(&RequestBudget::unlimited())?;
        // One that can't be read is kept.
        self.state.queues.retain(|ri| !matches!(snapshot.read().get(ri), Ok(None)));
        Ok(())
    }

    /// Removes what is left of deleted resources, but no more than `most`. Gives how many.
    fn remove_detached(&self, budget: &RequestBudget, most: usize) -> Result<usize, StoreError> {
        if most == 0 || !self.state.store.has_detached()? {
            return Ok(0);
        }
        self.state.store.write(budget, |writer| writer.remove_detached(most))
    }

    fn sweep_some(&self, now: Seconds, most: usize) -> Result<usize, StoreError> {
        if !self.state.store.has_expired(now)? {
            return Ok(0);
        }
        let budget = RequestBudget::unlimited();
        budget.give_way();
        let removed = self.state.store.write(&budget, |writer| delete::sweep(writer, now, most))?;
        tracing::debug!(event = "cse.expired", removed, "expired resources are removed");
        Ok(removed)
    }
}

/// Makes a new store, or makes sure that the one that is there is ours; brings the `<CSEBase>`
/// in line with the settings. Tells whether the names in its resources are still to be resolved.
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
            writer.note("schema", SCHEMA)?;
            writer.note("cse", &own)?;
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
        writer.count_all()?;
        writer.note(USAGE_COUNTED, SCHEMA)?;
    }
    writer.index_ages()?;
    let ri = settings.cse_id.bare();
    let name = settings.csebase_name.as_str();
    if name != ri && writer.read().get(name)?.is_some() {
        return Err(OpenError::NameTaken(name.into()));
    }
    let attributes = representation::of_csebase(settings);
    let base = match writer.read().get(ri)? {
        Some(base) if base.attributes == attributes && base.name == name => return Ok(is_old),
        Some(base) => Record { name: name.into(), modified: now, attributes, ..base },
        None => Record {
            ty: ResourceType::CseBase,
            ri: ri.into(),
            name: name.into(),
            parent: None,
            sequence: 0,
            depth: 0,
            owner: None,
            named_by: None,
            registrant: None,
            names: Names::default(),
            created: now,
            modified: now,
            expires: None,
            state: None,
            stock: None,
            size: None,
            opens: false,
            attributes,
        },
    };
    writer.put(&base)?;
    Ok(is_old)
}
