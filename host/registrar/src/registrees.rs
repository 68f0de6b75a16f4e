//! What the registrar knows about who may register and who is registered, for whoever decides that.

use std::time::SystemTime;

use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;

use crate::address::{self, Place};
use crate::announcement::{self, Announcement};
use crate::record::seconds;
use crate::refusal::Refusal;
use crate::registrar::Registrar;
use crate::remote_cse;
use crate::service_subscription::{self, ServiceSubscription};
use crate::store::{Read, StoreError};

impl Registrar {
    /// The CSE-IDs of the CSEs that are registered, in the order in which they registered. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn registree_cses(&self, now: SystemTime) -> Result<Vec<CseId>, StoreError> {
        self.look(|read| remote_cse::all(read, self.settings(), seconds(now)))
    }

    /// Whether that CSE is registered. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn is_registree_cse(&self, cse: &CseId, now: SystemTime) -> Result<bool, StoreError> {
        let id = cse.to_string();
        let found = self.look(|read| remote_cse::of(read, self.settings(), &id, seconds(now)))?;
        Ok(found.is_some())
    }

    /// Which applications may register at that CSE, as far as the service subscriptions say
    /// (TS-0004 clause 7.3.2.7). Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn service_subscription(
        &self,
        cse: &CseId,
        now: SystemTime,
    ) -> Result<ServiceSubscription, StoreError> {
        self.look(|read| service_subscription::about(read, self.settings(), cse, seconds(now)))
    }

    /// The CSE that an AE with an S-type AE-ID is registered at, as that CSE announced it to us: where
    /// a request for the AE has to go. None for an AE that is registered here, or nowhere. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn announced_at(
        &self,
        stem: &AeIdStem,
        now: SystemTime,
    ) -> Result<Option<CseId>, StoreError> {
        self.look(|read| {
            let announced = announcement::of(read, stem.as_str(), seconds(now))?;
            announced.map(|record| announcement::announced_by(&record)).transpose()
        })
    }

    /// Where an AE with an S-type AE-ID is, or what is below it, whose address has the AE-ID in the
    /// place of a CSE-ID (TS-0001 clause 7.2): here, or at the CSE that announced it. None where the
    /// address is no such one, or there is no such AE. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn locate(&self, to: &Target, now: SystemTime) -> Result<Option<Target>, StoreError> {
        self.look(|read| announcement::locate(read, to, seconds(now)))
    }

    /// What an update of an `<AEAnnc>` asks for that names the AE's credential: the AE as it would be
    /// announced then, which the service subscription has to allow as it does a create's
    /// ([`Announcement::of`]). None for any other request. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn announced_anew(
        &self,
        request: &RequestPrimitive,
        now: SystemTime,
    ) -> Result<Option<Announcement>, StoreError> {
        let now = seconds(now);
        self.look(|read| Announcement::of_update(read, self.settings(), request, now))
    }

    /// The AE-ID-Stem of the AE that is the resource at an address, if an AE is. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails.
    pub fn ae_at(&self, to: &Target, now: SystemTime) -> Result<Option<String>, StoreError> {
        self.look(|read| match address::resolve(read, self.settings(), to, seconds(now)) {
            Ok(Place::Resource(found)) if found.record.ty == ResourceType::Ae => {
                Ok(Some(found.record.ri))
            }
            Err(Refusal::Store(error)) => Err(error),
            Ok(_) | Err(_) => Ok(None),
        })
    }

    fn look<T>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let looked = self.store().snapshot().and_then(|snapshot| work(snapshot.read()));
        looked.inspect_err(|error| self.note(error))
    }
}
