//! Generations: immutable sets of modules and policy files that were loaded together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::{Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::saef::Saef;

use crate::data::decision::{
    Allowance, CertificateQuery, KeyRegistration, Lookup, Mapping, PskQuery, Registration, Rules,
    Verdict,
};
use crate::data::fault::Fault;
use crate::data::files::Digest;
use crate::data::parsed_file::ParsedFile;
use crate::data::roles::Roles;
use crate::data::service_subscription::Subscription;
use crate::data::table::Table;
use crate::data::token_issuers::TokenIssuers;
use crate::decision::answer::Answer;
use crate::decision::chain::{Chain, primitive_record};
use crate::decision::evaluate::{self, ChainContext, ChainOutcome, Trace};
use crate::decision::originator_allowances::OriginatorAllowances;
use crate::decision::question::{InvalidQuestion, Question, RuntimeQuestion};
use crate::decision::record::{Decision, Recorder, ReplayOutcome};
use crate::decision::shadow::{ShadowJob, ShadowSummary};
use crate::decision::shadows::Shadows;
use crate::decision::token_cache::TokenCache;
use crate::generation::certificates::Certificates;
use crate::generation::difference::GenerationDifference;
use crate::generation::expiry::Expiry;
use crate::host::bindings::saegis::policy::types;
use crate::host::call::Tables;
use crate::host::maf_keys::MafKeys;
use crate::module::capability::Capability;
use crate::module::hook::Hook;
use crate::module::signature::Signed;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::installed::InstalledModule;
use crate::sandbox::invocation::CallContext;
use crate::sandbox::module::Module;
use crate::sandbox::slots::Caller;

/// Immutable set of modules and policy files that were loaded together. A holder sees one
/// consistent policy.
pub struct Generation {
    /// Number, counted from 1; each generation that comes into force has the next one.
    pub number: u64,
    pub(crate) modules: Vec<InstalledModule>,
    /// Modules that others replace.
    pub(crate) replaced: Vec<InstalledModule>,
    pub(crate) shadows: Shadows,
    /// Artifacts that policy files come from.
    pub(crate) artifacts: Vec<String>,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    /// The originators that pure impersonation checks have allowed.
    pub(crate) allowances: OriginatorAllowances,
    pub(crate) tables: Arc<Tables>,
    /// Digests of the files of the tables, by name.
    pub(crate) table_digests: BTreeMap<String, Digest>,
    /// Tables whose files every user of the machine can read.
    pub(crate) exposed: Vec<String>,
    /// Files that are reported when they are missing later.
    pub(crate) present: PresentFiles,
    /// Difference to the previous generation; `None` for the first one.
    pub(crate) difference: Option<GenerationDifference>,
    /// Faults of missing files, whose content is that of the previous generation.
    pub(crate) missed: Vec<Fault>,
    /// The service subscription, if there is one, and its file.
    pub(crate) subscription: Option<Arc<Subscription>>,
    pub(crate) subscription_file: ParsedFile<Subscription>,
    /// Roles and their holders.
    pub(crate) roles: ParsedFile<Roles>,
    /// Issuers of tokens, and the tokens that were verified.
    pub(crate) token_issuers: ParsedFile<TokenIssuers>,
    pub(crate) tokens: TokenCache,
    /// Certificates of the gateway and trust anchors, if there are any.
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) sandbox: Arc<Sandbox>,
    /// Domain name of the service provider, for modules.
    pub(crate) service_provider: Option<String>,
    /// This CSE, and its registrar CSEs, for modules.
    pub(crate) cse: CseId,
    pub(crate) registrars: Vec<CseId>,
    /// Keys of MAFs.
    pub(crate) maf_keys: Option<Arc<dyn MafKeys>>,
    pub(crate) is_maf: bool,
}

/// Files of a generation that would not be missed otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PresentFiles {
    /// Policy files of the folder, by name.
    pub policies: BTreeSet<String>,
    /// Modules with a manifest, by name.
    pub manifests: BTreeSet<String>,
}

