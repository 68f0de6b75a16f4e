//! `cargo xtask circles`: import cycles among the files of a crate.
//!
//! The files of a cycle can only be understood, moved and tested together. Each cycle is printed
//! with one path through it, and fails the check unless it is listed here with its reason.

mod modules;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::project::Project;
use modules::{Crate, Imports};

/// An accepted cycle. All of its files are in this folder, or are this file and its folder.
struct Allowed {
    folder: &'static str,
    reason: &'static str,
}

const ALLOWED: &[Allowed] = &[];

/// Checks the crates of the workspace.
pub fn check(project: &Project) -> Result<()> {
    let mut circles = Vec::new();
    for root in roots(project)? {
        let imports = Crate::read(&root)?.imports();
        circles.extend(find(&imports).into_iter().map(|circle| (circle, imports.clone())));
    }
    let relative = |path: &Path| path.strip_prefix(&project.root).unwrap_or(path).to_path_buf();
    let mut unused: Vec<_> = ALLOWED.iter().map(|allowed| allowed.folder).collect();
    let mut found = 0;
    for (circle, imports) in &circles {
        let allowed = ALLOWED.iter().find(|allowed| {
            circle.iter().all(|file| relative(file).with_extension("").starts_with(allowed.folder))
        });
        if let Some(Allowed { folder, reason }) = allowed {
            println!("{} files of {folder}, which may import each other: {reason}", circle.len());
            unused.retain(|unused| unused != folder);
            continue;
        }
        found += 1;
        println!("{} files import each other in a circle:", circle.len());
        circle.iter().for_each(|file| println!("  {}", relative(file).display()));
        for (from, to, what) in way_around(circle, imports) {
            println!("    {} → {}: {what}", relative(from).display(), relative(to).display());
        }
    }
    if !unused.is_empty() {
        bail!("xtask/src/circles.rs allows circles that do not exist: {}", unused.join(", "));
    }
    if found > 0 {
        bail!("{found} import circles; move the shared items into a separate file");
    }
    Ok(())
}

/// Returns the root files of the crates.
fn roots(project: &Project) -> Result<Vec<PathBuf>> {
    let mut crates: Vec<_> =
        ["benches", "fuzz", "load", "tests", "xtask"].map(|name| project.root.join(name)).into();
    for entry in fs::read_dir(project.root.join("host"))? {
        crates.push(entry?.path());
    }
    crates.sort();
    let roots =
        crates.iter().flat_map(|folder| ["lib.rs", "main.rs"].map(|r| folder.join("src").join(r)));
    Ok(roots.filter(|root| root.is_file()).collect())
}

/// Returns the cycles: sets of files that all reach each other.
fn find(imports: &Imports) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<_, _> =
        imports.keys().map(|file| (file, reached(imports, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&PathBuf| reached.get(*other).is_some_and(|back| back.contains(*file));
        let circle: BTreeSet<_> = others.iter().filter(back).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached(imports: &Imports, from: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_path_buf()];
    while let Some(file) = open.pop() {
        for next in imports.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

/// Returns the shortest path from a file of a cycle back to it, with the imported names.
fn way_around<'a>(
    circle: &BTreeSet<PathBuf>,
    imports: &'a Imports,
) -> Vec<(&'a PathBuf, &'a PathBuf, String)> {
    let ways = circle.iter().filter_map(|start| {
        let (start, _) = imports.get_key_value(start)?;
        let mut before: BTreeMap<&PathBuf, &PathBuf> = BTreeMap::new();
        let mut open = VecDeque::from([start]);
        while let Some(file) = open.pop_front() {
            for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
                if circle.contains(next) && !before.contains_key(next) {
                    before.insert(next, file);
                    open.push_back(next);
                }
            }
        }
        let mut way = Vec::new();
        let mut to = *before.get_key_value(start)?.0;
        loop {
            let from = before[to];
            let what = imports[from][to].iter().cloned().collect::<Vec<_>>().join(", ");
            way.insert(0, (from, to, what));
            if from == start {
                return Some(way);
            }
            to = from;
        }
    });
    ways.min_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(pairs: &[(&str, &str)]) -> Imports {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            let what = imports.entry(from.into()).or_default().entry(to.into()).or_default();
            what.insert(format!("crate::{to}"));
        }
        imports
    }

    #[test]
    fn import_circle_is_found_with_its_path() {
        let imports =
            imports(&[("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("d", "a"), ("c", "e")]);
        let circles = find(&imports);
        assert_eq!(circles, [["a", "b", "c"].map(PathBuf::from).into()]);
        let way = way_around(&circles[0], &imports);
        let way: Vec<_> = way.iter().map(|(from, to, _)| (from.to_str(), to.to_str())).collect();
        assert_eq!(way, [(Some("a"), Some("b")), (Some("b"), Some("a"))]);
    }

    #[test]
    fn import_tree_has_no_circle() {
        assert!(find(&imports(&[("a", "b"), ("a", "c"), ("b", "c")])).is_empty());
    }
}
