//! Replays recorded decisions.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_onem2m::timestamp;
use saegis_policy::{
    Answer, Decision, Fault, Faults, Generation, InvalidQuestion, MafKeyState, MafKeys,
    ReplayOutcome,
};

use super::reader::Line;
use super::reader::Reading;
use super::report::Report;
use saegis_gateway::config::Config;

/// Compares recorded decisions with those of a generation.
///
/// # Errors
/// Fails if a recording cannot be read.
pub async fn against_record(reading: Reading, with: &Generation) -> Result<Report, Faults> {
    replay(reading, async |decision: &Decision, at| {
        Ok(match with.replay(&decision.question, at).await? {
            ReplayOutcome::Answered(answer) => Some((decision.answer.clone(), answer)),
            ReplayOutcome::NeedsExternal => None,
        })
    })
    .await
}

/// Compares the decisions of two generations about recorded questions.
///
/// # Errors
/// Fails if a recording cannot be read.
pub async fn against_policy(
    reading: Reading,
    without: &Generation,
    with: &Generation,
) -> Result<Report, Faults> {
    replay(reading, async |decision: &Decision, at| {
        let before = without.replay(&decision.question, at).await?;
        let after = with.replay(&decision.question, at).await?;
        Ok(match (before, after) {
            (ReplayOutcome::Answered(before), ReplayOutcome::Answered(after)) => {
                Some((before, after))
            }
            (ReplayOutcome::NeedsExternal, _) | (_, ReplayOutcome::NeedsExternal) => None,
        })
    })
    .await
}

async fn replay(
    mut reading: Reading,
    ask: impl AsyncFn(&Decision, SystemTime) -> Result<Option<(Answer, Answer)>, InvalidQuestion>,
) -> Result<Report, Faults> {
    let mut report = Report::default();
    let mut progress = Progress::new();
    while let Some(line) = reading.next()? {
        match line {
            Line::Wrong(fault) => report.wrong(fault),
            Line::BreaksOff => report.breaks_off(),
            Line::Decision { file, number, decision } => {
                let at = timestamp::parse(&decision.time).unwrap_or(SystemTime::UNIX_EPOCH);
                match ask(&decision, at).await {
                    Ok(Some((before, after))) => {
                        report.compared(&file, number, &decision.question, &before, &after);
                    }
                    Ok(None) => report.not_asked(),
                    Err(e) => {
                        let mut fault = Fault::of(&file, e.to_string());
                        fault.line = Some(number);
                        report.wrong(fault);
                    }
                }
            }
        }
        progress.update(&reading);
    }
    progress.end();
    Ok(report)
}

/// Progress indicator, shown on a terminal if a replay takes long.
struct Progress {
    looked_at: bool,
    last: Instant,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        let looked_at = std::io::stderr().is_terminal();
        Self { looked_at, last: Instant::now(), shown: false }
    }

    fn update(&mut self, reading: &Reading) {
        if !self.looked_at || self.last.elapsed() < Duration::from_secs(1) {
            return;
        }
        (self.last, self.shown) = (Instant::now(), true);
        let percent = reading.read.saturating_mul(100) / reading.bytes.max(1);
        // The terminal may be closed.
        let _ = write!(std::io::stderr(), "\rreplayed {:3} %", percent.min(100));
        let _ = std::io::stderr().flush();
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r              \r");
        }
    }
}

/// Returns the MAFs of a configuration. They never request a key.
pub(super) fn no_keys_of(config: &Config) -> Option<Arc<dyn MafKeys>> {
    let names: Vec<_> = config.maf_peer.iter().map(|maf| maf.fqdn.clone()).collect();
    (!names.is_empty()).then(|| Arc::new(NotAsked(names)) as Arc<dyn MafKeys>)
}

struct NotAsked(Vec<String>);

impl MafKeys for NotAsked {
    fn state(&self, maf: &str, _: &str) -> MafKeyState {
        if self.0.iter().any(|name| name.eq_ignore_ascii_case(maf)) {
            MafKeyState::NotFetched
        } else {
            MafKeyState::NoMaf
        }
    }

    fn fetch(self: Arc<Self>, _: String, _: String) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}