/// A summary of a module, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSummary {
    /// The name of its file, without `.wasm`.
    pub name: String,
    /// The module that it replaces.
    pub replaces: Option<String>,
    /// Whether its manifest has a mode, as after a promotion. Only such a module can be rolled back.
    pub promoted: bool,
    /// The hooks that it exports.
    pub hooks: Vec<Hook>,
    /// The capabilities that it has.
    pub capabilities: Vec<Capability>,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// The required signature.
    pub signed: Option<Signed>,
    /// The artifact that it comes from, if not from the folder.
    pub source: Option<String>,
}

/// A summary of a policy table, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// The name of its file, without `.csv`.
    pub name: String,
    /// Number of rows.
    pub rows: usize,
    /// Number of keys that are shorter than 16 bytes or have a pattern.
    pub short_keys: usize,
    /// Line of the first of them.
    pub first_short_key: Option<u64>,
    /// Whether every user of the machine can read its file.
    pub exposed: bool,
    /// Modules that read it, including shadows, as far as known without running them.
    pub read_by: Vec<String>,
}

impl Generation {
    /// Returns the modules, in the order in which they are called.
    #[must_use]
    pub fn modules(&self) -> Vec<ModuleSummary> {
        let summary = |m: &Arc<Module>, signed| ModuleSummary {
            name: m.name.clone(),
            replaces: m.manifest.replaces.clone(),
            promoted: m.manifest.mode.is_some(),
            hooks: m.hooks(),
            capabilities: m.capabilities.clone(),
            digest: m.digest,
            signed,
            source: m.manifest.source.clone(),
        };
        self.modules.iter().map(|i| summary(&i.module, i.signed)).collect()
    }

    /// Returns the shadow modules, including those that could not be loaded.
    #[must_use]
    pub fn shadows(&self) -> Vec<ShadowSummary> {
        self.shadows.summaries()
    }

    /// Returns the names of the modules that others replace.
    #[must_use]
    pub fn replaced(&self) -> Vec<String> {
        self.replaced.iter().map(|installed| installed.module.name.clone()).collect()
    }

