//! The parsers of a MAF's responses: strict and within bounds.

use std::time::SystemTime;

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::{AbsoluteId, KpsaId};
use saegis_onem2m::primitive::{Content, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use crate::attributes::{AttributeError, Attributes, MAX_CONTENT, required};
use crate::names;
use crate::record::time;

/// A client registration in the view of the MAF (clause 8.8.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientRegistration {
    /// mafClientRegID.
    pub id: String,
    /// MAF Client ID.
    pub client: AbsoluteId,
    /// End of the registration.
    pub expires: SystemTime,
    /// Labels.
    pub labels: Vec<String>,
    /// Domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// KmID, if the MAF has provisioned a Km.
    pub assigned_key_id: Option<KpsaId>,
}

/// An updated client registration: only the attributes that were asked for (clause 8.8.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedClient {
    /// End of the registration, which the MAF may have shortened.
    pub expires: Option<SystemTime>,
    /// Labels.
    pub labels: Option<Vec<String>>,
    /// KmID, if the MAF has provisioned a new Km.
    pub assigned_key_id: Option<KpsaId>,
}

/// An updated key registration: only the attributes that were asked for (clause 8.8.2.9).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedKey {
    /// End of the key, which the MAF may have shortened.
    pub expires: Option<SystemTime>,
    /// Labels.
    pub labels: Option<Vec<String>>,
    /// Clients that may fetch the key.
    pub targets: Option<Vec<AbsoluteId>>,
}

/// A key registration in the view of its source (clause 8.8.2.7).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredKey {
    /// RelativeKeyID.
    pub relative_key_id: String,
    /// End of the key.
    pub expires: SystemTime,
    /// Source MAF Client ID.
    pub source: AbsoluteId,
    /// Labels.
    pub labels: Vec<String>,
    /// Domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// Purpose of the key.
    pub suid: u8,
    /// Clients that may fetch the key.
    pub targets: Vec<AbsoluteId>,
}

/// A key in the view of its target (clause 8.8.2.8).
///
/// It has neither `Debug` nor `Clone`, because it contains a key.
#[non_exhaustive]
pub struct RetrievedKey {
    /// Key.
    pub key: PresharedKey,
    /// End of the key.
    pub expires: SystemTime,
    /// Source MAF Client ID: the client that the key stands for.
    pub source: AbsoluteId,
    /// Labels.
    pub labels: Vec<String>,
    /// Domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// Only purpose of the key.
    pub suid: u8,
}

/// The reason why a response is an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The MAF refused the request.
    #[error("the MAF answered {rsc}: {why}")]
    Refused {
        /// Response Status Code.
        rsc: Rsc,
        /// Reason of the MAF, shortened for logs; empty if there is none.
        why: String,
    },
    /// The response is a success of another operation.
    #[error("the MAF answered {0}, which does not match the request")]
    Unexpected(Rsc),
    /// An attribute of the response is invalid.
    #[error("the MAF's response is invalid: {0}")]
    Attribute(#[from] AttributeError),
    /// The content has a duplicate name, or is not a representation.
    #[error("the MAF's response is invalid: the content is not a representation")]
    Content,
    /// The RelativeKeyID differs from that of the exported key: the two ends have different keys or
    /// different sessions.
    #[error("the MAF's RelativeKeyID does not match the key exported from this TLS session")]
    OtherSession,
}

/// Parses the response to a registration or a retrieval of a client.
///
/// # Errors
/// Returns an error if the MAF refused the request, or its response is invalid.
pub fn read_registration(answer: &ResponsePrimitive) -> Result<ClientRegistration, AnswerError> {
    let known = [
        names::RESOURCE_ID,
        names::CLIENT_ID,
        names::EXPIRATION_TIME,
        names::LABELS,
        names::ADMIN_FQDN,
        names::ASSIGNED_KEY_ID,
    ];
    let read = read(answer, &[Rsc::Created, Rsc::Ok], names::CLIENT_REGISTRATION, &known)?;
    let id = read.relative_id(names::RESOURCE_ID)?;
    Ok(ClientRegistration {
        id: required(names::RESOURCE_ID, id)?,
        client: required(names::CLIENT_ID, read.absolute(names::CLIENT_ID)?)?,
        expires: expires(&read)?,
        labels: read.labels()?,
        admin_fqdn: required(names::ADMIN_FQDN, read.admin()?)?,
        assigned_key_id: read.key_id(names::ASSIGNED_KEY_ID)?,
    })
}

/// Parses the response to an update of a client registration.
///
/// # Errors
/// Returns an error if the MAF refused the request, or its response is invalid.
pub fn read_updated_client(answer: &ResponsePrimitive) -> Result<UpdatedClient, AnswerError> {
    let known = [names::EXPIRATION_TIME, names::LABELS, names::ASSIGNED_KEY_ID];
    let read = read(answer, &[Rsc::Updated], names::CLIENT_REGISTRATION, &known)?;
    Ok(UpdatedClient {
        expires: read.expiration()?.map(time),
        labels: read.has(names::LABELS).then(|| read.labels()).transpose()?,
        assigned_key_id: read.key_id(names::ASSIGNED_KEY_ID)?,
    })
}

