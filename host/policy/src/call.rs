//! Calls of a module's hooks: a fresh sandbox for each, and whatever goes wrong in it a refusal.

#[cfg(feature = "without-wasm")]
mod native;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use saegis_certificate::Flavour;
use saegis_onem2m::credential::{Credential, Entity};
use saegis_onem2m::id::{AbsoluteId, AeIdStem, CredentialId, CseId};
use tokio::sync::SemaphorePermit;
use wasmtime::component::Instance;
use wasmtime::{Store, Trap};

use crate::bindings::exports::saegis::policy::{
    certificate_mapping, credential_lookup, key_registration_check, registration_check,
};
use crate::bindings::saegis::policy::types;
use crate::decision::{
    CertificateQuery, KeyRegistration, Lookup, Mapping, ModuleFault, PskQuery, Refusal,
    Registration,
};
use crate::host::{Call, Files, Tables, printable};
use crate::maf::MafKeys;
use crate::module::{Hook, Module, chain};
use crate::observe::{Decided, Outcome};
use crate::sandbox::Sandbox;
use crate::subscription::Subscription;

/// What a call may see of the generation: its sandbox, its tables and the module's files.
pub(crate) struct View<'a> {
    pub sandbox: &'a Sandbox,
    pub tables: &'a Arc<Tables>,
    pub files: &'a Arc<Files>,
    pub subscription: &'a Option<Arc<Subscription>>,
    pub maf_keys: &'a Option<Arc<dyn MafKeys>>,
    /// Where the call is beside the decisions, the time that it is made for: whoever makes it has a
    /// slot already, and it is not counted among them.
    pub beside: Option<SystemTime>,
}

impl View<'_> {
    /// The time that a call is made for.
    fn now(&self) -> SystemTime {
        self.beside.unwrap_or_else(SystemTime::now)
    }
}

/// A call under way. The slot is to be given back after the store has gone: take it apart with the
/// slot first, for what is bound first is dropped last.
struct Frame<'a> {
    store: Store<Call>,
    instance: Instance,
    _slot: Option<SemaphorePermit<'a>>,
}

impl Module {
    fn store(
        &self,
        sandbox: &Sandbox,
        tables: Arc<Tables>,
        files: Arc<Files>,
        subscription: Option<Arc<Subscription>>,
        maf_keys: Option<Arc<dyn MafKeys>>,
    ) -> Store<Call> {
        let call = Call::new(tables, files, self.log.clone(), sandbox.limits().memory)
            .with_subscription(subscription)
            .with_maf_keys(maf_keys);
        sandbox.store(if self.wasi { call.with_empty_wasi() } else { call })
    }

    /// Makes an instance and drops it: what can't start is found when it is installed, not at
    /// the first handshake. To be called by one at a time: there is one slot for it, which calls
    /// under way can't take.
    pub async fn try_start(&self, sandbox: &Sandbox) -> Result<(), ModuleFault> {
        let mut store = self.store(sandbox, Arc::default(), Arc::default(), None, None);
        let instance = self.start(sandbox, &mut store).await?;
        // Each hook is looked up as a call does it: one whose types are of another contract fits by its
        // name alone.
        self.look_up_hooks(&mut store, &instance)
            .map_err(|e| ModuleFault::NoSandbox(printable(&chain(&e))))
    }

    fn look_up_hooks(&self, store: &mut Store<Call>, instance: &Instance) -> wasmtime::Result<()> {
        if let Some(hook) = &self.lookup {
            hook.load(&mut *store, instance)?;
        }
        if let Some(hook) = &self.impersonation {
            hook.load(&mut *store, instance)?;
        }
        if let Some(hook) = &self.registration {
            hook.load(&mut *store, instance)?;
        }
        if let Some(hook) = &self.mapping {
            hook.load(&mut *store, instance)?;
        }
        if let Some(hook) = &self.key_registration {
            hook.load(&mut *store, instance)?;
        }
        Ok(())
    }

