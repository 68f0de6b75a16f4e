//! Rules of TS-0004 clause 7.3.2.1 as a pure function.

use saegis_onem2m::id::OriginatorId;

/// Entity of the association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'a> {
    /// An AE whose AE-ID is not known yet.
    UnknownAe,
    /// An AE, by its AE-ID-Stem.
    Ae(&'a str),
    /// Several AEs, by their possible AE-ID-Stems.
    Aes(&'a [String]),
    /// A CSE, by its CSE-ID without the slash.
    Cse(&'a str),
    /// A client of an M2M Authentication Function, by its absolute identifier.
    MafClient(&'a str),
    /// The registrar CSE of this CSE: it forwards requests of others.
    Registrar {
        /// Its CSE-ID without the slash.
        cse: &'a str,
        /// The CSE-ID of this CSE.
        own: &'a str,
    },
}

impl Peer<'_> {
    fn is_ae(self, stem: &str) -> bool {
        match self {
            Self::Ae(own) => own == stem,
            Self::Aes(all) => all.iter().any(|own| own == stem),
            Self::UnknownAe | Self::Cse(_) | Self::Registrar { .. } | Self::MafClient(_) => false,
        }
    }
}

/// Input of the rules.
pub struct Request<'a, N> {
    /// The entity of the association.
    pub peer: Peer<'a>,
    /// The domain name of the service provider of this CSE, if it is known.
    pub service_provider: Option<&'a str>,
    /// The From, as received.
    pub from: Option<&'a str>,
    /// Whether it is a create request for an AE, the only request by which an AE may get its AE-ID.
    pub creates_ae: bool,
    /// Whether it is a create request for a `<remoteCSE>`: the registration of a CSE.
    pub registers_cse: bool,
    /// Whether it is a create request for an `<AEAnnc>`, the only request by which a CSE may
    /// request an AE-ID for an AE that registers with it (TS-0001 clause 10.2.2.2).
    pub announces_ae: bool,
    /// The originators that the content names.
    pub named: N,
}

/// Result of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The association may use this From.
    Allow,
    /// This request is allowed; the next one must be checked again.
    AllowOnce,
    /// The request is denied.
    Deny(Why),
}

/// The violated rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Rule 1: only a create request for an AE may omit From.
    FromMissing,
    /// The From is not a valid identifier.
    FromMalformed,
    /// Rule 2: a registree AE must use its AE-ID-Stem as From, and no other form.
    NotAStem,
    /// Rule 3: From is not the AE of this association.
    AnotherAe,
    /// The AE has no AE-ID before it has registered.
    NotRegistered,
    /// Rule 4: From is a CSE, or an AE at a CSE, that is not the one of this association.
    AnotherCse,
    /// From is not the MAF client of this association.
    AnotherClient,
    /// Rule 4: From is this CSE, or an AE that is registered at it.
    OurOwn,
    /// Rule 4: From is the stem of an AE that would be registered here.
    StemFromCse,
    /// Only the announcement of an AE may request its AE-ID.
    AsksForAeId,
    /// A CSE does not register AEs.
    CseCreatesAe,
    /// An AE does not register CSEs.
    AeRegistersCse,
    /// The credential of a registering CSE does not belong to a CSE.
    NoCseCredential,
    /// The content names another originator than From.
    ContentNamesAnother,
}

impl Why {
    /// Returns the Response Status Code.
    #[must_use]
    pub fn rsc(self) -> u16 {
        match self {
            Self::FromMissing | Self::FromMalformed | Self::NotAStem | Self::AsksForAeId => 4000,
            Self::CseCreatesAe | Self::AeRegistersCse => 4005,
            Self::NoCseCredential => 4107,
            Self::AnotherAe
            | Self::NotRegistered
            | Self::AnotherCse
            | Self::OurOwn
            | Self::AnotherClient
            | Self::StemFromCse
            | Self::ContentNamesAnother => 4106,
        }
    }

    /// Returns the reason, for the originator.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::FromMissing => "From (X-M2M-Origin) is missing",
            Self::FromMalformed => "From (X-M2M-Origin) is not an identifier of an AE or a CSE",
            Self::NotAStem => "an AE must use its AE-ID-Stem as From (X-M2M-Origin)",
            Self::AnotherAe => {
                "From (X-M2M-Origin) is not the AE-ID that this security association stands for"
            }
            Self::NotRegistered => {
                "the AE of this security association must register before it sends other requests"
            }
            Self::AnotherCse => {
                "From (X-M2M-Origin) does not belong to the CSE that this security association stands for"
            }
            Self::AnotherClient => {
                "From (X-M2M-Origin) is not the absolute identifier of this security association's client"
            }
            Self::OurOwn => "From (X-M2M-Origin) belongs to this CSE",
            Self::StemFromCse => {
                "a CSE must prepend its CSE-ID to the AE-ID of an AE (X-M2M-Origin)"
            }
            Self::AsksForAeId => {
                "From (X-M2M-Origin) requests an AE-ID, which only a create of an AEAnnc may"
            }
            Self::CseCreatesAe => "a CSE does not create an AE",
            Self::AeRegistersCse => "an AE does not create a remoteCSE",
            Self::NoCseCredential => {
                "the credential of this security association does not belong to a CSE"
            }
            Self::ContentNamesAnother => {
                "the content names another originator than From (X-M2M-Origin)"
            }
        }
    }
}

