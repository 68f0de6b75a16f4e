//! Announcements to the IN-CSE of AEs with an S-type AE-ID that register at another CSE (TS-0001
//! clause 10.2.2.2).
//!
//! An S-type AE-ID-Stem is unique in the service provider, so the IN-CSE assigns it: a generated
//! one, or a requested one that is free. It stores an `<AEAnnc>` with the stem in its resource-ID,
//! so an AE is found by its stem and announced once. The `<AEAnnc>` belongs to the announcing CSE,
//! and is below the `<CSEBase>` or below the CSE's `<remoteCSE>`.
//!
//! The identity of the originator and the service subscription are checked before the request
//! arrives here. [`Announcement`] has the input of these checks.

use saegis_onem2m::id::{AeIdStem, AppId, CredentialId, CseId, OriginatorId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::{Scope, Target};
use serde_json::Value;

use crate::error::Refusal;
use crate::record::{Attributes, Record, Seconds};
use crate::resource::address::{self, Resolved};
use crate::resource::schema::{AttributeError, LINK};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The attribute with the AE-ID-Stem.
pub(crate) const AE_ID: &str = "aei";

/// Prefix of the label with the Credential-ID.
const CREDENTIAL: &str = "Credential-ID:";

/// A CSE's request to the service provider for an AE that registers with it. The service
/// subscription of the CSE must allow it before it is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Registrar CSE of the AE.
    pub cse: CseId,
    /// Requested AE-ID-Stem; `None` if the service provider assigns one.
    pub stem: Option<AeIdStem>,
    /// App-ID.
    pub app_id: AppId,
    /// Credential-ID of its security association with the registrar CSE, if any.
    pub credential_id: Option<CredentialId>,
}

impl Announcement {
    /// Returns the announcement in a create of an `<AEAnnc>`; `None` for any other request, and for
    /// a malformed one.
    #[must_use]
    pub fn of(request: &RequestPrimitive) -> Option<Self> {
        if !request.creates(ResourceType::AeAnnc) {
            return None;
        }
        let (cse, stem) = announcer(request).ok()?;
        let attributes = representation(request)?;
        let app_id = AppId::parse(attributes.get("api")?.as_str()?).ok()?;
        let credential_id = credential(&attributes).ok()?;
        Some(Self { cse, stem, app_id, credential_id })
    }

    /// Returns the announcement that results from an update of an `<AEAnnc>` with the AE's present
    /// credential. Returns `None` for any other request, and for a malformed one.
    pub(crate) fn of_update(
        read: &dyn Read,
        settings: &Settings,
        request: &RequestPrimitive,
        now: Seconds,
    ) -> Result<Option<Self>, StoreError> {
        if request.operation != Operation::Update {
            return Ok(None);
        }
        let Some(Ok(credential_id)) = representation(request).map(|given| credential(&given))
        else {
            return Ok(None);
        };
        let record = match address::resolve(read, settings, &request.to, now) {
            Ok(Resolved::Resource(found)) if found.record.ty == ResourceType::AeAnnc => {
                found.record
            }
            Err(Refusal::Store(error)) => return Err(error),
            Ok(_) | Err(_) => return Ok(None),
        };
        let text = |name: &str| record.attributes.get(name).and_then(Value::as_str);
        let (stem, app_id) = (text(AE_ID), text("api"));
        let corrupt = || StoreError::Corrupt(record.ri.clone());
        Ok(Some(Self {
            cse: announced_by(&record)?,
            stem: Some(stem.and_then(|s| AeIdStem::parse(s).ok()).ok_or_else(corrupt)?),
            app_id: app_id.and_then(|id| AppId::parse(id).ok()).ok_or_else(corrupt)?,
            credential_id,
        }))
    }
}

/// Returns the attributes of an `<AEAnnc>` in the content of a request.
fn representation(request: &RequestPrimitive) -> Option<Attributes> {
    let mut content: Attributes = serde_json::from_slice(request.content.as_ref()?.bytes()).ok()?;
    match content.remove(ResourceType::AeAnnc.root())? {
        Value::Object(attributes) => Some(attributes),
        _ => None,
    }
}

/// Returns the announcing CSE, and the requested stem.
pub(crate) fn announcer(request: &RequestPrimitive) -> Result<(CseId, Option<AeIdStem>), Refusal> {
    let from = request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    let (cse, stem) = match OriginatorId::parse(from).map_err(Refusal::Originator)? {
        OriginatorId::SpRelativeAssign { cse } => (cse, None),
        OriginatorId::SpRelativeAe { cse, stem } if stem.starts_with('S') => (cse, Some(stem)),
        OriginatorId::AssignByRegistrar
        | OriginatorId::AssignByServiceProvider
        | OriginatorId::Stem(_)
        | OriginatorId::SpRelative(_)
        | OriginatorId::SpRelativeAe { .. }
        | OriginatorId::Absolute { .. } => return Err(Refusal::NoAnnouncer),
    };
    let cse = CseId::parse(cse).map_err(Refusal::Originator)?;
    Ok((cse, stem.map(AeIdStem::parse).transpose().map_err(Refusal::Originator)?))
}

