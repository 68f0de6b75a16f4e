//! Identities: a certificate has one, in its subject alternative names, of a flavor that its trust
//! anchor may issue (TS-0003 clauses 8.1.2.5 and 10.1.1).

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

/// The names of this CSE, of its service provider and of other CSEs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// CSE-ID of this CSE.
    pub cse: CseId,
    /// Domain name of the service provider.
    pub service_provider: Option<String>,
    /// CSE-ID of the service provider's IN-CSE, if known. Its label is part of the domain names of
    /// all CSEs that register there.
    pub in_cse: Option<CseId>,
    /// Known CSE-IDs. Domain names ignore case, but CSE-IDs do not, so a domain name that differs
    /// from a known CSE-ID only in case stands for it.
    pub known: Vec<CseId>,
    /// Whether AEs of any CSE are accepted, as at a MAF.
    pub of_any_cse: bool,
}

impl Names {
    /// Creates names with the CSE and its service provider only.
    #[must_use]
    pub fn of(cse: CseId, service_provider: Option<String>) -> Self {
        Self { cse, service_provider, in_cse: None, known: Vec::new(), of_any_cse: false }
    }
}

/// The identity in a certificate, or of a raw public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// An AE that may register at this CSE.
    Ae {
        /// Absolute AE-ID, as in the certificate.
        absolute: String,
        /// AE-ID-Stem.
        stem: AeIdStem,
    },
    /// A CSE of this service provider.
    Cse {
        /// Public domain name, as in the certificate.
        name: String,
        /// CSE-ID.
        cse: CseId,
    },
    /// A node, by its M2M-Node-ID.
    Node(String),
    /// A device, by an object identifier or by a type and a serial number.
    Device(String),
    /// A server, by the requested domain name.
    Fqdn(String),
    /// A public key.
    PublicKey(PublicKeyId),
}

impl Identity {
    /// Returns the flavor of the certificate.
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

    /// Returns the entity that the identity implies; `None` if policy must decide (TS-0003 clause
    /// 8.2.2.2).
    #[must_use]
    pub fn entity(&self) -> Option<Entity> {
        match self {
            Self::Ae { stem, .. } => Some(Entity::Ae(stem.clone())),
            Self::Cse { cse, .. } => Some(Entity::Cse(cse.clone())),
            Self::Node(_) | Self::Device(_) | Self::Fqdn(_) | Self::PublicKey(_) => None,
        }
    }

    /// Returns the absolute AE-ID or CSE-ID, if the identity is an AE or a CSE of this service
    /// provider.
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

    /// Returns the Credential-ID (TS-0003 clauses 10.4 and 12.3.2.1). FQDN certificates have none,
    /// because they belong to MAFs and MEFs, which are not registrees.
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

/// Formats the identity for logs.
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

/// Returns the identity in a certificate's subject alternative names, of the flavors that its
/// anchor may issue. Names that are not identities of these flavors are ignored. Two different
/// identities are an error.
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
                // A device may have several identifiers of the same device. The first one counts.
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

/// Checks that a certificate is that of the server with this domain name.
pub(crate) fn is_server(read: &ParsedCertificate<'_>, name: &str) -> Result<(), Rejection> {
    no_wildcards(read)?;
    let is = |n: &GeneralName<'_>| matches!(n, GeneralName::DNSName(dns) if dns.eq_ignore_ascii_case(name));
    if read.names.iter().any(is) { Ok(()) } else { Err(Rejection::AnotherServer(name.into())) }
}

/// Rejects wildcards, which no flavor may have (TS-0003 clause 10.1.1).
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
    let is_allowed = |flavour| flavours.contains(&flavour);
    match name {
        GeneralName::URI(uri) if uri.starts_with("//") => {
            if is_allowed(Flavour::AeId) {
                ae(uri, own).map(Some)
            } else {
                Ok(None)
            }
        }
        GeneralName::URI(uri) if is_allowed(Flavour::NodeId) => node(uri).map(Some),
        GeneralName::DNSName(name) if is_allowed(Flavour::CseId) => cse(name, own),
        GeneralName::OtherName(kind, value) if is_allowed(Flavour::Device) => device(kind, value),
        _ => Ok(None),
    }
}