    /// Returns the policy tables, by name.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSummary> {
        let summary = |(name, table): (&String, &Arc<Table>)| TableSummary {
            name: name.clone(),
            rows: table.rows(),
            short_keys: table.short_keys(),
            first_short_key: table.first_short_key(),
            exposed: self.exposed.contains(name),
            read_by: self.readers(name),
        };
        self.tables.iter().map(summary).collect()
    }

    fn readers(&self, table: &String) -> Vec<String> {
        let shadows = self.shadows.loaded.iter().map(|shadow| &shadow.installed);
        let readers = self.modules.iter().chain(shadows).filter(|i| i.tables.contains(table));
        readers.map(|i| i.module.name.clone()).collect()
    }

    /// Returns the number of rules of the service subscription for this CSE, or `None` without a
    /// service subscription.
    #[must_use]
    pub fn rules(&self) -> Option<usize> {
        self.subscription.as_ref().map(|subscription| subscription.rules())
    }

    /// Returns the rules of the policy file for another CSE.
    #[must_use]
    pub fn rules_of(&self, cse: &CseId) -> Option<Arc<Subscription>> {
        self.subscription.as_ref().map(|subscription| subscription.of_cse(cse))
    }

    /// Returns the certificates and trust anchors, if there are any. They stay the same object
    /// while nothing of them changes.
    #[must_use]
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// Returns whether a policy table has a credential for the AE-ID-Stem, so that no other
    /// credential may get it.
    #[must_use]
    pub fn reserves(&self, stem: &AeIdStem) -> bool {
        self.tables.values().any(|table| table.names_ae(stem.as_str()))
    }

    /// Returns the items that expire, at a time. Visits all rows with an expiration time.
    #[must_use]
    pub fn expiries(&self, now: SystemTime) -> Vec<Expiry> {
        let certificates = self.certificates().into_iter().flat_map(|found| found.all_expiries());
        let tables = self.tables.iter();
        certificates
            .chain(tables.filter_map(|(name, table)| Expiry::of_rows(name, table, now)))
            .collect()
    }

    /// Returns all modules, including shadows and replaced ones.
    pub(crate) fn all_modules(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.all_installed().map(|i| &i.module)
    }

    pub(crate) fn all_installed(&self) -> impl Iterator<Item = &InstalledModule> {
        let installed = self.modules.iter().chain(&self.replaced);
        installed.chain(self.shadows.loaded.iter().map(|s| &s.installed))
    }

    /// Returns the difference to the previous generation; `None` for the first one.
    #[must_use]
    pub fn difference(&self) -> Option<&GenerationDifference> {
        self.difference.as_ref()
    }

    /// Returns the missing files whose content is that of the previous generation.
    #[must_use]
    pub fn missed(&self) -> &[Fault] {
        &self.missed
    }

    fn chain(&self, hook: Hook) -> impl Iterator<Item = &InstalledModule> {
        self.modules.iter().filter(move |i| i.module.has(hook))
    }

    fn view<'a>(&'a self, installed: &'a InstalledModule, caller: Caller) -> CallContext<'a> {
        CallContext {
            sandbox: &self.sandbox,
            tables: &self.tables,
            installed,
            subscription: &self.subscription,
            maf_keys: &self.maf_keys,
            caller,
            as_of: None,
        }
    }

    fn chain_context(&self) -> ChainContext {
        ChainContext {
            sandbox: self.sandbox.clone(),
            tables: self.tables.clone(),
            subscription: self.subscription.clone(),
            maf_keys: self.maf_keys.clone(),
        }
    }

    /// Starts the trace of a decision, for the recorder and the shadows.
    fn trace(&self, hook: Hook) -> Trace {
        let recorded = self.recorder.as_ref().is_some_and(|recorder| recorder.is_due());
        Trace::new(recorded, self.shadows.concern(hook))
    }

    /// Passes a decision to the recorder and the shadows, as needed.
    fn witness(
        &self,
        trace: Trace,
        asked: impl FnOnce() -> RuntimeQuestion,
        answer: impl FnOnce() -> Answer,
        key: Option<&PresharedKey>,
    ) {
        if !trace.is_wanted() {
            return;
        }
        let (asked, answer) = (asked(), self.without_keys(answer()));
        if trace.recorded
            && let Some(recorder) = &self.recorder
        {
            recorder.record(&Decision::now(self.number, &asked, &answer));
        }
        if trace.shadowed {
            // The shadows need a copy of the key that was found.
            let key = key.and_then(|key| PresharedKey::new(key.expose()).ok());
            let (context, at) = (self.chain_context(), SystemTime::now());
            self.shadows.put(ShadowJob { context, asked, answer, key, at, trace });
        }
    }

    /// Returns whether the answers of a module depend on other systems, which may be down for a while.
    #[must_use]
    pub fn depends_on_others(&self, module: &str) -> bool {
        let depends = |installed: &InstalledModule| {
            let module = &installed.module;
            module.waits() || module.capabilities.contains(&Capability::MafKeys)
        };
        self.modules.iter().any(|installed| installed.module.name == module && depends(installed))
    }

    fn without_keys(&self, answer: Answer) -> Answer {
        let sees_keys =
            |name: &str| self.modules.iter().any(|i| i.module.name == name && i.module.sees_keys());
        answer.without_reasons_of(sees_keys)
    }

    /// Replays a recorded question with the time `at`. The replay is neither recorded nor passed to
    /// shadows or the observer. Neither a MAF nor a module with I/O is used.
    ///
    /// # Errors
    /// Fails if it is not a question that a gateway can ask.
    pub async fn replay(
        &self,
        question: &Question,
        at: SystemTime,
    ) -> Result<ReplayOutcome, InvalidQuestion> {
        let asked = RuntimeQuestion::try_from(question)?;
        let (modules, before) = (self.modules.iter(), Trace::default());
        Ok(match evaluate::evaluate(modules, &self.chain_context(), &asked, at, &before).await {
            ChainOutcome::To(answer, _) => ReplayOutcome::Answered(self.without_keys(answer)),
            ChainOutcome::Unchanged | ChainOutcome::NeedsExternal => ReplayOutcome::NeedsExternal,
        })
    }

    /// Calls the lookup modules in turn, until one knows the identity. A module that fails ends the
    /// search, because the identity could belong to it.
    ///
    /// Intended for a handshake: the call counts for the share of sandboxes of the peer address.
    pub async fn lookup(&self, query: &PskQuery) -> Lookup {
        self.lookup_for(query, Caller::Peer(query.peer)).await
    }

    /// Does the same for an association, without competing with handshakes.
    pub async fn lookup_again(&self, query: &PskQuery) -> Lookup {
        self.lookup_for(query, Caller::Association).await
    }

    async fn lookup_for(&self, query: &PskQuery, caller: Caller) -> Lookup {
        let mut trace = self.trace(Hook::CredentialLookup);
        let mut answer = Lookup::Unclaimed;
        for installed in self.chain(Hook::CredentialLookup) {
            if let Some(last) = installed.module.lookup(&self.view(installed, caller), query).await
            {
                trace.ended(&installed.module);
                answer = last;
                break;
            }
            trace.passed(&installed.module, Allowance::Originator);
        }
        let key = match &answer {
            Lookup::Found(credential) => Some(&credential.key),
            Lookup::Unclaimed | Lookup::Refused(_) | Lookup::Failed { .. } => None,
        };
        let asked = || RuntimeQuestion::Lookup(query.clone());
        self.witness(trace, asked, || Answer::of_lookup(&answer), key);
        answer
    }

    /// Calls the certificate-mapping modules in turn, until one maps the certificate to an entity.
    /// A module that fails ends the search.
    ///
    /// Intended for a handshake: the call counts for the share of sandboxes of the peer address.
    pub async fn map_certificate(&self, query: &CertificateQuery) -> Mapping {
        self.map_certificate_for(query, Caller::Peer(query.peer)).await
    }

    /// Does the same for an association, without competing with handshakes.
    pub async fn map_certificate_again(&self, query: &CertificateQuery) -> Mapping {
        self.map_certificate_for(query, Caller::Association).await
    }

    async fn map_certificate_for(&self, query: &CertificateQuery, caller: Caller) -> Mapping {
        let mut trace = self.trace(Hook::CertificateMapping);
        let mut answer = Mapping::Unclaimed;
        for installed in self.chain(Hook::CertificateMapping) {
            let mut view = self.view(installed, caller);
            if let Rules::Given(subscription) = &query.rules {
                view.subscription = subscription;
            }
            if let Some(last) = installed.module.map_certificate(&view, query).await {
                trace.ended(&installed.module);
                answer = last;
                break;
            }
            trace.passed(&installed.module, Allowance::Originator);
        }
        let asked = || RuntimeQuestion::Mapping(query.clone());
        self.witness(trace, asked, || Answer::of_mapping(&answer), None);
        answer
    }

    /// Calls every impersonation-check module to check whether the request may use its From. The
    /// first module that does not allow it ends the chain.
    pub async fn check_originator(
        &self,
        association: &SecurityAssociation,
        request: &RequestPrimitive,
    ) -> Verdict {
        let caller = Caller::of(&association.credential_id);
        let association = self.association_record(association);
        let primitive = primitive_record(request);
        let mut chain = Chain::new(self.trace(Hook::ImpersonationCheck));
        for installed in self.chain(Hook::ImpersonationCheck) {
            let (module, view) = (&installed.module, self.view(installed, caller));
            let answer = module.check_originator(&view, &association, &primitive).await;
            if chain.ends(module, answer) {
                break;
            }
        }
        let (verdict, trace) = chain.end_if_asked();
        let asked = || RuntimeQuestion::Originator(association, primitive);
        self.witness(trace, asked, || Answer::of_verdict(&verdict), None);
        verdict
    }

    /// Whether an association with the same properties was allowed the originator, so that no module
    /// need be called. It applies to the requests that an allowance with the scope `originator` covers.
    ///
    /// Always `false` unless all impersonation checks are pure, and if decisions are recorded or put
    /// to a shadow module.
    #[must_use]
    pub fn allows_again(&self, association: &SecurityAssociation, originator: &str) -> bool {
        self.repeats_allowances() && self.allowances.contains(association, originator)
    }

    /// Remembers an allowance with the scope `originator` for further associations with the same
    /// properties.
    pub fn remember_allowance(&self, association: &SecurityAssociation, originator: &str) {
        if self.repeats_allowances() {
            self.allowances.insert(association, originator);
        }
    }

    fn repeats_allowances(&self) -> bool {
        self.recorder.is_none()
            && !self.shadows.concern(Hook::ImpersonationCheck)
            && self.chain(Hook::ImpersonationCheck).all(InstalledModule::is_pure)
    }

    /// Calls every registration-check module to check whether an AE may register.
    pub async fn check_registration(
        &self,
        association: &SecurityAssociation,
        registration: &Registration,
    ) -> Verdict {
        let caller = Caller::of(&association.credential_id);
        let mut association = self.association_record(association);
        if let Some(credential_id) = &registration.announced {
            association.credential_id.clone_from(credential_id);
            association.entity = types::Entity::NotYetKnown;
        }
        let mut chain = Chain::new(self.trace(Hook::RegistrationCheck));
        for installed in self.chain(Hook::RegistrationCheck) {
            let (module, mut view) = (&installed.module, self.view(installed, caller));
            if let Rules::Given(subscription) = &registration.rules {
                view.subscription = subscription;
            }
            let answer = module.check_registration(&view, &association, registration).await;
            if chain.ends(module, answer) {
                break;
            }
        }
        let (verdict, trace) = chain.end();
        let asked = || RuntimeQuestion::Registration(association, registration.clone());
        self.witness(trace, asked, || Answer::of_verdict(&verdict), None);
        verdict
    }

    /// Returns the domain name of the service provider.
    #[must_use]
    pub fn service_provider(&self) -> Option<&str> {
        self.service_provider.as_deref()
    }

    /// Returns whether this is the policy of a MAF.
    #[must_use]
    pub fn is_maf(&self) -> bool {
        self.is_maf
    }

    /// Calls every key-registration-check module to check whether a client of a MAF may register a
    /// key.
    pub async fn check_key_registration(
        &self,
        association: &SecurityAssociation,
        registration: &KeyRegistration,
    ) -> Verdict {
        let caller = Caller::of(&association.credential_id);
        let association = self.association_record(association);
        let mut chain = Chain::new(self.trace(Hook::KeyRegistrationCheck));
        for installed in self.chain(Hook::KeyRegistrationCheck) {
            let (module, view) = (&installed.module, self.view(installed, caller));
            let answer = module.check_key_registration(&view, &association, registration).await;
            if chain.ends(module, answer) {
                break;
            }
        }
        let (verdict, trace) = chain.end_if_asked();
        let asked = || RuntimeQuestion::KeyRegistration(association, registration.clone());
        self.witness(trace, asked, || Answer::of_verdict(&verdict), None);
        verdict
    }

    fn association_record(&self, association: &SecurityAssociation) -> types::Association {
        types::Association {
            saef: match association.saef {
                Saef::ProvisionedSymmetricKey => types::Saef::ProvisionedSymmetricKey,
                Saef::Certificate => types::Saef::Certificate,
                Saef::Maf => types::Saef::Maf,
            },
            entity: association.entity().into(),
            credential_id: association.credential_id.to_string(),
            peer: association.peer.ip().to_string(),
            service_provider: self.service_provider.clone(),
            cse: self.cse.bare().into(),
            registrar: matches!(association.entity(), Entity::Cse(cse) if self.registrars.contains(cse)),
        }
    }
}
