//! Calls of the hooks of a module. A failed call is a refusal.

use std::sync::atomic::Ordering;
use std::time::Instant;

use saegis_certificate::Flavour;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Instance, Lift, Lower};

use crate::data::decision::{
    CertificateQuery, KeyRegistration, Lookup, Mapping, ModuleFault, PskQuery, Refusal,
    Registration,
};
use crate::data::text::printable;
use crate::host::bindings::exports::saegis::policy::{
    certificate_mapping, credential_lookup, key_registration_check, registration_check,
};
use crate::host::bindings::saegis::policy::types;
use crate::host::call::{Attempt, Call};
use crate::module::hook::Hook;
use crate::sandbox::invocation::{CallContext, Invocation};
use crate::sandbox::module::Module;
#[cfg(saegis_bench)]
use crate::sandbox::native;
use crate::sandbox::observer::{CompletedCall, Outcome};
use crate::sandbox::reply::{checked, credential, entity, expiry};

/// Reason for rejecting an expired credential.
pub const EXPIRED: &str = "the credential has expired";

impl Module {
    fn report(&self, view: &CallContext<'_>, hook: Hook, asked: Instant, outcome: Outcome<'_>) {
        if view.as_of.is_some() {
            return;
        }
        let took = asked.elapsed();
        view.sandbox.report(&CompletedCall { module: &self.name, hook, outcome, took });
    }

    fn refusal(&self, reason: &str) -> Refusal {
        Refusal { module: self.name.clone(), reason: printable(reason) }
    }

