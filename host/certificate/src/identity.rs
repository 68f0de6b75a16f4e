//! Whom a certificate names: one identity out of its subject alternative names, of a flavour that
//! its trust anchor vouches for (TS-0003 clauses 8.1.2.5 and 10.1.1).

use std::fmt;

use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{
    AbsoluteId, AeIdStem, CredentialId, CseId, MAX_LEN, OriginatorId, check_fqdn,
};
use x509_parser::asn1_rs::{Any, Class, FromDer as _, OctetString, Oid};
use x509_parser::extensions::GeneralName;

use crate::flavour::Flavour;
use crate::parsed::ParsedCertificate;
use crate::public_key::PublicKeyId;
use crate::rejection::Rejection;

/// What this CSE knows of names: its own, and its service provider's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Its CSE-ID.
    pub cse: CseId,
    /// The domain name of its service provider.
    pub service_provider: Option<String>,
    /// The CSE-ID of the service provider's IN-CSE, if that is known: its label is in the names of all
    /// that register there.
    pub in_cse: Option<CseId>,
    /// CSEs that are known by their CSE-IDs. Domain names have no case and CSE-IDs have: a name that
    /// differs from one of these in case alone is that one's.
    pub known: Vec<CseId>,
    /// Whether AEs of any CSE may come, as to a MAF.
    pub of_any_cse: bool,
}

impl Names {
    /// Nothing is known but the CSE itself and its service provider.
    #[must_use]
    pub fn of(cse: CseId, service_provider: Option<String>) -> Self {
        Self { cse, service_provider, in_cse: None, known: Vec::new(), of_any_cse: false }
    }
}

/// Whom a certificate, or a raw public key, names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// An AE that may register at this CSE.
    Ae {
        /// Its absolute AE-ID, as the certificate has it.
        absolute: String,
        /// Its AE-ID-Stem.
        stem: AeIdStem,
    },
    /// A CSE of this service provider.
    Cse {
        /// Its public domain name, as the certificate has it.
        name: String,
        /// Its CSE-ID.
        cse: CseId,
    },
    /// A node, by its M2M-Node-ID.
    Node(String),
    /// A device, by an object identifier or by a type and a serial number.
    Device(String),
    /// A server, by the domain name that was asked for.
    Fqdn(String),
    /// A public key.
    PublicKey(PublicKeyId),
}

impl Identity {
    /// The flavour of what named it.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        match self {
            Self::Ae { .. } => Flavour::AeId,
            Self::Cse { .. } => Flavour::CseId,
            Self::Node(_) => Flavour::NodeId,
            Self::Device(_) => Flavour::Device,
            Self::Fqdn(_) => Flavour::Fqdn,
            Self::PublicKey(_) => Flavour::RawPublicKey,
        }
    }

    /// The entity that it binds by itself; none, where that is for policy to say (TS-0003 clause
    /// 8.2.2.2).
    #[must_use]
    pub fn entity(&self) -> Option<Entity> {
        match self {
            Self::Ae { stem, .. } => Some(Entity::Ae(stem.clone())),
            Self::Cse { cse, .. } => Some(Entity::Cse(cse.clone())),
            Self::Node(_) | Self::Device(_) | Self::Fqdn(_) | Self::PublicKey(_) => None,
        }
    }

    /// Its absolute AE-ID or CSE-ID, if it names an AE or a CSE of that service provider.
    #[must_use]
    pub fn absolute(&self, service_provider: Option<&str>) -> Option<AbsoluteId> {
        match self {
            Self::Ae { absolute, .. } => AbsoluteId::parse(absolute).ok(),
            Self::Cse { cse, .. } => {
                AbsoluteId::parse(&format!("//{}{cse}", service_provider?)).ok()
            }
            Self::Node(_) | Self::Device(_) | Self::Fqdn(_) | Self::PublicKey(_) => None,
        }
    }

    /// Its Credential-ID (TS-0003 clauses 10.4 and 12.3.2.1). FQDN certificates have none: who has
    /// one is a MAF or a MEF, and no registree.
    #[must_use]
    pub fn credential_id(&self) -> Option<CredentialId> {
        let (kind, value) = match self {
            Self::PublicKey(id) => (30, id.to_string()),
            Self::Device(id) => (31, id.clone()),
            Self::Cse { name, .. } => (32, name.clone()),
            Self::Ae { absolute, .. } => (33, absolute.clone()),
            Self::Node(id) => (34, id.clone()),
            Self::Fqdn(_) => return None,
        };
        CredentialId::parse(&format!("{kind}-{value}")).ok()
    }
}

