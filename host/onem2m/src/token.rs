//! Permissions of verified tokens (TS-0003 clause 7.3.2.5, m2m:dynAuthTokenPermissions).

use std::sync::Arc;

use serde_json::Value;

use crate::role::RoleId;

/// A verified token whose holder is the originator of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Identifier of the issuer.
    pub issuer: Box<str>,
    /// Token-ID.
    pub id: Box<str>,
    /// Its permissions.
    pub permissions: Arc<[TokenPermission]>,
}

/// A permission of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPermission {
    /// Addresses of the resources for which it holds. A permission without them has roles only, which
    /// hold for all resources.
    pub resources: Option<Vec<String>>,
    /// Access control rules (m2m:setOfAcrs), which a CSE evaluates like the `pv` of an
    /// `<accessControlPolicy>`.
    pub rules: Option<Value>,
    /// Roles of the holder.
    pub roles: Vec<RoleId>,
}
