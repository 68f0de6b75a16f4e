//! The resource-ID of a new resource. A registering entity gets an identifier that is not in use
//! (TS-0001 clauses 10.2.2.2 and 10.2.2.7).

use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::id::{CseId, OriginatorId};
use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::access::grants::Access;
use crate::error::Refusal;
use crate::identifiers;
use crate::notification::verification::Verified;
use crate::operation::delete;
use crate::record::{Attributes, Record, Seconds, alive};
use crate::request::context::Context;
use crate::resource::children::is_child;
use crate::resource::schema::AttributeError;
use crate::resource::{
    address, ae_announcement, announced, registrant, remote_cse, representation,
    service_subscription,
};
use crate::settings::{INFRASTRUCTURE, Settings};
use crate::store::{Read, StoreError, Writer};

/// Length of the random part of an identifier: 95 bits, which cannot be guessed.
const RANDOM_LEN: usize = 16;

/// The identity that is assigned to a new resource.
pub(crate) struct AssignedIdentity {
    /// Resource-ID.
    pub(crate) ri: String,
    /// AE or CSE that the resource registers or announces, if any.
    pub(crate) registree: Option<Registree>,
}

/// An AE or a CSE that gets its own resource.
pub(crate) enum Registree {
    /// A registering AE. Its AE-ID-Stem is the resource-ID.
    Ae,
    /// A registering CSE.
    Cse(CseId),
    /// An AE that its registrar CSE announces.
    AnnouncedAe {
        /// The registrar CSE.
        cse: CseId,
        /// AE-ID-Stem.
        stem: String,
    },
    /// A registered CSE that announces its resources.
    AnnouncedCse(CseId),
}

impl AssignedIdentity {
    /// Returns the owner of the resource: the registree in whose subtree it is.
    pub(crate) fn owner(&self, parent: &Record) -> Option<String> {
        match &self.registree {
            None => parent.owner.clone(),
            Some(Registree::Ae) => Some(self.ri.clone()),
            Some(
                Registree::Cse(cse)
                | Registree::AnnouncedAe { cse, .. }
                | Registree::AnnouncedCse(cse),
            ) => Some(cse.to_string()),
        }
    }
}

/// Assigns a resource-ID to a resource of type `ty` that is created below `parent`.
///
/// # Errors
/// Returns the reason why the resource cannot be created.
pub(crate) fn assign(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    verified: Option<&Verified>,
    ty: ResourceType,
    parent: &Record,
) -> Result<AssignedIdentity, Refusal> {
    match ty {
        ResourceType::CseBase => return Err(Refusal::NotAllowed("a CSEBase cannot be created")),
        ResourceType::Request => {
            let why = "only the CSE creates a request resource, for a request with rt=1";
            return Err(Refusal::NotAllowed(why));
        }
        ResourceType::FlexContainerInstance => {
            return Err(Refusal::NotAllowed("only the CSE creates instances of a flexContainer"));
        }
        // TS-0004 clauses 7.3.3.3 and 7.4.4.2.1.
        _ if !representation::hosts(context.settings, ty) => {
            return Err(Refusal::NotAllowed("a CSE of this type does not host such resources"));
        }
        _ if !is_child(ty, parent.ty) => {
            return Err(Refusal::InvalidChild { child: ty, parent: parent.ty });
        }
        _ => {}
    }
    let (ri, registree) = match ty {
        ResourceType::Ae => (registering_ae(writer, context)?, Some(Registree::Ae)),
        ResourceType::RemoteCse => {
            let cse = registering_cse(writer, context)?;
            (remote_cse::ri_of(&cse), Some(Registree::Cse(cse)))
        }
        ResourceType::AeAnnc => {
            let (cse, stem) = announced_ae(writer, context, parent)?;
            (ae_announcement::ri_of(&stem), Some(Registree::AnnouncedAe { cse, stem }))
        }
        ResourceType::CseBaseAnnc => {
            let cse = announced_cse(writer, context)?;
            (announced::ri_of(&cse), Some(Registree::AnnouncedCse(cse)))
        }
        _ => match verified {
            // The targets received this resource-ID.
            Some(verified) => (verified.ri.clone(), None),
            None => {
                let short = ty.root().trim_start_matches("m2m:");
                (fresh(writer.read(), &format!("{short}-"))?, None)
            }
        },
    };
    Ok(AssignedIdentity { ri, registree })
}

/// Returns the random part of an identifier.
pub(crate) fn random() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), RANDOM_LEN)
}

