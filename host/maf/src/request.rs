//! The operation of a request, parsed without the store and the clock, so that policy decides on
//! the same operation that is executed afterwards.

use std::time::SystemTime;

use saegis_onem2m::credential::{KeyStrength, PresharedKey};
use saegis_onem2m::id::{AbsoluteId, CseId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::target::{Scope, Target};

use crate::attributes::{Attributes, required};
use crate::error::Refusal;
use crate::names;
use crate::record::{Seconds, time};

/// An operation of a MAF with its parameters.
pub(crate) enum MafOperation<'r> {
    /// MAF client registration (clause 8.8.2.3).
    RegisterClient(NewClient),
    /// MAF client configuration retrieval (clause 8.8.2.4).
    RetrieveClient(&'r str),
    /// MAF client registration update (clause 8.8.2.5).
    UpdateClient(&'r str, Change),
    /// MAF client de-registration (clause 8.8.2.6).
    DeregisterClient(&'r str),
    /// MAF key registration (clause 8.8.2.7).
    RegisterKey(NewKey),
    /// MAF key retrieval (clause 8.8.2.8).
    RetrieveKey(&'r str),
    /// MAF key registration update (clause 8.8.2.9).
    UpdateKey(&'r str, Change),
    /// MAF key de-registration (clause 8.8.2.10).
    DeregisterKey(&'r str),
}

/// The content of a client registration.
pub(crate) struct NewClient {
    pub(crate) expires: Seconds,
    pub(crate) labels: Vec<String>,
    pub(crate) admin: String,
}

/// The content of a key registration.
pub(crate) struct NewKey {
    pub(crate) expires: Seconds,
    pub(crate) labels: Vec<String>,
    pub(crate) admin: String,
    pub(crate) suid: u8,
    pub(crate) targets: Vec<AbsoluteId>,
    pub(crate) key: Option<PresharedKey>,
    /// Whether the request has a key that is weak.
    pub(crate) is_weak: bool,
}

/// The content of an update. Other attributes cannot be changed: another purpose or another key needs
/// another registration.
pub(crate) struct Change {
    pub(crate) expires: Option<Seconds>,
    pub(crate) labels: Option<Vec<String>>,
    /// Targets; only of a key (clause 8.8.2.9).
    pub(crate) targets: Option<Vec<AbsoluteId>>,
}

/// A key registration of a client, or its update with other targets, on which policy decides (clauses
/// 8.8.2.7 and 8.8.2.9).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRegistration {
    /// Purpose of the key (TS-0004 clause 6.3.4.2.39), 32 to 35.
    pub suid: u8,
    /// Clients that may fetch the key.
    pub targets: Vec<AbsoluteId>,
    /// Requested expiration time, before the MAF limits it.
    pub expires: SystemTime,
    /// Labels.
    pub labels: Vec<String>,
    /// Domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// Origin of the key.
    pub origin: KeyOrigin,
}

/// The origin of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The TLS session of the request, which exports it.
    Session,
    /// The request.
    Request,
    /// An earlier registration, which the request updates.
    Stored,
}

impl NewKey {
    /// Returns what policy decides on.
    pub(crate) fn registration(&self) -> KeyRegistration {
        KeyRegistration {
            suid: self.suid,
            targets: self.targets.clone(),
            expires: time(self.expires),
            labels: self.labels.clone(),
            admin_fqdn: self.admin.clone(),
            origin: if self.key.is_some() { KeyOrigin::Request } else { KeyOrigin::Session },
        }
    }
}

/// Returns whether an address of a MAF belongs to this one.
pub(crate) fn is_at(target: &Target, fqdn: &str) -> bool {
    match &target.scope {
        Scope::CseRelative | Scope::SpRelative(_) => true,
        Scope::Absolute { sp, .. } => sp.eq_ignore_ascii_case(fqdn),
    }
}

/// Returns the resource below the base that a request addresses; `None` for the base itself.
fn below_base<'t>(target: &'t Target, own: &CseId) -> Result<Option<&'t str>, Refusal> {
    let resource = match &target.scope {
        Scope::SpRelative(base) | Scope::Absolute { cse: base, .. } => {
            if base != own {
                return Err(Refusal::NotFound);
            }
            target.resource.as_str()
        }
        Scope::CseRelative => match target.resource.split_once('/') {
            Some((base, resource)) if base == own.bare() => resource,
            None if target.resource == own.bare() => "-",
            _ => return Err(Refusal::NotFound),
        },
    };
    match resource {
        "-" => Ok(None),
        // An identifier that is too long cannot exist. It is answered like an unknown one, before
        // it is hashed.
        name if crate::attributes::check_relative_id(name).is_err() => Err(Refusal::NotFound),
        name => Ok(Some(name)),
    }
}

impl<'r> MafOperation<'r> {
    /// Parses the operation of a request.
    pub(crate) fn read(request: &'r RequestPrimitive, base: &CseId) -> Result<Self, Refusal> {
        let Some(name) = below_base(&request.to, base)? else {
            return match (request.operation, request.resource_type) {
                (Operation::Create, Some(names::CLIENT_REGISTRATION_TYPE)) => {
                    new_client(request).map(Self::RegisterClient)
                }
                (Operation::Create, Some(names::KEY_REGISTRATION_TYPE)) => {
                    new_key(request).map(Self::RegisterKey)
                }
                (Operation::Create, _) => Err(Refusal::ResourceType),
                _ => Err(Refusal::NotAllowed),
            };
        };
        let client = name.starts_with(names::CLIENT_REGISTRATION_PREFIX);
        match (request.operation, client) {
            (Operation::Retrieve, true) => Ok(Self::RetrieveClient(name)),
            (Operation::Update, true) => {
                Ok(Self::UpdateClient(name, change(request, names::CLIENT_REGISTRATION)?))
            }
            (Operation::Delete, true) => Ok(Self::DeregisterClient(name)),
            (Operation::Retrieve, false) => Ok(Self::RetrieveKey(name)),
            (Operation::Update, false) => {
                Ok(Self::UpdateKey(name, change(request, names::KEY_REGISTRATION)?))
            }
            (Operation::Delete, false) => Ok(Self::DeregisterKey(name)),
            (Operation::Create | Operation::Notify, _) => Err(Refusal::NotAllowed),
        }
    }
}

fn attributes<'r>(
    request: &'r RequestPrimitive,
    root: &'static str,
    known: &[&'static str],
) -> Result<Attributes<'r>, Refusal> {
    let content = request.content.as_ref().ok_or(crate::attributes::AttributeError::None)?;
    Ok(Attributes::read(content.bytes(), root, known)?)
}

fn new_client(request: &RequestPrimitive) -> Result<NewClient, Refusal> {
    let known = [names::EXPIRATION_TIME, names::LABELS, names::ADMIN_FQDN];
    let attributes = attributes(request, names::CLIENT_REGISTRATION, &known)?;
    Ok(NewClient {
        expires: required(names::EXPIRATION_TIME, attributes.expiration()?)?,
        labels: attributes.labels()?,
        admin: required(names::ADMIN_FQDN, attributes.admin()?)?,
    })
}

/// SUIDs for security association establishment, and for primitives that are protected end to end.
/// Each such key is between two entities, so it has one target (clause 8.8.2.7).
const SINGLE_TARGET_SUIDS: [u8; 2] = [32, 33];

/// Returns whether keys with this SUID have exactly one target.
pub(crate) fn has_single_target(suid: u8) -> bool {
    SINGLE_TARGET_SUIDS.contains(&suid)
}

/// SUIDs of keys that a MAF distributes: the two above, and those for data that is protected end to
/// end, which any number of targets may read.
const MAF_SUIDS: std::ops::RangeInclusive<u8> = 32..=35;

fn new_key(request: &RequestPrimitive) -> Result<NewKey, Refusal> {
    let known = [
        names::EXPIRATION_TIME,
        names::LABELS,
        names::ADMIN_FQDN,
        names::SUID,
        names::TARGET_IDS,
        names::KEY_VALUE,
    ];
    let attributes = attributes(request, names::KEY_REGISTRATION, &known)?;
    let suid = required(names::SUID, attributes.suid()?)?;
    if !MAF_SUIDS.contains(&suid) {
        return Err(Refusal::Suid);
    }
    let targets = attributes.targets()?;
    if has_single_target(suid) && targets.len() != 1 {
        return Err(Refusal::Targets(suid, targets.len()));
    }
    let key = attributes.key()?;
    let strength = key.as_ref().map(|key| KeyStrength::of(key.expose(), PresharedKey::MIN_OF_MAF));
    let strength = strength.transpose().map_err(Refusal::GuessableKey)?;
    Ok(NewKey {
        expires: required(names::EXPIRATION_TIME, attributes.expiration()?)?,
        labels: attributes.labels()?,
        admin: required(names::ADMIN_FQDN, attributes.admin()?)?,
        suid,
        targets,
        is_weak: strength == Some(KeyStrength::Weak),
        key,
    })
}

fn change(request: &RequestPrimitive, root: &'static str) -> Result<Change, Refusal> {
    let of_key = root == names::KEY_REGISTRATION;
    let known = [names::EXPIRATION_TIME, names::LABELS, names::TARGET_IDS];
    let known = if of_key { &known[..] } else { &known[..2] };
    let attributes = attributes(request, root, known)?;
    let labels = if attributes.is_null(names::LABELS) {
        Some(Vec::new())
    } else if attributes.has(names::LABELS) {
        Some(attributes.labels()?)
    } else {
        None
    };
    let targets = attributes.has(names::TARGET_IDS).then(|| attributes.targets()).transpose()?;
    let change = Change { expires: attributes.expiration()?, labels, targets };
    if change.expires.is_none() && change.labels.is_none() && change.targets.is_none() {
        return Err(Refusal::NothingToUpdate);
    }
    Ok(change)
}
