//! The CSE as the gateway sees it: opened once, asked with request primitives.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::timestamp::check_times;

use crate::access::names::{self, Names};
use crate::error::{Refusal, quoted};
use crate::notification::long_poll;
use crate::notification::message::Notification;
use crate::notification::outbox::{Letter, Outbox};
use crate::notification::polling_channels::Channels;
use crate::notification::verification::{Answer, Handled, Verification, Verified};
use crate::operation::create;
use crate::operation::delete;
use crate::operation::retrieve;
use crate::operation::update;
use crate::record::{Record, Seconds, seconds};
use crate::request::budget::RequestBudget;
use crate::request::context::Context;
use crate::request::parameters::Options;
use crate::resource::group::{self, Continuation};
use crate::resource::representation;
use crate::settings::{Settings, SettingsError};
use crate::store::{Read, Store, StoreError, Writer};

/// The version of the layout of the store, and the one that is brought to it when it is opened: there
/// the names in resources were not resolved.
const SCHEMA: &str = "2";
const UNRESOLVED: &str = "1";

/// The fact that what is stored is counted for its owners.
const COUNTED: &str = "usage";

/// Maximum number of resources that one call of [`EmbeddedCse::sweep`] removes, and one commit of a
/// large deletion: others write in between.
pub const SWEEP_BATCH: usize = 256;

/// How long a deletion goes on removing what it has taken out of sight. The next sweeps do the rest.
const REMOVE_FOR: Duration = Duration::from_secs(1);

/// The embedded CSE.
pub struct EmbeddedCse {
    store: Store,
    settings: Settings,
    channels: Arc<Channels>,
}

