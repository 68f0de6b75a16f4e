//! Background tasks of a running gateway.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use saegis_onem2m::saef::Saef;
use saegis_policy::{Generation, Reload, ReloadCause};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::admin::status;
use crate::backend::{Backend, Reachability};
use crate::session::registry::RETRY_INTERVAL;
use crate::session::revalidation::NotAsked;
use crate::state::Gateway;
use crate::telemetry::audit;
use crate::telemetry::decision_log::LostDecisions;
use crate::telemetry::warnings::{self, Warning};

/// Reopens rotated files and reloads at SIGHUP, as services usually do. Changed policy files are
/// reloaded without it.
pub async fn on_hangup(
    gateway: Arc<Gateway>,
    reloaded: UnboundedSender<Reload>,
    lines_of_decisions: Option<LostDecisions>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        gateway.outputs.reopen();
        if let Some(lines) = &lines_of_decisions {
            lines.reopen();
        }
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(gateway.policy.reload(ReloadCause::Operator).await);
    }
}

/// Logs reloads, and revalidates active associations with new generations.
pub async fn follow_reloads(gateway: Arc<Gateway>, mut reloads: UnboundedReceiver<Reload>) {
    let mut configuration_changed = false;
    while let Some(reload) = reloads.recv().await {
        let changed = gateway.policy.configuration_changed().is_some();
        if changed != std::mem::replace(&mut configuration_changed, changed) {
            status::log_configuration_change(&gateway.config, changed);
        }
        match reload {
            Reload::Unchanged { recovered } => {
                gateway.metrics.reloaded("unchanged");
                if recovered {
                    audit::recovered(&gateway.policy.current());
                }
            }
            Reload::InForce(generation) => {
                gateway.metrics.in_force(&generation);
                gateway.metrics.reloaded("in-force");
                gateway.generations.in_force(&generation);
                audit::in_force(&generation);
                for fault in generation.missed() {
                    audit::file_missed(generation.number, fault);
                }
                log_new_warnings(&gateway).await;
                gateway.associations.revalidate_all(generation, &gateway.policy).await;
                remove_sessions(&gateway).await;
            }
            Reload::Refused(faults) => {
                let number = gateway.policy.current().number;
                gateway.metrics.reloaded("refused");
                gateway.generations.refused(number, &faults, &gateway.policy);
                for fault in &faults.0 {
                    audit::generation_refused(number, fault);
                }
            }
        }
    }
}

/// Removes the sessions of credentials that policy no longer has, and what waits for their AEs.
async fn remove_sessions(gateway: &Gateway) {
    let generation = gateway.policy.current();
    let mut to_ask: Vec<_> = gateway.ae_channels.credentials().into_iter().collect();
    // The next generation has its own turn.
    while gateway.policy.current().number == generation.number
        && let Some(credential) = to_ask.last()
    {
        match gateway.aes.is_revoked(credential, &generation).await {
            Ok(is_revoked) => {
                if is_revoked {
                    gateway.ae_channels.revoke(credential).await;
                }
                to_ask.pop();
            }
            Err(NotAsked) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// Ends the associations with keys that their MAF no longer has. A handshake with such a key may
/// complete shortly after, so the associations are checked a second time.
pub async fn follow_keys(gateway: Arc<Gateway>, changed: Arc<Notify>) {
    let under_way = gateway.config.limits.handshake() + Duration::from_secs(1);
    let mut again = None;
    loop {
        let second_time = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed.notified() => again = Some(tokio::time::Instant::now() + under_way),
            () = second_time => again = None,
        }
        let generation = gateway.policy.current();
        for live in gateway.associations.all() {
            if live.association.saef == Saef::Maf {
                live.retry_revalidation(&generation, "its key is no longer registered at the MAF")
                    .await;
            }
        }
    }
}

/// Interval between checks of fetched artifacts, and between repetitions of a warning.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// Interval between checks of expiry: some revocation lists are valid for a day.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Logs the warnings about the generation in force that the previous one did not have.
pub async fn log_new_warnings(gateway: &Gateway) {
    let warnings = warnings_of(gateway, warnings::of).await;
    let texts: BTreeSet<_> = warnings.iter().map(ToString::to_string).collect();
    let before = {
        let mut logged = gateway.logged_warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *logged, texts)
    };
    let is_new = |warning: &&Warning| !before.contains(&warning.to_string());
    warnings.iter().filter(is_new).for_each(Warning::log);
}

/// Returns warnings about the generation in force, and updates the metrics about expiry.
async fn warnings_of(
    gateway: &Gateway,
    of: impl FnOnce(&Generation) -> Vec<Warning> + Send + 'static,
) -> Vec<Warning> {
    let generation = gateway.policy.current();
    // This reads all rows of large tables.
    let look = move || (generation.expiries(SystemTime::now()), of(&generation));
    // It cannot panic; if it did, there would be no warnings.
    let Ok((expiries, warnings)) = gateway.background.spawn_blocking(look).await else {
        return Vec::new();
    };
    gateway.metrics.expiries(&expiries);
    warnings
}

/// Logs warnings about imminent expiry, daily and as soon as there is a new one.
pub async fn watch_expiry(gateway: Arc<Gateway>) {
    let (mut told, mut told_at) = (0, Instant::now());
    loop {
        tokio::time::sleep(EXPIRY_CHECK_INTERVAL).await;
        let warnings = warnings_of(&gateway, warnings::of_expiry).await;
        if warnings.len() > told || told_at.elapsed() >= DAILY {
            warnings.iter().for_each(Warning::log);
            told_at = Instant::now();
        }
        told = warnings.len();
    }
}

/// Deletes unused artifacts daily.
pub async fn tidy(gateway: Arc<Gateway>) {
    loop {
        gateway.policy.tidy().await;
        tokio::time::sleep(DAILY).await;
    }
}

/// Removes expired sessions of MQTT clients, and those of expired credentials.
pub async fn tidy_sessions(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(EXPIRY_CHECK_INTERVAL).await;
        gateway.mqtt_sessions.iter().for_each(|sessions| sessions.expire());
        remove_sessions(&gateway).await;
    }
}

