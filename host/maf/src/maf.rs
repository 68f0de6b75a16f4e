//! The M2M Authentication Function: a request comes in with its authenticated client, an answer
//! goes out.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp::check_times;

use crate::keys::Decoy;
use crate::record::{Seconds, seconds};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::store::{OpenError, Store, StoreError};
use crate::store_key::StoreKey;
use crate::vault::Kind;
use crate::wanted::{KeyRegistration, Wanted, is_at, key_registration, wanted};
use crate::{names, sweep};

/// Release versions that are spoken, the last of which a refusal of others names.
const RELEASES: [&str; 4] = ["2a", "3", "4", "5"];

/// Parameters that change nothing here.
const IGNORED: [Parameter; 3] =
    [Parameter::OriginatingTimestamp, Parameter::EventCategory, Parameter::VendorInformation];

/// Who asks.
#[derive(Clone)]
pub struct Caller<'s> {
    /// The MAF client that the TLS association stands for.
    pub id: AbsoluteId,
    /// The credential that the association was established with.
    pub credential_id: CredentialId,
    /// What this very TLS session exports; None where it has no extended master secret (RFC 7627),
    /// without which another session could export the same.
    pub exported: Option<&'s Exported>,
}

/// An M2M Authentication Function (TS-0003 clause 8.8).
pub struct Maf {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) decoy: Decoy,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many entries it removed.
    pub removed: usize,
    /// Whether there is more to remove.
    pub more: bool,
}

/// What an operation came to.
pub(crate) struct Done {
    pub(crate) rsc: Rsc,
    pub(crate) content: Option<Bytes>,
    pub(crate) location: Option<String>,
}

impl Done {
    pub(crate) fn with(rsc: Rsc, content: Bytes) -> Self {
        Self { rsc, content: Some(content), location: None }
    }

    pub(crate) fn deleted() -> Self {
        Self { rsc: Rsc::Deleted, content: None, location: None }
    }
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
        Ok(Self { settings, store, decoy })
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
    ) -> Result<Done, Refusal> {
        if request.from.as_deref() != Some(who.id.as_str()) {
            return Err(Refusal::NotTheCaller);
        }
        check_parameters(request, now)?;
        if !is_at(&request.to, self.settings.fqdn()) {
            return Err(Refusal::NotFound);
        }
        match wanted(request)? {
            Wanted::RegisterClient(new) => self.register_client(who, new, now),
            Wanted::RetrieveClient(id) => self.retrieve_client(who, id, now),
            Wanted::UpdateClient(id, change) => self.update_client(who, id, change, now),
            Wanted::DeregisterClient(id) => self.deregister_client(who, id, now),
            Wanted::RegisterKey(new) => self.register_key(who, new, now),
            Wanted::RetrieveKey(id) => self.retrieve_key(who, id, now),
            Wanted::UpdateKey(id, change) => self.update_key(who, id, change, now),
            Wanted::DeregisterKey(id) => self.deregister_key(who, id, now),
        }
    }

    /// Removes what has expired, in one bounded transaction. It does not exist before, to anybody:
    /// this only makes room.
    ///
    /// # Errors
    /// When the store failed.
    pub fn sweep(&self, now: SystemTime) -> Result<Swept, StoreError> {
        let now = seconds(now);
        let swept = (|| {
            if !self.store.has_expired(now)? {
                return Ok(Swept::default());
            }
            self.store.write(|writer| sweep::sweep(writer, now))
        })();
        swept.inspect_err(|error| self.note(error))
    }

    /// Whether the store has failed, and has not been written since.
    #[must_use]
    pub fn store_fails(&self) -> bool {
        self.store.fails()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn note(&self, error: &StoreError) {
        tracing::error!(event = "maf.failed", "the MAF's store failed: {error}");
        self.store.note(error);
    }

    /// What a client's entry stands under.
    pub(crate) fn slot(&self, client: &AbsoluteId) -> crate::vault::Slot {
        self.store.vault().slot(Kind::Client, client.as_str())
    }

    /// The address of a resource below the base.
    pub(crate) fn address(&self, name: &str) -> String {
        format!("//{}/{}/{name}", self.settings.fqdn(), names::BASE)
    }
}

/// The earlier of an expiration time and the end of what may be. One that is over is refused.
pub(crate) fn bounded(
    asked: Seconds,
    since: Seconds,
    longest: Duration,
    now: Seconds,
) -> Result<Seconds, Refusal> {
    if asked <= now {
        return Err(Refusal::Over);
    }
    Ok(asked.min(since.saturating_add(longest.as_secs())))
}

fn check_parameters(request: &RequestPrimitive, now: Seconds) -> Result<(), Refusal> {
    if request.release.as_deref().is_some_and(|release| !RELEASES.contains(&release)) {
        return Err(Refusal::Release);
    }
    if !request.options.is_empty() {
        return Err(Refusal::Query);
    }
    check_times(&request.parameters, SystemTime::UNIX_EPOCH + Duration::from_secs(now))?;
    let known = |p: &Parameter| *p == Parameter::RequestExpiration || IGNORED.contains(p);
    match request.parameters.iter().find(|(parameter, _)| !known(parameter)) {
        Some((parameter, _)) => Err(Refusal::Parameter(parameter)),
        None => Ok(()),
    }
}