/// In words, for logs.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ae { absolute, .. } => write!(f, "the AE-ID {absolute}"),
            Self::Cse { name, .. } => write!(f, "the CSE {name}"),
            Self::Node(id) => write!(f, "the Node-ID {id}"),
            Self::Device(id) => write!(f, "the device {id}"),
            Self::Fqdn(name) => write!(f, "the domain name {name}"),
            Self::PublicKey(id) => write!(f, "the public key {id}"),
        }
    }
}

/// The one identity in a certificate's subject alternative names, of the flavours that its anchor
/// vouches for. A name that could be no identity of those flavours is passed over; two that are
/// different identities are none.
pub(crate) fn of(
    read: &ParsedCertificate<'_>,
    flavours: &[Flavour],
    own: &Names,
) -> Result<Identity, Rejection> {
    no_wildcards(read)?;
    let mut found: Option<Identity> = None;
    let mut foreign = None;
    for name in &read.names {
        match identity(name, flavours, own) {
            Ok(None) => {}
            Ok(Some(identity)) => match &found {
                // A device may have several identifiers, all of it: the first counts.
                Some(Identity::Device(_)) if matches!(identity, Identity::Device(_)) => {}
                Some(first) if *first != identity => {
                    return Err(Rejection::Conflict(first.to_string(), identity.to_string()));
                }
                Some(_) => {}
                None => found = Some(identity),
            },
            Err(rejection) => foreign = Some(rejection),
        }
    }
    match (found, foreign) {
        (_, Some(rejection)) => Err(rejection),
        (Some(identity), None) => Ok(identity),
        (None, None) => Err(Rejection::no_identity(flavours)),
    }
}

/// Whether a certificate is that of the server with that domain name.
pub(crate) fn is_server(read: &ParsedCertificate<'_>, name: &str) -> Result<(), Rejection> {
    no_wildcards(read)?;
    let is = |n: &GeneralName<'_>| matches!(n, GeneralName::DNSName(dns) if dns.eq_ignore_ascii_case(name));
    if read.names.iter().any(is) { Ok(()) } else { Err(Rejection::AnotherServer(name.into())) }
}

/// No flavour may have wildcards (TS-0003 clause 10.1.1).
fn no_wildcards(read: &ParsedCertificate<'_>) -> Result<(), Rejection> {
    for name in &read.names {
        if let GeneralName::DNSName(text) | GeneralName::URI(text) = name
            && text.contains('*')
        {
            return Err(Rejection::Wildcard((*text).into()));
        }
    }
    Ok(())
}

fn identity(
    name: &GeneralName<'_>,
    flavours: &[Flavour],
    own: &Names,
) -> Result<Option<Identity>, Rejection> {
    let vouched = |flavour| flavours.contains(&flavour);
    match name {
        GeneralName::URI(uri) if uri.starts_with("//") => {
            if vouched(Flavour::AeId) {
                ae(uri, own).map(Some)
            } else {
                Ok(None)
            }
        }
        GeneralName::URI(uri) if vouched(Flavour::NodeId) => node(uri).map(Some),
        GeneralName::DNSName(name) if vouched(Flavour::CseId) => cse(name, own),
        GeneralName::OtherName(kind, value) if vouched(Flavour::Device) => device(kind, value),
        _ => Ok(None),
    }
}

/// The match is by the whole of it, each character as it is (TS-0003 clause 8.1.2.5).
fn ae(uri: &str, own: &Names) -> Result<Identity, Rejection> {
    let not_ours = |why| Err(Rejection::NotOurs(format!("the AE-ID {uri}"), why));
    let Some(provider) = own.service_provider.as_deref() else {
        return not_ours("the gateway does not know its service provider (cse.service-provider)");
    };
    let (sp, stem) = match OriginatorId::parse(uri) {
        Ok(OriginatorId::Absolute { sp, first, stem: Some(stem) }) if stem.starts_with('C') => {
            if first != own.cse.bare() && !own.of_any_cse {
                return not_ours("it is of an AE at another CSE");
            }
            (sp, stem)
        }
        Ok(OriginatorId::Absolute { sp, first, stem: None }) if first.starts_with('S') => {
            (sp, first)
        }
        _ => return not_ours("it is no absolute AE-ID"),
    };
    if sp != provider {
        return not_ours("it is of an AE of another service provider");
    }
    if uri.len() > MAX_LEN - 3 {
        return not_ours("it is too long for a Credential-ID");
    }
    match AeIdStem::parse(stem) {
        Ok(stem) => Ok(Identity::Ae { absolute: uri.into(), stem }),
        Err(_) => not_ours("it is no absolute AE-ID"),
    }
}

fn node(uri: &str) -> Result<Identity, Rejection> {
    let plain = uri.bytes().all(|b| b.is_ascii_graphic());
    if uri.is_empty() || uri.len() > MAX_LEN - 3 || !plain {
        return Err(Rejection::Malformed("its Node-ID is empty, too long, or has odd characters"));
    }
    Ok(Identity::Node(uri.into()))
}

