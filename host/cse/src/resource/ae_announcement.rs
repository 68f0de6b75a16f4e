//! AEs with an S-type AE-ID that register at another CSE, as their CSE announces them to the IN-CSE
//! (TS-0001 clause 10.2.2.2).
//!
//! An S-type AE-ID-Stem is unique in the service provider, so the IN-CSE gives it away: one that it
//! makes up, or the one that is wanted, if nobody has it. It keeps an `<AEAnnc>` with the stem in
//! its resource-ID, so an AE is found by its name and announced once. The `<AEAnnc>` is the
//! announcing CSE's, and stands below the `<CSEBase>` or below its own `<remoteCSE>`.
//!
//! That the originator is that CSE, and that the service subscription allows the AE there, is
//! checked before the request comes here; [`Announcement`] says what has to be asked.

use saegis_onem2m::id::{AeIdStem, AppId, CredentialId, CseId, OriginatorId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::{Scope, Target};
use serde_json::Value;

use crate::error::Refusal;
use crate::record::{Attributes, Record, Seconds};
use crate::resource::address::{self, Resolved};
use crate::resource::schema::AttributeError;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The attribute with the AE-ID-Stem.
pub(crate) const AE_ID: &str = "aei";

/// The attribute that leads to the AE's own resource.
const LINK: &str = "lnk";

/// What the label with the Credential-ID starts with.
const CREDENTIAL: &str = "Credential-ID:";

/// What a CSE asks of the service provider for an AE that registers with it. The service
/// subscription of that CSE has to allow it, before the CSE is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The CSE that the AE registers at.
    pub cse: CseId,
    /// The AE-ID-Stem that it wants; none where the service provider is to assign one.
    pub stem: Option<AeIdStem>,
    /// Its App-ID.
    pub app_id: AppId,
    /// The Credential-ID of its security association with that CSE; none where it has none.
    pub credential_id: Option<CredentialId>,
}

impl Announcement {
    /// What a create of an `<AEAnnc>` asks for. None for any other request, and for one that the
    /// CSE refuses by its form.
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

    /// What an update of an `<AEAnnc>` asks for that says with which credential the AE is there now.
    /// None for any other request, and for one that the CSE refuses by its form.
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

/// The attributes of an `<AEAnnc>` in a content.
fn representation(request: &RequestPrimitive) -> Option<Attributes> {
    let mut content: Attributes = serde_json::from_slice(request.content.as_ref()?.bytes()).ok()?;
    match content.remove(ResourceType::AeAnnc.root())? {
        Value::Object(attributes) => Some(attributes),
        _ => None,
    }
}

/// Who announces, and the stem that it wants.
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

/// The Credential-ID that the labels name.
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
            "must have a label Credential-ID: with the AE's Credential-ID, or nothing, behind it",
        )),
    }
}

/// The resource-ID of the `<AEAnnc>` of an AE-ID-Stem.
pub(crate) fn ri_of(stem: &str) -> String {
    format!("aeA-{stem}")
}

/// The `<AEAnnc>` of that AE-ID-Stem.
pub(crate) fn of(read: &dyn Read, stem: &str, now: Seconds) -> Result<Option<Record>, StoreError> {
    let found = address::by_id(read, &ri_of(stem), now)?;
    Ok(found.map(|f| f.record).filter(|r| r.ty == ResourceType::AeAnnc))
}

/// The CSE that announced an AE.
pub(crate) fn announced_by(record: &Record) -> Result<CseId, StoreError> {
    let owner = record.owner.as_deref().and_then(|id| CseId::parse(id).ok());
    owner.ok_or_else(|| StoreError::Corrupt(record.ri.clone()))
}

/// Where an AE with an S-type AE-ID is, or what is below it, whose address has the AE-ID in the place of
/// a CSE-ID (TS-0001 clause 7.2): here, or at the CSE that announced it. None where the address is no
/// such one, or there is no such AE.
pub(crate) fn locate(
    read: &dyn Read,
    to: &Target,
    now: Seconds,
) -> Result<Option<Target>, StoreError> {
    let Some(stem) = stem_in_place_of_cse(to) else { return Ok(None) };
    let below = to.resource.strip_prefix('-').unwrap_or(&to.resource).trim_start_matches('/');
    let resource = if below.is_empty() { stem.to_string() } else { format!("{stem}/{below}") };
    let here = address::by_id(read, stem.as_str(), now)?;
    if here.is_some_and(|found| found.record.ty == ResourceType::Ae) {
        return Ok(Some(Target { scope: Scope::CseRelative, resource }));
    }
    let Some(announced) = of(read, stem.as_str(), now)? else { return Ok(None) };
    Ok(Some(Target { scope: Scope::SpRelative(announced_by(&announced)?), resource }))
}

/// The `<AEAnnc>` of the AE whose AE-ID an address has in the place of a CSE-ID.
pub(crate) fn at(read: &dyn Read, to: &Target, now: Seconds) -> Result<Option<Record>, StoreError> {
    match stem_in_place_of_cse(to) {
        Some(stem) => of(read, stem.as_str(), now),
        None => Ok(None),
    }
}

fn stem_in_place_of_cse(to: &Target) -> Option<AeIdStem> {
    let Scope::SpRelative(id) = &to.scope else { return None };
    AeIdStem::parse(id.bare()).ok().filter(|stem| stem.as_str().starts_with('S'))
}

/// The AE of an `<AEAnnc>` at its CSE, `/CSE-ID/S…`: the From that its CSE announces it with.
pub(crate) fn ae_of(record: &Record) -> Option<String> {
    if record.ty != ResourceType::AeAnnc {
        return None;
    }
    let stem = record.attributes.get(AE_ID).and_then(Value::as_str)?;
    Some(format!("{}/{stem}", record.owner.as_deref()?))
}

/// The registrant of an announced AE: its credential at its CSE, or that CSE where it has none.
pub(crate) fn registrant(record: &Record) -> Option<String> {
    match credential(&record.attributes).ok()? {
        Some(credential) => Some(credential.to_string()),
        None => record.owner.clone(),
    }
}

/// Checks an `<AEAnnc>` as a whole: with which credential the AE is there, and where it is.
///
/// # Errors
/// When it does not say the one, or says that the AE is elsewhere than at its CSE.
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
