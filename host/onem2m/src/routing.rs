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

/// Returns an originator in the form in which identifiers of AEs and CSEs are compared: SP-relative
/// within `provider`, the service provider of this CSE, and else absolute. Returns `None` if it does
/// not identify one AE or CSE.
#[must_use]
pub fn canonical_originator(own: &CseId, provider: Option<&str>, id: &str) -> Option<String> {
    match OriginatorId::parse(id).ok()? {
        OriginatorId::Stem(stem) if stem.starts_with('S') => Some(format!("/{stem}")),
        OriginatorId::Stem(stem) => Some(format!("{own}/{stem}")),
        OriginatorId::SpRelative(_) | OriginatorId::SpRelativeAe { .. } => Some(id.into()),
        OriginatorId::Absolute { sp, first, stem } => {
            let rest = stem.map_or_else(|| first.to_owned(), |stem| format!("{first}/{stem}"));
            Some(match provider {
                Some(provider) if provider.eq_ignore_ascii_case(sp) => format!("/{rest}"),
                _ => format!("//{}/{rest}", sp.to_ascii_lowercase()),
            })
        }
        OriginatorId::AssignByRegistrar
        | OriginatorId::AssignByServiceProvider
        | OriginatorId::SpRelativeAssign { .. } => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_originator_are_equal() {
        let own = CseId::parse("mn").unwrap();
        let canonical_originator = |id| canonical_originator(&own, Some("in.provider.com"), id);
        for (canonical, forms) in [
            ("/mn/Ca", &["Ca", "/mn/Ca", "//in.provider.com/mn/Ca", "//IN.provider.com/mn/Ca"][..]),
            ("/Sa", &["Sa", "/Sa", "//in.provider.com/Sa"]),
            ("/in-cse", &["/in-cse", "//in.provider.com/in-cse"]),
            ("//other.com/mn/Ca", &["//OTHER.com/mn/Ca"]),
        ] {
            for form in forms {
                assert_eq!(canonical_originator(form).as_deref(), Some(canonical), "{form}");
            }
        }
        for none in ["C", "S", "", "light", "/mn/S", "C*"] {
            assert_eq!(canonical_originator(none), None, "{none}");
        }
    }
}
