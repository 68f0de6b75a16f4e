//! Evaluates a chain of modules for a recorded decision or a shadow module, without an effect.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use saegis_onem2m::credential::PresharedKey;

use crate::data::decision::{Allowance, Lookup, ModuleFault, Rules};
use crate::data::service_subscription::Subscription;
use crate::decision::answer::{Answer, Scope};
use crate::decision::question::RuntimeQuestion;
use crate::host::bindings::saegis::policy::types;
use crate::host::call::Tables;
use crate::host::maf_keys::{MafKeyState, MafKeys};
use crate::module::hook::Hook;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::installed::InstalledModule;
use crate::sandbox::invocation::CallContext;
use crate::sandbox::module::Module;
use crate::sandbox::slots::Caller;

/// Parts of a generation that are needed to evaluate a chain.
#[derive(Clone)]
pub(crate) struct ChainContext {
    pub sandbox: Arc<Sandbox>,
    pub tables: Arc<Tables>,
    pub subscription: Option<Arc<Subscription>>,
    pub maf_keys: Option<Arc<dyn MafKeys>>,
}

/// Replies of the modules of a chain to a question.
#[derive(Default)]
pub(crate) struct Trace {
    /// Whether the decision is recorded, and whether shadows evaluate it. Otherwise no reply is
    /// stored.
    pub recorded: bool,
    pub shadowed: bool,
    passed: Vec<(Arc<Module>, Allowance)>,
    ended: Option<Arc<Module>>,
}

impl Trace {
    pub fn new(recorded: bool, shadowed: bool) -> Self {
        Self { recorded, shadowed, ..Self::default() }
    }

    pub fn is_wanted(&self) -> bool {
        self.recorded || self.shadowed
    }

    /// Records that a module passed the question on to the next one.
    pub fn passed(&mut self, module: &Arc<Module>, allowance: Allowance) {
        if self.shadowed {
            self.passed.push((module.clone(), allowance));
        }
    }

    /// Records that a module ended the chain.
    pub fn ended(&mut self, module: &Arc<Module>) {
        if self.shadowed {
            self.ended = Some(module.clone());
        }
    }

    fn has_ended(&self, module: &Arc<Module>) -> bool {
        self.ended.as_ref().is_some_and(|ended| Arc::ptr_eq(ended, module))
    }

    fn allowance(&self, module: &Arc<Module>) -> Option<Allowance> {
        let found = self.passed.iter().find(|(passed, _)| Arc::ptr_eq(passed, module));
        found.map(|(_, allowance)| *allowance)
    }
}

/// Result of a chain.
pub(crate) enum ChainOutcome {
    /// The module that ended the chain before ends it again.
    Unchanged,
    /// This answer, with the key of the found credential.
    To(Answer, Option<PresharedKey>),
    /// A MAF or a module with I/O would be needed.
    NeedsExternal,
}

/// Evaluates a chain. Modules whose replies are known are not called again.
pub(crate) async fn evaluate(
    chain: impl Iterator<Item = &InstalledModule>,
    context: &ChainContext,
    asked: &RuntimeQuestion,
    at: SystemTime,
    before: &Trace,
) -> ChainOutcome {
    let hook = asked.hook();
    let cached_keys = context.maf_keys.clone().map(CachedKeys::of);
    let maf_keys = cached_keys.clone().map(|keys| keys as Arc<dyn MafKeys>);
    let subscription = match asked.rules() {
        Rules::OfGeneration => &context.subscription,
        Rules::Given(rules) => rules,
    };
    let mut scope = Scope::Originator;
    let mut narrow = |allowance| {
        if allowance == Allowance::ThisRequest {
            scope = Scope::ThisRequest;
        }
    };
    let mut anybody = false;
    for installed in chain.filter(|i| i.module.has(hook)) {
        anybody = true;
        let module = &installed.module;
        if before.has_ended(module) {
            return ChainOutcome::Unchanged;
        }
        if let Some(allowance) = before.allowance(module) {
            narrow(allowance);
            continue;
        }
        if module.waits() {
            return ChainOutcome::NeedsExternal;
        }
        let view = CallContext {
            sandbox: &context.sandbox,
            tables: &context.tables,
            installed,
            subscription,
            maf_keys: &maf_keys,
            caller: Caller::Association,
            as_of: Some(at),
        };
        let module_reply = call_module(module, &view, asked).await;
        if cached_keys.as_ref().is_some_and(|keys| keys.missed.load(Ordering::Relaxed)) {
            return ChainOutcome::NeedsExternal;
        }
        match module_reply {
            ModuleReply::Passed(allowance) => narrow(allowance),
            ModuleReply::Ended(answer, key) => return ChainOutcome::To(answer, key),
        }
    }
    let answer = match hook {
        Hook::CredentialLookup | Hook::CertificateMapping => Answer::Unclaimed,
        // Without a module, the request is refused.
        Hook::ImpersonationCheck | Hook::KeyRegistrationCheck if !anybody => {
            let fault = ModuleFault::NoSandbox(String::new());
            Answer::Failed { module: String::new(), cause: fault.cause().into() }
        }
        Hook::ImpersonationCheck | Hook::RegistrationCheck | Hook::KeyRegistrationCheck => {
            Answer::Allowed { scope }
        }
    };
    ChainOutcome::To(answer, None)
}

