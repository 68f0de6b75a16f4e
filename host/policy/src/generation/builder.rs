//! Builds a generation from the files on disk, in the background.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::data::background_thread::run_at_low_priority;
use crate::data::disk::{AbandonedFlag, DiskThreads, Urgency};
use crate::data::fault::{Fault, Faults};
use crate::data::files::{self, Digest};
use crate::data::parsed_file::ParsedFile;
use crate::data::roles::{self, Roles};
use crate::data::service_subscription::{self, Subscription};
use crate::data::table::Table;
use crate::data::token_issuers::{self, TokenIssuers};
use crate::decision::originator_allowances::OriginatorAllowances;
use crate::decision::shadow_queue::ShadowQueue;
use crate::decision::token_cache::TokenCache;
use crate::generation::certificate_file;
use crate::generation::comparison::{self, TableChanges};
use crate::generation::generation::{Generation, PresentFiles};
use crate::generation::oci_artifacts::{self, PolicyFiles};
use crate::generation::parsed_files::Inputs;
use crate::generation::removals::MissingFiles;
use crate::generation::replacement::{self, Assignment};
use crate::generation::settings::Settings;
use crate::host::call::Tables;
use crate::module::hook::Hook;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::installed::InstalledModule;
use modules::{Loaded, load_modules};

/// Parameters of a build.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    /// Its urgency.
    pub urgency: Urgency,
    /// Whether missing policy files were removed on purpose.
    pub accept_removals: bool,
}

/// The result of a build.
pub(crate) struct BuildResult {
    /// The generation, or all faults.
    pub generation: Result<Generation, Faults>,
    /// Whether the configuration differs from that at the start; `None` if unknown.
    pub configuration_changed: Option<bool>,
}

/// Builds the generation that follows `last`, within a time limit. Unchanged parts are reused.
pub(crate) async fn build(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    queue: &ShadowQueue,
    threads: &DiskThreads,
    last: Option<&Arc<Generation>>,
    mode: Mode,
) -> BuildResult {
    let (own, sandbox, last) = (settings.clone(), sandbox.clone(), last.cloned());
    let queue = queue.clone();
    let runtime = Handle::current();
    let work = move |abandoned: &AbandonedFlag| {
        let inputs = BuildInputs { sandbox: &sandbox, queue: &queue, last: last.as_deref() };
        BuildResult {
            generation: build_now(&own, inputs, mode, abandoned, &runtime),
            configuration_changed: own.configuration.as_ref().map(|file| file.has_changed()),
        }
    };
    threads.run(mode.urgency, work).await.unwrap_or_else(|error| BuildResult {
        generation: Err(error.faults(&settings.policies)),
        configuration_changed: None,
    })
}

/// Inputs of a build.
#[derive(Clone, Copy)]
struct BuildInputs<'a> {
    sandbox: &'a Arc<Sandbox>,
    queue: &'a ShadowQueue,
    last: Option<&'a Generation>,
}