    /// Makes the instance of a call.
    async fn start(
        &self,
        sandbox: &Sandbox,
        store: &mut Store<Call>,
    ) -> Result<Instance, ModuleFault> {
        let started = self.within(sandbox, self.pre.instantiate_async(&mut *store)).await;
        started.map_err(|e| classify(store, &e, true))
    }

    async fn frame<'a>(&self, view: &View<'a>) -> Result<Frame<'a>, ModuleFault> {
        let slot = match view.beside {
            Some(_) => None,
            None => Some(view.sandbox.slot().await?),
        };
        let (tables, files) = (view.tables.clone(), view.files.clone());
        let (subscription, maf_keys) = (view.subscription.clone(), view.maf_keys.clone());
        let mut store = self.store(view.sandbox, tables, files, subscription, maf_keys);
        if view.beside.is_some() {
            store.data_mut().now = view.beside;
        }
        let instance = self.start(view.sandbox, &mut store).await?;
        Ok(Frame { store, instance, _slot: slot })
    }

    /// Runs a call. The epoch bounds computing; a module with WASI can also wait without
    /// computing, and only a timer ends that.
    async fn within<T>(
        &self,
        sandbox: &Sandbox,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        if !self.wasi {
            return call.await;
        }
        match tokio::time::timeout(sandbox.limits().deadline * 4, call).await {
            Ok(result) => result,
            Err(_) => Err(Trap::Interrupt.into()),
        }
    }

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
        let Frame { _slot, mut store, instance } = self.frame(view).await?;
        let answer = self
            .within(view.sandbox, async {
                indices.load(&mut store, &instance)?.call_lookup(&mut store, &query).await
            })
            .await;
        *asked_maf = store.data_mut().asked_maf.take();
        let answer = finish(view.sandbox, &mut store, answer)?;
        Ok(match answer {
            credential_lookup::Answer::NotMine => None,
            credential_lookup::Answer::Refused(reason) => Some(Lookup::Refused(Refusal {
                module: self.name.clone(),
                reason: printable(&reason),
            })),
            credential_lookup::Answer::Found(found) => {
                let credential = credential(store.data_mut(), found)?;
                if credential.expires.is_some_and(|at| at <= view.now()) {
                    let reason = "the credential has expired".into();
                    Some(Lookup::Refused(Refusal { module: self.name.clone(), reason }))
                } else {
                    Some(Lookup::Found(credential))
                }
            }
        })
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
        let Frame { _slot, mut store, instance } = self.frame(view).await?;
        let answer = self
            .within(view.sandbox, async {
                indices.load(&mut store, &instance)?.call_identify(&mut store, &query).await
            })
            .await;
        let refused = |reason: &str| {
            let reason = printable(reason);
            Ok(Some(Mapping::Refused(Refusal { module: self.name.clone(), reason })))
        };
        match finish(view.sandbox, &mut store, answer)? {
            certificate_mapping::Answer::NotMine => Ok(None),
            certificate_mapping::Answer::Refused(reason) => refused(&reason),
            certificate_mapping::Answer::Found(found) => {
                let (entity, expires) = (entity(found.entity)?, expiry(found.expires)?);
                if expires.is_some_and(|at| at <= view.now()) {
                    return refused("the credential has expired");
                }
                Ok(Some(Mapping::As { entity, expires }))
            }
        }
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
            let Frame { _slot, mut store, instance } = self.frame(view).await?;
            let verdict = self
                .within(view.sandbox, async {
                    let guest = indices.load(&mut store, &instance)?;
                    guest.call_check(&mut store, association, primitive).await
                })
                .await;
            checked(finish(view.sandbox, &mut store, verdict)?)
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
            let Frame { _slot, mut store, instance } = self.frame(view).await?;
            let verdict = self
                .within(view.sandbox, async {
                    let guest = indices.load(&mut store, &instance)?;
                    guest.call_check(&mut store, association, &registration).await
                })
                .await;
            checked(finish(view.sandbox, &mut store, verdict)?)
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
            let Frame { _slot, mut store, instance } = self.frame(view).await?;
            let verdict = self
                .within(view.sandbox, async {
                    let guest = indices.load(&mut store, &instance)?;
                    guest.call_check(&mut store, association, &registration).await
                })
                .await;
            checked(finish(view.sandbox, &mut store, verdict)?)
        };
        self.judge(view, Hook::KeyRegistrationCheck, verdict).await
    }
}

