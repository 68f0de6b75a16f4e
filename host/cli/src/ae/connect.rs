//! Establishes the association of an AE with its registrar CSE or its MAF.

use saegis_certificate::Flavour;
use saegis_client::{Binding, Session};

use super::certificate;
use super::config::{Proof, Registrar};
use super::error::{AeError, broken};

/// Establishes an association. A certificate of the peer, if it shows one, must have this flavor.
pub async fn establish(
    (to, flavour): (&Registrar, Flavour),
    proof: &Proof,
    from: String,
    binding: Binding,
) -> Result<Session, AeError> {
    match proof {
        Proof::Key(credential) => {
            let proof = saegis_client::Proof::Key(credential);
            Ok(Session::establish(&to.peer(), proof, from, binding).await?)
        }
        Proof::Certificate(files) => {
            let (trust, own) = certificate::load(files, &to.cse_id, flavour)?;
            // Loading the configuration has checked that it is present.
            let name = to.domain_name.as_deref();
            let name = name.ok_or_else(|| broken("the domain name is missing".into()))?;
            let proof = saegis_client::Proof::Certificate { trust, own: &own, name, flavour };
            Ok(Session::establish(&to.peer(), proof, from, binding).await?)
        }
    }
}