fn build_now(
    settings: &Settings,
    inputs: BuildInputs<'_>,
    mode: Mode,
    abandoned: &AbandonedFlag,
    runtime: &Handle,
) -> Result<Generation, Faults> {
    let BuildInputs { sandbox, queue, last } = inputs;
    let mut faults = Vec::new();
    let mut missing = MissingFiles::new(last.filter(|_| !mode.accept_removals));
    let policies = PolicyFiles::find(settings, &mut missing, &mut faults);
    let tables = run_at_low_priority(|| {
        load_tables(settings, &policies, (last, &mut missing), abandoned, &mut faults)
    });
    let no_thread = |e: std::io::Error| {
        let what = format!("cannot start a thread to load it: {e}");
        Faults(vec![Fault::of(&settings.policies, what)])
    };
    let LoadedTables { tables, digests: table_digests, changes, exposed, in_folder } =
        tables.map_err(no_thread)?;
    let mut present = PresentFiles { policies: in_folder, ..PresentFiles::default() };
    if policies.named {
        present.policies.insert(oci_artifacts::FILE.into());
    }
    let inputs = Inputs { settings, policies: &policies, last, missing: &mut missing };
    let ParsedFiles { subscription, roles, token_issuers } =
        load_parsed(inputs, &mut present, &mut faults);
    let last_certificates = last.and_then(|last| last.certificates.as_ref());
    let certificates =
        certificate_file::load(settings, last_certificates, &mut missing, &mut faults);
    if certificates.is_some() {
        present.policies.insert(certificate_file::FILE.into());
    }
    let from = (last, &mut missing, &tables);
    let Loaded { all, unloaded, with_manifest } =
        load_modules(settings, &policies, sandbox, from, runtime, &mut faults);
    present.manifests = with_manifest;
    let Assignment { in_force: modules, replaced, shadows } =
        replacement::assign(all, unloaded, &settings.modules, queue, last, &mut faults);
    if faults.is_empty() {
        check_completeness(settings, &modules, subscription.content.is_some(), &mut faults);
        check_required_files(settings, &policies, &present, &mut faults);
    }
    if !faults.is_empty() {
        missing.add_to(&mut faults);
        return Err(Faults(faults));
    }
    let mut next = Generation {
        number: last.map_or(1, |last| last.number + 1),
        modules,
        replaced,
        shadows,
        artifacts: policies.sources,
        recorder: settings.recorder.clone(),
        allowances: OriginatorAllowances::default(),
        tables: Arc::new(tables),
        table_digests,
        exposed,
        present,
        difference: None,
        missed: missing.into_faults(),
        subscription: subscription.content.clone(),
        subscription_file: subscription,
        roles,
        token_issuers,
        tokens: TokenCache::default(),
        certificates,
        sandbox: sandbox.clone(),
        service_provider: settings.service_provider.clone(),
        cse: settings.cse.clone(),
        registrars: settings.registrars.clone(),
        maf_keys: settings.maf_keys.clone(),
        is_maf: settings.is_maf,
    };
    next.difference = last.map(|last| comparison::compare(last, &next, changes));
    Ok(next)
}

/// The policy files that are parsed as a whole.
#[derive(Default)]
struct ParsedFiles {
    subscription: ParsedFile<Subscription>,
    roles: ParsedFile<Roles>,
    token_issuers: ParsedFile<TokenIssuers>,
}

fn load_parsed(
    mut inputs: Inputs<'_, '_, '_>,
    present: &mut PresentFiles,
    faults: &mut Vec<Fault>,
) -> ParsedFiles {
    let settings = inputs.settings;
    let mut loaded = ParsedFiles::default();
    if settings.subscription_file {
        let parse = |file: &Path, text: &str| Subscription::parse(file, text, &settings.cse);
        let name = service_subscription::FILE;
        loaded.subscription = inputs.load(name, |last| &last.subscription_file, parse, faults);
    }
    if !settings.is_maf {
        let provider = settings.service_provider.as_deref();
        let parse = |file: &Path, text: &str| Roles::parse(file, text, &settings.cse, provider);
        loaded.roles = inputs.load(roles::FILE, |last| &last.roles, parse, faults);
        let parse =
            |file: &Path, text: &str| TokenIssuers::parse(file, text, &settings.cse, provider);
        let name = token_issuers::FILE;
        loaded.token_issuers = inputs.load(name, |last| &last.token_issuers, parse, faults);
    }
    for (name, is_loaded) in [
        (service_subscription::FILE, loaded.subscription.content.is_some()),
        (roles::FILE, loaded.roles.content.is_some()),
        (token_issuers::FILE, loaded.token_issuers.content.is_some()),
    ] {
        if is_loaded && !inputs.policies.is_fetched(name) {
            present.policies.insert(name.into());
        }
    }
    loaded
}

/// Checks that a generation has the policy files that its settings require.
fn check_required_files(
    settings: &Settings,
    policies: &PolicyFiles<'_>,
    present: &PresentFiles,
    faults: &mut Vec<Fault>,
) {
    for name in &settings.required_files {
        if !present.policies.contains(name) && !policies.is_fetched(name) {
            let file = settings.policies.join(name);
            faults.push(Fault::of(&file, "is required (policy.required), but missing"));
        }
    }
}

