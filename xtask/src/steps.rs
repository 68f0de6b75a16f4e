//! A task as a list of steps with their durations.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The steps so far.
#[derive(Default)]
pub struct Steps {
    taken: Vec<Step>,
}

struct Step {
    name: &'static str,
    duration: Duration,
    passed: bool,
}

impl Steps {
    /// Runs a step. An error names the step.
    pub fn take(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step();
        let duration = start.elapsed();
        let passed = result.is_ok();
        println!("== {name}: {} after {}", word(passed), seconds(duration));
        self.taken.push(Step { name, duration, passed });
        result.with_context(|| format!("step \"{name}\""))
    }

    /// Returns a table of the steps so far.
    pub fn summary(&self) -> String {
        let mut summary = String::new();
        for step in &self.taken {
            let (time, word) = (seconds(step.duration), word(step.passed));
            summary.push_str(&format!("{time:>9}  {word:<6}  {}\n", step.name));
        }
        let total = self.taken.iter().map(|step| step.duration).sum();
        let word = word(self.taken.iter().all(|step| step.passed));
        summary.push_str(&format!("{:>9}  {word:<6}  in all\n", seconds(total)));
        summary
    }
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "failed" }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn summary_lists_passed_and_failed_steps() {
        let mut steps = Steps::default();
        steps.take("first", || Ok(())).unwrap();
        assert_eq!(steps.summary(), "    0.0 s  ok      first\n    0.0 s  ok      in all\n");
        let error = steps.take("second", || bail!("no luck")).unwrap_err();
        assert_eq!(format!("{error:#}"), "step \"second\": no luck");
        assert_eq!(
            steps.summary(),
            "    0.0 s  ok      first\n    0.0 s  failed  second\n    0.0 s  failed  in all\n"
        );
    }
}