/// Interval between checks whether the CSE behind the gateway can be reached.
const UPSTREAM_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Checks whether the CSE behind the gateway can be reached, so that this is known before a request.
pub async fn watch_upstream(gateway: Arc<Gateway>) {
    let Backend::Remote(remote) = &gateway.backend else { return };
    let url = remote.url();
    loop {
        match remote.check().await {
            Some(Reachability::Down { why, .. }) => {
                gateway.metrics.upstream_up(url.to_string(), false);
                tracing::warn!(
                    event = "upstream.down",
                    "the CSE behind the gateway at {url} cannot be reached: {why}"
                );
            }
            Some(_) => {
                gateway.metrics.upstream_up(url.to_string(), true);
                tracing::info!(
                    event = "upstream.up",
                    "the CSE behind the gateway at {url} can be reached"
                );
            }
            None => {}
        }
        tokio::time::sleep(UPSTREAM_CHECK_INTERVAL).await;
    }
}

/// Interval between comparisons of the system clock with the monotonic clock, and tolerated
/// difference.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const MAX_CLOCK_JUMP: Duration = Duration::from_secs(5);

/// Logs jumps of the system clock, which expiry and log times depend on.
pub async fn watch_clock() {
    let (mut clock, mut passed) = (SystemTime::now(), Instant::now());
    loop {
        tokio::time::sleep(CLOCK_CHECK_INTERVAL).await;
        let (now, elapsed) = (SystemTime::now(), passed.elapsed());
        let expected = clock + elapsed;
        let (jump, way) = match now.duration_since(expected) {
            Ok(ahead) => (ahead, "ahead"),
            Err(back) => (back.duration(), "back"),
        };
        if jump > MAX_CLOCK_JUMP {
            tracing::warn!(
                event = "clock.jumped",
                way,
                seconds = jump.as_secs(),
                "system clock jumped {way} by {} s; expiry now uses the new time",
                jump.as_secs()
            );
        }
        (clock, passed) = (now, Instant::now());
    }
}

/// Interval between updates of the audit trails.
const TRAIL_SUM_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the sums of events that were not written one by one, and the number of lost lines.
pub async fn complete_trails(gateway: Arc<Gateway>) {
    let mut lost = 0;
    loop {
        tokio::time::sleep(TRAIL_SUM_INTERVAL).await;
        audit::write_sums(false);
        let now = gateway.outputs.lost_trail_lines();
        if now > lost {
            audit::lines_lost(now - lost);
            lost = now;
        }
    }
}

/// Interval between log lines about lost notifications.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Removes notifications that have waited too long, and logs the lost ones.
pub async fn tidy_waiting_notifications(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(LOSS_LOG_INTERVAL).await;
        gateway.ae_channels.tidy();
    }
}
