//! The view in the terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState};
use saegis_gateway::admin::protocol::{AssociationEntry, StatusReport};

use super::rates::Rates;
use super::sample::Sample;
use crate::admin::AdminError;

/// Height of the view of rates, with its border.
const RATES_HEIGHT: u16 = 10;

/// Returns whether a state of `saegis status` needs attention.
fn is_faulty(state: &str) -> bool {
    ["refused", "down", "changed"].iter().any(|word| state.starts_with(word))
}

/// The view of a gateway.
pub struct Screen {
    sample: Sample,
    rates: Option<Rates>,
    /// Why the last update failed.
    failure: Option<String>,
    selected: usize,
    colored: bool,
}

impl Screen {
    /// Creates the view of a sample.
    pub fn new(sample: Sample, colored: bool) -> Self {
        Self { sample, rates: None, failure: None, selected: 0, colored }
    }

    /// Shows the next sample, or why there is none.
    pub fn update(&mut self, sample: Result<Sample, AdminError>) {
        match sample {
            Ok(sample) => {
                self.rates = sample.rates_since(Some(&self.sample));
                self.sample = sample;
                self.failure = None;
            }
            Err(e) => {
                self.rates = None;
                self.failure = Some(e.to_string());
            }
        }
    }

    /// Moves the selection in the list of associations.
    pub fn scroll(&mut self, by: isize) {
        let last = self.sample.associations.associations.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    /// Draws the view.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let head = self.head();
        let height = u16::try_from(head.len()).unwrap_or(u16::MAX).min(8);
        let rows = [
            Constraint::Length(height),
            Constraint::Length(RATES_HEIGHT),
            Constraint::Fill(1),
            Constraint::Length(1),
        ];
        let [top, rates, list, foot] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);
        self.draw_rates(frame, rates);
        self.draw_associations(frame, list);
        frame.render_widget(Paragraph::new("q quit   ↑ ↓ associations"), foot);
    }

    fn style(&self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    /// Returns the state of the gateway: first whether something needs attention.
    fn head(&self) -> Vec<Line<'static>> {
        let StatusReport { cse_id, address, version, pid, started, generation, .. } =
            &self.sample.status;
        let mut lines = vec![
            Line::from(format!(
                "saegis {version}  {cse_id}  {address}  pid {pid}  since {started}"
            ))
            .style(Style::new().add_modifier(Modifier::BOLD)),
        ];
        if let Some(why) = &self.failure {
            lines.push(Line::from(why.clone()).style(self.style(Color::Red)));
        }
        let mut state = vec![Span::raw(format!("generation {generation}"))];
        let status = &self.sample.status;
        let states = [
            ("policy", Some(&status.policy)),
            ("configuration", Some(&status.configuration)),
            ("upstream", status.upstream.as_ref()),
        ];
        for (name, value) in states {
            let Some(value) = value else { continue };
            let color = if is_faulty(value) { Color::Red } else { Color::Green };
            state.push(Span::raw(format!("  {name} ")));
            state.push(Span::styled(value.clone(), self.style(color)));
        }
        lines.push(Line::from(state));
        let faults = status.policy_faults.iter().map(|fault| (fault, Color::Red));
        let warnings = status.warnings.iter().map(|warning| (warning, Color::Yellow));
        let peers = status.peers.iter().map(|peer| (peer, Color::Reset));
        for (text, color) in faults.chain(warnings).chain(peers) {
            lines.push(Line::from(text.clone()).style(self.style(color)));
        }
        lines
    }

    fn draw_rates(&self, frame: &mut Frame<'_>, area: Rect) {
        let columns = Layout::horizontal([Constraint::Fill(1); 3]).areas::<3>(area);
        let Some(rates) = &self.rates else {
            let text = "rates follow with the next update";
            frame.render_widget(Paragraph::new(text).block(Block::bordered()), area);
            return;
        };
        let mut handshakes: Vec<_> = rates.handshakes.iter().collect();
        handshakes.sort_by_key(|(outcome, _)| outcome.as_str() != "established");
        let reloads = rates.reloads.iter().map(|(name, rate)| (format!("reload {name}"), rate));
        let left = handshakes.into_iter().map(|(name, rate)| (name.clone(), rate)).chain(reloads);
        let requests = rates.requests.iter().map(|(name, rate)| (name.clone(), rate));
        let errors = rates.errors.iter().map(|(rsc, rate)| (format!("error {rsc}"), rate));
        let decisions = rates.decisions.iter().map(|(name, rate)| (name.clone(), rate));
        let refusals = rates.refusals.iter().map(|(name, rate)| (format!("{name} refused"), rate));
        let lists = [
            ("handshakes / s", left.collect::<Vec<_>>()),
            ("requests / s", requests.chain(errors).collect()),
            ("decisions / s", decisions.chain(refusals).collect()),
        ];
        for ((title, list), area) in lists.into_iter().zip(columns) {
            let rows = list.into_iter().map(|(name, rate)| {
                let rate = Line::from(format!("{rate:.1}")).right_aligned();
                Row::new([Cell::from(name), Cell::from(rate)])
            });
            let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(9)])
                .block(Block::bordered().title(title));
            frame.render_widget(table, area);
        }
    }

    fn draw_associations(&self, frame: &mut Frame<'_>, area: Rect) {
        let all = &self.sample.associations.associations;
        let title = format!("{} associations, newest first", all.len());
        let row = |of: &AssociationEntry| {
            let AssociationEntry { id, entity, credential_id, peer, suite, established, .. } = of;
            let cells =
                [entity, credential_id, peer, suite, established].map(|c| Cell::from(c.clone()));
            Row::new([Cell::from(id.to_string())].into_iter().chain(cells))
        };
        let widths = [
            Constraint::Length(8),
            Constraint::Fill(2),
            Constraint::Fill(3),
            Constraint::Length(21),
            Constraint::Length(39),
            Constraint::Length(15),
        ];
        let head = ["id", "entity", "credential", "peer", "suite", "since"];
        let table = Table::new(all.iter().rev().map(row), widths)
            .header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(Block::bordered().title(title));
        let mut state = TableState::new().with_selected(Some(self.selected));
        frame.render_stateful_widget(table, area, &mut state);
    }
}
