//! Originators and targets in the form that another CSE sees.

use crate::cse::Cse;
use crate::id::{CseId, OriginatorId};
use crate::target::{Scope, Target};

/// Returns the From of a request that is forwarded to another CSE. The AE-ID-Stem of an AE
/// registered at `own` becomes SP-relative (TS-0001 clause 7.2). Every other From is SP-relative
/// already.
#[must_use]
pub fn to_sp_relative_originator(own: &Cse, from: &str) -> String {
    match OriginatorId::parse(from) {
        Ok(OriginatorId::Stem(stem)) if stem.starts_with('S') => format!("/{stem}"),
        Ok(OriginatorId::Stem(stem)) => format!("{}/{stem}", own.cse_id),
        _ => from.into(),
    }
}

/// Returns the CSE that hosts a target. Returns `None` if the target belongs to another service
/// provider or is CSE-relative.
#[must_use]
pub fn cse_of<'a>(own: &Cse, to: &'a Target) -> Option<&'a CseId> {
    match &to.scope {
        Scope::CseRelative => None,
        Scope::SpRelative(cse) => Some(cse),
        Scope::Absolute { sp, cse } => {
            let ours = own.service_provider.as_deref();
            ours.is_some_and(|ours| ours.eq_ignore_ascii_case(sp)).then_some(cse)
        }
    }
}
