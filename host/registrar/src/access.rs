//! Who may do what, until there are access control policies.
//!
//! No resource here has an `acpi` attribute, so the default privileges of TS-0001 clause 9.6.1.3
//! hold: a subtree is its creator's. [`may`] is the whole rule; whatever replaces it is asked the
//! same question.

use saegis_onem2m::id::From;
use saegis_onem2m::resource::ResourceType;

use crate::record::{Record, Seconds, alive};
use crate::refusal::Refusal;
use crate::store::{Read, StoreError};

/// What an originator wants to do with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Create a child of it.
    Create,
    /// Retrieve it.
    Retrieve,
    /// Update it.
    Update,
    /// Delete it.
    Delete,
    /// Find it.
    Discover,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Retrieve => "retrieve",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Discover => "discover",
        })
    }
}

/// Who asks, as far as the rule tells originators apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Originator<'a> {
    /// An AE registered here, by its AE-ID-Stem.
    Ae(&'a str),
    /// A CSE. An AE of another CSE with an S-type stem writes its AE-ID in the same form, so
    /// this gives no more than such an AE may have.
    Cse,
    /// An AE that is not registered here.
    Stranger,
}

impl<'a> Originator<'a> {
    /// Finds out who asks.
    ///
    /// # Errors
    /// When there is no From, or one that only an AE that registers may write, or one in no known
    /// form.
    pub(crate) fn identify(
        read: &dyn Read,
        from: Option<&'a str>,
        now: Seconds,
    ) -> Result<Self, Refusal> {
        let from = from.ok_or(Refusal::NoOriginator)?;
        match From::parse(from).map_err(Refusal::Originator)? {
            From::AssignByRegistrar | From::AssignByServiceProvider => Err(Refusal::NoOriginator),
            From::Stem(stem) if is_registered(read, stem, now)? => Ok(Self::Ae(stem)),
            // An AE of this registrar writes its stem and nothing else, so what looks like one of
            // ours in another form is somebody else's word.
            From::Stem(_) | From::SpRelativeAe { .. } | From::Absolute { stem: Some(_), .. } => {
                Ok(Self::Stranger)
            }
            From::SpRelative(_) | From::Absolute { stem: None, .. } => Ok(Self::Cse),
        }
    }
}

fn is_registered(read: &dyn Read, stem: &str, now: Seconds) -> Result<bool, StoreError> {
    let registered = |r: Record| r.ty == ResourceType::Ae && alive(r.expires, now);
    Ok(read.get(stem)?.is_some_and(registered))
}

/// The access rule: an AE may do anything in its own subtree; registered AEs and CSEs may
/// retrieve the `<CSEBase>` and start a discovery there; nobody may do anything else.
pub(crate) fn may(who: &Originator<'_>, access: Access, on: &Record) -> bool {
    match who {
        Originator::Ae(stem) if on.owner.as_deref() == Some(*stem) => true,
        Originator::Ae(_) | Originator::Cse => {
            on.ty == ResourceType::CseBase && matches!(access, Access::Retrieve | Access::Discover)
        }
        Originator::Stranger => false,
    }
}

/// [`may`], as a refusal.
pub(crate) fn demand(who: &Originator<'_>, access: Access, on: &Record) -> Result<(), Refusal> {
    if may(who, access, on) { Ok(()) } else { Err(Refusal::NoPrivilege(access)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;
    use Access::{Create, Delete, Discover, Retrieve, Update};

    const ALL: [Access; 5] = [Create, Retrieve, Update, Delete, Discover];

    #[test]
    fn a_subtree_is_its_aes() {
        let bench = Bench::with_lights();
        let snapshot = bench.snapshot();
        let read = snapshot.read();
        let base = read.get("mn-cse-123456").unwrap().unwrap();
        let ae = read.get("Clight-AE1").unwrap().unwrap();
        for access in ALL {
            assert!(may(&Originator::Ae("Clight-AE1"), access, &ae), "{access}");
            for who in [Originator::Ae("Clight-AE2"), Originator::Cse, Originator::Stranger] {
                assert!(!may(&who, access, &ae), "{who:?} {access}");
            }
            let looks = matches!(access, Retrieve | Discover);
            for who in [Originator::Ae("Clight-AE2"), Originator::Cse] {
                assert_eq!(may(&who, access, &base), looks, "{who:?} {access}");
            }
            assert!(!may(&Originator::Stranger, access, &base), "{access}");
        }
    }

    #[test]
    fn originators_are_told_apart() {
        let bench = Bench::with_lights();
        let snapshot = bench.snapshot();
        let who = |from| Originator::identify(snapshot.read(), from, bench.now());
        assert_eq!(who(Some("Clight-AE1")).unwrap(), Originator::Ae("Clight-AE1"));
        assert_eq!(who(Some("/in-cse")).unwrap(), Originator::Cse);
        assert_eq!(who(Some("//in.provider.com/in-cse")).unwrap(), Originator::Cse);
        for stranger in
            ["Cnobody", "/other/Clight-AE1", "/mn-cse-123456/Clight-AE1", "//a.b/c/Clight-AE1"]
        {
            assert_eq!(who(Some(stranger)).unwrap(), Originator::Stranger, "{stranger}");
        }
        for none in [None, Some("C"), Some("S")] {
            assert!(matches!(who(none), Err(Refusal::NoOriginator)), "{none:?}");
        }
        assert!(matches!(who(Some("light")), Err(Refusal::Originator(_))));
    }
}