/// Parses an AE-ID, which must match completely and with case (TS-0003 clause 8.1.2.5).
fn ae(uri: &str, own: &Names) -> Result<Identity, Rejection> {
    let not_ours = |why| Err(Rejection::NotOurs(format!("the AE-ID {uri}"), why));
    let Some(provider) = own.service_provider.as_deref() else {
        return not_ours("the gateway does not know its service provider (cse.service-provider)");
    };
    let (sp, stem) = match OriginatorId::parse(uri) {
        Ok(OriginatorId::Absolute { sp, first, stem: Some(stem) }) if stem.starts_with('C') => {
            if first != own.cse.bare() && !own.of_any_cse {
                return not_ours("the AE belongs to another CSE");
            }
            (sp, stem)
        }
        Ok(OriginatorId::Absolute { sp, first, stem: None }) if first.starts_with('S') => {
            (sp, first)
        }
        _ => return not_ours("it is not an absolute AE-ID"),
    };
    if sp != provider {
        return not_ours("the AE belongs to another service provider");
    }
    if uri.len() > MAX_LEN - 3 {
        return not_ours("it is too long for a Credential-ID");
    }
    match AeIdStem::parse(stem) {
        Ok(stem) => Ok(Identity::Ae { absolute: uri.into(), stem }),
        Err(_) => not_ours("it is not an absolute AE-ID"),
    }
}

fn node(uri: &str) -> Result<Identity, Rejection> {
    let plain = uri.bytes().all(|b| b.is_ascii_graphic());
    if uri.is_empty() || uri.len() > MAX_LEN - 3 || !plain {
        return Err(Rejection::Malformed("its Node-ID is empty, too long, or has odd characters"));
    }
    Ok(Identity::Node(uri.into()))
}

/// Parses the public domain name of a CSE (TS-0001 clause 6.5.1.1).
///
/// The name of an IN-CSE is `<CSE-ID>.<service provider>`. The names of other CSEs have the label
/// of the IN-CSE in between. Other domain names belong to servers.
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
        return not_ours("it belongs to another IN-CSE than this service provider's");
    }
    let known = own.known.iter().find(|cse| same(first, cse)).cloned();
    match known.map_or_else(|| CseId::parse(first), Ok) {
        Ok(cse) if same(first, &own.cse) || cse == own.cse => not_ours("it is this CSE itself"),
        Ok(_) if name.len() > MAX_LEN - 3 => not_ours("it is too long for a Credential-ID"),
        Ok(cse) if cse.could_be_an_ae_id() => not_ours("its CSE-ID could be an S-type AE-ID"),
        Ok(cse) => Ok(Some(Identity::Cse { name: name.into(), cse })),
        Err(_) => not_ours("it is not a CSE-ID"),
    }
}

/// id-on-hardwareModuleName (RFC 4108), which RFC 7252 clause 9.1.3.3 specifies for devices.
const HARDWARE_MODULE: &str = "1.3.6.1.5.5.7.8.4";

/// Parses a hardware identifier: the type and the serial number of a module, or the rest of an
/// object identifier whose first part is the type of the name (TS-0001 Annex H).
fn device(kind: &Oid<'_>, value: &[u8]) -> Result<Option<Identity>, Rejection> {
    const BAD: Rejection = Rejection::Malformed("its hardware identifier cannot be parsed");
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
        // A name of another kind, such as that of a user.
        return Ok(None);
    };
    if id.len() > MAX_LEN - 3 { Err(BAD) } else { Ok(Some(Identity::Device(id))) }
}

/// Returns the arcs of a relative object identifier, seven bits a byte.
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

/// Formats a name.
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
