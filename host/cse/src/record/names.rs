//! The names in the attributes of a resource, and what they stood for when they were stored.
//!
//! A record keeps, beside each attribute as it was written, what the names in it stand for: an
//! address a [`Reference`], an AE-ID its registrant.

use std::collections::{BTreeMap, BTreeSet};

use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::primitive::RequestPrimitive;
use serde::{Deserialize, Serialize};

/// Begins what is noted in place of a registrant where a wait is not the first for its stem. No
/// Credential-ID looks like this.
const WAIT_PREFIX: char = '?';

/// Length of the random part of a registrant without a credential.
const RANDOM_LEN: usize = 16;

/// The registrant of each AE-ID-Stem that an attribute names, or the wait for one where nobody had
/// registered it.
pub(crate) type Registrants = BTreeMap<String, String>;

/// Who registered an AE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registrant {
    /// The Credential-ID, or where none was seen a name that is used once.
    pub(crate) id: String,
    /// Whether the credential got its AE-ID by this registration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) learnt: bool,
    /// Whether the credential has lost it since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) freed: bool,
}

impl Registrant {
    /// The registrant of an AE that is registered by a request.
    pub(crate) fn of(request: &RequestPrimitive) -> Self {
        match &request.credential {
            Some(credential) => Self::new(credential.id.to_string(), credential.learns_ae_id),
            None => Self::unknown(),
        }
    }

    /// One of whom nothing is known, and who is nobody else. No Credential-ID looks like this.
    pub(crate) fn unknown() -> Self {
        let id = format!("#{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM_LEN));
        Self::new(id, false)
    }

    pub(crate) fn new(id: String, learnt: bool) -> Self {
        Self { id, learnt, freed: false }
    }
}

/// The resource that an address stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    /// Its resource-ID.
    pub(crate) ri: String,
    /// Its registrant, where the resource-ID can be had again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registrant: Option<String>,
    /// The virtual resource below it that was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) below: Option<String>,
}

impl Reference {
    /// Its unstructured address, relative to this CSE.
    pub(crate) fn address(&self) -> String {
        match &self.below {
            Some(below) => format!("{}/{below}", self.ri),
            None => self.ri.clone(),
        }
    }
}

/// What the names in a resource's attributes stood for when they were stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// By attribute, the resource of each address in it, in their order.
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

    /// The resources of the addresses in an attribute.
    pub(crate) fn resources(&self, attribute: &str) -> &[Option<Reference>] {
        self.resources.get(attribute).map(Vec::as_slice).unwrap_or_default()
    }

    /// The registrants of the AE-IDs in an attribute.
    pub(crate) fn registrants(&self, attribute: &str) -> Option<&Registrants> {
        self.registrants.get(attribute)
    }

    /// The AE-ID-Stems that stand for whoever registers them first, each with the number of the wait.
    pub(crate) fn awaited(&self) -> BTreeSet<(&str, u64)> {
        let all = self.registrants.values().flatten();
        all.filter_map(|(stem, registrant)| Some((stem.as_str(), decode_wait(registrant)?)))
            .collect()
    }
}

/// The number of the wait that is noted in place of a registrant.
pub(crate) fn decode_wait(registrant: &str) -> Option<u64> {
    match registrant.strip_prefix(WAIT_PREFIX) {
        Some(number) => number.parse().ok(),
        None => registrant.is_empty().then_some(0),
    }
}

/// Notes a wait. The first for a stem is empty.
pub(crate) fn encode_wait(wait: u64) -> String {
    if wait == 0 { String::new() } else { format!("{WAIT_PREFIX}{wait}") }
}
