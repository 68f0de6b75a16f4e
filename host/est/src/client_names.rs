//! The names that an authenticated client may have certified.

use saegis_onem2m::id::{AbsoluteId, CredentialId, OriginatorId, check_fqdn};

use crate::error::Refusal;
use crate::route::Operation;
use crate::subject::SubjectName;

/// Types of Credential-IDs of certificates (TS-0003 clause 12.3.2.1).
const CSE_ID_CERTIFICATE: u8 = 32;
const AE_ID_CERTIFICATE: u8 = 33;

/// A client, as its security association authenticated it.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Absolute AE-ID or CSE-ID that policy assigned to the credential.
    pub id: &'a AbsoluteId,
    /// Credential with which it authenticated.
    pub credential: &'a CredentialId,
}

impl Client<'_> {
    /// Returns the name that an operation may certify for the client: its own. A renewal certifies
    /// the name of the certificate with which the client authenticated.
    ///
    /// # Errors
    /// Refuses a renewal without a certificate, and a client whose name is not known.
    pub(crate) fn name(
        &self,
        operation: Operation,
        in_cse: Option<&str>,
    ) -> Result<SubjectName, Refusal> {
        let value = self.credential.value();
        let of_certificate = match self.credential.kind().number() {
            AE_ID_CERTIFICATE => Some(SubjectName::AeId(value.into())),
            CSE_ID_CERTIFICATE => Some(SubjectName::CseDomain(value.into())),
            _ => None,
        };
        match (of_certificate, operation) {
            (Some(name), _) if self.is_named(&name) => Ok(name),
            (Some(_), _) => {
                Err(Refusal::forbidden("the credential does not have the name of the client"))
            }
            (None, Operation::Reenroll) => Err(Refusal::forbidden(
                "simplereenroll renews the certificate of the security association, and this one has none; use simpleenroll",
            )),
            (None, _) => self.own_name(in_cse),
        }
    }

    /// Returns whether the name of a certificate is that of the client. A policy module determines
    /// the Credential-ID of a key, and could name another client in it.
    fn is_named(&self, name: &SubjectName) -> bool {
        match (name, OriginatorId::parse(self.id.as_str())) {
            (SubjectName::AeId(ae), _) => ae == self.id.as_str(),
            (
                SubjectName::CseDomain(domain),
                Ok(OriginatorId::Absolute { sp, first, stem: None }),
            ) => {
                let (domain, sp) = (domain.to_ascii_lowercase(), sp.to_ascii_lowercase());
                let label = domain.split('.').next().unwrap_or_default();
                label.eq_ignore_ascii_case(first) && domain.ends_with(&format!(".{sp}"))
            }
            (SubjectName::CseDomain(_), _) => false,
        }
    }

    fn own_name(&self, in_cse: Option<&str>) -> Result<SubjectName, Refusal> {
        let unknown = || Refusal::forbidden("the client is neither an AE nor a CSE");
        match OriginatorId::parse(self.id.as_str()) {
            Ok(OriginatorId::Absolute { stem: Some(_), .. }) => {
                Ok(SubjectName::AeId(self.id.to_string()))
            }
            // The stem of an AE-ID that the service provider assigned.
            Ok(OriginatorId::Absolute { first, stem: None, .. }) if first.starts_with('S') => {
                Ok(SubjectName::AeId(self.id.to_string()))
            }
            Ok(OriginatorId::Absolute { sp, first, stem: None }) => {
                let no_in_cse = || {
                    let why = "the domain names of CSEs are not known (mef.in-cse)";
                    Refusal::forbidden(why)
                };
                // TS-0001 clause 6.5.1.1.
                let in_cse = in_cse.ok_or_else(no_in_cse)?;
                let name = if first == in_cse {
                    format!("{in_cse}.{sp}")
                } else {
                    format!("{first}.{in_cse}.{sp}")
                };
                check_fqdn(&name).map_err(|_| unknown())?;
                Ok(SubjectName::CseDomain(name))
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str, credential: &str, operation: Operation) -> Option<SubjectName> {
        let (id, credential) = (id.parse().unwrap(), CredentialId::parse(credential).unwrap());
        let client = Client { id: &id, credential: &credential };
        client.name(operation, Some("in-cse")).ok()
    }

    #[test]
    fn client_with_key_has_own_name() {
        let enrolled = |id| name(id, "11-x@mef.in.provider.com", Operation::Enroll);
        let ae = |id: &str| Some(SubjectName::AeId(id.into()));
        let cse = |name: &str| Some(SubjectName::CseDomain(name.into()));
        for id in ["//in.provider.com/mn-1/Clight", "//in.provider.com/Slight"] {
            assert_eq!(enrolled(id), ae(id));
        }
        assert_eq!(enrolled("//in.provider.com/mn-1"), cse("mn-1.in-cse.in.provider.com"));
        assert_eq!(enrolled("//in.provider.com/in-cse"), cse("in-cse.in.provider.com"));
        assert_eq!(enrolled("//in.provider.com/mn_1"), None);
    }

    #[test]
    fn cse_without_known_in_cse_is_refused() {
        let id = "//in.provider.com/mn-1".parse().unwrap();
        let credential = CredentialId::parse("11-x@mef.in.provider.com").unwrap();
        let client = Client { id: &id, credential: &credential };
        assert!(client.name(Operation::Enroll, None).is_err());
    }

    #[test]
    fn credential_with_other_name_is_refused() {
        let (light, cse) = ("//in.provider.com/mn-1/Clight", "//in.provider.com/mn-1");
        for operation in [Operation::Enroll, Operation::Reenroll] {
            for (id, credential) in [
                (light, "33-//in.provider.com/mn-1/Cother"),
                (light, "32-mn-1.in-cse.in.provider.com"),
                (cse, "33-//in.provider.com/mn-1/Clight"),
                (cse, "32-mn-2.in-cse.in.provider.com"),
                (cse, "32-mn-1.in-cse.other.com"),
            ] {
                assert_eq!(name(id, credential, operation), None, "{id} {credential}");
            }
        }
    }

    #[test]
    fn renewal_needs_certificate() {
        let id = "//in.provider.com/mn-1/Clight";
        assert_eq!(name(id, "11-x@mef.in.provider.com", Operation::Reenroll), None);
        let own = Some(SubjectName::AeId(id.into()));
        assert_eq!(name(id, &format!("33-{id}"), Operation::Reenroll), own);
        let domain = "mn-1.in-cse.in.provider.com";
        let cse = Some(SubjectName::CseDomain(domain.into()));
        let of_cse = name("//in.provider.com/mn-1", &format!("32-{domain}"), Operation::Reenroll);
        assert_eq!(of_cse, cse);
    }
}
