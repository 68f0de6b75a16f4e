//! Identifiers and their forms (TS-0001 clause 7.2, TS-0003 clauses 10.4 and 10.5).
//!
//! Every owned identifier here is valid by construction: a value of the type has passed the
//! alphabet, the length bound and the shape that its clause asks for.

use std::fmt;

/// Longest identifier accepted, in bytes. The specifications set no bound; an identifier longer
/// than this is no identifier but an attempt on our memory.
pub const MAX_LEN: usize = 256;

/// Longest identifier of a key, in bytes: its Credential-ID has a type and a dash in front of it.
pub const MAX_KEY_ID_LEN: usize = MAX_LEN - "12-".len();

/// Why a text is not the identifier it is meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than [`MAX_LEN`] bytes.
    #[error("is longer than {MAX_LEN} bytes")]
    TooLong,
    /// A character outside the alphabet of this kind of identifier.
    #[error("has {found:?} at character {at}, which is not allowed there")]
    Character {
        /// The character found.
        found: char,
        /// Its place, counted in characters from 1.
        at: usize,
    },
    /// An AE-ID-Stem must start with `C` or `S` and go on.
    #[error("is no AE-ID-Stem: it must start with 'C' or 'S' and have at least one more character")]
    NoStem,
    /// An App-ID must start with `R`, `r` or `N` and go on.
    #[error("is no App-ID: it must start with 'R' or 'N' and have at least one more character")]
    NoAppId,
    /// The identifier of a key is a part of a Credential-ID, which has a bound too.
    #[error("is longer than {MAX_KEY_ID_LEN} bytes, so that its Credential-ID is too long")]
    KeyIdTooLong,
    /// A KpsaID has the form `relative@FQDN`.
    #[error("is no KpsaID: it must have the form Relative-KpsaID@Issuer-FQDN")]
    NoKpsaId,
    /// A fully qualified domain name has non-empty labels.
    #[error("is no domain name: it has an empty label or one that starts or ends with '-'")]
    NoFqdn,
    /// An absolute identifier has a service provider in front.
    #[error(
        "is no absolute AE-ID or CSE-ID: it must have the form //service-provider/CSE-ID, with /AE-ID-Stem behind it for an AE"
    )]
    NotAbsolute,
    /// A Credential-ID has the form `type-value`.
    #[error("is no Credential-ID: it must have the form type-value with a two-digit type")]
    NoCredentialId,
}

fn bounded(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty)
    } else if text.len() > MAX_LEN {
        Err(IdError::TooLong)
    } else {
        Ok(())
    }
}

fn alphabet(text: &str, allowed: impl Fn(char) -> bool) -> Result<(), IdError> {
    match text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
        Some((at, found)) => Err(IdError::Character { found, at: at + 1 }),
        None => Ok(()),
    }
}

/// The unreserved characters of RFC 3986, the alphabet of AE-ID-Stems and CSE-IDs.
fn unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

/// The alphabet of the relative part of a key identifier (TS-0003 clause 10.5).
fn key_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

identifier! {
    /// An AE-ID-Stem: `C…` (unique at its registrar) or `S…` (unique at its service provider).
    ///
    /// This is the only form in which a registree AE may write its From (TS-0004 clause 7.3.2.1).
    AeIdStem
}

impl AeIdStem {
    /// Reads a stem.
    ///
    /// # Errors
    /// What is wrong with `text`: length, alphabet, or that it is not a stem.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks a stem without keeping it.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn check(text: &str) -> Result<(), IdError> {
        bounded(text)?;
        alphabet(text, unreserved)?;
        if is_stem(text) { Ok(()) } else { Err(IdError::NoStem) }
    }
}

fn is_stem(text: &str) -> bool {
    text.len() >= 2 && matches!(text.as_bytes().first(), Some(b'C' | b'S'))
}

/// A CSE-ID, kept without the slash of its SP-relative form: `mn-cse-123456`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CseId(Box<str>);

impl CseId {
    /// Reads a CSE-ID, with or without the leading `/` of its SP-relative form.
    ///
    /// # Errors
    /// What is wrong with `text`: length or alphabet.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        bounded(bare)?;
        alphabet(bare, unreserved)?;
        Ok(Self(bare.into()))
    }

    /// The identifier without a slash.
    #[must_use]
    pub fn bare(&self) -> &str {
        &self.0
    }

    /// Whether in its SP-relative form it could be an S-type AE-ID as well (TS-0001 clause 7.2): a
    /// credential for such a CSE-ID would be for an AE that any CSE may speak for.
    #[must_use]
    pub fn could_be_an_ae_id(&self) -> bool {
        self.0.starts_with('S') && is_stem(&self.0)
    }
}

