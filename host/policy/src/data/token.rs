//! Verification of tokens (TS-0003 clauses 7.3.2.5 and 7.3.2.6).
//!
//! A token is verified once in a generation: its signature, its issuer, its audience, its lifetime, and
//! that its permissions are within the bounds of its issuer. Its times and its holder are compared
//! with each request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_jose::{JwsError, UnverifiedJws};
use saegis_onem2m::id::{IdError, OriginatorId};
use saegis_onem2m::role::RoleId;
use saegis_onem2m::routing::canonical_originator;
use saegis_onem2m::target::Target;
use saegis_onem2m::token::{TokenPermission, VerifiedToken};
use serde::Deserialize;
use serde_json::Value;

use crate::data::token_issuers::{Issuer, TokenIssuers, is_identifier};

/// Maximum number of permissions of a token, and of resources and roles in a permission.
const MAX_PERMISSIONS: usize = 16;
const MAX_ENTRIES: usize = 32;

/// Maximum length of the address of a resource, in bytes.
const MAX_ADDRESS: usize = 1024;

/// A time after which no token is valid, in seconds since 1970: the year 9999.
const MAX_TIME: f64 = 253_402_300_799.0;

/// The reason why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a signed token, or no key of its issuer verifies it.
    #[error("{0}")]
    Signature(#[from] JwsError),
    /// A claim is missing, or has another form.
    #[error("has no valid {0}")]
    Claim(&'static str),
    /// The issuer is not in the policy file.
    #[error("has an issuer that is not in token-issuers.toml")]
    Issuer,
    /// It is revoked.
    #[error("is revoked")]
    Revoked,
    /// It is for other CSEs.
    #[error("is not for this CSE (aud)")]
    Audience,
    /// It lives longer than its issuer may let it.
    #[error("is valid for longer than its issuer may let it (nbf, exp)")]
    Lifetime,
    /// Its time has not come.
    #[error("is not valid yet (nbf)")]
    NotYetValid,
    /// Its time is over.
    #[error("has expired (exp)")]
    Expired,
    /// The originator is not its holder.
    #[error("has another holder (azp) than the originator of the request")]
    Holder,
    /// Its issuer may not name this holder.
    #[error("has a holder that its issuer may not name")]
    HolderOfIssuer,
    /// Its issuer may not give a role.
    #[error("has the role {0}, which its issuer may not give")]
    Role(RoleId),
    /// Its issuer may not give privileges for a resource.
    #[error("has privileges for {0}, which its issuer may not give")]
    Resource(String),
}

impl TokenError {
    /// Returns whether the text has not the form of a token.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Signature(error) if error.is_malformed())
            || matches!(self, Self::Claim(_))
    }
}