impl std::fmt::Debug for EmbeddedCse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCse").field("settings", &self.settings).finish_non_exhaustive()
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
        Ok(Self { store, settings, channels: Arc::default() })
    }

    /// Who this CSE is.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
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
        let handled = match long_poll::channel(&request.to) {
            Some(channel) => self.at_channel(request, &channel, budget, now),
            None if is_notification(request) => self.deliver(request, budget, now),
            None => match group::fan_out_point(&request.to) {
                Some(point) => self.begin_fan_out(request, point, budget, seconds(now)),
                None => self.answer_one(request, None, budget, seconds(now)).map(Handled::Done),
            },
        };
        match handled {
            Ok(handled) => handled,
            Err(Refusal::Verify(targets)) => {
                Handled::Verify(Verification::begin(request, *targets))
            }
            Err(refusal) => Handled::Done(self.refuse(request, &refusal).into()),
        }
    }

    /// Goes on with a request to a group, for a short while, at the time `now`. Blocks on the disk.
    pub fn proceed(&self, work: Continuation, now: SystemTime) -> Handled {
        self.fan_out(work, seconds(now))
    }

    /// Carries out a subscription whose targets have been asked, at the time `now`, which is later:
    /// what has changed meanwhile counts, so it may still be refused. The originator must still be
    /// who it was when the request was handled. Blocks on the disk.
    pub fn conclude(&self, verified: Verified, budget: &RequestBudget, now: SystemTime) -> Answer {
        let request = &verified.request;
        self.answer_one(request, Some(&verified), budget, seconds(now))
            .unwrap_or_else(|refusal| self.refuse(request, &refusal).into())
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
            Ok(expired + self.remove_detached(&budget, SWEEP_BATCH.saturating_sub(expired))?)
        });
        swept.inspect_err(|error| self.note(error))
    }

    /// Whether the store has failed and has not been written since, which the next change tries.
    #[must_use]
    pub fn store_fails(&self) -> bool {
        self.store.fails()
    }

    pub(crate) fn note(&self, error: &StoreError) {
        match error {
            // Opening it anew would show the same.
            StoreError::Corrupt(_) | StoreError::Paused | StoreError::Stopped(_) => {}
            _ => self.store.suspect(),
        }
    }

    /// Forgets what waits in polling channels that are not there any more.
    fn forget_channels(&self) -> Result<(), StoreError> {
        let snapshot = self.store.snapshot(&RequestBudget::unlimited())?;
        // One that can't be read is kept.
        self.channels.retain(|ri| !matches!(snapshot.read().get(ri), Ok(None)));
        Ok(())
    }

    fn sweep_some(&self, now: Seconds, most: usize) -> Result<usize, StoreError> {
        if !self.store.has_expired(now)? {
            return Ok(0);
        }
        let budget = RequestBudget::unlimited();
        let removed = self.store.write(&budget, |writer| delete::sweep(writer, now, most))?;
        tracing::debug!(event = "cse.expired", removed, "expired resources are removed");
        Ok(removed)
    }

    /// Removes what is left of deleted resources, but no more than `most`. Gives how many.
    fn remove_detached(&self, budget: &RequestBudget, most: usize) -> Result<usize, StoreError> {
        if most == 0 || !self.store.has_detached()? {
            return Ok(0);
        }
        self.store.write(budget, |writer| writer.remove_detached(most))
    }

    /// Carries out a request at one resource.
    pub(crate) fn answer_one(
        &self,
        request: &RequestPrimitive,
        verified: Option<&Verified>,
        budget: &RequestBudget,
        now: Seconds,
    ) -> Result<Answer, Refusal> {
        check_release(request, &self.settings)?;
        check_expiration(request, now)?;
        if request.operation == Operation::Notify {
            return Err(Refusal::NotImplemented("groups take no notifications"));
        }
        budget.check().map_err(StoreError::from)?;
        let options = Options::read(request)?;
        let outbox = Outbox::default();
        let context =
            Context { settings: &self.settings, request, options, now, outbox, verified, budget };
        let response = match request.operation {
            Operation::Create => self.create(&context),
            Operation::Update => {
                self.store.write(budget, |writer| update::update(writer, &context))
            }
            Operation::Delete => self.delete(&context),
            Operation::Retrieve | Operation::Notify => {
                retrieve::retrieve(self.store.snapshot(budget)?.read(), &context)
            }
        }?;
        // Only now, for all of it is on disk.
        Ok(Answer { response, notifications: self.post(context.outbox).0 })
    }

    /// Creates a resource. What is left of one that was deleted and had the same resource-ID is
    /// removed first, in parts.
    fn create(&self, context: &Context<'_>) -> Result<ResponsePrimitive, Refusal> {
        loop {
            match self.store.write(context.budget, |writer| create::create(writer, context)) {
                Err(Refusal::Remains(ri)) => self.remove_in_parts(&ri, context.budget)?,
                done => return done,
            }
        }
    }

    /// Deletes a resource. What takes long is done while others write.
    fn delete(&self, context: &Context<'_>) -> Result<ResponsePrimitive, Refusal> {
        let going = delete::look(self.store.snapshot(context.budget)?.read(), context)?;
        if let Some(going) = &going {
            going.announce(&self.store, context)?;
        }
        let ri = going.as_ref().map(|going| going.ri().to_owned());
        let response =
            self.store.write(context.budget, |writer| delete::delete(writer, context, going))?;
        if let Some(ri) = ri {
            // It is deleted, whatever becomes of this: what is left here is for the next sweep.
            let budget = context.budget.unmetered();
            let until = Instant::now() + REMOVE_FOR;
            while Instant::now() < until && matches!(self.remove_part(&ri, &budget), Ok(true)) {}
        }
        Ok(response)
    }

    /// Removes a part of what is left of that deleted resource, and of no other. Gives whether there may
    /// be more.
    fn remove_part(&self, ri: &str, budget: &RequestBudget) -> Result<bool, StoreError> {
        let is_left = |read: &dyn Read| {
            Ok::<_, StoreError>(read.get(ri)?.is_some_and(|top| {
                // Another that has the resource-ID by now is somewhere.
                top.parent.is_none() && top.ty != ResourceType::CseBase
            }))
        };
        if !is_left(self.store.snapshot(budget)?.read())? {
            return Ok(false);
        }
        self.store.write(budget, |writer| match is_left(writer.read())? {
            true => Ok(writer.remove_tree(ri, SWEEP_BATCH)? == SWEEP_BATCH),
            false => Ok(false),
        })
    }

    fn remove_in_parts(&self, ri: &str, budget: &RequestBudget) -> Result<(), StoreError> {
        let budget = budget.unmetered();
        // Out of sight first: nobody sees it in parts.
        self.store.write(&budget, |writer| match writer.read().get(ri)? {
            Some(top) if top.parent.is_some() => writer.detach(ri),
            _ => Ok::<_, StoreError>(()),
        })?;
        let part = |writer: &mut Writer<'_>| match writer.read().get(ri)? {
            Some(_) => writer.remove_tree(ri, SWEEP_BATCH),
            None => Ok::<_, StoreError>(0),
        };
        while self.store.write(&budget, part)? >= SWEEP_BATCH {}
        Ok(())
    }

    /// Returns what is to be sent by others, and how much had no room in a polling channel.
    pub(crate) fn post(&self, outbox: Outbox) -> (Vec<Notification>, usize) {
        let (mut notifications, mut lost) = (Vec::new(), 0);
        for letter in outbox.empty() {
            match letter {
                Letter::Http(notification) => notifications.push(notification),
                Letter::Channel { ri, request } => {
                    if !self.channels.put(&ri, request) {
                        lost += 1;
                        tracing::warn!(
                            event = "cse.notifications-dropped",
                            "there is no room in the queues of polling channels"
                        );
                    }
                }
            }
        }
        (notifications, lost)
    }

    pub(crate) fn refuse(
        &self,
        request: &RequestPrimitive,
        refusal: &Refusal,
    ) -> ResponsePrimitive {
        if let Refusal::Store(StoreError::Stopped(stop)) = refusal {
            let (operation, to) = (request.operation.name(), &request.to);
            tracing::debug!(event = "request.stopped", operation, %to, "a request stops: {stop}");
        } else if let Refusal::Store(error) = refusal {
            let (operation, to) = (request.operation.name(), &request.to);
            tracing::error!(event = "cse.store-failed", operation, %to,
                "the CSE's store failed: {error}");
            self.note(error);
        }
        // A version that we don't speak is answered in the latest that we do.
        let release = match refusal {
            Refusal::Release(_) => self.settings.release_versions.last(),
            _ => request.release.as_ref(),
        };
        let release = release.map(String::as_str);
        let why = refusal.to_string();
        ResponsePrimitive::refusal(&request.request_id, release, refusal.rsc(), &why)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }
}

/// Whether it is a notification for one resource.
fn is_notification(request: &RequestPrimitive) -> bool {
    request.operation == Operation::Notify && group::fan_out_point(&request.to).is_none()
}

pub(crate) fn check_release(
    request: &RequestPrimitive,
    settings: &Settings,
) -> Result<(), Refusal> {
    match &request.release {
        Some(release) if !settings.release_versions.contains(release) => {
            Err(Refusal::Release(quoted(release)))
        }
        _ => Ok(()),
    }
}

/// The times of a request: when it expires, when its result does, when it is to be carried out.
pub(crate) fn check_expiration(request: &RequestPrimitive, now: Seconds) -> Result<(), Refusal> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
    Ok(check_times(&request.parameters, now)?)
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
    let is_old = schema.as_deref() == Some(UNRESOLVED);
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
    if writer.about(COUNTED)?.is_none() {
        writer.count_all()?;
        writer.note(COUNTED, SCHEMA)?;
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
