//! Calls of a module's hooks: whatever goes wrong in one is a refusal.

use std::time::Instant;

use saegis_certificate::Flavour;

use crate::data::decision::{
    CertificateQuery, KeyRegistration, Lookup, Mapping, ModuleFault, PskQuery, Refusal,
    Registration,
};
use crate::data::text::printable;
use crate::host::bindings::exports::saegis::policy::{
    certificate_mapping, credential_lookup, key_registration_check, registration_check,
};
use crate::host::bindings::saegis::policy::types;
use crate::module::hook::Hook;
use crate::sandbox::invocation::{Frame, View};
use crate::sandbox::module::Module;
#[cfg(feature = "without-wasm")]
use crate::sandbox::native;
use crate::sandbox::observer::{Decided, Outcome};
use crate::sandbox::reply::{checked, credential, entity, expiry};

impl Module {
    fn tell(&self, view: &View<'_>, hook: Hook, asked: Instant, outcome: Outcome<'_>) {
        if view.beside.is_some() {
            return;
        }
        let took = asked.elapsed();
        view.sandbox.tell(&Decided { module: &self.name, hook, outcome, took });
    }

    /// Asks the module for the credential of an identity; `None` where it is not the module's.
    pub async fn lookup(&self, view: &View<'_>, query: &PskQuery) -> Option<Lookup> {
        let asked = Instant::now();
        let mut asked_maf = None;
        let mut answer = self.ask_lookup(view, query, &mut asked_maf).await;
        // The MAF is asked while no sandbox waits for it, and then the module is once more.
        if let (Some((maf, id)), Some(keys)) = (asked_maf.take(), view.maf_keys) {
            keys.clone().fetch(maf, id).await;
            answer = self.ask_lookup(view, query, &mut asked_maf).await;
            if asked_maf.is_some() {
                let reason = "the MAF is asked without end".to_string();
                let refusal = Refusal { module: self.name.clone(), reason };
                answer = Ok(Some(Lookup::Refused(refusal)));
            }
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => Some(Lookup::Failed { module: self.name.clone(), fault }),
        };
        let outcome = match &answer {
            Some(Lookup::Found(_)) => Outcome::Found,
            None | Some(Lookup::Unclaimed) => Outcome::NotMine,
            Some(Lookup::Refused(_)) => Outcome::Refused,
            Some(Lookup::Failed { fault, .. }) => Outcome::Failed(fault),
        };
        self.tell(view, Hook::CredentialLookup, asked, outcome);
        answer
    }

    async fn ask_lookup(
        &self,
        view: &View<'_>,
        query: &PskQuery,
        asked_maf: &mut Option<(String, String)>,
    ) -> Result<Option<Lookup>, ModuleFault> {
        let Some(indices) = &self.lookup else { return Err(no_hook()) };
        #[cfg(feature = "without-wasm")]
        if let Some(answer) = native::lookup(&self.name, view, query) {
            return answer;
        }
        let query = credential_lookup::Query {
            psk_identity: query.psk_identity.clone(),
            server_name: query.server_name.clone(),
            peer: query.peer.to_string(),
        };
        let mut frame = self.frame(view).await?;
        let bounds = frame.bounds();
        let Frame { store, instance, .. } = &mut frame;
        let answer = self
            .within(bounds, async {
                indices.load(&mut *store, instance)?.call_lookup(&mut *store, &query).await
            })
            .await;
        *asked_maf = store.data_mut().asked_maf.take();
        let answer = frame.finish(answer)?;
        let answer = match answer {
            credential_lookup::Answer::NotMine => None,
            credential_lookup::Answer::Refused(reason) => Some(Lookup::Refused(Refusal {
                module: self.name.clone(),
                reason: printable(&reason),
            })),
            credential_lookup::Answer::Found(found) => {
                let credential = credential(frame.store.data_mut(), found)?;
                if credential.expires.is_some_and(|at| at <= view.now()) {
                    let reason = "the credential has expired".into();
                    Some(Lookup::Refused(Refusal { module: self.name.clone(), reason }))
                } else {
                    Some(Lookup::Found(credential))
                }
            }
        };
        frame.end();
        Ok(answer)
    }

    /// Asks the module whom a certificate stands for; `None` where it is not the module's.
    pub async fn map_certificate(
        &self,
        view: &View<'_>,
        query: &CertificateQuery,
    ) -> Option<Mapping> {
        let asked = Instant::now();
        let answer = match self.ask_mapping(view, query).await {
            Ok(answer) => answer,
            Err(fault) => Some(Mapping::Failed { module: self.name.clone(), fault }),
        };
        let outcome = match &answer {
            Some(Mapping::As { .. }) => Outcome::Found,
            None | Some(Mapping::Unclaimed) => Outcome::NotMine,
            Some(Mapping::Refused(_)) => Outcome::Refused,
            Some(Mapping::Failed { fault, .. }) => Outcome::Failed(fault),
        };
        self.tell(view, Hook::CertificateMapping, asked, outcome);
        answer
    }

