//! Where the rules of the service subscription come from: a policy file, the embedded registrar's
//! own resources, or those of a remote IN-CSE, fetched over Mcc and kept for a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{Generation, Rule, Rules, Subscription};
use saegis_registrar::{AppRule, Registrar, ServiceSubscription as Found};
use serde_json::Value;

use crate::ae::{AeError, By, Session};
use crate::config::{RemoteRules, RuleSource, ServiceSubscription};

/// How long rules of the embedded registrar are kept: a change of its resources is in force after it.
const KEPT: Duration = Duration::from_secs(1);

/// Most rules that are fetched from a remote IN-CSE, each with a request.
const MOST_FETCHED: usize = 10_000;

/// The rules that count, however they are had.
pub struct Source {
    own: CseId,
    from: From,
}

enum From {
    /// The generation has them.
    PolicyFile,
    /// The embedded registrar has them.
    Registrar { registrar: Arc<Registrar>, kept: Mutex<Option<Kept>> },
    /// They were fetched.
    Remote { config: RemoteRules, kept: Mutex<Option<Kept>> },
}

/// Rules that are kept; none, where there is no service subscription.
#[derive(Clone)]
struct Kept {
    since: Instant,
    subscription: Option<Arc<Subscription>>,
}

/// There are no rules to be had now.
#[derive(Debug, thiserror::Error)]
#[error("the rules of the service subscription can't be had")]
pub struct NotHad;

impl Source {
    /// The source that is configured.
    pub fn new(
        own: CseId,
        config: &ServiceSubscription,
        embedded: Option<&Arc<Registrar>>,
    ) -> Self {
        let kept = Mutex::default();
        let from = match (config.source, &config.remote, embedded) {
            (RuleSource::Registrar, _, Some(registrar)) => {
                From::Registrar { registrar: registrar.clone(), kept }
            }
            (RuleSource::Remote, Some(config), _) => From::Remote { config: config.clone(), kept },
            // What is left out of the others is refused with the configuration; the generation has
            // no rules then, so nobody would register.
            _ => From::PolicyFile,
        };
        Self { own, from }
    }

    /// The rules that count now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rules(&self) -> Result<Rules, NotHad> {
        match &self.from {
            From::PolicyFile => Ok(Rules::OfGeneration),
            From::Registrar { registrar, kept } => {
                if let Some(kept) = fresh(kept, KEPT) {
                    return Ok(Rules::Given(kept));
                }
                let begun = Instant::now();
                let (registrar, own) = (registrar.clone(), self.own.clone());
                let look = move || registrar.service_subscription(&own, SystemTime::now());
                let found = tokio::task::spawn_blocking(look).await;
                // The registrar has logged what went wrong with its store.
                let subscription = subscription(found.map_err(|_| NotHad)?.map_err(|_| NotHad)?);
                keep(kept, begun, subscription.clone());
                Ok(Rules::Given(subscription))
            }
            From::Remote { config, kept } => {
                // What is too old to be believed is none.
                let usable = Duration::from_secs(config.usable_seconds);
                Ok(Rules::Given(fresh(kept, usable).flatten()))
            }
        }
    }

    /// The rules that count at another CSE, which announces an AE to this one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rules_of(&self, cse: &CseId, generation: &Generation) -> Result<Rules, NotHad> {
        match &self.from {
            From::PolicyFile => Ok(Rules::Given(generation.rules_of(cse))),
            From::Registrar { registrar, .. } => {
                let (registrar, cse) = (registrar.clone(), cse.clone());
                let look = move || registrar.service_subscription(&cse, SystemTime::now());
                let found = tokio::task::spawn_blocking(look).await;
                Ok(Rules::Given(subscription(found.map_err(|_| NotHad)?.map_err(|_| NotHad)?)))
            }
            // Who asks another IN-CSE for its own rules is none.
            From::Remote { .. } => Ok(Rules::Given(None)),
        }
    }

    /// Fetches the rules of a remote IN-CSE again and again, if they are there.
    pub async fn keep_up(&self) {
        let From::Remote { config, kept } = &self.from else { return };
        let mut failing = false;
        loop {
            let begun = Instant::now();
            match fetch(&self.own, config).await {
                Ok(subscription) => {
                    let rules = subscription.as_ref().map(|s| s.rules());
                    let had = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let had = had.map(|kept| kept.subscription.map(|s| s.rules()));
                    if failing || had != Some(rules) {
                        tracing::info!(
                            event = "rules.fetched",
                            rules,
                            "the service subscription was fetched from {}",
                            config.in_cse.cse_id
                        );
                    }
                    failing = false;
                    keep(kept, begun, subscription);
                }
                Err(error) => {
                    tracing::warn!(
                        event = "rules.not-fetched",
                        "the service subscription can't be fetched: {error}; what was fetched \
                         before is good for {} s",
                        config.usable_seconds
                    );
                    failing = true;
                }
            }
            let every = Duration::from_secs(config.refresh_seconds);
            tokio::time::sleep(every.saturating_sub(begun.elapsed())).await;
        }
    }
}