/// Returns the Credential-ID in the labels.
fn credential(attributes: &Attributes) -> Result<Option<CredentialId>, AttributeError> {
    const LABELS: &str = "lbl";
    let labels = attributes.get(LABELS).and_then(Value::as_array);
    let labels = labels.into_iter().flatten().filter_map(Value::as_str);
    let mut named = labels.filter_map(|label| label.strip_prefix(CREDENTIAL));
    match (named.next(), named.next()) {
        (Some(""), None) => Ok(None),
        (Some(id), None) => CredentialId::parse(id).map(Some).map_err(|why| {
            AttributeError::value(LABELS, &format!("has a Credential-ID that {why}"))
        }),
        (Some(_), Some(_)) => {
            Err(AttributeError::value(LABELS, "must not have more than one Credential-ID"))
        }
        (None, _) => Err(AttributeError::value(
            LABELS,
            "must have a label Credential-ID: followed by the AE's Credential-ID, or by nothing",
        )),
    }
}

/// Returns the resource-ID of the `<AEAnnc>` for an AE-ID-Stem.
pub(crate) fn ri_of(stem: &str) -> String {
    format!("aeA-{stem}")
}

/// Returns the `<AEAnnc>` for an AE-ID-Stem.
pub(crate) fn of(read: &dyn Read, stem: &str, now: Seconds) -> Result<Option<Record>, StoreError> {
    let found = address::by_id(read, &ri_of(stem), now)?;
    Ok(found.map(|f| f.record).filter(|r| r.ty == ResourceType::AeAnnc))
}

/// Returns the CSE that announced an AE.
pub(crate) fn announced_by(record: &Record) -> Result<CseId, StoreError> {
    let owner = record.owner.as_deref().and_then(|id| CseId::parse(id).ok());
    owner.ok_or_else(|| StoreError::Corrupt(record.ri.clone()))
}

/// Returns the local or remote address of an AE with an S-type AE-ID, or of a resource below it.
///
/// The address `to` has the AE-ID in the position of a CSE-ID (TS-0001 clause 7.2). Returns `None`
/// for any other address, and if the AE does not exist.
pub(crate) fn locate(
    read: &dyn Read,
    to: &Target,
    now: Seconds,
) -> Result<Option<Target>, StoreError> {
    let Some(stem) = stem_in_cse_position(to) else { return Ok(None) };
    let below = to.resource.strip_prefix('-').unwrap_or(&to.resource).trim_start_matches('/');
    let resource = if below.is_empty() { stem.to_string() } else { format!("{stem}/{below}") };
    let here = address::by_id(read, stem.as_str(), now)?;
    if here.is_some_and(|found| found.record.ty == ResourceType::Ae) {
        return Ok(Some(Target { scope: Scope::CseRelative, resource }));
    }
    let Some(announced) = of(read, stem.as_str(), now)? else { return Ok(None) };
    Ok(Some(Target { scope: Scope::SpRelative(announced_by(&announced)?), resource }))
}

/// Returns the `<AEAnnc>` of the AE whose AE-ID an address has in the position of a CSE-ID.
pub(crate) fn at(read: &dyn Read, to: &Target, now: Seconds) -> Result<Option<Record>, StoreError> {
    match stem_in_cse_position(to) {
        Some(stem) => of(read, stem.as_str(), now),
        None => Ok(None),
    }
}

fn stem_in_cse_position(to: &Target) -> Option<AeIdStem> {
    let Scope::SpRelative(id) = &to.scope else { return None };
    AeIdStem::parse(id.bare()).ok().filter(|stem| stem.as_str().starts_with('S'))
}

/// Returns the address of an announced AE at its CSE, `/CSE-ID/S…`, which is the From of its
/// announcement.
pub(crate) fn ae_of(record: &Record) -> Option<String> {
    if record.ty != ResourceType::AeAnnc {
        return None;
    }
    let stem = record.attributes.get(AE_ID).and_then(Value::as_str)?;
    Some(format!("{}/{stem}", record.owner.as_deref()?))
}

/// Returns the registrant of an announced AE: its credential at its CSE, or that CSE if it has
/// none.
pub(crate) fn registrant(record: &Record) -> Option<String> {
    match credential(&record.attributes).ok()? {
        Some(credential) => Some(credential.to_string()),
        None => record.owner.clone(),
    }
}

/// Checks an `<AEAnnc>` as a whole: the AE's credential and its address.
///
/// # Errors
/// Returns an error if the label with the credential is missing or invalid, or the AE is not at its
/// CSE.
pub(crate) fn check(
    settings: &Settings,
    cse: &CseId,
    attributes: &Attributes,
) -> Result<(), AttributeError> {
    credential(attributes)?;
    let Some(link) = attributes.get(LINK).and_then(Value::as_str) else { return Ok(()) };
    let is_there = Target::from_address(link).is_ok_and(|target| {
        target.scope != Scope::CseRelative
            && target.is_at(cse, settings.service_provider.as_deref())
    });
    if is_there {
        return Ok(());
    }
    let why = "must be the SP-relative address of the AE at the CSE that announces it";
    Err(AttributeError::value(LINK, why))
}
