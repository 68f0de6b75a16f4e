//! Recipes of `docs/src/how-to/module-recipes.md`, which are built and tested as written.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// A recipe: a template and changes to it.
pub struct Recipe {
    /// Heading of the recipe.
    pub title: &'static str,
    pub language: &'static str,
    pub hook: &'static str,
    /// Applies the recipe to a module's folder, with the code blocks of the recipe.
    change: fn(&Path, &[String]) -> Result<()>,
}

pub const RECIPES: &[Recipe] = &[
    Recipe {
        title: "A rule of the time of day",
        language: "rust",
        hook: "impersonation-check",
        change: time_of_day,
    },
    Recipe {
        title: "An allow-list of networks",
        language: "python",
        hook: "credential-lookup",
        change: allow_list,
    },
];

impl Recipe {
    /// Applies the recipe to a module that was created from its template.
    pub fn follow(&self, root: &Path, module: &Path) -> Result<()> {
        let page = root.join("docs/src/how-to/module-recipes.md");
        let text = fs::read_to_string(&page)?;
        let blocks = blocks(&text, self.title);
        (self.change)(module, &blocks)
            .with_context(|| format!("{}: {:?} is not as it was", page.display(), self.title))
    }
}

/// Returns the code blocks of a section.
fn blocks(page: &str, title: &str) -> Vec<String> {
    let heading = format!("## {title}");
    let section = page.lines().skip_while(|line| *line != heading).skip(1);
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in section.take_while(|line| !line.starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(code) => block += &format!("{code}\n"),
            None if line.is_empty() && !block.is_empty() => block.push('\n'),
            None if !block.is_empty() => blocks.push(std::mem::take(&mut block)),
            None => {}
        }
    }
    blocks.push(block);
    blocks.retain(|block| !block.is_empty());
    blocks
}

fn time_of_day(module: &Path, blocks: &[String]) -> Result<()> {
    let [import, code, cases] = blocks else { return count(blocks, 3) };
    change(module, "wit/world.wit", |world| {
        Some(world.replace("    export", &format!("    {import}    export")))
    })?;
    // Written at the same tick of the file system's clock as the world, they are not older for make.
    fs::remove_file(module.join("src/bindings.rs")).context("cannot remove the bindings")?;
    manifest(module, "capabilities = [\"clock\", \"log\"]\n")?;
    change(module, "src/lib.rs", |text| {
        Some(format!("{}{code}", text.split_once("use bindings::saegis")?.0))
    })?;
    change(module, "cases.toml", |text| Some(format!("{}{cases}", text.split_once("[[case]]")?.0)))
}

fn allow_list(module: &Path, blocks: &[String]) -> Result<()> {
    let [code, cases] = blocks else { return count(blocks, 2) };
    change(module, "wit/world.wit", |world| {
        let remaining = world.lines().filter(|line| !line.starts_with("    import"));
        Some(remaining.map(|line| format!("{line}\n")).collect())
    })?;
    manifest(module, "order = 10\ncapabilities = []\n")?;
    change(module, "src/app.py", |_| Some(code.clone()))?;
    change(module, "cases.toml", |_| Some(cases.clone()))
}

fn count(blocks: &[String], wanted: usize) -> Result<()> {
    ensure!(blocks.len() == wanted, "it has {} code blocks instead of {wanted}", blocks.len());
    Ok(())
}

fn manifest(module: &Path, text: &str) -> Result<()> {
    let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
    change(module, &format!("{name}.toml"), |_| Some(text.into()))
}

fn change(module: &Path, file: &str, how: impl Fn(&str) -> Option<String>) -> Result<()> {
    let path = module.join(file);
    let before = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
    let after = how(&before).filter(|after| *after != before);
    fs::write(&path, after.with_context(|| format!("{file} does not change"))?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_taken_from_its_section_alone() {
        let page = "## A\n\ntext\n\n    one\n\n      two\n\ntext\n\n    three\n## B\n\n    four\n";
        assert_eq!(blocks(page, "A"), ["one\n\n  two\n\n", "three\n"]);
        assert_eq!(blocks(page, "B"), ["four\n"]);
        assert!(blocks(page, "C").is_empty());
    }
}
