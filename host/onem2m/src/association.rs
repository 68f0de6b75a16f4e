//! The security association, a record that accompanies every request of a connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::credential::Entity;
use crate::id::{AeIdStem, CredentialId};
use crate::saef::Saef;

/// A security association (TS-0003 clause 8.2). A finished handshake creates it. Only the AE-ID can
/// be added later, when the AE registers.
#[derive(Debug)]
pub struct SecurityAssociation {
    /// Identifier for logs and administration, unique in this process.
    pub id: u64,
    /// Framework that established the association.
    pub saef: Saef,
    /// Credential that established the association.
    pub credential_id: CredentialId,
    /// Transport address of the peer.
    pub peer: SocketAddr,
    /// Address of the load balancer that forwards the connection and named the peer.
    pub proxy: Option<IpAddr>,
    /// Negotiated TLS protocol version, such as `TLSv1.2`.
    pub protocol: &'static str,
    /// Negotiated cipher suite, by its registered name.
    pub suite: String,
    /// Whether the handshake resumed a session. The credential was then proved in an earlier one.
    pub resumed: bool,
    /// End of the handshake.
    pub established: SystemTime,
    /// End of the credential's validity.
    pub expires: Option<SystemTime>,
    /// Entity of the credential at the end of the handshake.
    entity: Entity,
    /// AE-ID-Stem that the registration assigned, if the credential named none. Boxed, because most name
    /// one.
    learned: OnceLock<Box<Entity>>,
}

/// The error of [`SecurityAssociation::learn`] if the association has an entity already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the association already has an entity")]
pub struct AlreadyKnown;

/// The result of a handshake, from which an association is created.
#[derive(Debug)]
pub struct Established {
    /// Framework that established the association.
    pub saef: Saef,
    /// Credential that established the association.
    pub credential_id: CredentialId,
    /// Entity of the credential.
    pub entity: Entity,
    /// Transport address of the peer.
    pub peer: SocketAddr,
    /// Negotiated TLS protocol version.
    pub protocol: &'static str,
    /// Negotiated cipher suite.
    pub suite: String,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// End of the credential's validity.
    pub expires: Option<SystemTime>,
}

impl SecurityAssociation {
    /// Creates the association of a handshake that has just finished.
    #[must_use]
    pub fn new(id: u64, of: Established) -> Self {
        Self {
            id,
            saef: of.saef,
            credential_id: of.credential_id,
            peer: of.peer,
            proxy: None,
            protocol: of.protocol,
            suite: of.suite,
            resumed: of.resumed,
            established: SystemTime::now(),
            expires: of.expires,
            entity: of.entity,
            learned: OnceLock::new(),
        }
    }

    /// Returns the entity of the association.
    #[must_use]
    pub fn entity(&self) -> &Entity {
        match &self.entity {
            Entity::NotYetKnown => self.learned.get().map_or(&self.entity, |learned| learned),
            known => known,
        }
    }

    /// Returns the entity of the credential at the end of the handshake, without a learned AE-ID.
    #[must_use]
    pub fn credential_entity(&self) -> &Entity {
        &self.entity
    }

    /// Binds the AE-ID-Stem that the registrar CSE confirmed.
    ///
    /// # Errors
    /// Returns an error if the association has an entity already, even the same one.
    pub fn learn(&self, stem: AeIdStem) -> Result<(), AlreadyKnown> {
        match self.entity {
            Entity::NotYetKnown => {
                self.learned.set(Box::new(Entity::Ae(stem))).map_err(|_| AlreadyKnown)
            }
            Entity::Ae(_) | Entity::Aes(_) | Entity::Cse(_) | Entity::MafClient(_) => {
                Err(AlreadyKnown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn association(entity: Entity) -> SecurityAssociation {
        SecurityAssociation::new(
            1,
            Established {
                saef: Saef::ProvisionedSymmetricKey,
                credential_id: CredentialId::parse("12-a@b.c").unwrap(),
                entity,
                peer: SocketAddr::from(([127, 0, 0, 1], 1)),
                protocol: "TLSv1.2",
                suite: "PSK-AES128-CBC-SHA256".into(),
                resumed: false,
                expires: None,
            },
        )
    }

    #[test]
    fn ae_id_is_assigned_once() {
        let stem = |s| AeIdStem::parse(s).unwrap();
        let open = association(Entity::NotYetKnown);
        assert_eq!(open.entity(), &Entity::NotYetKnown);
        assert_eq!(open.learn(stem("Cone")), Ok(()));
        assert_eq!(open.entity(), &Entity::Ae(stem("Cone")));
        assert_eq!(open.learn(stem("Ctwo")), Err(AlreadyKnown));
        assert_eq!(open.entity(), &Entity::Ae(stem("Cone")));

        let known = association(Entity::Ae(stem("Cone")));
        assert_eq!(known.learn(stem("Ctwo")), Err(AlreadyKnown));
        assert_eq!(known.entity(), &Entity::Ae(stem("Cone")));
    }
}
