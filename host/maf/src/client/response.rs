//! What a MAF answers, read strictly and within bounds.

use std::time::SystemTime;

use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::{AbsoluteId, KpsaId};
use saegis_onem2m::primitive::{Content, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use crate::attributes::{AttributeError, Attributes, MAX_CONTENT, required};
use crate::names;
use crate::record::time;

/// A client registration as the MAF has it (clauses 8.8.2.3 to 8.8.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientRegistration {
    /// The mafClientRegID.
    pub id: String,
    /// The MAF Client ID.
    pub client: AbsoluteId,
    /// From when on it does not hold.
    pub expires: SystemTime,
    /// Its labels.
    pub labels: Vec<String>,
    /// The domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// The KmID, where the MAF has provisioned a Km.
    pub assigned_key_id: Option<KpsaId>,
}

/// A key registration as its source sees it (clauses 8.8.2.7 and 8.8.2.9).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredKey {
    /// The RelativeKeyID.
    pub relative_key_id: String,
    /// From when on the key does not hold.
    pub expires: SystemTime,
    /// The Source MAF Client ID.
    pub source: AbsoluteId,
    /// Its labels.
    pub labels: Vec<String>,
    /// The domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// What it is for.
    pub suid: u8,
    /// Who may fetch it.
    pub targets: Vec<AbsoluteId>,
}

/// A key as its target gets it (clause 8.8.2.8).
///
/// It has neither `Debug` nor `Clone`, for it has a key.
#[non_exhaustive]
pub struct RetrievedKey {
    /// The key.
    pub key: PresharedKey,
    /// From when on it does not hold.
    pub expires: SystemTime,
    /// The Source MAF Client ID: whom the key stands for.
    pub source: AbsoluteId,
    /// Its labels.
    pub labels: Vec<String>,
    /// The domain name of the administrating stakeholder.
    pub admin_fqdn: String,
    /// What it is for, and for nothing else.
    pub suid: u8,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The MAF refused.
    #[error("the MAF answered {rsc}: {why}")]
    Refused {
        /// The code.
        rsc: Rsc,
        /// What it says about it, cut to a length that is fit for a log; empty if it says nothing.
        why: String,
    },
    /// It is a success of another kind than that of the request.
    #[error("the MAF answered {0}, which is no answer to this request")]
    Unexpected(Rsc),
    /// What is in it is wrong.
    #[error("the MAF's answer is wrong: {0}")]
    Attribute(#[from] AttributeError),
    /// Its content has a name twice, or is none.
    #[error("the MAF's answer is wrong: the content is no representation")]
    Content,
    /// The RelativeKeyID is not that of the key that the session exports: the two ends do not have
    /// the same key, or not over the same session.
    #[error("the MAF's RelativeKeyID is not the one that this TLS session exports")]
    OtherSession,
}

/// Reads the answer to a registration, a retrieval or an update of a client.
///
/// # Errors
/// When the MAF refused, or its answer is wrong.
pub fn read_registration(answer: &ResponsePrimitive) -> Result<ClientRegistration, AnswerError> {
    let known = [
        names::CLIENT_REGISTRATION_ID,
        names::CLIENT_ID,
        names::EXPIRATION_TIME,
        names::LABELS,
        names::ADMIN_FQDN,
        names::ASSIGNED_KEY_ID,
    ];
    let success = [Rsc::Created, Rsc::Ok, Rsc::Updated];
    let read = read(answer, &success, names::CLIENT_REGISTRATION, &known)?;
    let id = read.relative_id(names::CLIENT_REGISTRATION_ID)?;
    Ok(ClientRegistration {
        id: required(names::CLIENT_REGISTRATION_ID, id)?,
        client: required(names::CLIENT_ID, read.absolute(names::CLIENT_ID)?)?,
        expires: expires(&read)?,
        labels: read.labels()?,
        admin_fqdn: required(names::ADMIN_FQDN, read.admin()?)?,
        assigned_key_id: read.key_id(names::ASSIGNED_KEY_ID)?,
    })
}

/// Reads the answer to a registration or an update of a key. Who registered the key that the session
/// exports, without a value, gives what it exports at this end: then the MAF has the same.
///
/// # Errors
/// When the MAF refused, its answer is wrong, or it has another key.
pub fn read_registered_key(
    answer: &ResponsePrimitive,
    exported: Option<&Exported>,
) -> Result<RegisteredKey, AnswerError> {
    let known = [
        names::RELATIVE_KEY_ID,
        names::EXPIRATION_TIME,
        names::SOURCE_ID,
        names::LABELS,
        names::ADMIN_FQDN,
        names::SUID,
        names::TARGET_IDS,
    ];
    let read = read(answer, &[Rsc::Created, Rsc::Updated], names::KEY_REGISTRATION, &known)?;
    let id = read.relative_id(names::RELATIVE_KEY_ID)?;
    let relative_key_id = required(names::RELATIVE_KEY_ID, id)?;
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

/// Reads the answer to a retrieval of a key. Whether its SUID is the one that is wanted, and its time
/// not over, is for the reader to look at.
///
/// # Errors
/// When the MAF refused, or its answer is wrong.
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

/// Reads the answer to a de-registration of a client or a key.
///
/// # Errors
/// When the MAF refused, or its answer is wrong.
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

/// The debugging information of a refusal, fit for a log.
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
    // So that no name stands twice in it. What it says is not repeated: it could be a key.
    Content::parse(content.clone()).map_err(|_| AnswerError::Content)?;
    Ok(Attributes::read(content, root, known)?)
}

fn expires(read: &Attributes<'_>) -> Result<SystemTime, AttributeError> {
    Ok(time(required(names::EXPIRATION_TIME, read.expiration()?)?))
}
