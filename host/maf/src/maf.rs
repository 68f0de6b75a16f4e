//! The M2M Authentication Function: handles requests of authenticated clients.

use std::path::Path;
use std::time::{Duration, SystemTime};

use saegis_onem2m::id::AbsoluteId;
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::timestamp::check_times;

use crate::context::{Caller, Outcome, SweepOutcome};
use crate::decoy::Decoy;
use crate::error::Refusal;
use crate::record::{Seconds, seconds};
use crate::request::{KeyRegistration, MafOperation, is_at};
use crate::settings::Settings;
use crate::state::State;
use crate::store::{OpenError, Store, StoreError};
use crate::{clients, expiry, keys};
use saegis_vault::StoreKey;

/// Supported release versions. The refusal of another version names the last one.
const RELEASES: [&str; 4] = ["2a", "3", "4", "5"];

/// Parameters that are accepted and have no effect.
const IGNORED: [Parameter; 3] =
    [Parameter::OriginatingTimestamp, Parameter::EventCategory, Parameter::VendorInformation];

/// An M2M Authentication Function (TS-0003 clause 8.8).
pub struct Maf {
    pub(crate) state: State,
}

impl Maf {
    /// Opens a MAF's store, or creates it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, has other content, or was written under
    /// another key. The file is then unchanged.
    pub fn open(path: &Path, key: &StoreKey, settings: Settings) -> Result<Self, OpenError> {
        let store = Store::open(path, key)?;
        let decoy = Decoy::new(store.vault())?;
        Ok(Self { state: State { settings, store, decoy } })
    }

    /// Returns the key registration that a request of this client contains, or that its update of the
    /// targets results in. If policy allows it, it is passed to [`handle`](Self::handle). Returns `None`
    /// for any other request, and for one that `handle` refuses.
    ///
    /// The function may block on the disk: call it on a thread that may block.
    #[must_use]
    pub fn asks(
        &self,
        who: &AbsoluteId,
        request: &RequestPrimitive,
        now: SystemTime,
    ) -> Option<KeyRegistration> {
        match MafOperation::read(request, &self.state.settings.base).ok()? {
            MafOperation::RegisterKey(new) => Some(new.registration()),
            MafOperation::UpdateKey(id, change) => {
                keys::with_targets(&self.state, who, id, &change, seconds(now))
            }
            _ => None,
        }
    }

    /// Handles a request. The changes of a response with CREATED, UPDATED or DELETED are on disk.
    ///
    /// `allowed` is the key registration that policy allowed, see [`asks`](Self::asks). A request whose
    /// key registration is another one at this time is refused.
    ///
    /// The function blocks on the disk: call it on a thread that may block.
    #[must_use]
    pub fn handle(
        &self,
        who: &Caller<'_>,
        request: &RequestPrimitive,
        allowed: Option<&KeyRegistration>,
        now: SystemTime,
    ) -> ResponsePrimitive {
        match self.execute(who, request, allowed, seconds(now)) {
            Ok(done) => ResponsePrimitive {
                content: done.content,
                content_location: done.location,
                ..ResponsePrimitive::to(request, done.rsc)
            },
            Err(refusal) => {
                if let Refusal::Store(error) = &refusal {
                    self.record_failure(error);
                }
                let release = match refusal {
                    Refusal::Release => RELEASES.last().copied(),
                    _ => request.release.as_deref(),
                };
                let why = refusal.to_string();
                ResponsePrimitive::refusal(&request.request_id, release, refusal.rsc(), &why)
            }
        }
    }

    fn execute(
        &self,
        who: &Caller<'_>,
        request: &RequestPrimitive,
        allowed: Option<&KeyRegistration>,
        now: Seconds,
    ) -> Result<Outcome, Refusal> {
        if request.from.as_deref() != Some(who.id.as_str()) {
            return Err(Refusal::NotTheCaller);
        }
        check_parameters(request, now)?;
        if !is_at(&request.to, self.state.settings.fqdn()) {
            return Err(Refusal::NotFound);
        }
        let state = &self.state;
        match MafOperation::read(request, &state.settings.base)? {
            MafOperation::RegisterClient(new) => clients::register(state, who, new, now),
            MafOperation::RetrieveClient(id) => clients::retrieve(state, who, id, now),
            MafOperation::UpdateClient(id, change) => clients::update(state, who, id, change, now),
            MafOperation::DeregisterClient(id) => clients::deregister(state, who, id, now),
            MafOperation::RegisterKey(new) => keys::register(state, who, new, allowed, now),
            MafOperation::RetrieveKey(id) => keys::retrieve(state, who, id, now),
            MafOperation::UpdateKey(id, change) => {
                keys::update(state, who, id, change, allowed, now)
            }
            MafOperation::DeregisterKey(id) => keys::deregister(state, who, id, now),
        }
    }

    /// Removes expired entries in one bounded transaction. Expired entries are invisible already;
    /// this only frees space.
    ///
    /// # Errors
    /// Returns an error if the store failed.
    pub fn sweep(&self, now: SystemTime) -> Result<SweepOutcome, StoreError> {
        let now = seconds(now);
        let swept = (|| {
            if !self.state.store.has_expired(now)? {
                return Ok(SweepOutcome::default());
            }
            self.state.store.write(|writer| expiry::sweep(writer, now))
        })();
        swept.inspect_err(|error| self.record_failure(error))
    }

    /// Returns whether the store has failed and no write has succeeded since.
    #[must_use]
    pub fn store_fails(&self) -> bool {
        self.state.store.fails()
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    fn record_failure(&self, error: &StoreError) {
        tracing::error!(event = "maf.failed", "MAF store failed: {error}");
        self.state.store.record_failure(error);
    }
}

fn check_parameters(request: &RequestPrimitive, now: Seconds) -> Result<(), Refusal> {
    if request.release.as_deref().is_some_and(|release| !RELEASES.contains(&release)) {
        return Err(Refusal::Release);
    }
    if !request.options.is_empty() {
        return Err(Refusal::Options);
    }
    check_times(&request.parameters, SystemTime::UNIX_EPOCH + Duration::from_secs(now))?;
    let known = |p: &Parameter| *p == Parameter::RequestExpiration || IGNORED.contains(p);
    match request.parameters.iter().find(|(parameter, _)| !known(parameter)) {
        Some((parameter, _)) => Err(Refusal::Parameter(parameter)),
        None => Ok(()),
    }
}