/// The public domain name of a CSE: `<CSE-ID>.<service provider>` of an IN-CSE, and one label more,
/// the IN-CSE's, of the others (TS-0001 clause 6.5.1.1). Other domain names are those of servers.
fn cse(name: &str, own: &Names) -> Result<Option<Identity>, Rejection> {
    let Some(provider) = own.service_provider.as_deref() else {
        let why = "the gateway does not know its service provider (cse.service-provider)";
        return Err(Rejection::NotOurs(format!("the CSE {name}"), why));
    };
    let Some((first, domain)) = name.split_once('.') else { return Ok(None) };
    let ours = |domain: &str| domain.eq_ignore_ascii_case(provider);
    let same = |label: &str, cse: &CseId| label.eq_ignore_ascii_case(cse.bare());
    let through_in = domain.split_once('.').filter(|(_, rest)| ours(rest)).map(|(label, _)| label);
    if !ours(domain) && through_in.is_none() || check_fqdn(name).is_err() {
        return Ok(None);
    }
    let not_ours = |why| Err(Rejection::NotOurs(format!("the CSE {name}"), why));
    if let (Some(label), Some(in_cse)) = (through_in, &own.in_cse)
        && !same(label, in_cse)
    {
        return not_ours("it is of another IN-CSE than this service provider's");
    }
    let known = own.known.iter().find(|cse| same(first, cse)).cloned();
    match known.map_or_else(|| CseId::parse(first), Ok) {
        Ok(cse) if same(first, &own.cse) || cse == own.cse => not_ours("it is this very CSE"),
        Ok(_) if name.len() > MAX_LEN - 3 => not_ours("it is too long for a Credential-ID"),
        Ok(cse) if cse.could_be_an_ae_id() => not_ours("its CSE-ID could be an S-type AE-ID"),
        Ok(cse) => Ok(Some(Identity::Cse { name: name.into(), cse })),
        Err(_) => not_ours("it is no CSE-ID"),
    }
}

/// id-on-hardwareModuleName (RFC 4108), which RFC 7252 clause 9.1.3.3 has devices named by.
const HARDWARE_MODULE: &str = "1.3.6.1.5.5.7.8.4";

/// A hardware identifier: a module's type and serial number, or the rest of an object identifier
/// whose first part is the type of the name (TS-0001 Annex H).
fn device(kind: &Oid<'_>, value: &[u8]) -> Result<Option<Identity>, Rejection> {
    const BAD: Rejection = Rejection::Malformed("its hardware identifier can't be read");
    /// RELATIVE-OID.
    const RELATIVE_OID: u32 = 13;
    let whole = |bytes| match Any::from_der(bytes) {
        Ok(([], any)) => Ok(any),
        _ => Err(BAD),
    };
    let outer = whole(value)?;
    if outer.class() != Class::ContextSpecific || outer.tag().0 != 0 {
        return Err(BAD);
    }
    let inner = whole(outer.data)?;
    let kind = kind.to_id_string();
    let id = if kind == HARDWARE_MODULE {
        let (rest, module) = Oid::from_der(inner.data).map_err(|_| BAD)?;
        let (rest, serial) = OctetString::from_der(rest).map_err(|_| BAD)?;
        if !rest.is_empty() || serial.as_ref().is_empty() || serial.as_ref().len() > 64 {
            return Err(BAD);
        }
        let digits: String = serial.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("{}-{digits}", module.to_id_string())
    } else if inner.class() == Class::Universal && inner.tag().0 == RELATIVE_OID {
        format!("{kind}.{}", relative(inner.data).ok_or(BAD)?)
    } else {
        // A name of another kind, such as a user's.
        return Ok(None);
    };
    if id.len() > MAX_LEN - 3 { Err(BAD) } else { Ok(Some(Identity::Device(id))) }
}

/// The arcs of a relative object identifier, seven bits a byte.
fn relative(bytes: &[u8]) -> Option<String> {
    let mut arcs: Vec<String> = Vec::new();
    let mut arc: Option<u64> = None;
    for byte in bytes {
        if arc.is_none() && *byte == 0x80 {
            return None;
        }
        let value = arc.unwrap_or(0).checked_mul(128)? | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            arcs.push(value.to_string());
            arc = None;
        } else {
            arc = Some(value);
        }
    }
    (arc.is_none() && !arcs.is_empty()).then(|| arcs.join("."))
}

/// A name as text.
pub(crate) fn text_of(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::OtherName(kind, value) => match device(kind, value) {
            Ok(Some(Identity::Device(id))) => format!("hardware {id}"),
            _ => format!("other name {}", kind.to_id_string()),
        },
        other => other.to_string(),
    }
}
