//! Sources of the rules of the service subscription: a policy file, resources of the embedded CSE,
//! or resources of a remote IN-CSE, which are fetched over Mcc and cached.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use saegis_cse::{AppRule, EmbeddedCse, ServiceSubscription as Found};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_policy::{Generation, Rule, Rules, Subscription};
use serde_json::Value;

use crate::config::{RuleSource, ServiceSubscription};
use crate::peer_cse::{NoAnswer, PeerCse};
use crate::subscription::cache_file;
use crate::subscription::cache_file::Fetched;

/// Lifetime of cached rules of the embedded CSE: a change of its resources is in force after it.
const CACHE_LIFETIME: Duration = Duration::from_secs(1);

/// Delay after a failed request to a remote IN-CSE.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of rules that are fetched from a remote IN-CSE, each with a request.
const MAX_FETCHED: usize = 10_000;

/// The rules in force, from any source.
pub struct ServiceSubscriptionSource {
    own: CseId,
    from: RuleOrigin,
}

enum RuleOrigin {
    /// The generation contains them.
    PolicyFile,
    /// The embedded CSE stores them.
    Registrar { registrar: Arc<EmbeddedCse>, kept: Mutex<Option<CachedRules>> },
    /// They were fetched from the registrar CSE, an IN-CSE.
    Remote {
        remote: Arc<PeerCse>,
        refresh: Duration,
        usable: Duration,
        kept: Mutex<Option<CachedRules>>,
        /// Cache file for restarts.
        store: PathBuf,
    },
}

/// Cached rules; `None` without a service subscription.
#[derive(Clone)]
struct CachedRules {
    since: Instant,
    /// Their age at that time.
    age: Duration,
    subscription: Option<Arc<Subscription>>,
}

/// The rules are not available now.
#[derive(Debug, thiserror::Error)]
#[error("the rules of the service subscription are not available")]
pub struct RulesUnavailable;

impl ServiceSubscriptionSource {
    /// Creates the configured source.
    pub fn new(
        own: CseId,
        config: &ServiceSubscription,
        embedded: Option<&Arc<EmbeddedCse>>,
        remote: Option<&Arc<PeerCse>>,
    ) -> Self {
        let kept = Mutex::default();
        let from = match (config.source, embedded, remote) {
            (RuleSource::Cse, Some(registrar), _) => {
                RuleOrigin::Registrar { registrar: registrar.clone(), kept }
            }
            (RuleSource::Remote, _, Some(remote)) => RuleOrigin::Remote {
                remote: remote.clone(),
                refresh: Duration::from_secs(config.refresh_seconds),
                usable: Duration::from_secs(config.usable_seconds),
                kept: Mutex::new(last_fetched(&config.store, &remote.peer.cse_id, &own)),
                store: config.store.clone(),
            },
            // The check of the configuration rejects missing parts. Here the generation has no
            // rules, so no AE could register.
            _ => RuleOrigin::PolicyFile,
        };
        Self { own, from }
    }

    /// Returns the rules in force.
    ///
    /// # Errors
    /// Fails if the store fails.
    pub async fn rules(&self) -> Result<Rules, RulesUnavailable> {
        match &self.from {
            RuleOrigin::PolicyFile => Ok(Rules::OfGeneration),
            RuleOrigin::Registrar { registrar, kept } => {
                if let Some(kept) = fresh(kept, CACHE_LIFETIME) {
                    return Ok(Rules::Given(kept));
                }
                let begun = Instant::now();
                let subscription = look_up(registrar, &self.own).await?;
                keep(kept, begun, subscription.clone());
                Ok(Rules::Given(subscription))
            }
            // Rules that are too old are not used.
            RuleOrigin::Remote { usable, kept, .. } => {
                Ok(Rules::Given(fresh(kept, *usable).flatten()))
            }
        }
    }

    /// Returns the rules for another CSE, which announces an AE to this one.
    ///
    /// # Errors
    /// Fails if the store fails.
    pub async fn rules_of(
        &self,
        cse: &CseId,
        generation: &Generation,
    ) -> Result<Rules, RulesUnavailable> {
        match &self.from {
            RuleOrigin::PolicyFile => Ok(Rules::Given(generation.rules_of(cse))),
            RuleOrigin::Registrar { registrar, .. } => {
                Ok(Rules::Given(look_up(registrar, cse).await?))
            }
            // A CSE that uses a remote IN-CSE is not an IN-CSE itself.
            RuleOrigin::Remote { .. } => Ok(Rules::Given(None)),
        }
    }

