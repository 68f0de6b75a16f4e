//! Identifiers and their forms (TS-0001 clause 7.2, TS-0003 clauses 10.4 and 10.5).
//!
//! A value of an identifier type is always valid: its constructor checked the alphabet, the length
//! and the form that its clause defines. Clones share the text: each association has many of them.

use std::fmt;
use std::sync::Arc;

/// Maximum length of an identifier, in bytes. The specifications set no bound. This one protects
/// the gateway's memory.
pub const MAX_LEN: usize = 256;

/// Maximum length of a key identifier, in bytes. Its Credential-ID adds a type and a dash.
pub const MAX_KEY_ID_LEN: usize = MAX_LEN - "12-".len();

/// The reason why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text is longer than [`MAX_LEN`] bytes.
    #[error("is longer than {MAX_LEN} bytes")]
    TooLong,
    /// The text has a character outside the alphabet of this kind of identifier.
    #[error("has {found:?} at character {at}, which is not allowed there")]
    Character {
        /// The character.
        found: char,
        /// Its position, counted in characters from 1.
        at: usize,
    },
    /// The text is not `C` or `S` followed by at least one character.
    #[error(
        "is not an AE-ID-Stem: it must start with 'C' or 'S' and have at least one more character"
    )]
    NoStem,
    /// The text is not `R`, `r` or `N` followed by at least one character.
    #[error("is not an App-ID: it must start with 'R' or 'N' and have at least one more character")]
    NoAppId,
    /// The key identifier makes its Credential-ID too long.
    #[error("is longer than {MAX_KEY_ID_LEN} bytes, so that its Credential-ID is too long")]
    KeyIdTooLong,
    /// The text does not have the form `relative@FQDN` of a KpsaID.
    #[error("is not a KpsaID: it must have the form Relative-KpsaID@Issuer-FQDN")]
    NoKpsaId,
    /// A label of the domain name is empty, or starts or ends with a hyphen.
    #[error("is not a domain name: it has an empty label or one that starts or ends with '-'")]
    NoFqdn,
    /// The text does not start with a service provider.
    #[error(
        "is not an absolute AE-ID or CSE-ID: it must have the form //service-provider/CSE-ID, followed by /AE-ID-Stem for an AE"
    )]
    NotAbsolute,
    /// The text does not have the form `name@FQDN` of a Role-ID.
    #[error("is not a Role-ID: it must have the form name@issuer, with the issuer in lower case")]
    NoRoleId,
    /// The text does not have the form `type-value` of a Credential-ID.
    #[error("is not a Credential-ID: it must have the form type-value with a two-digit type")]
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

/// Returns whether a character is unreserved in RFC 3986: the alphabet of AE-ID-Stems and CSE-IDs.
fn unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

/// Returns whether the relative part of a key identifier may have a character (TS-0003 clause
/// 10.5).
fn key_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the identifier as text.
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
    /// An AE-ID-Stem: `C…` (unique at its registrar CSE) or `S…` (unique at its service provider).
    ///
    /// A registree AE must write its From in this form (TS-0004 clause 7.3.2.1).
    AeIdStem
}

impl AeIdStem {
    /// Parses a stem.
    ///
    /// # Errors
    /// Returns an error if the length, the alphabet or the form is wrong.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks a stem without storing it.
    ///
    /// # Errors
    /// Returns the errors of [`Self::parse`].
    pub fn check(text: &str) -> Result<(), IdError> {
        bounded(text)?;
        alphabet(text, unreserved)?;
        if is_stem(text) { Ok(()) } else { Err(IdError::NoStem) }
    }
}

fn is_stem(text: &str) -> bool {
    text.len() >= 2 && matches!(text.as_bytes().first(), Some(b'C' | b'S'))
}

/// A CSE-ID, stored without the slash of its SP-relative form: `mn-cse-123456`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CseId(Arc<str>);

impl CseId {
    /// Parses a CSE-ID, with or without the leading `/` of its SP-relative form.
    ///
    /// # Errors
    /// Returns an error if the length or the alphabet is wrong.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        bounded(bare)?;
        alphabet(bare, unreserved)?;
        Ok(Self(bare.into()))
    }

    /// Returns the identifier without the slash.
    #[must_use]
    pub fn bare(&self) -> &str {
        &self.0
    }

    /// Returns whether the SP-relative form could also be an S-type AE-ID (TS-0001 clause 7.2). A
    /// credential for such a CSE-ID could be taken for that of an AE, for which any CSE may speak.
    #[must_use]
    pub fn could_be_an_ae_id(&self) -> bool {
        self.0.starts_with('S') && is_stem(&self.0)
    }
}

/// Formats the SP-relative form, `/mn-cse-123456`.
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
    /// An App-ID: `R…` registered with an authority, `N…` not registered. Releases before 4 use a
    /// lower-case `r`.
    AppId
}