/// Reply of one module.
enum ModuleReply {
    Passed(Allowance),
    Ended(Answer, Option<PresharedKey>),
}

async fn call_module(
    module: &Module,
    view: &CallContext<'_>,
    asked: &RuntimeQuestion,
) -> ModuleReply {
    let verdict = match asked {
        RuntimeQuestion::Lookup(query) => {
            return match module.lookup(view, query).await {
                None => ModuleReply::Passed(Allowance::Originator),
                Some(lookup) => {
                    let answer = Answer::of_lookup(&lookup);
                    let Lookup::Found(credential) = lookup else {
                        return ModuleReply::Ended(answer, None);
                    };
                    ModuleReply::Ended(answer, Some(credential.key))
                }
            };
        }
        RuntimeQuestion::Mapping(query) => {
            return match module.map_certificate(view, query).await {
                None => ModuleReply::Passed(Allowance::Originator),
                Some(mapping) => ModuleReply::Ended(Answer::of_mapping(&mapping), None),
            };
        }
        RuntimeQuestion::Originator(association, primitive) => {
            module.check_originator(view, association, primitive).await
        }
        RuntimeQuestion::Registration(association, registration) => {
            module.check_registration(view, association, registration).await
        }
        RuntimeQuestion::KeyRegistration(association, registration) => {
            module.check_key_registration(view, association, registration).await
        }
    };
    module_reply(module, verdict)
}

fn module_reply(module: &Module, verdict: Result<types::Verdict, ModuleFault>) -> ModuleReply {
    let name = module.name.clone();
    match verdict {
        Ok(types::Verdict::Allow(types::Scope::Originator)) => {
            ModuleReply::Passed(Allowance::Originator)
        }
        Ok(types::Verdict::Allow(types::Scope::ThisRequest)) => {
            ModuleReply::Passed(Allowance::ThisRequest)
        }
        Ok(types::Verdict::Deny(types::Denial { rsc, reason })) => {
            ModuleReply::Ended(Answer::Denied { module: name, rsc, reason: Some(reason) }, None)
        }
        Err(fault) => {
            ModuleReply::Ended(Answer::Failed { module: name, cause: fault.cause().into() }, None)
        }
    }
}

/// Cached keys of MAFs. No further key is requested.
struct CachedKeys {
    keys: Arc<dyn MafKeys>,
    /// Whether a key was missing.
    missed: AtomicBool,
}

impl CachedKeys {
    fn of(keys: Arc<dyn MafKeys>) -> Arc<Self> {
        Arc::new(Self { keys, missed: AtomicBool::new(false) })
    }
}

impl MafKeys for CachedKeys {
    fn state(&self, maf: &str, relative_key_id: &str) -> MafKeyState {
        let known = self.keys.state(maf, relative_key_id);
        if matches!(known, MafKeyState::NotFetched) {
            self.missed.store(true, Ordering::Relaxed);
        }
        known
    }

    fn fetch(self: Arc<Self>, _: String, _: String) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}