    /// Calls a hook in a separate sandbox. [`Invocation::finish`] converts the error of the call to
    /// a fault.
    ///
    /// Most calls take some microseconds. So the first attempt runs on the stack of the thread,
    /// without a fiber, and ends at the first tick of the epoch, because it cannot yield. Then the
    /// call is repeated in a new sandbox, in which it can.
    async fn invoke<'v, P, R>(
        &self,
        view: &CallContext<'v>,
        hook: Hook,
        arguments: P,
    ) -> Result<(Invocation<'v>, wasmtime::Result<R>), ModuleFault>
    where
        P: ComponentNamedList + Lower + Copy,
        R: 'static,
        (R,): ComponentNamedList + Lift,
    {
        let function = self
            .function(hook)
            .ok_or_else(|| ModuleFault::NoSandbox("the module has no such hook".into()))?;
        let typed = |store: &mut Store<Call>, instance: &Instance| {
            instance.get_typed_func::<P, (R,)>(store, function)
        };
        let mut invocation = self.begin(view).await?;
        let is_attempted = self.is_attempted(view);
        if is_attempted {
            let Invocation { store, instance, .. } = &mut invocation;
            store.data_mut().attempt = Attempt::Running;
            let reply = typed(store, instance).and_then(|typed| typed.call(&mut *store, arguments));
            if store.data().attempt == Attempt::Running {
                return Ok((invocation, reply.map(|(reply,)| reply)));
            }
            invocation = self.begin_again(view, invocation).await?;
        }
        let bounds = invocation.bounds();
        let Invocation { store, instance, .. } = &mut invocation;
        let call = async {
            let typed = typed(store, instance)?;
            typed.call_async(&mut *store, arguments).await
        };
        // Boxed, because most calls do not come here.
        let reply = Box::pin(self.within(bounds, call)).await;
        if is_attempted && invocation.store.data().ticks > 1 {
            self.runs_long.store(true, Ordering::Relaxed);
        }
        Ok((invocation, reply.map(|(reply,)| reply)))
    }

    /// Looks up the credential of an identity. Returns `None` if the module does not know it.
    pub async fn lookup(&self, view: &CallContext<'_>, query: &PskQuery) -> Option<Lookup> {
        let asked = Instant::now();
        let mut wanted_maf_key = None;
        let mut answer = self.ask_lookup(view, query, &mut wanted_maf_key).await;
        // The MAF is asked without an occupied sandbox. Then the module is called again.
        if let (Some((maf, id)), Some(keys)) = (wanted_maf_key.take(), view.maf_keys) {
            keys.clone().fetch(maf, id).await;
            answer = self.ask_lookup(view, query, &mut wanted_maf_key).await;
            if wanted_maf_key.is_some() {
                answer = Ok(Some(Lookup::Refused(
                    self.refusal("the module requests too many keys of the MAF"),
                )));
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
        self.report(view, Hook::CredentialLookup, asked, outcome);
        answer
    }

    async fn ask_lookup(
        &self,
        view: &CallContext<'_>,
        query: &PskQuery,
        wanted_maf_key: &mut Option<(String, String)>,
    ) -> Result<Option<Lookup>, ModuleFault> {
        #[cfg(saegis_bench)]
        if let Some(answer) = native::lookup(&self.name, view, query) {
            return answer;
        }
        let query = credential_lookup::Query {
            psk_identity: query.psk_identity.clone(),
            server_name: query.server_name.clone(),
            peer: query.peer.to_string(),
        };
        let call = self.invoke(view, Hook::CredentialLookup, (&query,));
        let (mut invocation, reply) = call.await?;
        *wanted_maf_key = invocation.store.data_mut().wanted_maf_key.take();
        let answer = match invocation.finish(reply)? {
            credential_lookup::Answer::NotMine => None,
            credential_lookup::Answer::Refused(reason) => {
                Some(Lookup::Refused(self.refusal(&reason)))
            }
            credential_lookup::Answer::Found(found) => {
                let credential = credential(invocation.store.data_mut(), found)?;
                Some(if credential.expires.is_some_and(|at| at <= view.now()) {
                    Lookup::Refused(self.refusal(EXPIRED))
                } else {
                    Lookup::Found(credential)
                })
            }
        };
        invocation.end();
        Ok(answer)
    }

    /// Maps a certificate to an entity. Returns `None` if the module does not know it.
    pub async fn map_certificate(
        &self,
        view: &CallContext<'_>,
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
        self.report(view, Hook::CertificateMapping, asked, outcome);
        answer
    }

    async fn ask_mapping(
        &self,
        view: &CallContext<'_>,
        query: &CertificateQuery,
    ) -> Result<Option<Mapping>, ModuleFault> {
        let query = certificate_mapping::Query {
            flavour: match query.flavour {
                Flavour::RawPublicKey => certificate_mapping::Flavour::RawPublicKey,
                Flavour::Device => certificate_mapping::Flavour::Device,
                Flavour::NodeId => certificate_mapping::Flavour::NodeId,
                // These flavors identify an entity themselves, or none at all.
                Flavour::AeId | Flavour::CseId | Flavour::Fqdn => return Ok(None),
            },
            credential_id: query.credential_id.to_string(),
            server_name: query.server_name.clone(),
            peer: query.peer.to_string(),
        };
        let call = self.invoke(view, Hook::CertificateMapping, (&query,));
        let (mut invocation, reply) = call.await?;
        let answer = match invocation.finish(reply)? {
            certificate_mapping::Answer::NotMine => None,
            certificate_mapping::Answer::Refused(reason) => {
                Some(Mapping::Refused(self.refusal(&reason)))
            }
            certificate_mapping::Answer::Found(found) => {
                let (entity, expires) = (entity(found.entity)?, expiry(found.expires)?);
                Some(if expires.is_some_and(|at| at <= view.now()) {
                    Mapping::Refused(self.refusal(EXPIRED))
                } else {
                    Mapping::As { entity, expires }
                })
            }
        };
        invocation.end();
        Ok(answer)
    }

    /// Waits for the verdict of a check, and reports it with its duration.
    async fn judge(
        &self,
        view: &CallContext<'_>,
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
        self.report(view, hook, asked, outcome);
        verdict
    }

    /// Calls the hook of a check.
    async fn check<P>(
        &self,
        view: &CallContext<'_>,
        hook: Hook,
        arguments: P,
    ) -> Result<types::Verdict, ModuleFault>
    where
        P: ComponentNamedList + Lower + Copy,
    {
        let verdict = async {
            let (mut invocation, reply) = self.invoke(view, hook, arguments).await?;
            let verdict = checked(invocation.finish(reply)?)?;
            invocation.end();
            Ok(verdict)
        };
        self.judge(view, hook, verdict).await
    }

    /// Checks whether a request may use its originator.
    pub async fn check_originator(
        &self,
        view: &CallContext<'_>,
        association: &types::Association,
        primitive: &types::Primitive,
    ) -> Result<types::Verdict, ModuleFault> {
        #[cfg(saegis_bench)]
        if let Some(verdict) = native::check_originator(&self.name, association, primitive) {
            let verdict = std::future::ready(verdict);
            return self.judge(view, Hook::ImpersonationCheck, verdict).await;
        }
        self.check(view, Hook::ImpersonationCheck, (association, primitive)).await
    }

    /// Checks whether an AE may register.
    pub async fn check_registration(
        &self,
        view: &CallContext<'_>,
        association: &types::Association,
        registration: &Registration,
    ) -> Result<types::Verdict, ModuleFault> {
        let registration = registration_check::Registration {
            from: registration.from.clone(),
            app_id: registration.app_id.clone(),
        };
        self.check(view, Hook::RegistrationCheck, (association, &registration)).await
    }

    /// Checks whether a client of a MAF may register a key.
    pub async fn check_key_registration(
        &self,
        view: &CallContext<'_>,
        association: &types::Association,
        registration: &KeyRegistration,
    ) -> Result<types::Verdict, ModuleFault> {
        let registration = key_registration_check::KeyRegistration {
            suid: registration.suid,
            targets: registration.targets.iter().map(ToString::to_string).collect(),
        };
        self.check(view, Hook::KeyRegistrationCheck, (association, &registration)).await
    }
}