impl AppId {
    /// Parses an App-ID.
    ///
    /// # Errors
    /// Returns an error if the length, the alphabet or the form is wrong.
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
    /// `//in.provider.com/in-cse`. The clients of an M2M Authentication Function have such names
    /// (TS-0003 clause 8.8), because they can belong to any CSE.
    AbsoluteId
}

impl AbsoluteId {
    /// Parses an absolute identifier.
    ///
    /// # Errors
    /// Returns an error if the length or the alphabet is wrong, or the identifier is not absolute.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks an absolute identifier without storing it.
    ///
    /// # Errors
    /// Returns the errors of [`Self::parse`].
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

/// Checks that `text` is a fully qualified domain name of letters, digits, hyphens and dots.
///
/// # Errors
/// Returns an error if the length, the alphabet or a label is wrong.
pub fn check_fqdn(text: &str) -> Result<(), IdError> {
    bounded(text)?;
    alphabet(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))?;
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
    if text.split('.').all(label) { Ok(()) } else { Err(IdError::NoFqdn) }
}

identifier! {
    /// A KpsaID, `Issuer_Relative_KpsaID@Issuer-FQDN` (TS-0003 clause 10.5).
    ///
    /// A KmID and the key identifier of a MAF have the same form.
    KpsaId
}

impl KpsaId {
    /// Parses a KpsaID.
    ///
    /// # Errors
    /// Returns an error if the length, the alphabet or the form is wrong.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks a KpsaID without storing it.
    ///
    /// # Errors
    /// Returns the errors of [`Self::parse`].
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
            // The position counts from the start of the whole identifier.
            IdError::Character { found, at } => {
                IdError::Character { found, at: at + relative.len() + 1 }
            }
            IdError::Empty => IdError::NoKpsaId,
            other => other,
        })?;
        Ok(())
    }

    /// Returns the part after `@`: the issuer, whose key it is.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, fqdn)| fqdn)
    }
}

/// The type of a Credential-ID (TS-0003 clause 12.3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CredentialType {
    /// 10: KpmID, a key shared with an M2M Enrolment Function.
    Kpm,
    /// 11: KmID, a key shared with a MAF.
    Km,
    /// 12: KpsaID or KcID.
    Kpsa,
    /// Any other two-digit type.
    Other(u8),
}

impl CredentialType {
    /// Returns the number before the `-`.
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId {
    kind: CredentialType,
    value: Arc<str>,
}

impl CredentialId {
    /// Returns the Credential-ID of a KpsaID: `12-<KpsaID>`.
    #[must_use]
    pub fn of_kpsa(id: &KpsaId) -> Self {
        Self { kind: CredentialType::Kpsa, value: id.0.clone() }
    }

    /// Parses a Credential-ID. The alphabet of clause 10.4 is too narrow for the RFC 6920
    /// identifiers that other clauses use, so any visible ASCII character is accepted.
    ///
    /// # Errors
    /// Returns an error if the length, the alphabet or the form is wrong.
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

    /// Returns the type of the credential.
    #[must_use]
    pub fn kind(&self) -> CredentialType {
        self.kind
    }

    /// Returns the part after the first `-`.
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

/// A request's From, borrowed from its text.
///
/// The forms are those of TS-0001 clause 7.2, which AEs write and CSEs forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginatorId<'a> {
    /// `C`: a registering AE requests an AE-ID from its registrar CSE.
    AssignByRegistrar,
    /// `S`: a registering AE requests an AE-ID from its service provider.
    AssignByServiceProvider,
    /// An AE-ID-Stem.
    Stem(&'a str),
    /// `/CSE-ID`, or the SP-relative `/S…` of an AE with an S-type stem. The two look alike.
    SpRelative(&'a str),
    /// `/CSE-ID/C…`: an AE registered at that CSE.
    SpRelativeAe {
        /// CSE part, without slashes.
        cse: &'a str,
        /// AE-ID-Stem.
        stem: &'a str,
    },
    /// `/CSE-ID/S`: that CSE requests an AE-ID from the service provider for an AE that registers
    /// there. It does not name an AE, so it may only request the announcement of one (TS-0001
    /// clause 10.2.2.2).
    SpRelativeAssign {
        /// CSE part, without slashes.
        cse: &'a str,
    },
    /// `//sp/…`, followed by one of the SP-relative forms.
    Absolute {
        /// Domain name of the service provider.
        sp: &'a str,
        /// CSE part, or an S-type stem.
        first: &'a str,
        /// AE-ID-Stem, if present.
        stem: Option<&'a str>,
    },
}

impl<'a> OriginatorId<'a> {
    /// Parses a From.
    ///
    /// # Errors
    /// Returns an error if the length, the alphabet or the form is wrong.
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
