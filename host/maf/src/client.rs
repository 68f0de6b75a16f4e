//! The client side of the interface: creates requests and parses responses. It sends nothing
//! itself.
//!
//! The requests have the absolute address of the MAF. If a binding writes SP-relative addresses, the
//! base of the MAF takes the position of the CSE-ID.

use std::time::SystemTime;

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AbsoluteId, CseId, IdError, check_fqdn};
use saegis_onem2m::primitive::{Content, ContentError, Operation, RequestPrimitive};
use saegis_onem2m::target::{Scope, Target};
use saegis_onem2m::timestamp;
use serde_json::{Map, Value};

use crate::attributes::{
    AttributeError, MAX_TARGETS, ValueError, check_labels, check_relative_id, put, put_labels,
    write,
};
use crate::names;

/// A client of one MAF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    id: AbsoluteId,
    fqdn: String,
    base: CseId,
}

/// The properties of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Requested expiration time, which the MAF may shorten.
    pub expires: SystemTime,
    /// Labels.
    pub labels: Vec<String>,
    /// Domain name of the administrating stakeholder.
    pub admin_fqdn: String,
}

impl Terms {
    /// Returns terms without labels.
    #[must_use]
    pub fn until(expires: SystemTime, admin_fqdn: &str) -> Self {
        Self { expires, labels: Vec::new(), admin_fqdn: admin_fqdn.into() }
    }
}

/// The properties of a key registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTerms {
    /// Properties that each registration has.
    pub terms: Terms,
    /// Purpose of the key (TS-0004 clause 6.3.4.2.39).
    pub suid: u8,
    /// Clients that may fetch the key: exactly one with the SUIDs 32 and 33.
    pub targets: Vec<AbsoluteId>,
}

/// The changes of an update; `None` leaves a property unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// New expiration time.
    pub expires: Option<SystemTime>,
    /// New labels, which replace the old ones.
    pub labels: Option<Vec<String>>,
    /// New targets, only of a key that several may fetch (SUIDs 34 and 35).
    pub targets: Option<Vec<AbsoluteId>>,
}