/// Checks one request of an association.
pub fn check<'a>(request: &Request<'a, impl Iterator<Item = &'a str> + Clone>) -> Outcome {
    match decide(request) {
        Err(why) => Outcome::Deny(why),
        Ok(_) if request.named.clone().any(|n| Some(n) != request.from) => {
            Outcome::Deny(Why::ContentNamesAnother)
        }
        Ok(outcome) => outcome,
    }
}

fn decide<N>(request: &Request<'_, N>) -> Result<Outcome, Why> {
    let form = match request.from {
        Some(text) => Some(OriginatorId::parse(text).map_err(|_| Why::FromMalformed)?),
        None if request.creates_ae => None,
        None => return Err(Why::FromMissing),
    };
    // An absolute identifier of another service provider belongs to another entity, whatever
    // follows.
    let ours = |sp: &str| request.service_provider.is_some_and(|own| own.eq_ignore_ascii_case(sp));
    let of_a_cse = matches!(
        form,
        Some(OriginatorId::SpRelative(_) | OriginatorId::Absolute { stem: None, .. })
    );
    match request.peer {
        // TS-0004 clause 7.4.4.2.1.
        Peer::Ae(_) | Peer::Aes(_) | Peer::UnknownAe if request.registers_cse && of_a_cse => {
            Err(Why::NoCseCredential)
        }
        Peer::Ae(_) | Peer::Aes(_) => match form {
            Some(OriginatorId::Stem(stem)) if request.peer.is_ae(stem) && request.registers_cse => {
                Err(Why::AeRegistersCse)
            }
            Some(OriginatorId::Stem(stem)) if request.peer.is_ae(stem) => Ok(Outcome::Allow),
            Some(
                OriginatorId::SpRelative(_)
                | OriginatorId::SpRelativeAe { .. }
                | OriginatorId::SpRelativeAssign { .. }
                | OriginatorId::Absolute { .. },
            ) => Err(Why::NotAStem),
            // This includes `C`, `S` and a missing From: the AE already has an AE-ID and must not
            // get another.
            _ => Err(Why::AnotherAe),
        },
        Peer::UnknownAe => match form {
            Some(
                OriginatorId::SpRelative(_)
                | OriginatorId::SpRelativeAe { .. }
                | OriginatorId::SpRelativeAssign { .. }
                | OriginatorId::Absolute { .. },
            ) => Err(Why::NotAStem),
            _ if request.creates_ae => Ok(Outcome::AllowOnce),
            _ => Err(Why::NotRegistered),
        },
        // It may be a CSE, so the identifier is complete.
        Peer::MafClient(own) => match request.from {
            Some(from) if from == own => Ok(Outcome::Allow),
            _ => Err(Why::AnotherClient),
        },
        Peer::Cse(_) | Peer::Registrar { .. } if request.creates_ae => Err(Why::CseCreatesAe),
        Peer::Registrar { cse, own } => match form {
            // No other CSE may use the identity of this CSE or of the AEs that are registered here.
            Some(OriginatorId::SpRelative(id) | OriginatorId::SpRelativeAe { cse: id, .. })
                if id == own =>
            {
                Err(Why::OurOwn)
            }
            // If the service provider of this CSE is not known, any one may be its own.
            Some(OriginatorId::Absolute { sp, first, .. })
                if first == own && (ours(sp) || request.service_provider.is_none()) =>
            {
                Err(Why::OurOwn)
            }
            Some(
                OriginatorId::Stem(_)
                | OriginatorId::AssignByRegistrar
                | OriginatorId::AssignByServiceProvider,
            ) => Err(Why::StemFromCse),
            Some(OriginatorId::SpRelativeAssign { .. }) => Err(Why::AsksForAeId),
            Some(OriginatorId::SpRelative(id)) if request.registers_cse && id != cse => {
                Err(Why::AnotherCse)
            }
            Some(OriginatorId::Absolute { first, .. }) if request.registers_cse && first != cse => {
                Err(Why::AnotherCse)
            }
            Some(_) => Ok(Outcome::Allow),
            None => Err(Why::FromMissing),
        },
        Peer::Cse(own) => match form {
            Some(OriginatorId::Absolute { sp, .. }) if !ours(sp) => Err(Why::AnotherCse),
            Some(OriginatorId::SpRelative(id)) if id == own => Ok(Outcome::Allow),
            Some(OriginatorId::SpRelativeAe { cse, .. }) if cse == own => Ok(Outcome::Allow),
            Some(OriginatorId::SpRelativeAssign { cse }) if cse == own => {
                // It names no entity, so the next request must not use it as originator.
                if request.announces_ae { Ok(Outcome::AllowOnce) } else { Err(Why::AsksForAeId) }
            }
            Some(OriginatorId::Absolute { first, .. }) if first == own => Ok(Outcome::Allow),
            // An S-type AE-ID belongs to the whole service provider and names no CSE.
            Some(
                OriginatorId::SpRelative(id) | OriginatorId::Absolute { first: id, stem: None, .. },
            ) if id.starts_with('S') && id.len() > 1 && !request.registers_cse => {
                Ok(Outcome::Allow)
            }
            Some(
                OriginatorId::Stem(_)
                | OriginatorId::AssignByRegistrar
                | OriginatorId::AssignByServiceProvider,
            ) => Err(Why::StemFromCse),
            _ => Err(Why::AnotherCse),
        },
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