/// A token that was verified in a generation.
#[derive(Debug)]
pub(crate) struct Token {
    pub verified: VerifiedToken,
    /// Canonical identifier of the holder.
    holder: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Token {
    /// Checks that the token is valid at a time, for an originator in its canonical form.
    pub fn check(&self, originator: &str, now: SystemTime) -> Result<(), TokenError> {
        if now < self.not_before {
            Err(TokenError::NotYetValid)
        } else if now >= self.not_after {
            Err(TokenError::Expired)
        } else if self.holder != originator {
            Err(TokenError::Holder)
        } else {
            Ok(())
        }
    }
}

/// The claim `aud`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The claim `tkps`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permissions {
    pm: Vec<Permission>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permission {
    ris: Option<Vec<String>>,
    pv: Option<Value>,
    rids: Option<Vec<String>>,
}

/// Checks whether a token is accepted at a time, if its holder sends it.
///
/// # Errors
/// Returns the reason why not.
pub fn check_token(issuers: &TokenIssuers, token: &str, now: SystemTime) -> Result<(), TokenError> {
    let token = verify(issuers, token)?;
    token.check(&token.holder, now)
}

/// Verifies a token, except its times and its holder, which [`Token::check`] compares.
pub(crate) fn verify(issuers: &TokenIssuers, token: &str) -> Result<Token, TokenError> {
    let read = UnverifiedJws::read(token)?;
    let id_of_issuer = text(read.unverified_payload(), "iss")?.to_owned();
    let issuer = issuers.issuer(&id_of_issuer).ok_or(TokenError::Issuer)?;
    let payload = read.verify(&issuer.keys)?;
    let id = text(&payload, "jti")?;
    if issuers.is_revoked(id) {
        return Err(TokenError::Revoked);
    }
    let audience: Audience = structure(&payload, "aud")?;
    let own = format!("//{}{}", issuers.service_provider, issuers.cse);
    let is_own = |cse: &String| is_same_absolute(cse, &own);
    let is_for_this_cse = match &audience {
        Audience::One(cse) => is_own(cse),
        Audience::Many(all) => all.iter().any(is_own),
    };
    if !is_for_this_cse {
        return Err(TokenError::Audience);
    }
    let (not_before, not_after) = lifetime(&payload, issuer)?;
    let holder = text(&payload, "azp")?;
    if !matches!(OriginatorId::parse(holder), Ok(OriginatorId::Absolute { .. })) {
        return Err(TokenError::Claim("azp"));
    }
    if !issuer.may_name_holder(holder) {
        return Err(TokenError::HolderOfIssuer);
    }
    let provider = Some(&*issuers.service_provider);
    let canonical = canonical_originator(&issuers.cse, provider, holder);
    let listed = permissions(&payload)?.into_iter();
    let permissions = listed.map(|listed| permission(listed, issuers, issuer));
    let permissions = permissions.collect::<Result<Vec<_>, _>>()?.into();
    let verified = VerifiedToken { issuer: id_of_issuer.into(), id: id.into(), permissions };
    let holder = canonical.ok_or(TokenError::Claim("azp"))?;
    Ok(Token { verified, holder, not_before, not_after })
}

/// Returns a claim that identifies something.
fn text<'p>(payload: &'p Value, name: &'static str) -> Result<&'p str, TokenError> {
    let value = payload.get(name).and_then(Value::as_str).filter(|text| is_identifier(text));
    value.ok_or(TokenError::Claim(name))
}

/// Returns a claim with a structure.
fn structure<'p, T: Deserialize<'p>>(
    payload: &'p Value,
    name: &'static str,
) -> Result<T, TokenError> {
    let value = payload.get(name).ok_or(TokenError::Claim(name))?;
    T::deserialize(value).map_err(|_| TokenError::Claim(name))
}

/// Returns the permissions.
fn permissions(payload: &Value) -> Result<Vec<Permission>, TokenError> {
    let Permissions { pm } = structure(payload, "tkps")?;
    // serde reads a list as the members of an object, in order.
    let listed = payload.get("tkps").and_then(|tkps| tkps.get("pm")).and_then(Value::as_array);
    let are_objects = listed.is_some_and(|listed| listed.iter().all(Value::is_object));
    if are_objects && (1..=MAX_PERMISSIONS).contains(&pm.len()) {
        Ok(pm)
    } else {
        Err(TokenError::Claim("tkps"))
    }
}

/// Returns whether two absolute identifiers are equal. Domain names are compared without case.
fn is_same_absolute(id: &str, own: &str) -> bool {
    let parts = |id: &str| {
        let rest = id.strip_prefix("//")?;
        let (domain, cse) = rest.split_once('/')?;
        Some((domain.to_ascii_lowercase(), cse.to_owned()))
    };
    parts(id).is_some_and(|id| parts(own) == Some(id))
}

/// Returns the times between which a token is valid.
fn lifetime(payload: &Value, issuer: &Issuer) -> Result<(SystemTime, SystemTime), TokenError> {
    let time = |name| {
        let seconds = payload.get(name).and_then(Value::as_f64);
        let seconds = seconds.filter(|seconds| (0.0..=MAX_TIME).contains(seconds));
        let after = Duration::from_secs_f64(seconds.ok_or(TokenError::Claim(name))?);
        UNIX_EPOCH.checked_add(after).ok_or(TokenError::Claim(name))
    };
    let (not_before, not_after) = (time("nbf")?, time("exp")?);
    match not_after.duration_since(not_before) {
        Ok(life) if life <= issuer.max_life => Ok((not_before, not_after)),
        Ok(_) => Err(TokenError::Lifetime),
        Err(_) => Err(TokenError::Claim("exp")),
    }
}

/// Checks a permission against the bounds of its issuer.
fn permission(
    listed: Permission,
    issuers: &TokenIssuers,
    issuer: &Issuer,
) -> Result<TokenPermission, TokenError> {
    const CLAIM: TokenError = TokenError::Claim("tkps");
    let Permission { ris, pv, rids } = listed;
    let roles = rids.iter().flatten().map(|id| RoleId::parse(id));
    let roles = roles.collect::<Result<Vec<_>, IdError>>().map_err(|_| CLAIM)?;
    let counts = [roles.len(), ris.as_ref().map_or(0, Vec::len)];
    // Privileges without resources would hold for all of them.
    let is_whole = pv.as_ref().map_or(!roles.is_empty(), |pv| pv.is_object() && ris.is_some());
    if counts.iter().any(|count| *count > MAX_ENTRIES) || !is_whole {
        return Err(CLAIM);
    }
    if let Some(role) = roles.iter().find(|role| !issuer.may_give_role(role)) {
        return Err(TokenError::Role(role.clone()));
    }
    for address in ris.iter().flatten() {
        let here = cse_relative(address, issuers).ok_or(CLAIM)?;
        if pv.is_some() && !issuer.may_give_privileges(&here) {
            return Err(TokenError::Resource(here));
        }
    }
    Ok(TokenPermission { resources: ris, rules: pv, roles })
}

/// Returns the CSE-relative form of an address at this CSE.
fn cse_relative(address: &str, issuers: &TokenIssuers) -> Option<String> {
    let target = Target::from_address(address).ok().filter(|_| address.len() <= MAX_ADDRESS)?;
    let is_here = target.is_at(&issuers.cse, Some(&issuers.service_provider));
    is_here.then_some(target.resource)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