/// The reason why a request cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// An attribute is invalid.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The RelativeKeyID or mafClientRegID is invalid.
    #[error("the resource's name {0}")]
    Name(ValueError),
    /// The content is invalid.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl Client {
    /// Creates the client with this identifier at the MAF with this domain name and this base, which
    /// is usually [`names::DEFAULT_BASE`].
    ///
    /// # Errors
    /// Returns an error if `maf_fqdn` is not a domain name.
    pub fn new(id: AbsoluteId, maf_fqdn: &str, base: CseId) -> Result<Self, IdError> {
        check_fqdn(maf_fqdn)?;
        Ok(Self { id, fqdn: maf_fqdn.to_ascii_lowercase(), base })
    }

    /// Returns the client's identifier.
    #[must_use]
    pub fn id(&self) -> &AbsoluteId {
        &self.id
    }

    /// Returns the MAF-FQDN, in lower case.
    #[must_use]
    pub fn maf_fqdn(&self) -> &str {
        &self.fqdn
    }

    /// Creates a MAF client registration request (clause 8.8.2.3).
    ///
    /// # Errors
    /// Returns an error if the terms are invalid.
    pub fn register(
        &self,
        request_id: &str,
        terms: &Terms,
    ) -> Result<RequestPrimitive, RequestError> {
        let attributes = put_terms(terms)?;
        self.create(request_id, RegistrationType::Client, attributes, None)
    }

    /// Creates a request that retrieves a registration. `id` is the mafClientRegID.
    ///
    /// # Errors
    /// Returns an error if the identifier is invalid.
    pub fn retrieve(&self, request_id: &str, id: &str) -> Result<RequestPrimitive, RequestError> {
        self.request(request_id, Operation::Retrieve, id)
    }

    /// Creates a MAF client registration update request (clause 8.8.2.5).
    ///
    /// # Errors
    /// Returns an error if the identifier or the changes are invalid.
    pub fn update(
        &self,
        request_id: &str,
        id: &str,
        changes: &Changes,
    ) -> Result<RequestPrimitive, RequestError> {
        self.change(request_id, RegistrationType::Client, id, changes)
    }

    /// Creates a MAF client de-registration request (clause 8.8.2.6).
    ///
    /// # Errors
    /// Returns an error if the identifier is invalid.
    pub fn deregister(&self, request_id: &str, id: &str) -> Result<RequestPrimitive, RequestError> {
        self.request(request_id, Operation::Delete, id)
    }

    /// Creates a MAF key registration request (clause 8.8.2.7). Without a value, the key is
    /// exported from the TLS session that carries the request.
    ///
    /// # Errors
    /// Returns an error if the terms are invalid.
    pub fn register_key(
        &self,
        request_id: &str,
        terms: &KeyTerms,
        value: Option<&PresharedKey>,
    ) -> Result<RequestPrimitive, RequestError> {
        let mut attributes = put_terms(&terms.terms)?;
        put(&mut attributes, names::SUID, terms.suid);
        put(&mut attributes, names::TARGET_IDS, target_list(&terms.targets)?);
        self.create(request_id, RegistrationType::Key, attributes, value)
    }

    /// Creates a MAF key retrieval request (clause 8.8.2.8).
    ///
    /// # Errors
    /// Returns an error if the RelativeKeyID is invalid.
    pub fn retrieve_key(
        &self,
        request_id: &str,
        relative_key_id: &str,
    ) -> Result<RequestPrimitive, RequestError> {
        self.request(request_id, Operation::Retrieve, relative_key_id)
    }

    /// Creates a MAF key registration update request (clause 8.8.2.9).
    ///
    /// # Errors
    /// Returns an error if the RelativeKeyID or the changes are invalid.
    pub fn update_key(
        &self,
        request_id: &str,
        relative_key_id: &str,
        changes: &Changes,
    ) -> Result<RequestPrimitive, RequestError> {
        self.change(request_id, RegistrationType::Key, relative_key_id, changes)
    }

    /// Creates a MAF key de-registration request (clause 8.8.2.10).
    ///
    /// # Errors
    /// Returns an error if the RelativeKeyID is invalid.
    pub fn deregister_key(
        &self,
        request_id: &str,
        relative_key_id: &str,
    ) -> Result<RequestPrimitive, RequestError> {
        self.request(request_id, Operation::Delete, relative_key_id)
    }

    fn create(
        &self,
        request_id: &str,
        root: RegistrationType,
        attributes: Map<String, Value>,
        key: Option<&PresharedKey>,
    ) -> Result<RequestPrimitive, RequestError> {
        let mut request = self.primitive(request_id, Operation::Create, "-");
        request.resource_type = Some(root.number());
        request.content = Some(Content::parse(write(root.name(), attributes, key))?);
        Ok(request)
    }

    fn change(
        &self,
        request_id: &str,
        root: RegistrationType,
        name: &str,
        changes: &Changes,
    ) -> Result<RequestPrimitive, RequestError> {
        let mut attributes = Map::new();
        if let Some(expires) = changes.expires {
            put(&mut attributes, names::EXPIRATION_TIME, timestamp::format(expires));
        }
        if let Some(labels) = &changes.labels {
            check_labels(labels).map_err(|why| AttributeError::Wrong(names::LABELS, why))?;
            put(&mut attributes, names::LABELS, labels.as_slice());
        }
        if let Some(targets) = &changes.targets {
            put(&mut attributes, names::TARGET_IDS, target_list(targets)?);
        }
        let mut request = self.request(request_id, Operation::Update, name)?;
        request.content = Some(Content::parse(write(root.name(), attributes, None))?);
        Ok(request)
    }

    fn request(
        &self,
        request_id: &str,
        operation: Operation,
        name: &str,
    ) -> Result<RequestPrimitive, RequestError> {
        check_relative_id(name).map_err(RequestError::Name)?;
        // In an address, these names mean the MAF's base or are invalid.
        if matches!(name, "-" | "_" | "." | "..") {
            return Err(RequestError::Name(ValueError::RelativeId));
        }
        Ok(self.primitive(request_id, operation, name))
    }

    fn primitive(
        &self,
        request_id: &str,
        operation: Operation,
        resource: &str,
    ) -> RequestPrimitive {
        let scope = Scope::Absolute { sp: self.fqdn.clone(), cse: self.base.clone() };
        let to = Target { scope, resource: resource.into() };
        let from = self.id.to_string();
        RequestPrimitive::own(operation, to, from, request_id.into())
    }
}

#[derive(Clone, Copy)]
enum RegistrationType {
    Client,
    Key,
}

impl RegistrationType {
    fn name(self) -> &'static str {
        match self {
            Self::Client => names::CLIENT_REGISTRATION,
            Self::Key => names::KEY_REGISTRATION,
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Client => names::CLIENT_REGISTRATION_TYPE,
            Self::Key => names::KEY_REGISTRATION_TYPE,
        }
    }
}

fn target_list(targets: &[AbsoluteId]) -> Result<Vec<Value>, AttributeError> {
    if targets.len() > MAX_TARGETS {
        return Err(AttributeError::Wrong(names::TARGET_IDS, ValueError::TooMany(MAX_TARGETS)));
    }
    Ok(targets.iter().map(|target| target.as_str().into()).collect())
}

fn put_terms(terms: &Terms) -> Result<Map<String, Value>, AttributeError> {
    check_labels(&terms.labels).map_err(|why| AttributeError::Wrong(names::LABELS, why))?;
    check_fqdn(&terms.admin_fqdn)
        .map_err(|why| AttributeError::Wrong(names::ADMIN_FQDN, why.into()))?;
    let mut attributes = Map::new();
    put(&mut attributes, names::EXPIRATION_TIME, timestamp::format(terms.expires));
    put(&mut attributes, names::ADMIN_FQDN, terms.admin_fqdn.as_str());
    put_labels(&mut attributes, &terms.labels);
    Ok(attributes)
}

mod response;
pub use response::{
    AnswerError, ClientRegistration, RegisteredKey, RetrievedKey, UpdatedClient, UpdatedKey,
    read_deleted, read_registered_key, read_registration, read_retrieved_key, read_updated_client,
    read_updated_key,
};

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