/// What is kept and not older than that.
fn fresh(kept: &Mutex<Option<Kept>>, most: Duration) -> Option<Option<Arc<Subscription>>> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.as_ref().filter(|k| k.since.elapsed() <= most).map(|k| k.subscription.clone())
}

/// Keeps what was asked for at that time.
fn keep(kept: &Mutex<Option<Kept>>, since: Instant, subscription: Option<Arc<Subscription>>) {
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept { since, subscription });
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

/// A list that a rule leaves out allows nothing: that of credentials is then about AEs without a
/// security association.
fn rule_of(name: String, rule: AppRule) -> Rule {
    Rule {
        name,
        applicable_cred_ids: rule.credential_ids.unwrap_or_default(),
        allowed_app_ids: rule.app_ids.unwrap_or_default(),
        allowed_aes: rule.ae_ids.unwrap_or_default(),
        allowed_role_ids: rule.role_ids.unwrap_or_default(),
    }
}

/// The service subscription at a remote IN-CSE, as far as it is about us.
async fn fetch(own: &CseId, config: &RemoteRules) -> Result<Option<Arc<Subscription>>, AeError> {
    let mut session =
        Session::establish(&config.in_cse, By::Key(&config.credential), own.to_string()).await?;
    if discover(&mut session, 11).await?.is_empty() {
        return Ok(None);
    }
    for node in discover(&mut session, 20).await? {
        let node = retrieve(&mut session, &node).await?;
        let node = node.get("m2m:svsn").cloned().unwrap_or_default();
        let id = node.get("csi").and_then(Value::as_str).and_then(|id| CseId::parse(id).ok());
        if id.as_ref() != Some(own) {
            continue;
        }
        let mut rules = Vec::new();
        for link in texts(node.get("rlk")).unwrap_or_default().iter().take(MOST_FETCHED) {
            let rule = match retrieve(&mut session, link).await {
                Ok(rule) => rule,
                // A link that leads nowhere is no rule.
                Err(AeError::Refused { rsc: Rsc::NotFound, .. }) => continue,
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
        return Ok(Some(Arc::new(Subscription::of(Some(rules)))));
    }
    Ok(Some(Arc::new(Subscription::of(None))))
}

/// The addresses of the resources of a type.
async fn discover(session: &mut Session, ty: u16) -> Result<Vec<String>, AeError> {
    let query = [("fu", "1".to_string()), ("ty", ty.to_string())];
    let found = session.find("-", &query).await?;
    match found.rsc {
        Rsc::Ok => Ok(texts(json(found.content)?.get("m2m:uril")).unwrap_or_default()),
        Rsc::NotFound => Ok(Vec::new()),
        rsc => Err(refused(rsc)),
    }
}

async fn retrieve(session: &mut Session, address: &str) -> Result<Value, AeError> {
    let response = session.ask(Operation::Retrieve, address, None).await?;
    match response.rsc {
        Rsc::Ok => json(response.content),
        rsc => Err(refused(rsc)),
    }
}

fn refused(rsc: Rsc) -> AeError {
    AeError::Refused { rsc, why: "the IN-CSE does not show the service subscription".into() }
}

fn json(content: Option<bytes::Bytes>) -> Result<Value, AeError> {
    serde_json::from_slice(&content.unwrap_or_default())
        .map_err(|e| AeError::Broken(format!("the answer is no JSON: {e}")))
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    let texts = value?.as_array()?.iter().filter_map(Value::as_str);
    Some(texts.map(Into::into).collect())
}
