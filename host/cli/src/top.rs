//! `saegis top`: a live view of a running gateway.

mod rates;
mod sample;
mod screen;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use saegis_gateway::config::Config;

use crate::admin::AdminError;
use crate::output::{is_colored, print};
use sample::Sample;
use screen::Screen;

/// Arguments of `saegis top`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the running gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
    /// Seconds between updates
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after this number of updates
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Shows the gateway until the user ends it.
///
/// # Errors
/// Fails if the configuration is invalid, if standard output is not a terminal, or with `--json` if no
/// gateway answers.
pub fn run(args: &Args, as_json: bool) -> Result<(), AdminError> {
    let socket = Config::load(&args.config)?.admin.socket;
    let interval = Duration::from_secs(args.interval);
    if as_json {
        return print_samples(&socket, interval, args.count);
    }
    if !std::io::stdout().is_terminal() {
        let why = "standard output is not a terminal; use --json for other programs";
        return Err(AdminError::Failed(why.into()));
    }
    // A configuration of another gateway is noticed before the terminal is changed.
    let first = Sample::take(&socket)?;
    let mut terminal = ratatui::init();
    let shown = show(&mut terminal, first, &socket, interval, args.count);
    ratatui::restore();
    shown.map_err(|e| AdminError::Failed(format!("the terminal cannot be used: {e}")))
}

/// Prints a line of JSON for each update. Rates need two samples, so the first line has none.
fn print_samples(socket: &Path, interval: Duration, count: Option<u64>) -> Result<(), AdminError> {
    let mut last: Option<Sample> = None;
    for number in 1.. {
        let sample = Sample::take(socket)?;
        let line = serde_json::json!({
            "status": sample.status,
            "associations": sample.associations.associations,
            "totals": sample.totals,
            "rates": sample.rates_since(last.as_ref()),
        });
        print(&line.to_string());
        if count == Some(number) {
            break;
        }
        last = Some(sample);
        std::thread::sleep(interval);
    }
    Ok(())
}

/// Action of a key.
enum Action {
    Quit,
    Scroll(isize),
    Redraw,
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    first: Sample,
    socket: &Path,
    interval: Duration,
    count: Option<u64>,
) -> std::io::Result<()> {
    let mut screen = Screen::new(first, is_colored());
    for number in 1.. {
        let due = Instant::now() + interval;
        loop {
            terminal.draw(|frame| screen.draw(frame))?;
            match next_action(due)? {
                None => break,
                Some(Action::Quit) => return Ok(()),
                Some(Action::Scroll(by)) => screen.scroll(by),
                Some(Action::Redraw) => {}
            }
        }
        if count == Some(number) {
            break;
        }
        screen.update(Sample::take(socket));
    }
    Ok(())
}

/// Returns the action of the next key, or `None` if it is time for an update.
fn next_action(due: Instant) -> std::io::Result<Option<Action>> {
    loop {
        if !event::poll(due.saturating_duration_since(Instant::now()))? {
            return Ok(None);
        }
        let key = match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            Event::Resize(..) => return Ok(Some(Action::Redraw)),
            _ => continue,
        };
        let action = match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Action::Quit,
            KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
            KeyCode::Up => Action::Scroll(-1),
            KeyCode::Down => Action::Scroll(1),
            KeyCode::PageUp => Action::Scroll(-10),
            KeyCode::PageDown => Action::Scroll(10),
            _ => continue,
        };
        return Ok(Some(action));
    }
}