/// Writes the SP-relative form, `/mn-cse-123456`.
impl fmt::Display for CseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl std::str::FromStr for CseId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

identifier! {
    /// An App-ID: `R…` registered with an authority, `N…` not registered. Lower-case `r` is of
    /// releases before 4.
    AppId
}

impl AppId {
    /// Reads an App-ID.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        bounded(text)?;
        alphabet(text, |c| !c.is_control() && !c.is_whitespace())?;
        if text.len() >= 2 && matches!(text.as_bytes().first(), Some(b'R' | b'r' | b'N')) {
            Ok(Self(text.into()))
        } else {
            Err(IdError::NoAppId)
        }
    }
}

identifier! {
    /// An absolute AE-ID or CSE-ID: `//in.provider.com/mn-1/Clight`, `//in.provider.com/Slight`,
    /// `//in.provider.com/in-cse`. The clients of an M2M Authentication Function are named so
    /// (TS-0003 clause 8.8), for they are of any CSE.
    AbsoluteId
}

impl AbsoluteId {
    /// Reads an absolute identifier.
    ///
    /// # Errors
    /// What is wrong with `text`: length, alphabet, or that it is not absolute.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks an absolute identifier without keeping it.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn check(text: &str) -> Result<(), IdError> {
        match OriginatorId::parse(text)? {
            OriginatorId::Absolute { .. } => Ok(()),
            OriginatorId::AssignByRegistrar
            | OriginatorId::AssignByServiceProvider
            | OriginatorId::Stem(_)
            | OriginatorId::SpRelative(_)
            | OriginatorId::SpRelativeAe { .. }
            | OriginatorId::SpRelativeAssign { .. } => Err(IdError::NotAbsolute),
        }
    }
}

/// Checks that `text` is a fully qualified domain name in letters, digits, hyphens and dots.
///
/// # Errors
/// What is wrong with `text`.
pub fn check_fqdn(text: &str) -> Result<(), IdError> {
    bounded(text)?;
    alphabet(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))?;
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
    if text.split('.').all(label) { Ok(()) } else { Err(IdError::NoFqdn) }
}

identifier! {
    /// A KpsaID, `Issuer_Relative_KpsaID@Issuer-FQDN` (TS-0003 clause 10.5).
    ///
    /// The same shape serves a KmID and the key identifier of a MAF.
    KpsaId
}

impl KpsaId {
    /// Reads a KpsaID.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks a KpsaID without keeping it.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn check(text: &str) -> Result<(), IdError> {
        bounded(text)?;
        if text.len() > MAX_KEY_ID_LEN {
            return Err(IdError::KeyIdTooLong);
        }
        let (relative, fqdn) = text.split_once('@').ok_or(IdError::NoKpsaId)?;
        if relative.is_empty() {
            return Err(IdError::NoKpsaId);
        }
        alphabet(relative, key_id_char)?;
        check_fqdn(fqdn).map_err(|e| match e {
            // The place is told in the whole identifier, where the reader looks.
            IdError::Character { found, at } => {
                IdError::Character { found, at: at + relative.len() + 1 }
            }
            IdError::Empty => IdError::NoKpsaId,
            other => other,
        })?;
        Ok(())
    }

    /// The part behind `@`: whose key it is, and so where to look for it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, fqdn)| fqdn)
    }
}

/// The type of a Credential-ID (TS-0003 clause 12.3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialType {
    /// 10: KpmID, a key shared with an M2M Enrolment Function.
    Kpm,
    /// 11: KmID, a key shared with a MAF.
    Km,
    /// 12: KpsaID or KcID.
    Kpsa,
    /// Any other two-digit type, kept as it is.
    Other(u8),
}

impl CredentialType {
    /// The number in front of the `-`.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Kpm => 10,
            Self::Km => 11,
            Self::Kpsa => 12,
            Self::Other(n) => n,
        }
    }
}

/// A Credential-ID, `type-value`, split at the first `-` (TS-0003 clause 10.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CredentialId {
    kind: CredentialType,
    value: Box<str>,
}

impl CredentialId {
    /// The Credential-ID of a KpsaID: `12-<KpsaID>`.
    #[must_use]
    pub fn of_kpsa(id: &KpsaId) -> Self {
        Self { kind: CredentialType::Kpsa, value: id.0.clone() }
    }

