//! The names in the attributes of a resource, and their meaning when they were stored.
//!
//! A record stores the meaning of each name beside the attribute as it was written: a [`Reference`]
//! for an address, the registrant for an AE-ID.

use std::collections::{BTreeMap, BTreeSet};

use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::primitive::RequestPrimitive;
use serde::{Deserialize, Serialize};

/// Prefix of a wait that is stored instead of a registrant, unless the wait is the first for its
/// stem. No Credential-ID has this form.
const WAIT_PREFIX: char = '?';

/// Length of the random part of a registrant without a credential.
const RANDOM_LEN: usize = 16;

/// The registrant of each AE-ID-Stem in an attribute, or the wait for one that is not registered.
pub(crate) type Registrants = BTreeMap<String, String>;

/// The registrant of an AE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registrant {
    /// Credential-ID, or a unique name if there was no credential.
    pub(crate) id: String,
    /// Whether the credential got its AE-ID through this registration. The stored name keeps
    /// existing stores readable.
    #[serde(rename = "learnt", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) learned_ae_id: bool,
    /// Whether the credential has lost the AE-ID since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) freed: bool,
}

impl Registrant {
    /// Returns the registrant of an AE that a request registers.
    pub(crate) fn of(request: &RequestPrimitive) -> Self {
        match &request.credential {
            Some(credential) => Self::new(credential.id.to_string(), credential.learns_ae_id),
            None => Self::unknown(),
        }
    }

    /// Returns a unique registrant for an AE without a credential. No Credential-ID has this form.
    pub(crate) fn unknown() -> Self {
        let id = format!("#{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM_LEN));
        Self::new(id, false)
    }

    pub(crate) fn new(id: String, learned_ae_id: bool) -> Self {
        Self { id, learned_ae_id, freed: false }
    }
}

/// An originator that created a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Creator {
    /// AE-ID-Stem of an AE of this CSE, or the identifier of another originator. For a resource from
    /// before creators were stored, its resource-ID.
    pub(crate) id: String,
    /// Credential that registered the AE, or the CSE of the originator.
    pub(crate) registrant: Option<String>,
}

/// The resource that an address denoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    /// Resource-ID.
    pub(crate) ri: String,
    /// Registrant, if the resource-ID can be reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registrant: Option<String>,
    /// Virtual resource below it, if the address denoted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) below: Option<String>,
}

impl Reference {
    /// Returns the unstructured address, relative to this CSE.
    pub(crate) fn address(&self) -> String {
        match &self.below {
            Some(below) => format!("{}/{below}", self.ri),
            None => self.ri.clone(),
        }
    }
}

/// The meaning of the names in a resource's attributes when they were stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// By attribute, the resource of each address in it, in order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) resources: BTreeMap<String, Vec<Option<Reference>>>,
    /// By attribute, the registrants of the AE-IDs in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) registrants: BTreeMap<String, Registrants>,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.registrants.is_empty()
    }

    /// Returns the resources of the addresses in an attribute.
    pub(crate) fn resources(&self, attribute: &str) -> &[Option<Reference>] {
        self.resources.get(attribute).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the registrants of the AE-IDs in an attribute.
    pub(crate) fn registrants(&self, attribute: &str) -> Option<&Registrants> {
        self.registrants.get(attribute)
    }

    /// Returns the AE-ID-Stems without a registrant, each with the number of its wait.
    pub(crate) fn awaited(&self) -> BTreeSet<(&str, u64)> {
        let all = self.registrants.values().flatten();
        all.filter_map(|(stem, registrant)| Some((stem.as_str(), decode_wait(registrant)?)))
            .collect()
    }
}

/// Returns the number of the wait that is stored instead of a registrant.
pub(crate) fn decode_wait(registrant: &str) -> Option<u64> {
    match registrant.strip_prefix(WAIT_PREFIX) {
        Some(number) => number.parse().ok(),
        None => registrant.is_empty().then_some(0),
    }
}

/// Encodes a wait. The first one for a stem is empty.
pub(crate) fn encode_wait(wait: u64) -> String {
    if wait == 0 { String::new() } else { format!("{WAIT_PREFIX}{wait}") }
}
