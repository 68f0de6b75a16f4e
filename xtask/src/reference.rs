//! `cargo xtask reference`: writes the parts of the reference pages that come from the sources.
//!
//! A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `cargo xtask test` fails if one of them is
//! out of date.

mod configuration;
mod metrics;
mod schema;
mod source;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::{process, project::Project};
use source::Sources;

const START: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

/// Name of the part with the help texts.
const COMMANDS: &str = "commands";

/// Folder of the pages.
const PAGES: &str = "docs/src/reference";

/// JSON Schemas for editors, with the titles of their files.
const SCHEMAS: [(&str, &str); 2] = [
    ("docs/src/schemas/saegis.schema.json", "Configuration of a Saegis gateway"),
    ("docs/src/schemas/manifest.schema.json", "Manifest of a policy module of Saegis"),
];

/// Command that brings the pages up to date.
const REMEDY: &str = "run `cargo xtask reference`";

/// Writes the generated parts of all pages, with a `saegis` of the development build.
pub fn write(project: &Project) -> Result<()> {
    process::run(project.host_cargo().args([
        "build",
        "--locked",
        "--workspace",
        "--bin",
        "saegis",
    ]))?;
    for (page, text) in outdated(project, Parts::All)? {
        fs::write(project.root.join(&page), text)?;
        println!("wrote {page}");
    }
    Ok(())
}

/// The parts of the pages that are read.
#[derive(Clone, Copy, PartialEq)]
pub enum Parts {
    /// Those that need no build.
    OfSources,
    /// All of them. The development build of `saegis` must exist.
    All,
}

/// Checks that the pages are up to date.
pub fn check(project: &Project, parts: Parts) -> Result<()> {
    let outdated: Vec<_> = outdated(project, parts)?.into_iter().map(|(page, _)| page).collect();
    if !outdated.is_empty() {
        bail!("out of date: {}; {REMEDY}", outdated.join(", "));
    }
    Ok(())
}

/// Returns the pages that differ from their sources, each with its new text.
fn outdated(project: &Project, parts: Parts) -> Result<Vec<(String, String)>> {
    let sources = Sources::read(&project.root)?;
    let saegis = project.gateway_binary("debug");
    let mut outdated = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(project.root.join(PAGES)).context(PAGES)? {
        let path = entry?.path();
        let page = format!("{PAGES}/{}", path.file_name().unwrap_or_default().display());
        let text = fs::read_to_string(&path).with_context(|| page.clone())?;
        let new = replace(&text, |name, old| {
            seen.insert(name.to_string());
            match name {
                COMMANDS if parts == Parts::OfSources => Ok(old.into()),
                _ => part(name, &sources, &saegis),
            }
        })
        .with_context(|| page.clone())?;
        if new != text {
            outdated.push((page, new));
        }
    }
    for ((file, title), name) in SCHEMAS.into_iter().zip(["configuration", "manifest"]) {
        let new = schema::of(title, &part(name, &sources, &saegis)?).context(file)?;
        if fs::read_to_string(project.root.join(file)).unwrap_or_default() != new {
            outdated.push((file.into(), new));
        }
    }
    for name in
        ["configuration", "maf configuration", "mef configuration", "manifest", COMMANDS, "metrics"]
    {
        ensure!(seen.contains(name), "no page of {PAGES} has the part {name:?}");
    }
    Ok(outdated)
}

fn part(name: &str, sources: &Sources, saegis: &Path) -> Result<String> {
    match name {
        "configuration" => configuration::tables(sources, "config/server_config.rs", "Config"),
        "maf configuration" => configuration::table(sources, "config/maf.rs", "MafSettings", "maf"),
        "mef configuration" => configuration::table(sources, "config/mef.rs", "MefSettings", "mef"),
        "manifest" => configuration::table(sources, "module/manifest.rs", "Manifest", ""),
        COMMANDS => commands(saegis),
        "metrics" => metrics::table(sources),
        _ => bail!("unknown part {name:?}"),
    }
}

/// Replaces each generated part of a page.
fn replace(page: &str, mut part: impl FnMut(&str, &str) -> Result<String>) -> Result<String> {
    let (mut new, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(START) {
        let (name, after) = after.split_once(" -->").context("a marker does not end")?;
        let (old, after) =
            after.split_once(END).with_context(|| format!("{name:?} does not end"))?;
        new += &format!("{before}{START}{name} -->\n\n{}\n\n{END}", part(name, old)?.trim());
        rest = after;
    }
    Ok(new + rest)
}

/// Returns the help texts of `saegis` and of each subcommand.
fn commands(saegis: &Path) -> Result<String> {
    let mut text = String::new();
    let mut left = vec![Vec::new()];
    while let Some(command) = left.pop() {
        let mut help = Command::new(saegis);
        help.args(&command).arg("--help").env_clear();
        let help = process::output(&mut help)?;
        let name = [&["saegis".to_string()], &command[..]].concat().join(" ");
        text += &format!("## {name}\n\n```text\n{}\n```\n\n", help.trim_end());
        let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list);
        let list = list.split("\n\n").next().unwrap_or_default();
        let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let of_commands = names.filter(|name| !name.is_empty() && *name != "help");
        let new: Vec<_> =
            of_commands.map(|name| [&command[..], &[name.to_string()]].concat()).collect();
        left.extend(new.into_iter().rev());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n";
        let new = replace(page, |name, _| Ok(format!("new {name}\n"))).unwrap();
        assert_eq!(new, "a\n<!-- generated: x -->\n\nnew x\n\n<!-- end -->\nb\n");
        assert_eq!(replace(&new, |_, old| Ok(old.into())).unwrap(), new);
        assert!(replace("<!-- generated: x -->\n", |_, _| Ok(String::new())).is_err());
    }

    /// Finds a page that lacks a field, or a source with an additional one, without a build.
    #[test]
    fn reference_sources_are_readable() {
        let project = Project::find().unwrap();
        let sources = Sources::read(&project.root).unwrap();
        for name in ["configuration", "maf configuration", "manifest", "metrics"] {
            let text = part(name, &sources, Path::new("")).unwrap();
            assert!(text.lines().count() > 5, "{name}: {text}");
        }
    }
}