    /// Reads a Credential-ID. The alphabet of clause 10.4 is too narrow for the identifiers of
    /// RFC 6920 that other clauses put into it, so any visible ASCII is taken.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        bounded(text)?;
        alphabet(text, |c| c.is_ascii_graphic())?;
        let (kind, value) = text.split_once('-').ok_or(IdError::NoCredentialId)?;
        if kind.len() != 2 || !kind.bytes().all(|b| b.is_ascii_digit()) || value.is_empty() {
            return Err(IdError::NoCredentialId);
        }
        let kind = match kind.parse::<u8>().map_err(|_| IdError::NoCredentialId)? {
            10 => CredentialType::Kpm,
            11 => CredentialType::Km,
            12 => CredentialType::Kpsa,
            n => CredentialType::Other(n),
        };
        Ok(Self { kind, value: value.into() })
    }

    /// Which kind of credential it names.
    #[must_use]
    pub fn kind(&self) -> CredentialType {
        self.kind
    }

    /// The part behind the first `-`.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{}", self.kind.number(), self.value)
    }
}

/// How a request's From is written, borrowed from its text.
///
/// The forms are those of TS-0001 clause 7.2: what an AE may write, and what a CSE passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginatorId<'a> {
    /// `C` alone: an AE that registers wants its registrar to assign an AE-ID.
    AssignByRegistrar,
    /// `S` alone: an AE that registers wants its service provider to assign an AE-ID.
    AssignByServiceProvider,
    /// An AE-ID-Stem.
    Stem(&'a str),
    /// `/CSE-ID`, or the SP-relative `/S…` of an AE with an S-type stem: the two look alike.
    SpRelative(&'a str),
    /// `/CSE-ID/C…`: an AE registered at that CSE.
    SpRelativeAe {
        /// The CSE part, without slashes.
        cse: &'a str,
        /// The AE-ID-Stem.
        stem: &'a str,
    },
    /// `/CSE-ID/S`: that CSE wants the service provider to assign an AE-ID to an AE that registers
    /// there. It names no AE, so nothing but the announcement of one may be asked for with it
    /// (TS-0001 clause 10.2.2.2).
    SpRelativeAssign {
        /// The CSE part, without slashes.
        cse: &'a str,
    },
    /// `//sp/…` in front of one of the two SP-relative forms.
    Absolute {
        /// The service provider's domain name.
        sp: &'a str,
        /// The CSE part, or an S-type stem.
        first: &'a str,
        /// The AE-ID-Stem, if there is one.
        stem: Option<&'a str>,
    },
}

impl<'a> OriginatorId<'a> {
    /// Reads a From.
    ///
    /// # Errors
    /// What is wrong with `text`: length, alphabet, or a shape that no clause knows.
    pub fn parse(text: &'a str) -> Result<Self, IdError> {
        bounded(text)?;
        alphabet(text, |c| unreserved(c) || c == '/')?;
        if let Some(absolute) = text.strip_prefix("//") {
            let (sp, rest) = absolute.split_once('/').ok_or(IdError::NoFqdn)?;
            check_fqdn(sp)?;
            return match Self::sp_relative(rest)? {
                Self::SpRelativeAe { cse, stem } => {
                    Ok(Self::Absolute { sp, first: cse, stem: Some(stem) })
                }
                Self::SpRelativeAssign { .. } => Err(IdError::NoStem),
                _ => Ok(Self::Absolute { sp, first: rest, stem: None }),
            };
        }
        if let Some(rest) = text.strip_prefix('/') {
            return Self::sp_relative(rest);
        }
        match text {
            "C" => Ok(Self::AssignByRegistrar),
            "S" => Ok(Self::AssignByServiceProvider),
            _ if text.contains('/') || !is_stem(text) => Err(IdError::NoStem),
            _ => Ok(Self::Stem(text)),
        }
    }

    fn sp_relative(rest: &'a str) -> Result<Self, IdError> {
        match rest.split_once('/') {
            None if rest.is_empty() => Err(IdError::Empty),
            None => Ok(Self::SpRelative(rest)),
            Some((cse, "S")) if !cse.is_empty() => Ok(Self::SpRelativeAssign { cse }),
            Some((cse, stem)) if !cse.is_empty() && !stem.contains('/') && is_stem(stem) => {
                Ok(Self::SpRelativeAe { cse, stem })
            }
            Some(_) => Err(IdError::NoStem),
        }
    }
}

#[cfg(test)]
#[path = "id_tests.rs"]
mod tests;
