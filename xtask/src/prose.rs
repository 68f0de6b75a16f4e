//! `cargo xtask prose`: counts words and sentences of comments and documents, and reports
//! violations of the rules of CONTRIBUTING.md.

mod sentences;

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Result, bail};

use crate::{process, project::Project};
use sentences::{Kind, Sentence, sentences};

/// Maximum number of sentences in 1,000 words that begin with one of [`OPENINGS`].
const MAX_OPENINGS: f64 = 1.0;

/// Maximum number of words of a sentence in a document, and of the mean sentence of a page.
const MAX_WORDS: usize = 35;
const MAX_MEAN: f64 = 18.0;

/// First words of sentences that do not name their subject.
const OPENINGS: [&str; 6] = ["What", "Who", "Whoever", "Whatever", "Where", "Wherever"];

/// Phrases that have a plain equivalent.
const PHRASES: [&str; 15] = [
    "is told",
    "are told",
    "was told",
    "be told",
    "tells",
    "is no",
    "are no",
    "vouch",
    "vouches",
    "vouched",
    "mend",
    "mends",
    "mended",
    "can't be had",
    "cannot be had",
];

/// Text from other projects, or that never changes.
const FOREIGN: [&str; 2] = ["wit/deps/", "tests/contract/"];

#[derive(Default)]
struct Count {
    words: usize,
    openings: usize,
    findings: usize,
}

/// Checks the files whose paths start with `prefix`, and prints each finding.
pub fn check(project: &Project, prefix: &str) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(&project.root);
    let (mut areas, mut total) = (BTreeMap::<String, Count>::new(), Count::default());
    let mut pages = 0;
    for file in process::output(&mut git)?.lines() {
        let is_foreign = FOREIGN.iter().any(|folder| file.starts_with(folder));
        let Ok(text) = fs::read_to_string(project.root.join(file)) else { continue };
        let Some(sentences) = sentences(file, &text) else { continue };
        if is_foreign || !file.starts_with(prefix) {
            continue;
        }
        let area = areas.entry(area(file)).or_default();
        for sentence in &sentences {
            area.words += sentence.words.len();
            for finding in findings(file, sentence) {
                area.openings += usize::from(finding == OPENING);
                area.findings += 1;
                let start: Vec<_> = sentence.words.iter().take(9).map(String::as_str).collect();
                println!("{file}:{}: {finding}: {} …", sentence.line, start.join(" "));
            }
        }
        let mean = mean(&sentences);
        if is_document(file) && mean > MAX_MEAN {
            pages += 1;
            println!("{file}: mean sentence has {mean:.1} words, more than {MAX_MEAN}");
        }
    }
    println!("{:>8} {:>9} {:>9}", "words", "openings", "findings");
    for (name, count) in &areas {
        println!("{:>8} {:>9} {:>9}  {name}", count.words, count.openings, count.findings);
        total.words += count.words;
        total.openings += count.openings;
        total.findings += count.findings - count.openings;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand words")]
    let rate = total.openings as f64 * 1000.0 / total.words.max(1) as f64;
    println!(
        "{} words; {rate:.1} sentences in 1,000 words start with What, Who or Where (at most {MAX_OPENINGS}); \
         {} other findings; {pages} pages with long sentences",
        total.words, total.findings
    );
    if rate > MAX_OPENINGS || total.findings + pages > 0 {
        bail!("CONTRIBUTING.md has the rules of style");
    }
    Ok(())
}

const OPENING: &str = "does not name its subject";

fn findings(file: &str, sentence: &Sentence) -> Vec<String> {
    let words = &sentence.words;
    let mut found = Vec::new();
    let is_question = words.last().is_some_and(|word| word.ends_with('?'));
    if !is_question && words.first().is_some_and(|first| OPENINGS.contains(&bare(first))) {
        found.push(OPENING.into());
    }
    if is_document(file) && words.len() > MAX_WORDS {
        found.push(format!("{} words", words.len()));
    }
    let text: Vec<_> = words.iter().map(|word| bare(word).to_lowercase()).collect();
    let text = format!(" {} ", text.join(" ")).replace(" is no longer ", " ");
    let text = text.replace(" are no longer ", " ").replace(" there is no ", " ");
    let text = text.replace(" there are no ", " ");
    let used = PHRASES.iter().filter(|phrase| text.contains(&format!(" {phrase} ")));
    found.extend(used.map(|phrase| format!("{phrase:?}")));
    found
}

fn is_document(file: &str) -> bool {
    file.ends_with(".md") && (file.starts_with("docs/") || !file.contains('/'))
}

fn area(file: &str) -> String {
    let depth = if file.starts_with("host/") { 2 } else { 1 };
    file.split('/').take(depth).collect::<Vec<_>>().join("/")
}

fn mean(sentences: &[Sentence]) -> f64 {
    let lengths: Vec<_> =
        sentences.iter().filter(|s| s.kind == Kind::Paragraph).map(|s| s.words.len()).collect();
    #[expect(clippy::cast_precision_loss, reason = "a page has a few thousand words")]
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    mean
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}