    async fn ask_mapping(
        &self,
        view: &View<'_>,
        query: &CertificateQuery,
    ) -> Result<Option<Mapping>, ModuleFault> {
        let Some(indices) = &self.mapping else { return Err(no_hook()) };
        let query = certificate_mapping::Query {
            flavour: match query.flavour {
                Flavour::RawPublicKey => certificate_mapping::Flavour::RawPublicKey,
                Flavour::Device => certificate_mapping::Flavour::Device,
                Flavour::NodeId => certificate_mapping::Flavour::NodeId,
                // These bind an entity by themselves, or none.
                Flavour::AeId | Flavour::CseId | Flavour::Fqdn => return Ok(None),
            },
            credential_id: query.credential_id.to_string(),
            server_name: query.server_name.clone(),
            peer: query.peer.to_string(),
        };
        let mut frame = self.frame(view).await?;
        let bounds = frame.bounds();
        let Frame { store, instance, .. } = &mut frame;
        let answer = self
            .within(bounds, async {
                indices.load(&mut *store, instance)?.call_identify(&mut *store, &query).await
            })
            .await;
        let refused = |reason: &str| {
            let reason = printable(reason);
            Some(Mapping::Refused(Refusal { module: self.name.clone(), reason }))
        };
        let answer = match frame.finish(answer)? {
            certificate_mapping::Answer::NotMine => None,
            certificate_mapping::Answer::Refused(reason) => refused(&reason),
            certificate_mapping::Answer::Found(found) => {
                let (entity, expires) = (entity(found.entity)?, expiry(found.expires)?);
                if expires.is_some_and(|at| at <= view.now()) {
                    refused("the credential has expired")
                } else {
                    Some(Mapping::As { entity, expires })
                }
            }
        };
        frame.end();
        Ok(answer)
    }

    /// Waits for a check's verdict, and tells what it was and how long it took.
    async fn judge(
        &self,
        view: &View<'_>,
        hook: Hook,
        verdict: impl Future<Output = Result<types::Verdict, ModuleFault>>,
    ) -> Result<types::Verdict, ModuleFault> {
        let asked = Instant::now();
        let verdict = verdict.await;
        let outcome = match &verdict {
            Ok(types::Verdict::Allow(_)) => Outcome::Allowed,
            Ok(types::Verdict::Deny(_)) => Outcome::Denied,
            Err(fault) => Outcome::Failed(fault),
        };
        self.tell(view, hook, asked, outcome);
        verdict
    }

    /// Asks the module whether a request may speak as it does.
    pub async fn check_originator(
        &self,
        view: &View<'_>,
        association: &types::Association,
        primitive: &types::Primitive,
    ) -> Result<types::Verdict, ModuleFault> {
        let verdict = async {
            let Some(indices) = &self.impersonation else { return Err(no_hook()) };
            #[cfg(feature = "without-wasm")]
            if let Some(verdict) = native::check_originator(&self.name, association, primitive) {
                return verdict;
            }
            let mut frame = self.frame(view).await?;
            let bounds = frame.bounds();
            let Frame { store, instance, .. } = &mut frame;
            let verdict = self
                .within(bounds, async {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_check(&mut *store, association, primitive).await
                })
                .await;
            let verdict = checked(frame.finish(verdict)?)?;
            frame.end();
            Ok(verdict)
        };
        self.judge(view, Hook::ImpersonationCheck, verdict).await
    }

    /// Asks the module whether an AE may register.
    pub async fn check_registration(
        &self,
        view: &View<'_>,
        association: &types::Association,
        registration: &Registration,
    ) -> Result<types::Verdict, ModuleFault> {
        let verdict = async {
            let Some(indices) = &self.registration else { return Err(no_hook()) };
            let registration = registration_check::Registration {
                from: registration.from.clone(),
                app_id: registration.app_id.clone(),
            };
            let mut frame = self.frame(view).await?;
            let bounds = frame.bounds();
            let Frame { store, instance, .. } = &mut frame;
            let verdict = self
                .within(bounds, async {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_check(&mut *store, association, &registration).await
                })
                .await;
            let verdict = checked(frame.finish(verdict)?)?;
            frame.end();
            Ok(verdict)
        };
        self.judge(view, Hook::RegistrationCheck, verdict).await
    }

    /// Asks the module whether a client of a MAF may register a key.
    pub async fn check_key_registration(
        &self,
        view: &View<'_>,
        association: &types::Association,
        registration: &KeyRegistration,
    ) -> Result<types::Verdict, ModuleFault> {
        let verdict = async {
            let Some(indices) = &self.key_registration else { return Err(no_hook()) };
            let registration = key_registration_check::KeyRegistration {
                suid: registration.suid,
                targets: registration.targets.iter().map(ToString::to_string).collect(),
            };
            let mut frame = self.frame(view).await?;
            let bounds = frame.bounds();
            let Frame { store, instance, .. } = &mut frame;
            let verdict = self
                .within(bounds, async {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_check(&mut *store, association, &registration).await
                })
                .await;
            let verdict = checked(frame.finish(verdict)?)?;
            frame.end();
            Ok(verdict)
        };
        self.judge(view, Hook::KeyRegistrationCheck, verdict).await
    }
}

fn no_hook() -> ModuleFault {
    ModuleFault::NoSandbox("the module has no such hook".into())
}
