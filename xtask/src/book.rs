//! The book. mdBook builds it, and each link must have a target.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{process, project::Project, tools};

/// Folders of the repository whose paths pages may name in code.
const FOLDERS: [&str; 8] =
    ["docs/", "examples/", "fuzz/", "guest-modules/", "host/", "load/", "templates/", "tests/"];

/// Checks all links, and builds the book into the target folder.
pub fn build(project: &Project) -> Result<()> {
    check(&project.root)?;
    let out = project.host_target.join("book");
    let mut mdbook = tools::mdbook(project)?;
    process::run(mdbook.arg("build").arg("--dest-dir").arg(&out).arg(project.root.join("docs")))?;
    println!("The book is {}", out.join("index.html").display());
    Ok(())
}

/// Checks three things: links lead to a file and a heading, each page is in the summary, and named
/// paths of the repository exist.
fn check(root: &Path) -> Result<()> {
    let book = root.join("docs/src");
    let mut pages = Vec::new();
    collect(&book, &mut pages)?;
    let summary = fs::read_to_string(book.join("SUMMARY.md")).context("docs/src/SUMMARY.md")?;
    let listed: BTreeSet<_> = links(&summary).map(|(_, link)| book.join(link)).collect();
    let mut faults: Vec<_> = pages
        .iter()
        .filter(|page| !page.ends_with("SUMMARY.md") && !listed.contains(*page))
        .map(|page| format!("{}: not in SUMMARY.md", page.display()))
        .collect();
    for entry in fs::read_dir(root)? {
        pages
            .extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    for page in &pages {
        let text = fs::read_to_string(page)?;
        let wrong = links(&text).filter(|(_, link)| !leads_somewhere(page, link, &book));
        faults.extend(wrong.map(|(line, link)| format!("{}:{line}: {link}", page.display())));
        let folder = page.parent().unwrap_or(root);
        let absent = includes(&text).filter(|(_, file)| !folder.join(file).exists());
        faults.extend(absent.map(|(line, file)| format!("{}:{line}: {file}", page.display())));
        let missing = paths(&text).filter(|(_, path)| !root.join(path).exists());
        faults.extend(missing.map(|(line, path)| format!("{}:{line}: {path}", page.display())));
    }
    if !faults.is_empty() {
        bail!("links and paths that lead nowhere:\n{}", faults.join("\n"));
    }
    Ok(())
}

fn leads_somewhere(page: &Path, link: &str, book: &Path) -> bool {
    if link.starts_with("https://") {
        return true;
    }
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, at)| (file, Some(at)));
    let folder = page.parent().unwrap_or(page);
    let target = if file.is_empty() { page.to_owned() } else { normal(&folder.join(file)) };
    // A page cannot link out of the book: the built book has nothing there.
    let inside = !page.starts_with(book) || target.starts_with(book);
    let found = fs::read_to_string(&target)
        .is_ok_and(|text| heading.is_none_or(|heading| headings(&text).contains(heading)));
    inside && (found || heading.is_none() && target.exists())
}

/// Returns the links of a page outside of code, with their lines.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        line.split("](").skip(1).filter_map(move |rest| Some((number, rest.split_once(')')?.0)))
    })
}

/// Returns the files that a page includes. mdBook ignores an include of a missing file.
fn includes(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        Some((number, line.strip_prefix("{{#include ")?.strip_suffix("}}")?))
    })
}

/// Returns the repository paths that a page names in code.
fn paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        let code = line.split('`').skip(1).step_by(2);
        let of_repository = |path: &&str| {
            FOLDERS.iter().any(|folder| path.starts_with(folder))
                && !path.contains([' ', '*', '<', '…'])
                && !path.contains("/target")
        };
        code.filter(of_repository).map(move |path| (number, path))
    })
}

/// Returns the lines of a page outside of code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let fence = line.trim_start().starts_with("```");
        fenced = fenced != fence;
        (!fence && !fenced && !line.starts_with("    ")).then_some((number, line))
    })
}

/// Returns the anchors of a page's headings as mdBook creates them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let mut unique = anchor.clone();
        for n in 1.. {
            if found.insert(unique) {
                break;
            }
            unique = format!("{anchor}-{n}");
        }
    }
    found
}

/// Returns the path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_and_headings_of_the_book() {
        let root = tempfile::tempdir().unwrap();
        let book = root.path().join("docs/src");
        fs::create_dir_all(book.join("a")).unwrap();
        fs::write(root.path().join("README.md"), "[book](docs/src/a/b.md) `docs/src`").unwrap();
        fs::write(book.join("SUMMARY.md"), "- [B](a/b.md)\n").unwrap();
        let page = "## Two `words`, one\n[x](#two-words-one) [y](../SUMMARY.md)\n";
        fs::write(book.join("a/b.md"), page).unwrap();
        check(root.path()).unwrap();

        fs::write(
            book.join("a/b.md"),
            "[a](b.md#x)\n[b](no.md) [c](../../../README.md) `tests/no`\n{{#include no.wit}}\n",
        )
        .unwrap();
        fs::write(book.join("new.md"), "").unwrap();
        let fault = check(root.path()).unwrap_err().to_string();
        for part in [
            "new.md: not in",
            "b.md:1: b.md#x",
            ":2: no.md",
            ":2: ../../../README.md",
            ":2: tests/no",
            ":3: no.wit",
        ] {
            assert!(fault.contains(part), "{part}: {fault}");
        }
    }
}
