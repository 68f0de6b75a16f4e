//! Result of a replay: differences in groups, with examples.

use std::collections::BTreeMap;
use std::path::Path;

use saegis_policy::{Answer, Difference, Fault, Question};
use serde_json::{Value, json};

/// Maximum number of groups; further differences are counted together.
const MOST_GROUPS: usize = 200;
/// Maximum number of examples per group.
const EXAMPLES: usize = 3;
/// Maximum number of invalid lines that are printed.
const MOST_FAULTS: usize = 10;

/// Result of a replay.
#[derive(Default)]
pub struct Report {
    decisions: u64,
    same: u64,
    worded_otherwise: u64,
    not_asked: u64,
    changed: u64,
    groups: BTreeMap<Change, Group>,
    further: u64,
    wrong: u64,
    faults: Vec<Fault>,
    breaks_off: u64,
}

/// Kind of a difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    hook: &'static str,
    before: String,
    after: String,
}

#[derive(Default)]
struct Group {
    count: u64,
    examples: Vec<Example>,
}

struct Example {
    file: String,
    line: u64,
    question: String,
    before: String,
    after: String,
}

impl Report {
    /// Adds an invalid line.
    pub fn wrong(&mut self, fault: Fault) {
        self.wrong += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Adds an incomplete last line.
    pub fn breaks_off(&mut self) {
        self.breaks_off += 1;
    }

    /// Adds a decision that depends on a MAF or on a module with I/O.
    pub fn not_asked(&mut self) {
        self.decisions += 1;
        self.not_asked += 1;
    }

    /// Adds a decision and the one that would replace it.
    pub fn compared(
        &mut self,
        file: &Path,
        line: u64,
        question: &Question,
        before: &Answer,
        after: &Answer,
    ) {
        self.decisions += 1;
        match before.differs(after) {
            Difference::None => self.same += 1,
            Difference::Wording => {
                self.same += 1;
                self.worded_otherwise += 1;
            }
            Difference::Effect => {
                self.changed += 1;
                let (from, mut to) = (before.kind(), after.kind());
                if from == to {
                    to.push_str(", but different");
                }
                let change = Change { hook: question.hook().name(), before: from, after: to };
                if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&change) {
                    self.further += 1;
                    return;
                }
                let group = self.groups.entry(change).or_default();
                group.count += 1;
                if group.examples.len() < EXAMPLES {
                    group.examples.push(Example {
                        file: saegis_policy::Shown(file).to_string(),
                        line,
                        question: question.to_string(),
                        before: before.to_string(),
                        after: after.to_string(),
                    });
                }
            }
        }
    }

    /// Returns the exit code: 0 if no decision would change, 1 if one would, 2 if not all were
    /// compared.
    pub fn exit_code(&self) -> u8 {
        match (self.wrong, self.changed) {
            (1.., _) => crate::BAD_INPUT,
            (0, 1..) => 1,
            (0, 0) => 0,
        }
    }

    /// Prints the report. Faults of lines go to standard error.
    pub fn print(&self, as_json: bool) {
        for fault in &self.faults {
            crate::output::print_error(&fault.to_string(), 0);
        }
        let unlisted = self.wrong - self.faults.len() as u64;
        if unlisted > 0 {
            crate::output::print_error(
                &format!("and {unlisted} more lines that cannot be replayed"),
                0,
            );
        }
        if as_json {
            crate::output::print(&self.as_json().to_string());
        } else {
            self.lines().iter().for_each(|line| crate::output::print(line));
        }
    }

    /// Returns the groups, the largest first.
    fn sorted(&self) -> Vec<(&Change, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        groups
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![match self.changed {
            0 => format!("{} decisions; none would change", self.decisions),
            some => format!("{} decisions; {some} would change", self.decisions),
        }];
        if self.worded_otherwise > 0 {
            lines.push(format!(
                "{} would have the same result, but by another module, with another reason or another scope",
                self.worded_otherwise
            ));
        }
        if self.not_asked > 0 {
            lines.push(format!(
                "{} were not compared: they depend on a MAF or on a module with I/O",
                self.not_asked
            ));
        }
        if self.breaks_off > 0 {
            lines.push("the last line is incomplete and was skipped".into());
        }
        for (change, group) in self.sorted() {
            let Change { hook, before, after } = change;
            lines.push(String::new());
            lines.push(format!("{:>7}  {hook}: {before} \u{2192} {after}", group.count));
            for example in &group.examples {
                let Example { file, line, question, before, after } = example;
                lines.push(format!("         {file}:{line}: {question}"));
                lines.push(format!("             before: {before}"));
                lines.push(format!("             after:  {after}"));
            }
        }
        if self.further > 0 {
            lines.push(String::new());
            lines.push(format!("{:>7}  in further groups", self.further));
        }
        lines
    }

    /// Returns the report as JSON.
    pub fn as_json(&self) -> Value {
        let groups = self.sorted().into_iter().map(|(change, group)| {
            let examples = group.examples.iter().map(|example| {
                json!({
                    "file": example.file, "line": example.line, "question": example.question,
                    "before": example.before, "after": example.after,
                })
            });
            json!({
                "hook": change.hook, "before": change.before, "after": change.after,
                "count": group.count, "examples": examples.collect::<Vec<_>>(),
            })
        });
        let faults = self.faults.iter().map(|fault| {
            json!({
                "file": fault.file.to_string_lossy(), "line": fault.line, "column": fault.column, "what": fault.what,
            })
        });
        json!({
            "decisions": self.decisions,
            "same": self.same,
            "changed": self.changed,
            "reworded": self.worded_otherwise,
            "not_compared": self.not_asked,
            "wrong_lines": self.wrong,
            "truncated": self.breaks_off > 0,
            "groups": groups.collect::<Vec<_>>(),
            "in_further_groups": self.further,
            "faults": faults.collect::<Vec<_>>(),
        })
    }
}
