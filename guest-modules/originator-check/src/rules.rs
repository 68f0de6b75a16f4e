//! The rules of TS-0004 clause 7.3.2.1 as a pure function.

use saegis_onem2m::id::OriginatorId;

/// Whom the association stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'a> {
    /// An AE that has not told its AE-ID yet.
    UnknownAe,
    /// An AE, by its AE-ID-Stem.
    Ae(&'a str),
    /// Several AEs, by the AE-ID-Stems that they may have.
    Aes(&'a [String]),
    /// A CSE, by its CSE-ID without the slash.
    Cse(&'a str),
    /// A client of an M2M Authentication Function, by its absolute identifier.
    MafClient(&'a str),
    /// A CSE that ours registers with: it passes on what is asked behind it.
    Registrar {
        /// Its CSE-ID without the slash.
        cse: &'a str,
        /// That of our own CSE.
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

/// What the rules look at.
pub struct Request<'a, N> {
    /// Whom the association stands for.
    pub peer: Peer<'a>,
    /// The domain name of our service provider, if it is known.
    pub service_provider: Option<&'a str>,
    /// The From, as written.
    pub from: Option<&'a str>,
    /// Whether it is a create of an AE: the one request by which an AE may learn its name.
    pub creates_ae: bool,
    /// Whether it is a create of a `<remoteCSE>`: the registration of a CSE.
    pub registers_cse: bool,
    /// Whether it is a create of an `<AEAnnc>`: the one request by which a CSE may ask for an
    /// AE-ID for an AE that registers with it (TS-0001 clause 10.2.2.2).
    pub announces_ae: bool,
    /// The originators that the content names.
    pub named: N,
}

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This From may speak on this association.
    Allow,
    /// This request may pass; the next one may not.
    AllowOnce,
    /// It may not.
    Deny(Why),
}

/// Which rule a request breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Rule 1: only a create of an AE may leave From out.
    FromMissing,
    /// No form of an identifier.
    FromMalformed,
    /// Rule 2: a registree AE writes its From as AE-ID-Stem and in no other form.
    NotAStem,
    /// Rule 3: From is not the AE of this association.
    AnotherAe,
    /// The AE has no AE-ID before it has registered.
    NotRegistered,
    /// Rule 4: From is a CSE, or an AE at a CSE, that is not the one of this association.
    AnotherCse,
    /// From is not the MAF client of this association.
    AnotherClient,
    /// Rule 4: From is our own CSE, or an AE that is registered at it.
    OurOwn,
    /// Rule 4: the stem of an AE that would be registered here.
    StemFromCse,
    /// Only who announces an AE may ask for its AE-ID.
    AsksForAeId,
    /// A CSE does not register AEs.
    CseCreatesAe,
    /// An AE does not register CSEs.
    AeRegistersCse,
    /// A CSE registers with a credential that is not for a CSE.
    NoCseCredential,
    /// The content names another originator than From.
    ContentNamesAnother,
}

impl Why {
    /// The Response Status Code.
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

    /// The reason, for the originator to read.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::FromMissing => "From (X-M2M-Origin) is missing",
            Self::FromMalformed => "From (X-M2M-Origin) is no identifier of an AE or a CSE",
            Self::NotAStem => "an AE writes its From (X-M2M-Origin) as AE-ID-Stem",
            Self::AnotherAe => {
                "From (X-M2M-Origin) is not the AE-ID that this security association stands for"
            }
            Self::NotRegistered => {
                "the AE of this security association has to register before it sends other requests"
            }
            Self::AnotherCse => {
                "From (X-M2M-Origin) is not of the CSE that this security association stands for"
            }
            Self::AnotherClient => {
                "From (X-M2M-Origin) is not the absolute identifier of this security association's client"
            }
            Self::OurOwn => "From (X-M2M-Origin) is of this very CSE",
            Self::StemFromCse => {
                "a CSE writes the AE-ID of an AE (X-M2M-Origin) with the CSE-ID in front"
            }
            Self::AsksForAeId => {
                "From (X-M2M-Origin) asks for an AE-ID, which only a create of an AEAnnc may"
            }
            Self::CseCreatesAe => "a CSE does not create an AE",
            Self::AeRegistersCse => "an AE does not create a remoteCSE",
            Self::NoCseCredential => {
                "the credential of this security association is not that of a CSE"
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
    // An absolute identifier of another service provider names somebody else, whatever follows.
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
            // Also `C`, `S` or nothing: the AE has an AE-ID already and is not to get another.
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
        // It is of any CSE, and so says all of who it is.
        Peer::MafClient(own) => match request.from {
            Some(from) if from == own => Ok(Outcome::Allow),
            _ => Err(Why::AnotherClient),
        },
        Peer::Cse(_) | Peer::Registrar { .. } if request.creates_ae => Err(Why::CseCreatesAe),
        Peer::Registrar { cse, own } => match form {
            // Nobody else speaks for us and for the AEs that are registered here.
            Some(OriginatorId::SpRelative(id) | OriginatorId::SpRelativeAe { cse: id, .. })
                if id == own =>
            {
                Err(Why::OurOwn)
            }
            // Where our service provider is not known, any may be ours.
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
                // It names nobody, so it is no originator that the next request may have too.
                if request.announces_ae { Ok(Outcome::AllowOnce) } else { Err(Why::AsksForAeId) }
            }
            Some(OriginatorId::Absolute { first, .. }) if first == own => Ok(Outcome::Allow),
            // An S-type AE-ID is of the whole service provider and names no CSE.
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
