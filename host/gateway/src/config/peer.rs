//! `[[peer]]`: a peer CSE to which this CSE connects.

use std::sync::Arc;

use saegis_client::PeerBinding;
use saegis_onem2m::id::{CseId, check_fqdn};
use saegis_onem2m::serde::parsed;
use saegis_policy::{Document, Generation};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use saegis_onem2m::cse::Cse;
use saegis_onem2m::cse::CseKind;

use super::sections::shared_if_there;

/// Another CSE: the registrar CSE of this one, or a CSE that registers here.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Peer {
    /// CSE-ID of the peer, with or without its slash.
    #[serde(deserialize_with = "parsed")]
    pub cse_id: CseId,
    /// Address of its TLS listener: `host:port`; or of its CoAP server over DTLS:
    /// `coaps://host:port`.
    pub address: String,
    /// Registers this CSE with the peer. Only one peer can have this option.
    #[serde(default)]
    pub register: bool,
    /// Domain name that its certificate must contain. The default follows TS-0001 clause 6.5.1.1:
    /// `CSE-ID.SP` for the IN-CSE, and `CSE-ID.IN-CSE.SP` for a CSE that registers with it.
    #[serde(default, deserialize_with = "domain_name")]
    pub domain_name: Option<String>,
    /// Pre-shared key of the two CSEs. Without it both use certificates.
    #[serde(default, deserialize_with = "shared_if_there")]
    pub credential: Option<Arc<saegis_client::Credential>>,
    /// Addresses of this CSE for the peer: the `poa` of the registration. Without it, the peer
    /// cannot reach this CSE.
    #[serde(default)]
    pub point_of_access: Vec<String>,
    /// Allows end-to-end protected primitives (ESPrim) to and from this CSE. The gateway cannot see
    /// their originator, so their target must check it.
    #[serde(default)]
    pub esprim: bool,
    /// Requested lifetime of a registration. It is renewed when a third is left.
    #[serde(default = "registration")]
    pub registration_seconds: u64,
    /// Timeout for an association, and for each response.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

fn registration() -> u64 {
    3600
}

fn timeout() -> u64 {
    10
}

fn domain_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(from)?;
    match check_fqdn(&name) {
        Ok(()) => Ok(Some(name)),
        Err(e) => Err(D::Error::custom(format!("{name:?} {e}"))),
    }
}

impl Peer {
    /// Returns the protocol, and the address as `host:port`.
    pub fn endpoint(&self) -> (PeerBinding, &str) {
        match self.address.strip_prefix("coaps://") {
            Some(address) => (PeerBinding::Coap, address),
            None => (PeerBinding::Http, &self.address),
        }
    }

    /// Returns the domain name that its certificate must contain: `<CSE-ID>.<service provider>` for
    /// the IN-CSE. A CSE that registers with the IN-CSE has the label of the IN-CSE in between.
    /// Returns `None` if the service provider is not known.
    pub fn name(&self, own: &Cse) -> Option<String> {
        if let Some(name) = &self.domain_name {
            return Some(name.clone());
        }
        let (peer, provider) = (self.cse_id.bare(), own.service_provider.as_deref()?);
        Some(match own.kind {
            CseKind::In => format!("{peer}.{}.{provider}", own.cse_id.bare()),
            CseKind::Mn => format!("{peer}.{provider}"),
        })
    }
}

/// Checks that a generation has the certificates that `peers` need.
///
/// # Errors
/// Returns the missing part.
pub fn check_means(peers: &[Peer], generation: &Generation) -> Result<(), String> {
    let own = generation.certificates().is_some_and(|c| !c.own.is_empty());
    match peers.iter().find(|peer| peer.credential.is_none()) {
        Some(peer) if !own => Err(format!(
            "peer: {} has no credential, so this CSE needs a certificate; add \
             an [[own]] to policies/certificates.toml",
            peer.cse_id
        )),
        _ => Ok(()),
    }
}

/// Checks what types cannot express.
pub(super) fn check(peers: &[Peer], own: &Cse, document: &mut Document<'_>) {
    let mut fault = |what: String| document.add_fault("peer", &what);
    for (nth, peer) in peers.iter().enumerate() {
        let id = &peer.cse_id;
        if *id == own.cse_id {
            fault(format!("{id} is this CSE itself"));
        }
        if peers.iter().take(nth).any(|other| other.cse_id == *id) {
            fault(format!("{id} is listed twice"));
        }
        let (_, address) = peer.endpoint();
        let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        });
        if !is_address {
            fault(format!(
                "{id}: address {:?} is not of the form host:port or coaps://host:port",
                peer.address
            ));
        }
        if peer.credential.is_none() && peer.name(own).is_none() {
            fault(format!(
                "{id}: its certificate must contain a domain name; set cse.service-provider, or \
                 domain-name"
            ));
        }
        if peer.registration_seconds < 10 || peer.timeout_seconds == 0 {
            fault(format!("{id}: registration-seconds must be at least 10, and timeout-seconds 1"));
        }
    }
    if peers.iter().filter(|peer| peer.register).count() > 1 {
        fault("a CSE has one registrar CSE; set register for one peer only".into());
    }
}
