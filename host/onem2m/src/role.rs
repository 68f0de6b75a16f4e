//! Role-IDs (TS-0001 clause 7.1.14, TS-0004 clause 6.3.3), and the roles that are assigned to an
//! originator.

use std::fmt;
use std::sync::Arc;

use crate::id::{IdError, MAX_LEN, check_fqdn};

/// A Role-ID: `name@issuer`, such as `technician@in.provider.com`. The name consists of letters,
/// digits, `.`, `_` and `-`. The issuer is a domain name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleId(Arc<str>);

impl RoleId {
    /// Parses a Role-ID.
    ///
    /// # Errors
    /// Returns an error if the length, the alphabet or the form is wrong.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Checks a Role-ID without storing it.
    ///
    /// # Errors
    /// Returns the errors of [`Self::parse`].
    pub fn check(text: &str) -> Result<(), IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(IdError::TooLong);
        }
        let (name, issuer) = text.split_once('@').ok_or(IdError::NoRoleId)?;
        let of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let is_lower_case = !issuer.bytes().any(|b| b.is_ascii_uppercase());
        let is_role = !name.is_empty()
            && name.bytes().all(of_name)
            && is_lower_case
            && check_fqdn(issuer).is_ok();
        if is_role { Ok(()) } else { Err(IdError::NoRoleId) }
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role that is assigned to the originator of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedRole {
    /// The role.
    pub id: RoleId,
    /// App-IDs, with wildcards: the originator must be an AE that is registered at this CSE with one
    /// of them. Without them, the role is assigned unconditionally.
    pub app_ids: Option<Arc<[Box<str>]>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_id_has_name_and_issuer() {
        for good in ["1234abcd@role-issuer.com", "a@b", "A.b_c-1@in.provider.com"] {
            assert_eq!(RoleId::parse(good).map(|id| id.to_string()), Ok(good.into()), "{good}");
        }
        for bad in [
            "technician",
            "@in.provider.com",
            "a@",
            "a@B.com",
            "a@b@c",
            "a b@c",
            "a*@c",
            "a@*",
            "a@c ",
        ] {
            assert_eq!(RoleId::parse(bad), Err(IdError::NoRoleId), "{bad}");
        }
        assert_eq!(RoleId::parse(""), Err(IdError::Empty));
        let long = format!("{}@b", "a".repeat(MAX_LEN));
        assert_eq!(RoleId::parse(&long), Err(IdError::TooLong));
    }
}