/// Returns the AE-ID-Stem of a registering AE, from its From or newly assigned. It is also the
/// resource-ID.
fn registering_ae(writer: &mut Writer<'_>, context: &Context<'_>) -> Result<String, Refusal> {
    let from = context.request.from.as_deref().map(OriginatorId::parse).transpose();
    match from.map_err(Refusal::Originator)? {
        // Without a preference, a C-type stem, which the CSE may assign itself.
        None | Some(OriginatorId::AssignByRegistrar) => Ok(fresh(writer.read(), "C")?),
        Some(OriginatorId::AssignByServiceProvider)
            if context.settings.cse_type == INFRASTRUCTURE =>
        {
            Ok(fresh_stem(writer.read(), context.settings, context.now)?)
        }
        // At other CSEs, the IN-CSE assigns the stem through an announcement, which this CSE cannot
        // send.
        Some(OriginatorId::AssignByServiceProvider) => Err(Refusal::NotImplemented(
            "an S-type AE-ID cannot be assigned here: request a C-type",
        )),
        Some(OriginatorId::Stem(stem)) => {
            claim(writer, context, stem)?;
            Ok(stem.into())
        }
        Some(OriginatorId::SpRelative(_) | OriginatorId::Absolute { stem: None, .. }) => {
            Err(Refusal::NotAllowed("a CSE cannot register as an AE"))
        }
        Some(
            OriginatorId::SpRelativeAe { .. }
            | OriginatorId::SpRelativeAssign { .. }
            | OriginatorId::Absolute { stem: Some(_), .. },
        ) => Err(Refusal::NoStem),
    }
}

/// Checks that an AE-ID is free.
///
/// # Errors
/// Returns an error if it is in use.
fn claim(writer: &mut Writer<'_>, context: &Context<'_>, stem: &str) -> Result<(), Refusal> {
    if stem == context.settings.csebase_name {
        return Err(Refusal::AeIdTaken);
    }
    if identifiers::may_be_ae(stem) {
        // From another CSE, a CSE-ID and an S-type AE-ID look the same.
        if is_cse(writer.read(), context.settings, stem, context.now)? {
            return Err(Refusal::AeIdTaken);
        }
        if !free_announcement(writer, stem, context.now)? {
            return Err(Refusal::AlreadyRegistered(context.settings.ae_id_taken));
        }
    }
    match writer.read().get(stem)? {
        None => Ok(()),
        Some(r) if r.ty != ResourceType::Ae => Err(Refusal::AeIdTaken),
        Some(r)
            if context.request.creates(ResourceType::Ae)
                && registrant::belongs_to_another(&r, context.request) =>
        {
            delete::remove_remains(writer, stem)
        }
        Some(r) if alive(r.expires, context.now) => {
            Err(Refusal::AlreadyRegistered(context.settings.ae_id_taken))
        }
        Some(_) => delete::remove_remains(writer, stem),
    }
}

/// Returns whether a CSE-ID without its slash is that of a registered CSE.
fn is_cse(
    read: &dyn Read,
    settings: &Settings,
    bare: &str,
    now: Seconds,
) -> Result<bool, StoreError> {
    Ok(remote_cse::of(read, settings, &format!("/{bare}"), now)?.is_some())
}

/// Returns a new S-type AE-ID-Stem, unique in this service provider, for its IN-CSE.
fn fresh_stem(read: &dyn Read, settings: &Settings, now: Seconds) -> Result<String, StoreError> {
    loop {
        let stem = fresh(read, "S")?;
        if !is_cse(read, settings, &stem, now)? && ae_announcement::of(read, &stem, now)?.is_none()
        {
            return Ok(stem);
        }
    }
}

/// Returns an unused identifier.
pub(crate) fn fresh(read: &dyn Read, prefix: &str) -> Result<String, StoreError> {
    loop {
        let id = format!("{prefix}{}", random());
        if read.get(&id)?.is_none() {
            return Ok(id);
        }
    }
}

/// Returns the registering CSE.
///
/// # Errors
/// Returns the reason why it must not register.
fn registering_cse(writer: &mut Writer<'_>, context: &Context<'_>) -> Result<CseId, Refusal> {
    let settings = context.settings;
    let from = context.request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    match OriginatorId::parse(from).map_err(Refusal::Originator)? {
        OriginatorId::SpRelative(_) | OriginatorId::Absolute { stem: None, .. } => {}
        OriginatorId::AssignByRegistrar
        | OriginatorId::AssignByServiceProvider
        | OriginatorId::Stem(_)
        | OriginatorId::SpRelativeAe { .. }
        | OriginatorId::SpRelativeAssign { .. }
        | OriginatorId::Absolute { stem: Some(_), .. } => {
            return Err(Refusal::NotAllowed("an AE cannot register as a CSE"));
        }
    }
    let cse = settings
        .own_cse(from)
        .ok_or(Refusal::NotImplemented("a CSE of another service provider cannot register here"))?;
    if cse == settings.cse_id {
        return Err(Refusal::CseRegistered);
    }
    if identifiers::may_be_ae(cse.bare())
        && (registrant::registered_ae(writer.read(), cse.bare(), context.now)?.is_some()
            || ae_announcement::of(writer.read(), cse.bare(), context.now)?.is_some())
    {
        return Err(Refusal::NotAllowed("an AE cannot register as a CSE"));
    }
    let ri = remote_cse::ri_of(&cse);
    if ri == settings.csebase_name {
        return Err(Refusal::Conflict);
    }
    match writer.read().get(&ri)? {
        None => {}
        Some(r) if r.ty != ResourceType::RemoteCse => return Err(Refusal::Conflict),
        Some(r) if alive(r.expires, context.now) => return Err(Refusal::CseRegistered),
        Some(_) => delete::remove_remains(writer, &ri)?,
    }
    remove_announcements_of_another(writer, context, &cse)?;
    Ok(cse)
}

