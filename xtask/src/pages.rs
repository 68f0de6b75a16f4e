//! Pages of the book whose commands are run, each page in a folder of its own.
//!
//! A page takes part if it starts with a comment that names its [`Start`]:
//!
//! - `<!-- tested: gateway`: a running gateway, with the repository's configuration and policy. The
//!   lines of the comment are added to the configuration.
//! - `<!-- tested: files`: the same files, without a running gateway.
//! - `<!-- tested: worked`: the files of `examples/worked`.
//!
//! Each line of its code that starts with `$ ` is run by a shell, and the lines below it must be in
//! the output, in that order. `…` stands for any text, and spaces for any number of spaces. A
//! command must succeed, unless a line below it starts with `error: `. Exported variables remain.
//! Services such as `saegis run` run in the background until the end of the page.
//!
//! Other comments are instructions that a reader does not see:
//!
//! - `<!-- run: COMMAND -->` runs a command of one or more lines.
//! - `<!-- write: FILE -->` writes the next code to a file, `<!-- append: FILE -->` adds it there.
//! - `<!-- stop: COMMAND -->` ends the service whose command starts so.

mod page;
mod scene;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use self::page::{Instruction, Start, Step};
use self::scene::Scene;
use crate::project::Project;

/// Runs the commands of all marked pages, or of the one at this path.
pub fn check(project: &Project, only: Option<&Path>) -> Result<()> {
    let mut pages = Vec::new();
    for folder in ["docs/src/how-to", "docs/src/tutorials"] {
        for entry in fs::read_dir(project.root.join(folder)).context(folder)? {
            let path = entry?.path();
            // The folders also have pictures.
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    for path in pages.iter().filter(|path| only.is_none_or(|only| path.ends_with(only))) {
        let text = fs::read_to_string(path)?;
        if let Some((start, added)) = page::start(&text)? {
            println!("{}", path.strip_prefix(&project.root)?.display());
            follow(project, start, added, &text).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn follow(project: &Project, start: Start, added: &str, page: &str) -> Result<()> {
    let mut scene = Scene::new(project, start)?;
    if start == Start::Gateway {
        scene.append("saegis.toml", added)?;
        scene.replace_ports()?;
        scene.start("saegis run", &[])?;
    }
    for Step { number, instruction } in page::steps(page)? {
        let done = match instruction {
            Instruction::Run { command, shown } => run(&mut scene, &command, &shown),
            Instruction::Write { file, text } => scene.write(&file, &text),
            Instruction::Append { file, text } => scene.append(&file, &text),
            Instruction::Stop(command) => scene.stop(&command),
        };
        done.with_context(|| format!("line {number}"))?;
        scene.replace_ports()?;
    }
    Ok(())
}

fn run(scene: &mut Scene, command: &str, shown: &[&str]) -> Result<()> {
    println!("  $ {}", command.replace('\n', "\n    "));
    if scene::is_service(command) {
        return scene.start(command, shown);
    }
    let (success, printed) = scene.run(command)?;
    let may_fail = shown.iter().any(|line| line.starts_with("error: "));
    ensure!(success || may_fail, "the command failed\n{printed}\n{}", scene.logs());
    let shown: Vec<_> = shown.iter().map(|line| scene.with_ports(line)).collect();
    let missing = page::missing(&shown, &printed);
    ensure!(missing.is_none(), "no line {missing:?} in\n{printed}\n{}", scene.logs());
    Ok(())
}