    /// Refreshes the rules of a remote IN-CSE periodically, if that is the source.
    pub async fn refresh_loop(&self) {
        let RuleOrigin::Remote { remote, refresh, usable, kept, store } = &self.from else {
            return;
        };
        let mut failing = false;
        loop {
            let begun = Instant::now();
            match fetch(&self.own, remote).await {
                Ok(fetched) => {
                    persist(store, (&remote.peer.cse_id, &self.own), &fetched).await;
                    let subscription = fetched.map(|rules| Arc::new(Subscription::of(rules)));
                    let rules = subscription.as_ref().map(|s| s.rules());
                    let had = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let had = had.map(|kept| kept.subscription.map(|s| s.rules()));
                    if failing || had != Some(rules) {
                        tracing::info!(
                            event = "service-subscription.fetched",
                            rules,
                            "the service subscription was fetched from {}",
                            remote.peer.cse_id
                        );
                    }
                    failing = false;
                    keep(kept, begun, subscription);
                }
                Err(error) => {
                    tracing::warn!(
                        event = "service-subscription.fetch-failed",
                        "cannot fetch the service subscription: {error}; the rules from \
                         the last fetch are valid for {} s",
                        usable.as_secs()
                    );
                    failing = true;
                }
            }
            // At the start the registration may still be pending.
            let every = if failing { (*refresh).min(RETRY_INTERVAL) } else { *refresh };
            tokio::time::sleep(every.saturating_sub(begun.elapsed())).await;
        }
    }
}

/// Reads the service subscription of a CSE from the embedded CSE, which logs a failure of its
/// store.
async fn look_up(
    registrar: &Arc<EmbeddedCse>,
    cse: &CseId,
) -> Result<Option<Arc<Subscription>>, RulesUnavailable> {
    let (registrar, cse) = (registrar.clone(), cse.clone());
    let look = move || registrar.service_subscription(&cse, SystemTime::now());
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(found)) => Ok(subscription(found)),
        Ok(Err(_)) | Err(_) => Err(RulesUnavailable),
    }
}

/// Returns cached rules that are not older than `most`.
fn fresh(kept: &Mutex<Option<CachedRules>>, most: Duration) -> Option<Option<Arc<Subscription>>> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.as_ref().filter(|k| k.since.elapsed() + k.age <= most).map(|k| k.subscription.clone())
}

/// Caches rules with the time of their request.
fn keep(
    kept: &Mutex<Option<CachedRules>>,
    since: Instant,
    subscription: Option<Arc<Subscription>>,
) {
    *kept.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(CachedRules { since, age: Duration::ZERO, subscription });
}

/// Returns the rules that were fetched before the gateway started.
fn last_fetched(store: &Path, in_cse: &CseId, own: &CseId) -> Option<CachedRules> {
    match cache_file::read(store, (in_cse, own), SystemTime::now()) {
        Ok(last) => last.map(|(fetched, age)| {
            let subscription = fetched.map(|rules| Arc::new(Subscription::of(rules)));
            CachedRules { since: Instant::now(), age, subscription }
        }),
        Err(error) => {
            let file = saegis_policy::Shown(store);
            tracing::warn!(
                event = "service-subscription.cache-failed",
                "{file}: cannot read the cached service subscription: {error}"
            );
            None
        }
    }
}

/// Writes fetched rules to the cache file. They are used even if this fails.
async fn persist(store: &Path, of: (&CseId, &CseId), fetched: &Fetched) {
    let (path, fetched) = (store.to_path_buf(), fetched.clone());
    let (in_cse, own) = (of.0.clone(), of.1.clone());
    let write = move || cache_file::write(&path, (&in_cse, &own), &fetched, SystemTime::now());
    let written = tokio::task::spawn_blocking(write).await;
    if let Err(error) = written.map_err(std::io::Error::other).flatten() {
        tracing::warn!(
            event = "service-subscription.cache-failed",
            "{}: cannot write the cached service subscription: {error}",
            saegis_policy::Shown(store)
        );
    }
}