/// Checks that a generation has all modules that its settings and its files require.
fn check_completeness(
    settings: &Settings,
    modules: &[InstalledModule],
    has_subscription: bool,
    faults: &mut Vec<Fault>,
) {
    for name in &settings.required {
        if !modules.iter().any(|i| replacement::is_in_force_as(i, name)) {
            let file = settings.modules.join(format!("{name}.wasm"));
            faults.push(Fault::of(&file, "is required (modules.required), but missing"));
        }
    }
    let checks = |i: &InstalledModule| i.module.has(Hook::RegistrationCheck);
    if has_subscription && !modules.iter().any(checks) {
        let what = "needs a module that exports registration-check, such as app-rules; install \
        one, or remove the file";
        faults.push(Fault::of(&settings.policies.join(service_subscription::FILE), what));
    }
    let of_maf = settings.distributes_keys.then_some(Hook::KeyRegistrationCheck);
    for hook in [Hook::CredentialLookup, Hook::ImpersonationCheck].into_iter().chain(of_maf) {
        if !modules.iter().any(|i| i.module.has(hook)) {
            let whose = match (settings.is_maf, settings.distributes_keys) {
                (true, true) => "MAF",
                (true, false) => "MEF",
                (false, _) => "gateway",
            };
            let what = format!("no module exports {hook}; a {whose} needs at least one");
            faults.push(Fault::of(&settings.modules, what));
        }
    }
}

/// Returns whether two generations were built from the same files.
pub(crate) fn same(a: &Generation, b: &Generation) -> bool {
    a.table_digests == b.table_digests
        && a.present == b.present
        && a.subscription_file.digest == b.subscription_file.digest
        && a.roles.digest == b.roles.digest
        && a.token_issuers.digest == b.token_issuers.digest
        && a.certificates.as_ref().map(Arc::as_ptr) == b.certificates.as_ref().map(Arc::as_ptr)
        && same_modules(&a.modules, &b.modules)
        && same_modules(&a.replaced, &b.replaced)
        && a.shadows.are_same(&b.shadows)
}

fn same_modules(a: &[InstalledModule], b: &[InstalledModule]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b))
}

/// Policy tables of a generation.
#[derive(Default)]
struct LoadedTables {
    tables: Tables,
    digests: BTreeMap<String, Digest>,
    /// Changes since the generation in force.
    changes: TableChanges,
    /// Tables whose files every user of the machine can read.
    exposed: Vec<String>,
    /// Files of the folder, including missing ones.
    in_folder: BTreeSet<String>,
}

/// Fault of an exposed table. It is treated like a private key, because it has many of them.
const EXPOSED_TABLE: &str = "has keys, and every user of this machine can read it; remove that permission \
                       (chmod o=), or set policy.allow-readable-tables";

fn load_tables(
    settings: &Settings,
    policies: &PolicyFiles<'_>,
    (last, missing): (Option<&Generation>, &mut MissingFiles<'_>),
    abandoned: &AbandonedFlag,
    faults: &mut Vec<Fault>,
) -> LoadedTables {
    let mut loaded = LoadedTables::default();
    let mut all = files::list(&settings.policies, "csv", faults);
    loaded.in_folder = all.keys().map(|name| format!("{name}.csv")).collect();
    all.extend(policies.fetched("csv"));
    for (name, path) in all {
        if abandoned.is_set() {
            break;
        }
        let source = match policies.read(&format!("{name}.csv"), settings.limits.file_size) {
            Ok(source) => source,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let unchanged = last
            .filter(|last| last.table_digests.get(&name) == Some(&source.digest))
            .and_then(|last| last.tables.get(&name));
        let table = match unchanged {
            Some(table) => Ok(table.clone()),
            None => Table::parse(&path, &source.bytes).map(Arc::new),
        };
        match table {
            Ok(table) => {
                loaded.digests.insert(name.clone(), source.digest);
                if source.exposed && table.has_keys() {
                    if !settings.allow_readable_tables {
                        faults.push(Fault::of(&path, EXPOSED_TABLE));
                    }
                    loaded.exposed.push(name.clone());
                }
                loaded.tables.insert(name, table);
            }
            Err(found) => faults.extend(found),
        }
        source.release();
    }
    for name in missing.tables_before() {
        let file = format!("{name}.csv");
        if loaded.in_folder.contains(&file) || policies.is_fetched(&file) {
            continue;
        }
        let Some(last) = missing.policy(settings, &file) else { continue };
        if let (Some(table), Some(digest)) = (last.tables.get(name), last.table_digests.get(name)) {
            loaded.tables.insert(name.into(), table.clone());
            loaded.digests.insert(name.into(), *digest);
            if last.exposed.iter().any(|exposed| exposed == name) {
                loaded.exposed.push(name.into());
            }
            loaded.in_folder.insert(file);
        }
    }
    if let Some(last) = last.filter(|_| faults.is_empty()) {
        loaded.changes = comparison::compare_tables(last, &loaded.tables, &loaded.digests);
    }
    loaded
}