/// Removes the announcements of a former CSE whose CSE-ID another credential registers now. Otherwise
/// they would be those of the new CSE.
fn remove_announcements_of_another(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    cse: &CseId,
) -> Result<(), Refusal> {
    let ri = announced::ri_of(cse);
    let Some(base) = writer.read().get(&ri)?.filter(|r| r.ty == ResourceType::CseBaseAnnc) else {
        return Ok(());
    };
    let credential =
        context.request.credential.as_ref().map(|credential| credential.id.to_string());
    let former = base.registrant.map(|registrant| registrant.id);
    if former.is_some() && former == credential {
        return Ok(());
    }
    delete::remove_remains(writer, &ri)
}

/// Returns whether no AE with this AE-ID-Stem is announced. Removes the remains of a former
/// announcement.
fn free_announcement(writer: &mut Writer<'_>, stem: &str, now: Seconds) -> Result<bool, Refusal> {
    if ae_announcement::of(writer.read(), stem, now)?.is_some() {
        return Ok(false);
    }
    // The announcement has expired, or its parent has.
    let ri = ae_announcement::ri_of(stem);
    if writer.read().get(&ri)?.is_some() {
        delete::remove_remains(writer, &ri)?;
    }
    Ok(true)
}

/// Returns the announced AE, by its CSE and AE-ID-Stem, if it may be announced below `parent`.
///
/// # Errors
/// Returns the reason why it must not be announced.
fn announced_ae(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    parent: &Record,
) -> Result<(CseId, String), Refusal> {
    let settings = context.settings;
    let (cse, wanted) = ae_announcement::announcer(context.request)?;
    let id = cse.to_string();
    if remote_cse::of(writer.read(), settings, &id, context.now)?.is_none() {
        return Err(Refusal::NoRegistree);
    }
    if parent.ty == ResourceType::RemoteCse && parent.owner.as_deref() != Some(&id) {
        return Err(Refusal::NoPrivilege(Access::Create(ResourceType::AeAnnc).name()));
    }
    let stem = match wanted {
        None => fresh_stem(writer.read(), settings, context.now)?,
        Some(stem) => {
            claim(writer, context, stem.as_str()).map_err(|refusal| match refusal {
                // The code for a registering AE does not apply to an announcement.
                Refusal::AlreadyRegistered(_) => Refusal::AeAnnounced,
                other => other,
            })?;
            stem.to_string()
        }
    };
    if ae_announcement::ri_of(&stem) == settings.csebase_name {
        return Err(Refusal::Conflict);
    }
    Ok((cse, stem))
}

/// Returns the registered CSE that creates its `<CSEBaseAnnc>`.
///
/// # Errors
/// Returns an error if it has one.
fn announced_cse(writer: &mut Writer<'_>, context: &Context<'_>) -> Result<CseId, Refusal> {
    let cse = announced::announcer(writer.read(), context.settings, context.request, context.now)?;
    let ri = announced::ri_of(&cse);
    if ri == context.settings.csebase_name
        || address::by_id(writer.read(), &ri, context.now)?.is_some()
    {
        return Err(Refusal::Conflict);
    }
    if writer.read().get(&ri)?.is_some() {
        delete::remove_remains(writer, &ri)?;
    }
    Ok(cse)
}

/// Returns the resource-ID of a node with a CSE-ID, if the CSE has no other node.
///
/// # Errors
/// Returns an error if it has one, or the CSE belongs to another service provider.
pub(crate) fn subscribed_node(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    representation: &Attributes,
) -> Result<Option<String>, Refusal> {
    let Some(csi) = representation.get("csi").and_then(Value::as_str) else { return Ok(None) };
    let cse = context.settings.own_cse(csi).ok_or_else(|| {
        AttributeError::value("csi", "must be the CSE-ID of a CSE of this service provider")
    })?;
    let ri = service_subscription::ri_of(&cse);
    if ri == context.settings.csebase_name
        || address::by_id(writer.read(), &ri, context.now)?.is_some()
    {
        return Err(Refusal::NodeTaken);
    }
    if writer.read().get(&ri)?.is_some() {
        delete::remove_remains(writer, &ri)?;
    }
    Ok(Some(ri))
}
