//! Charts of the last hour as SVG.

use maud::{Markup, html};

use super::history::{INTERVAL, MAX_SAMPLES, Sample};

/// Height of a chart in its own units. The width is one unit for each sample.
const HEIGHT: f64 = 60.0;

/// One line of a chart.
pub struct Line {
    /// Its key in updates.
    pub key: &'static str,
    /// Its label.
    pub label: &'static str,
    /// Its value in a sample.
    pub value: fn(&Sample) -> f64,
}

/// A chart with one or two lines. The second one is that of refusals.
pub struct Chart {
    /// Its title.
    pub title: &'static str,
    /// The unit of its values.
    pub unit: &'static str,
    /// Its lines.
    pub lines: &'static [Line],
}

/// All charts.
pub const CHARTS: [Chart; 4] = [
    Chart {
        title: "Handshakes",
        unit: "per second",
        lines: &[
            Line { key: "handshakes", label: "established", value: |s| s.handshakes },
            Line { key: "refused-handshakes", label: "refused", value: |s| s.refused_handshakes },
        ],
    },
    Chart {
        title: "Requests",
        unit: "per second",
        lines: &[
            Line { key: "requests", label: "all", value: |s| s.requests },
            Line { key: "errors", label: "not successful", value: |s| s.errors },
        ],
    },
    Chart {
        title: "Decisions of modules",
        unit: "per second",
        lines: &[
            Line { key: "decisions", label: "all", value: |s| s.decisions },
            Line { key: "denials", label: "denied or failed", value: |s| s.denials },
        ],
    },
    Chart {
        title: "Associations",
        unit: "active",
        lines: &[Line { key: "associations", label: "active", value: |s| s.associations }],
    },
];

impl Chart {
    fn max(&self, samples: &[Sample]) -> f64 {
        let all = self.lines.iter().flat_map(|line| samples.iter().map(line.value));
        all.fold(0.0, f64::max)
    }

    /// Returns the points of its lines, for an element `<polyline>`.
    pub fn points(&self, samples: &[Sample]) -> Vec<(&'static str, String)> {
        let max = self.max(samples);
        let scale = if max > 0.0 { (HEIGHT - 2.0) / max } else { 0.0 };
        let start = MAX_SAMPLES.saturating_sub(samples.len());
        let of = |line: &Line| {
            let values = samples.iter().map(line.value).enumerate();
            let points = values
                .map(|(at, value)| format!("{},{:.1}", start + at, HEIGHT - 1.0 - value * scale));
            (line.key, points.collect::<Vec<_>>().join(" "))
        };
        self.lines.iter().map(of).collect()
    }

    /// Returns it as a figure.
    pub fn figure(&self, samples: &[Sample]) -> Markup {
        let latest = samples.last().copied().unwrap_or_default();
        let points = self.points(samples);
        let minutes = samples.len() as u64 * INTERVAL.as_secs() / 60;
        let about = format!("{} {}, the last {minutes} minutes", self.title, self.unit);
        let view = format!("0 0 {MAX_SAMPLES} {HEIGHT}");
        html! {
            figure class="chart" {
                figcaption { (self.title) " " span class="unit" { (self.unit) } }
                svg viewBox=(view) preserveAspectRatio="none" role="img" aria-label=(about) {
                    @for (number, (key, points)) in points.iter().enumerate() {
                        polyline class={ "line-" (number) } data-points=(key) points=(points) {}
                    }
                }
                p class="values" {
                    @for (number, line) in self.lines.iter().enumerate() {
                        span class={ "value value-" (number) } {
                            span data-text=(line.key) { (number_of((line.value)(&latest))) }
                            " " (line.label)
                        }
                    }
                }
            }
        }
    }
}

/// Returns a number with at most one decimal place.
pub fn number_of(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_scaled_and_end_at_present() {
        let sample = |handshakes| Sample { handshakes, ..Sample::default() };
        let points = CHARTS[0].points(&[sample(0.0), sample(4.0), sample(2.0)]);
        assert_eq!(points[0].1, "357,59.0 358,1.0 359,30.0");
        assert_eq!(points[1].1, "357,59.0 358,59.0 359,59.0");
        assert_eq!(CHARTS[3].points(&[]), [("associations", String::new())]);
    }

    #[test]
    fn numbers_have_one_decimal_place() {
        assert_eq!((number_of(3.0), number_of(0.26)), ("3".into(), "0.3".into()));
    }
}
