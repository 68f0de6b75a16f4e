//! The instructions in the text of a page.

use anyhow::{Context, Result, bail, ensure};

const MARK: &str = "<!-- tested: ";

/// State of a page's folder before its first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The repository's configuration and policy, and a running gateway.
    Gateway,
    /// The same files, without a running gateway.
    Files,
    /// The files of the worked example.
    Worked,
}

/// An instruction and the number of its line.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'a> {
    pub number: usize,
    pub instruction: Instruction<'a>,
}

/// An instruction.
#[derive(Debug, PartialEq, Eq)]
pub enum Instruction<'a> {
    /// Runs a command, which prints these lines.
    Run { command: String, shown: Vec<&'a str> },
    /// Writes a file.
    Write { file: String, text: String },
    /// Adds text to a file.
    Append { file: String, text: String },
    /// Ends the service whose command starts with this.
    Stop(String),
}

/// Returns the start of a page that is tested, and the other lines of its first comment.
pub fn start(page: &str) -> Result<Option<(Start, &str)>> {
    let Some(rest) = page.strip_prefix(MARK) else { return Ok(None) };
    let (comment, _) = rest.split_once("-->").context("the first comment does not end")?;
    let (name, added) = comment.split_once('\n').unwrap_or((comment, ""));
    let start = match name.trim() {
        "gateway" => Start::Gateway,
        "files" => Start::Files,
        "worked" => Start::Worked,
        other => bail!("a page cannot start with {other:?}"),
    };
    Ok(Some((start, added)))
}

/// Returns the instructions of a page.
pub fn steps(page: &str) -> Result<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut lines = (1..).zip(page.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(command) = command(line) {
            let is_output = |line: &str| code(line).is_some() && self::command(line).is_none();
            let mut shown = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| is_output(line)) {
                shown.push(line.trim_start());
            }
            let instruction = Instruction::Run { command: command.into(), shown };
            steps.push(Step { number, instruction });
        } else if let Some(first) = line.strip_prefix("<!-- ") {
            let mut comment = first.to_owned();
            while !comment.ends_with("-->") {
                let (_, line) = lines.next().context("a comment does not end")?;
                comment = format!("{comment}\n{line}");
            }
            let (name, rest) = comment.split_once(':').unwrap_or_default();
            let rest = rest.trim_end_matches("-->").trim().to_owned();
            let mut content = || {
                while lines.next_if(|(_, line)| code(line).is_none()).is_some() {}
                let mut text = String::new();
                let is_content = |line: &str| code(line).is_some() || line.is_empty();
                while let Some((_, line)) = lines.next_if(|(_, line)| is_content(line)) {
                    text = format!("{text}{}\n", code(line).unwrap_or_default());
                }
                text
            };
            let instruction = match name {
                "tested" => continue,
                "run" => Instruction::Run { command: rest, shown: Vec::new() },
                "write" => Instruction::Write { file: rest, text: content() },
                "append" => Instruction::Append { file: rest, text: content() },
                "stop" => Instruction::Stop(rest),
                _ => bail!("line {number} is not an instruction"),
            };
            steps.push(Step { number, instruction });
        }
    }
    ensure!(!steps.is_empty(), "the page has no command");
    Ok(steps)
}

/// Returns the code in a line, which may be part of a list.
fn code(line: &str) -> Option<&str> {
    line.strip_prefix("    ").filter(|code| !code.trim().is_empty())
}

fn command(line: &str) -> Option<&str> {
    code(line)?.trim_start().strip_prefix("$ ")
}

/// Returns the first shown line that is not in the output behind the one before.
pub fn missing<'a>(shown: &'a [String], printed: &str) -> Option<&'a str> {
    let mut lines = printed.lines();
    let mut is_there = |shown: &str| shown == "…" || lines.any(|line| matches(shown, line));
    shown.iter().map(String::as_str).find(|shown| !is_there(shown))
}

/// Returns whether a line of the output is the shown one. The width of columns may differ.
fn matches(shown: &str, line: &str) -> bool {
    let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (normal(shown), normal(line));
    let Some((first, rest)) = shown.split_once('…') else { return shown == line };
    let (middle, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    let between = line.strip_prefix(first).and_then(|line| line.strip_suffix(last));
    let Some(mut between) = between else { return false };
    middle.split('…').all(|part| match between.split_once(part) {
        Some((_, behind)) => {
            between = behind;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<'a>(command: &str, shown: &[&'a str]) -> Instruction<'a> {
        Instruction::Run { command: command.into(), shown: shown.to_vec() }
    }

    #[test]
    fn commands_and_their_output_are_read_from_code() {
        let page = "$ not code\n\n    $ one | two\n    out …\n\n    other\n\n1. x\n\n       $ three\n       more\n";
        let steps = steps(page).unwrap();
        let found: Vec<_> = steps.into_iter().map(|step| (step.number, step.instruction)).collect();
        assert_eq!(found, [(3, run("one | two", &["out …"])), (10, run("three", &["more"]))]);
    }

    #[test]
    fn comments_are_instructions() {
        let page = "<!-- tested: files\nwhy -->\n<!-- run: one\ntwo -->\n<!-- write: a.toml -->\n\nText:\n\n    a = 1\n\n    $ b\ntext\n<!-- stop: saegis maf -->\n";
        assert_eq!(start(page).unwrap(), Some((Start::Files, "why ")));
        let steps = steps(page).unwrap();
        let found: Vec<_> = steps.into_iter().map(|step| step.instruction).collect();
        let (file, text) = ("a.toml".into(), "a = 1\n\n$ b\n".into());
        let write = Instruction::Write { file, text };
        let stop = Instruction::Stop("saegis maf".into());
        assert_eq!(found, [run("one\ntwo", &[]), write, stop]);
        assert!(super::start("# Title").unwrap().is_none());
        assert!(super::start("<!-- tested: all -->").is_err());
        assert!(super::steps("<!-- other: x -->").is_err());
    }

    #[test]
    fn shown_lines_are_found_in_order() {
        let shown = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let printed = "a 1 b\nc\nd  2\n";
        assert_eq!(missing(&shown(&["a … b", "…", "d …"]), printed), None);
        assert_eq!(missing(&shown(&["c", "a … b"]), printed), Some("a … b"));
        assert_eq!(missing(&shown(&["a …2"]), printed), Some("a …2"));
        assert_eq!(missing(&shown(&["d 2"]), printed), None);
        assert_eq!(missing(&shown(&["a … … b"]), printed), Some("a … … b"));
    }
}