fn no_hook() -> ModuleFault {
    ModuleFault::NoSandbox("the module has no such hook".into())
}

/// The outcome of a call: a trap as the fault that it stands for.
fn finish<T>(
    sandbox: &Sandbox,
    store: &mut Store<Call>,
    result: wasmtime::Result<T>,
) -> Result<T, ModuleFault> {
    sandbox.measure(store);
    store.data_mut().log_output();
    result.map_err(|e| classify(store, &e, false))
}

fn classify(store: &mut Store<Call>, error: &wasmtime::Error, starting: bool) -> ModuleFault {
    if let Some(fault) = store.data_mut().over.take() {
        return fault;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => ModuleFault::Deadline,
        Some(trap) => ModuleFault::Trap(trap.to_string()),
        None if starting => ModuleFault::NoSandbox(printable(&chain(error))),
        None => ModuleFault::Trap(printable(&chain(error))),
    }
}

fn nonsense(what: impl fmt::Display) -> ModuleFault {
    ModuleFault::Nonsense(printable(&what.to_string()))
}

fn credential(
    call: &mut Call,
    found: credential_lookup::Credential,
) -> Result<Credential, ModuleFault> {
    let entity = entity(found.entity)?;
    let id = CredentialId::parse(&found.credential_id)
        .map_err(|e| nonsense(format!("the Credential-ID {e}")))?;
    let expires = expiry(found.expires)?;
    let source = call.take_key(&found.key).ok_or_else(|| nonsense("the key is none"))?;
    let saef = source.saef();
    let key = source.into_key().ok_or_else(|| nonsense("the key is none"))?;
    Ok(Credential { saef, entity, id, expires, key })
}

/// Most AE-IDs that one association may stand for.
const MOST_AES: usize = 64;

fn entity(entity: types::Entity) -> Result<Entity, ModuleFault> {
    let stem =
        |stem: String| AeIdStem::parse(&stem).map_err(|e| nonsense(format!("the AE-ID-Stem {e}")));
    Ok(match entity {
        types::Entity::NotYetKnown => Entity::NotYetKnown,
        types::Entity::Ae(one) => Entity::Ae(stem(one)?),
        types::Entity::Aes(all) => {
            if all.is_empty() || all.len() > MOST_AES {
                return Err(nonsense(format!("a list of AE-IDs has 1 to {MOST_AES} entries")));
            }
            Entity::Aes(all.into_iter().map(stem).collect::<Result<_, _>>()?)
        }
        types::Entity::Cse(id) => {
            let id = CseId::parse(&id).map_err(|e| nonsense(format!("the CSE-ID {e}")))?;
            if id.could_be_an_ae_id() {
                return Err(nonsense("the CSE-ID could be an S-type AE-ID"));
            }
            Entity::Cse(id)
        }
        types::Entity::MafClient(id) => Entity::MafClient(
            AbsoluteId::parse(&id)
                .map_err(|e| nonsense(format!("the MAF client's identifier {e}")))?,
        ),
    })
}

fn expiry(at: Option<u64>) -> Result<Option<SystemTime>, ModuleFault> {
    let Some(at) = at else { return Ok(None) };
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at));
    at.map(Some).ok_or_else(|| nonsense("the expiry is no time"))
}

fn checked(verdict: types::Verdict) -> Result<types::Verdict, ModuleFault> {
    match verdict {
        types::Verdict::Deny(types::Denial { rsc, reason }) => {
            if !(4000..=5999).contains(&rsc) {
                return Err(nonsense(format!("{rsc} is no Response Status Code of a refusal")));
            }
            let reason = printable(&reason);
            Ok(types::Verdict::Deny(types::Denial { rsc, reason }))
        }
        allow @ types::Verdict::Allow(_) => Ok(allow),
    }
}
