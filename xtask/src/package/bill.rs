//! Bill of materials in the format CycloneDX: the crates in the binary.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    package::release::{Release, write_json},
    process,
    project::Project,
};

/// Writes the bill, and returns its name.
pub fn write(project: &Project, release: &Release) -> Result<String> {
    let mut cargo = project.host_cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    cargo.arg(format!("--filter-platform={}", target(&release.architecture)));
    let metadata: Value = serde_json::from_str(&process::output(&mut cargo)?)?;
    let used = used(&metadata)?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata has no packages")?;
    let of_use =
        packages.iter().filter(|package| used.contains(package["id"].as_str().unwrap_or("")));
    let components: Vec<_> = of_use.map(component).collect();
    let name = format!("saegis-{}-{}.cdx.json", release.version, release.architecture);
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "name": "saegis", "version": release.version },
        },
        "components": components,
    });
    write_json(&release.out.join(&name), &bill)?;
    Ok(name)
}

fn target(architecture: &str) -> String {
    match architecture {
        "armv7" => "armv7-unknown-linux-gnueabihf".into(),
        other => format!("{other}-unknown-linux-gnu"),
    }
}

/// Returns the packages that the package `saegis` needs to be built or to run.
fn used(metadata: &Value) -> Result<BTreeSet<&str>> {
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    let nodes = nodes.context("cargo metadata has no resolved packages")?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let own = packages.into_iter().find(|package| package["name"] == "saegis");
    let own =
        own.and_then(|package| package["id"].as_str()).context("there is no package saegis")?;
    let (mut used, mut next) = (BTreeSet::from([own]), vec![own]);
    while let Some(id) = next.pop() {
        let Some(node) = nodes.iter().find(|node| node["id"] == id) else { continue };
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            let is_needed = kinds.into_iter().any(|kind| kind["kind"] != "dev");
            if let Some(id) = dependency["pkg"].as_str().filter(|id| is_needed && used.insert(id)) {
                next.push(id);
            }
        }
    }
    Ok(used)
}

fn component(package: &Value) -> Value {
    let text = |name: &str| package[name].as_str().unwrap_or_default();
    let (name, version) = (text("name"), text("version"));
    json!({
        "type": "library",
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{name}@{version}"),
        "licenses": [{ "expression": text("license") }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_tests_are_left_out() {
        let dependency =
            |pkg: &str, kind: Value| json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [{ "name": "saegis", "id": "own" }],
            "resolve": { "nodes": [
                { "id": "own", "deps": [dependency("a", Value::Null), dependency("t", json!("dev"))] },
                { "id": "a", "deps": [dependency("b", json!("build"))] },
                { "id": "b", "deps": [] },
                { "id": "t", "deps": [] },
            ] },
        });
        assert_eq!(used(&metadata).unwrap(), BTreeSet::from(["a", "b", "own"]));
    }
}