/// Parses the response to an update of a key registration.
///
/// # Errors
/// Returns an error if the MAF refused the request, or its response is invalid.
pub fn read_updated_key(answer: &ResponsePrimitive) -> Result<UpdatedKey, AnswerError> {
    let known = [names::EXPIRATION_TIME, names::LABELS, names::TARGET_IDS];
    let read = read(answer, &[Rsc::Updated], names::KEY_REGISTRATION, &known)?;
    Ok(UpdatedKey {
        expires: read.expiration()?.map(time),
        labels: read.has(names::LABELS).then(|| read.labels()).transpose()?,
        targets: read.has(names::TARGET_IDS).then(|| read.targets()).transpose()?,
    })
}

/// Parses the response to a registration of a key.
///
/// A client that registered the key of its session passes its own exported key material in
/// `exported`. This proves that the MAF has the same key.
///
/// # Errors
/// Returns an error if the MAF refused the request, its response is invalid, or it has another key.
pub fn read_registered_key(
    answer: &ResponsePrimitive,
    exported: Option<&Exported>,
) -> Result<RegisteredKey, AnswerError> {
    let known = [
        names::RESOURCE_ID,
        names::EXPIRATION_TIME,
        names::SOURCE_ID,
        names::LABELS,
        names::ADMIN_FQDN,
        names::SUID,
        names::TARGET_IDS,
    ];
    let read = read(answer, &[Rsc::Created], names::KEY_REGISTRATION, &known)?;
    let id = read.relative_id(names::RESOURCE_ID)?;
    let relative_key_id = required(names::RESOURCE_ID, id)?;
    if exported.is_some_and(|own| own.relative_key_id() != relative_key_id) {
        return Err(AnswerError::OtherSession);
    }
    Ok(RegisteredKey {
        relative_key_id,
        expires: expires(&read)?,
        source: required(names::SOURCE_ID, read.absolute(names::SOURCE_ID)?)?,
        labels: read.labels()?,
        admin_fqdn: required(names::ADMIN_FQDN, read.admin()?)?,
        suid: required(names::SUID, read.suid()?)?,
        targets: read.targets()?,
    })
}

/// Parses the response to a retrieval of a key. The caller must check the SUID and the end of the
/// key.
///
/// # Errors
/// Returns an error if the MAF refused the request, or its response is invalid.
pub fn read_retrieved_key(answer: &ResponsePrimitive) -> Result<RetrievedKey, AnswerError> {
    let known = [
        names::EXPIRATION_TIME,
        names::SOURCE_ID,
        names::LABELS,
        names::ADMIN_FQDN,
        names::SUID,
        names::KEY_VALUE,
    ];
    let read = read(answer, &[Rsc::Ok], names::KEY_REGISTRATION, &known)?;
    Ok(RetrievedKey {
        key: required(names::KEY_VALUE, read.key()?)?,
        expires: expires(&read)?,
        source: required(names::SOURCE_ID, read.absolute(names::SOURCE_ID)?)?,
        labels: read.labels()?,
        admin_fqdn: required(names::ADMIN_FQDN, read.admin()?)?,
        suid: required(names::SUID, read.suid()?)?,
    })
}

/// Parses the response to a de-registration of a client or a key.
///
/// # Errors
/// Returns an error if the MAF refused the request, or its response is invalid.
pub fn read_deleted(answer: &ResponsePrimitive) -> Result<(), AnswerError> {
    succeeded(answer, &[Rsc::Deleted])
}

fn succeeded(answer: &ResponsePrimitive, success: &[Rsc]) -> Result<(), AnswerError> {
    if success.contains(&answer.rsc) {
        Ok(())
    } else if answer.rsc.is_success() {
        Err(AnswerError::Unexpected(answer.rsc))
    } else {
        Err(AnswerError::Refused { rsc: answer.rsc, why: reason(answer) })
    }
}

/// Returns the debugging information of a refusal, sanitized for logs.
fn reason(answer: &ResponsePrimitive) -> String {
    let short = answer.content.as_ref().is_some_and(|content| content.len() <= MAX_CONTENT);
    short.then(|| answer.reason()).flatten().unwrap_or_default()
}

fn read<'a>(
    answer: &'a ResponsePrimitive,
    success: &[Rsc],
    root: &'static str,
    known: &[&'static str],
) -> Result<Attributes<'a>, AnswerError> {
    succeeded(answer, success)?;
    let content = answer.content.as_ref().ok_or(AttributeError::None)?;
    if content.len() > MAX_CONTENT {
        return Err(AttributeError::TooLong.into());
    }
    // Rejects duplicate names. The error is not repeated, because it could contain a key.
    Content::parse(content.clone()).map_err(|_| AnswerError::Content)?;
    Ok(Attributes::read(content, root, known)?)
}

fn expires(read: &Attributes<'_>) -> Result<SystemTime, AttributeError> {
    Ok(time(required(names::EXPIRATION_TIME, read.expiration()?)?))
}
