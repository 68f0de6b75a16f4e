//! Background tasks of a running gateway.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_onem2m::saef::Saef;
use saegis_policy::{Generation, Reload, ReloadCause};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::admin::status;
use crate::state::Gateway;
use crate::telemetry::audit;
use crate::telemetry::decision_log::LostDecisions;
use crate::telemetry::warnings::{self, Warning};

/// At SIGHUP lets go of files that were moved away, and reloads, as services do; whoever changed a
/// file need not.
pub async fn on_hangup(
    gateway: Arc<Gateway>,
    reloaded: UnboundedSender<Reload>,
    lines_of_decisions: Option<LostDecisions>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        gateway.written.reopen();
        if let Some(lines) = &lines_of_decisions {
            lines.reopen();
        }
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(gateway.policy.reload(ReloadCause::Operator).await);
    }
}

/// Tells of reloads, and has new generations vouch for live associations.
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
                audit::in_force(&generation);
                for fault in generation.missed() {
                    audit::file_missed(generation.number, fault);
                }
                log_warnings(&gateway, warnings::of).await;
                gateway.associations.revalidate_all(generation, &gateway.policy).await;
            }
            Reload::Refused(faults) => {
                let number = gateway.policy.current().number;
                gateway.metrics.reloaded("refused");
                for fault in &faults.0 {
                    audit::generation_refused(number, fault);
                }
            }
        }
    }
}

/// Ends the associations with keys that their MAF has no more. A handshake that was under way with
/// such a key is an association soon, if ever, and so they are asked about a second time.
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
                live.retry_revalidation(&generation, "its key is registered at the MAF no more")
                    .await;
            }
        }
    }
}

/// How often it is looked at what came from registries, and how often a warning is repeated.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked at what ends by itself: some revocation lists are good for a day.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Logs what the operator should know of the generation in force, and shows in the metrics when what
/// is in it ends.
pub async fn log_warnings(
    gateway: &Gateway,
    of: impl FnOnce(&Generation) -> Vec<Warning> + Send + 'static,
) {
    let generation = gateway.policy.current();
    // All rows of large tables are gone through.
    let look = move || (generation.expiries(SystemTime::now()), of(&generation));
    // It can't panic, and if it did, nothing would be told.
    let Ok((expiries, warnings)) = tokio::task::spawn_blocking(look).await else {
        return;
    };
    gateway.metrics.expiries(&expiries);
    warnings.iter().for_each(Warning::log);
}

/// Warns, day by day, of what is about to end or has ended, and as soon as something comes to that.
pub async fn watch_expiry(gateway: Arc<Gateway>) {
    let (mut told, mut told_at) = (0, Instant::now());
    loop {
        tokio::time::sleep(EXPIRY_CHECK_INTERVAL).await;
        let due = warnings::of_expiry(&gateway.policy.current()).len();
        if due > told || told_at.elapsed() >= DAILY {
            log_warnings(&gateway, warnings::of_expiry).await;
            told_at = Instant::now();
        }
        told = due;
    }
}

/// Throws away, day by day, what was fetched from registries and is of no use any more.
pub async fn tidy(gateway: Arc<Gateway>) {
    loop {
        gateway.policy.tidy().await;
        tokio::time::sleep(DAILY).await;
    }
}

/// How often the time of day is compared with the time that has passed, and how far they may part.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const MAX_CLOCK_JUMP: Duration = Duration::from_secs(5);

/// Tells when the time of day has jumped: expiry is by it, and so is the log's own time.
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
                "the clock was set {way} by {} s; what expires does so by the new time",
                jump.as_secs()
            );
        }
        (clock, passed) = (now, Instant::now());
    }
}

/// How often the trails get what they lack.
const TRAIL_SUM_INTERVAL: Duration = Duration::from_secs(1);

/// Writes into the trails the sums of what was not written one by one, and how much was lost.
pub async fn complete_trails(gateway: Arc<Gateway>) {
    let mut lost = 0;
    loop {
        tokio::time::sleep(TRAIL_SUM_INTERVAL).await;
        audit::write_sums(false);
        let now = gateway.written.lost_of_trails();
        if now > lost {
            audit::lines_lost(now - lost);
            lost = now;
        }
    }
}
