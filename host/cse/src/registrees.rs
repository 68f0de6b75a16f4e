//! Queries about registrees and registration rules, for the component that decides on
//! registrations.

use std::time::SystemTime;

use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;

use crate::budget::RequestBudget;
use crate::cse::EmbeddedCse;
use crate::error::Refusal;
use crate::operation::delete;
use crate::record::names::Registrant;
use crate::record::{Record, alive, seconds};
use crate::resource::address::{self, Resolved};
use crate::resource::ae_announcement::{self, Announcement};
use crate::resource::remote_cse;
use crate::resource::service_subscription::{self, ServiceSubscription};
use crate::store::{Read, StoreError};

/// An AE that got its AE-ID by registering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedAe {
    /// AE-ID-Stem, which is its resource-ID.
    pub stem: String,
    /// Credential-ID with which it registered.
    pub credential_id: String,
}

impl EmbeddedCse {
    /// Returns the CSE-IDs of the registered CSEs, in the order of their registration. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn registree_cses(&self, now: SystemTime) -> Result<Vec<CseId>, StoreError> {
        self.read(|read| remote_cse::all(read, self.settings(), seconds(now)))
    }

    /// Returns whether a CSE is registered. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn is_registree_cse(&self, cse: &CseId, now: SystemTime) -> Result<bool, StoreError> {
        let id = cse.to_string();
        let found = self.read(|read| remote_cse::of(read, self.settings(), &id, seconds(now)))?;
        Ok(found.is_some())
    }

    /// Returns the applications that may register at a CSE according to the service subscriptions
    /// (TS-0004 clause 7.3.2.7). Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn service_subscription(
        &self,
        cse: &CseId,
        now: SystemTime,
    ) -> Result<ServiceSubscription, StoreError> {
        self.read(|read| service_subscription::about(read, self.settings(), cse, seconds(now)))
    }

    /// Returns the CSE that announced an AE with an S-type AE-ID: its registrar CSE, to which
    /// requests for it are sent. Returns `None` for an AE that is registered here or not at all.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn announced_at(
        &self,
        stem: &AeIdStem,
        now: SystemTime,
    ) -> Result<Option<CseId>, StoreError> {
        self.read(|read| {
            let announced = ae_announcement::of(read, stem.as_str(), seconds(now))?;
            announced.map(|record| ae_announcement::announced_by(&record)).transpose()
        })
    }

    /// Returns the local or remote address of an AE with an S-type AE-ID, or of a resource below
    /// it.
    ///
    /// The address `to` has the AE-ID in the position of a CSE-ID (TS-0001 clause 7.2). Returns
    /// `None` for any other address, and if the AE does not exist. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn locate(&self, to: &Target, now: SystemTime) -> Result<Option<Target>, StoreError> {
        self.read(|read| ae_announcement::locate(read, to, seconds(now)))
    }

    /// Returns the announcement that results from an update of an `<AEAnnc>` with the AE's
    /// credential. The service subscription must allow it like that of a create
    /// ([`Announcement::of`]). Returns `None` for any other request. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn announced_anew(
        &self,
        request: &RequestPrimitive,
        now: SystemTime,
    ) -> Result<Option<Announcement>, StoreError> {
        let now = seconds(now);
        self.read(|read| Announcement::of_update(read, self.settings(), request, now))
    }

    /// Returns the AE-ID-Stem of the AE at an address, if the resource is an AE. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn ae_at(&self, to: &Target, now: SystemTime) -> Result<Option<String>, StoreError> {
        self.read(|read| match address::resolve(read, self.settings(), to, seconds(now)) {
            Ok(Resolved::Resource(found)) if found.record.ty == ResourceType::Ae => {
                Ok(Some(found.record.ri))
            }
            Err(Refusal::Store(error)) => Err(error),
            Ok(_) | Err(_) => Ok(None),
        })
    }

    /// Returns whether an AE with this AE-ID-Stem is registered here. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn is_ae(&self, stem: &AeIdStem, now: SystemTime) -> Result<bool, StoreError> {
        let is_ae = |r: Record| r.ty == ResourceType::Ae && alive(r.expires, seconds(now));
        self.read(|read| Ok(read.get(stem.as_str())?.is_some_and(is_ae)))
    }

    /// Returns the AEs that got their AE-ID by registering, with their Credential-IDs, except for
    /// those whose AE-ID-Stem is `known`. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn learned_aes(
        &self,
        known: &dyn Fn(&str) -> bool,
        now: SystemTime,
    ) -> Result<Vec<LearnedAe>, StoreError> {
        let base = self.settings().cse_id.bare();
        self.read(|read| {
            let mut all = Vec::new();
            let mut after = None;
            while let Some(child) = read.next_of_type(base, ResourceType::Ae, after)? {
                after = Some(child.sequence);
                if known(&child.ri) {
                    continue;
                }
                let record = read.get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
                let registrant = record.registrant.filter(|r| r.learned_ae_id && !r.freed);
                if let Some(registrant) = registrant
                    && alive(record.expires, seconds(now))
                {
                    all.push(LearnedAe { stem: record.ri, credential_id: registrant.id });
                }
            }
            Ok(all)
        })
    }

    /// Records that a credential has lost the AE-ID that it got by registering. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn forget_credential(&self, stem: &str, credential_id: &str) -> Result<(), StoreError> {
        let is_its = |ae: &Record| {
            let its = ae.registrant.as_ref().filter(|registrant| registrant.id == credential_id);
            ae.ty == ResourceType::Ae
                && its.is_some_and(|registrant| registrant.learned_ae_id && !registrant.freed)
        };
        // Most credentials have no such AE.
        if !self.read(|read| Ok(read.get(stem)?.is_some_and(|ae| is_its(&ae))))? {
            return Ok(());
        }
        let forgotten = self.store().write(&RequestBudget::unlimited(), |writer| {
            if let Some(mut ae) = writer.read().get(stem)?.filter(is_its) {
                ae.registrant = ae.registrant.map(|its| Registrant { freed: true, ..its });
                writer.put(&ae)?;
            }
            Ok(())
        });
        forgotten.inspect_err(|error| self.state().suspect_store(error))
    }

    /// Removes the AE with this AE-ID-Stem and everything below it. With a Credential-ID, removes
    /// only an AE that this credential registered. Subscribers are not notified. Returns whether
    /// the AE existed. Blocks on the disk.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn remove_ae(
        &self,
        stem: &AeIdStem,
        credential_id: Option<&str>,
    ) -> Result<bool, StoreError> {
        let removed = self.store().write(&RequestBudget::unlimited(), |writer| {
            let is_it = |ae: &Record| {
                let registrant = ae.registrant.as_ref().map(|registrant| registrant.id.as_str());
                ae.ty == ResourceType::Ae
                    && (credential_id.is_none() || registrant == credential_id)
            };
            let Some(ae) = writer.read().get(stem.as_str())?.filter(is_it) else {
                return Ok(false);
            };
            delete::expired(writer, &ae)?;
            Ok(true)
        });
        removed.inspect_err(|error| self.state().suspect_store(error))
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let looked = self
            .store()
            .snapshot(&RequestBudget::unlimited())
            .and_then(|snapshot| work(snapshot.read()));
        looked.inspect_err(|error| self.state().suspect_store(error))
    }
}
