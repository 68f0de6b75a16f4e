//! The tests that documents name. Each must exist in the named file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::project::Project;

/// Minimum number of underscores in the name of a test.
const MIN_UNDERSCORES: usize = 3;

/// Folder of the documents that may name tests.
const DOCUMENTS: &str = "docs/src";

/// Folders with tests.
const SOURCES: [&str; 6] = ["benches", "fuzz", "guest-modules", "host", "load", "tests"];

/// Checks all documents.
pub fn check(project: &Project) -> Result<()> {
    let mut files = Vec::new();
    for folder in SOURCES {
        collect(&project.root.join(folder), "rs", &mut files)?;
    }
    let suites = project.root.join("tests/tests/system");
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let module = file.strip_prefix(&suites).map_or_else(|_| String::new(), module);
        for name in functions(&text) {
            tests.entry(name.into()).or_default().insert(module.clone());
        }
    }
    let mut missing = Vec::new();
    let mut documents = Vec::new();
    collect(&project.root.join(DOCUMENTS), "md", &mut documents)?;
    documents.sort();
    for document in documents {
        let name = document.strip_prefix(&project.root)?.display();
        let text = fs::read_to_string(&document).with_context(|| format!("cannot read {name}"))?;
        for (number, line) in text.lines().enumerate() {
            for claim in claims(line).filter(|claim| !exists(claim, &tests, &suites)) {
                missing.push(format!("{name}:{}: {claim}", number + 1));
            }
        }
    }
    if !missing.is_empty() {
        bail!("documents name tests that do not exist:\n{}", missing.join("\n"));
    }
    Ok(())
}

/// Returns the names of tests in a line, with the written part of their paths.
fn claims(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2).map(|text| text.trim_start_matches('…'));
    quoted.filter(|text| {
        let name = text.rsplit("::").next().unwrap_or_default();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_:".contains(&b);
        text.bytes().all(plain)
            && !name.starts_with("saegis_")
            && name.matches('_').count() >= MIN_UNDERSCORES
    })
}

fn exists(claim: &str, tests: &BTreeMap<String, BTreeSet<String>>, suites: &Path) -> bool {
    let (path, name) = claim.rsplit_once("::").unwrap_or(("", claim));
    // `…end_of_a_name` omits the common prefix of the previous name.
    let Some(modules) = tests.get(name) else {
        return path.is_empty() && tests.keys().any(|test| test.ends_with(name));
    };
    let is_suite = suites.join(path.replace("::", "/")).with_extension("rs").is_file();
    path.is_empty() || !is_suite || modules.contains(path)
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    let word = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.split("fn ").skip(1).filter_map(move |rest| rest.get(..word(rest)?))
}

/// Returns the path of a file as that of a module.
fn module(file: &Path) -> String {
    file.with_extension("").display().to_string().replace('/', "::")
}

/// Adds the files below a folder that end in `.{extension}`.
fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, extension, found)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_names_differ_from_other_words() {
        let line = "| x | `a::b::one_of_the_tests`, `…two_of_the_tests`, `saegis_a_b_c_d`, `Some_of_A_b` |";
        assert_eq!(
            claims(line).collect::<Vec<_>>(),
            ["a::b::one_of_the_tests", "two_of_the_tests"]
        );
        assert_eq!(functions("fn a_b() {} fn c(").collect::<Vec<_>>(), ["a_b", "c"]);
    }

    #[test]
    fn claimed_test_must_be_in_named_file() {
        let suites = tempfile::tempdir().unwrap();
        fs::write(suites.path().join("a.rs"), "").unwrap();
        let tests =
            BTreeMap::from([("is_in_a_file".to_string(), BTreeSet::from(["b".to_string()]))]);
        let exists = |claim| exists(claim, &tests, suites.path());
        assert!(exists("is_in_a_file") && exists("held::tests::is_in_a_file") && exists("a_file"));
        assert!(!exists("a::is_in_a_file") && !exists("is_in_no_file") && !exists("x::a_file"));
    }
}
