//! The security association: the one record that every request of a connection carries.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::credential::Entity;
use crate::id::{AeIdStem, CredentialId};
use crate::saef::Saef;

/// A security association. A finished handshake makes it, once; it never changes but for the
/// AE-ID that it learns when its AE registers.
#[derive(Debug)]
pub struct SecurityAssociation {
    /// Unique in this process; for logs and administration.
    pub id: u64,
    /// How it was established.
    pub saef: Saef,
    /// The credential it was established with.
    pub credential_id: CredentialId,
    /// The peer's transport address.
    pub peer: SocketAddr,
    /// The TLS protocol version agreed on, such as `TLSv1.2`.
    pub protocol: &'static str,
    /// The cipher suite agreed on, by its registered name.
    pub suite: String,
    /// When the handshake finished.
    pub established: SystemTime,
    /// From when on its credential no longer holds.
    pub expires: Option<SystemTime>,
    /// Whom the credential stood for when the handshake finished.
    entity: Entity,
    /// The AE-ID-Stem learnt since, where the credential had none.
    learnt: OnceLock<Entity>,
}

/// The association stands for an entity already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the association stands for an entity already")]
pub struct AlreadyKnown;

/// What a handshake knows of the association that it makes.
#[derive(Debug)]
pub struct Established {
    /// How it was established.
    pub saef: Saef,
    /// The credential it was established with.
    pub credential_id: CredentialId,
    /// Whom the credential stands for.
    pub entity: Entity,
    /// The peer's transport address.
    pub peer: SocketAddr,
    /// The TLS protocol version agreed on.
    pub protocol: &'static str,
    /// The cipher suite agreed on.
    pub suite: String,
    /// From when on the credential no longer holds.
    pub expires: Option<SystemTime>,
}

impl SecurityAssociation {
    /// Makes the record of a handshake that has just finished.
    #[must_use]
    pub fn new(id: u64, of: Established) -> Self {
        Self {
            id,
            saef: of.saef,
            credential_id: of.credential_id,
            peer: of.peer,
            protocol: of.protocol,
            suite: of.suite,
            established: SystemTime::now(),
            expires: of.expires,
            entity: of.entity,
            learnt: OnceLock::new(),
        }
    }

    /// Whom the association stands for.
    #[must_use]
    pub fn entity(&self) -> &Entity {
        match &self.entity {
            Entity::NotYetKnown => self.learnt.get().unwrap_or(&self.entity),
            known => known,
        }
    }

    /// Whom the credential stood for when the handshake finished, whatever was learnt since.
    #[must_use]
    pub fn credential_entity(&self) -> &Entity {
        &self.entity
    }

    /// Binds the AE-ID-Stem that the registrar confirmed.
    ///
    /// # Errors
    /// When the association stands for an entity already, be it this one.
    pub fn learn(&self, stem: AeIdStem) -> Result<(), AlreadyKnown> {
        match self.entity {
            Entity::NotYetKnown => self.learnt.set(Entity::Ae(stem)).map_err(|_| AlreadyKnown),
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
                expires: None,
            },
        )
    }

    #[test]
    fn an_ae_id_is_learnt_once() {
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
