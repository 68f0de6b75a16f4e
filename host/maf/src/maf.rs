//! The M2M Authentication Function: a request comes in with its authenticated client, an answer
//! goes out.

use std::path::Path;
use std::time::{Duration, SystemTime};

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::timestamp::check_times;

use crate::context::{Caller, Outcome, SweepOutcome};
use crate::decoy::Decoy;
use crate::error::Refusal;
use crate::record::{Seconds, seconds};
use crate::request::{KeyRegistration, MafOperation, is_at, key_registration};
use crate::settings::Settings;
use crate::state::State;
use crate::store::{OpenError, Store, StoreError};
use crate::store_key::StoreKey;
use crate::{clients, expiry, keys};

/// Release versions that are spoken, the last of which a refusal of others names.
const RELEASES: [&str; 4] = ["2a", "3", "4", "5"];

/// Parameters that change nothing here.
const IGNORED: [Parameter; 3] =
    [Parameter::OriginatingTimestamp, Parameter::EventCategory, Parameter::VendorInformation];

/// An M2M Authentication Function (TS-0003 clause 8.8).
pub struct Maf {
    pub(crate) state: State,
}

impl Maf {
    /// Opens a MAF's store, or makes it.
    ///
    /// # Errors
    /// When the file can't be had, holds something else, or was written under another key. Then
    /// what is in it stays.
    pub fn open(path: &Path, key: &StoreKey, settings: Settings) -> Result<Self, OpenError> {
        let store = Store::open(path, key)?;
        let decoy = Decoy::new(store.vault())?;
        Ok(Self { state: State { settings, store, decoy } })
    }

    /// The key registration that a request asks for, so that policy can be asked before the request
    /// is handled. None for every other request, and for one that [`handle`](Self::handle) refuses
    /// for what it says.
    #[must_use]
    pub fn asks(request: &RequestPrimitive) -> Option<KeyRegistration> {
        key_registration(request)
    }

    /// Carries out a request. What is answered with CREATED, UPDATED or DELETED is on disk.
    ///
    /// It blocks on the disk: an asynchronous caller puts it on a thread that may wait.
    #[must_use]
    pub fn handle(
        &self,
        who: &Caller<'_>,
        request: &RequestPrimitive,
        now: SystemTime,
    ) -> ResponsePrimitive {
        match self.carry_out(who, request, seconds(now)) {
            Ok(done) => ResponsePrimitive {
                content: done.content,
                content_location: done.location,
                ..ResponsePrimitive::to(request, done.rsc)
            },
            Err(refusal) => {
                if let Refusal::Store(error) = &refusal {
                    self.note(error);
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

    fn carry_out(
        &self,
        who: &Caller<'_>,
        request: &RequestPrimitive,
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
        match MafOperation::read(request)? {
            MafOperation::RegisterClient(new) => clients::register(state, who, new, now),
            MafOperation::RetrieveClient(id) => clients::retrieve(state, who, id, now),
            MafOperation::UpdateClient(id, change) => clients::update(state, who, id, change, now),
            MafOperation::DeregisterClient(id) => clients::deregister(state, who, id, now),
            MafOperation::RegisterKey(new) => keys::register(state, who, new, now),
            MafOperation::RetrieveKey(id) => keys::retrieve(state, who, id, now),
            MafOperation::UpdateKey(id, change) => keys::update(state, who, id, change, now),
            MafOperation::DeregisterKey(id) => keys::deregister(state, who, id, now),
        }
    }

    /// Removes what has expired, in one bounded transaction. It does not exist before, to anybody:
    /// this only makes room.
    ///
    /// # Errors
    /// When the store failed.
    pub fn sweep(&self, now: SystemTime) -> Result<SweepOutcome, StoreError> {
        let now = seconds(now);
        let swept = (|| {
            if !self.state.store.has_expired(now)? {
                return Ok(SweepOutcome::default());
            }
            self.state.store.write(|writer| expiry::sweep(writer, now))
        })();
        swept.inspect_err(|error| self.note(error))
    }

    /// Whether the store has failed, and has not been written since.
    #[must_use]
    pub fn store_fails(&self) -> bool {
        self.state.store.fails()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    fn note(&self, error: &StoreError) {
        tracing::error!(event = "maf.failed", "the MAF's store failed: {error}");
        self.state.store.note(error);
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