fn subscription(found: Found) -> Option<Arc<Subscription>> {
    match found {
        Found::NoProfile => None,
        Found::NoNode => Some(Arc::new(Subscription::of(None))),
        Found::Node { rules } => {
            let rules = rules.unwrap_or_default().into_iter().enumerate();
            let rules = rules.map(|(n, rule)| rule_of(format!("rule {n}"), rule)).collect();
            Some(Arc::new(Subscription::of(Some(rules))))
        }
    }
}

/// A list that is missing in a rule allows nothing. Without the list of credentials, a rule applies
/// to AEs without a security association.
fn rule_of(name: String, rule: AppRule) -> Rule {
    Rule {
        name,
        applicable_cred_ids: rule.credential_ids.unwrap_or_default(),
        allowed_app_ids: rule.app_ids.unwrap_or_default(),
        allowed_aes: rule.ae_ids.unwrap_or_default(),
        allowed_role_ids: rule.role_ids.unwrap_or_default(),
    }
}

/// Error of a fetch.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("the IN-CSE rejected the request with {0}: {1}")]
    Refused(Rsc, String),
    #[error("the response is not JSON: {0}")]
    NoJson(#[from] serde_json::Error),
}

/// Fetches the part of the service subscription of a remote IN-CSE that applies to this CSE.
async fn fetch(own: &CseId, remote: &PeerCse) -> Result<Fetched, NotFetched> {
    if discover(remote, 11).await?.is_empty() {
        return Ok(None);
    }
    for node in discover(remote, 20).await? {
        let node = retrieve(remote, &node).await?;
        let node = node.get("m2m:svsn").cloned().unwrap_or_default();
        let id = node.get("csi").and_then(Value::as_str).and_then(|id| CseId::parse(id).ok());
        if id.as_ref() != Some(own) {
            continue;
        }
        let mut rules = Vec::new();
        for link in texts(node.get("rlk")).unwrap_or_default().iter().take(MAX_FETCHED) {
            let rule = match retrieve(remote, link).await {
                Ok(rule) => rule,
                // A link to a missing resource is not a rule.
                Err(NotFetched::Refused(Rsc::NotFound, _)) => continue,
                Err(error) => return Err(error),
            };
            let rule = rule.get("m2m:asar").cloned().unwrap_or_default();
            let list = |name: &str| texts(rule.get(name));
            let rule = AppRule {
                credential_ids: list("apci").or_else(|| list("aci")),
                app_ids: list("aai"),
                ae_ids: list("aae"),
                role_ids: list("ari"),
            };
            rules.push(rule_of(link.clone(), rule));
        }
        return Ok(Some(Some(rules)));
    }
    Ok(Some(None))
}

/// Returns the addresses of the resources of a type.
async fn discover(remote: &PeerCse, ty: u16) -> Result<Vec<String>, NotFetched> {
    let mut request = remote.own_request(Operation::Retrieve, "-".into(), None)?;
    let one = |name: &str, value: String| (name.to_string(), vec![value]);
    request.options = vec![one("fu", "1".into()), one("ty", ty.to_string())];
    match ask(remote, &request).await {
        Ok(found) => Ok(texts(found.get("m2m:uril")).unwrap_or_default()),
        Err(NotFetched::Refused(Rsc::NotFound, _)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn retrieve(remote: &PeerCse, address: &str) -> Result<Value, NotFetched> {
    let mut request = remote.own_request(Operation::Retrieve, "-".into(), None)?;
    let to = Target::from_address(address).map_err(|e| NoAnswer::Failed(e.to_string()))?;
    // The request goes to the queried CSE, whatever CSE-ID the address has.
    request.to.resource = to.resource;
    ask(remote, &request).await
}

async fn ask(remote: &PeerCse, request: &RequestPrimitive) -> Result<Value, NotFetched> {
    let timeout = Duration::from_secs(remote.peer.timeout_seconds);
    let response = remote.ask(request, timeout).await?;
    match response.rsc {
        Rsc::Ok => Ok(serde_json::from_slice(&response.content.unwrap_or_default())?),
        rsc => Err(NotFetched::Refused(rsc, response.reason_or_none())),
    }
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    let texts = value?.as_array()?.iter().filter_map(Value::as_str);
    Some(texts.map(Into::into).collect())
}
