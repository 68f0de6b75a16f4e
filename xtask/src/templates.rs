//! The templates of `saegis module new`. Each is created, built as its README says, and tested, and
//! so are the recipes based on them.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, run},
    project::Project,
    python,
    recipes::RECIPES,
    toolchain::Toolchain,
};

const LANGUAGES: &[&str] = &["rust", "c", "python", "javascript"];
const HOOKS: &[&str] = &[
    "credential-lookup",
    "certificate-mapping",
    "impersonation-check",
    "registration-check",
    "key-registration-check",
];

/// Programs that build the templates, with Debian's packages.
pub const PROGRAMS: &[(&str, &str)] = &[("make", "make"), ("node", "nodejs"), ("npm", "npm")];

/// Creates, builds and tests a module for each hook in each language.
pub fn check(project: &Project) -> Result<()> {
    for (program, package) in PROGRAMS {
        if !process::on_path(program) {
            bail!(
                "the templates of modules are built with {program}; install it (Debian: {package})"
            );
        }
    }
    let toolchain = Toolchain::ready()?;
    let cache = python::cache()?.join("templates");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Only one check at a time installs packages. The lock is released when this process ends.
    let lock = File::create(cache.join("lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.with_context(|| format!("cannot lock {}", cache.display()))?;
    // Each language has its own tools and folders.
    thread::scope(|scope| {
        let (toolchain, cache) = (&toolchain, &cache);
        let of = |language: &&'static str| {
            let language = *language;
            scope.spawn(move || of_language(project, toolchain, cache, language))
        };
        let languages: Vec<_> = LANGUAGES.iter().map(of).collect();
        let results = languages.into_iter().map(|language| match language.join() {
            Ok(result) => result,
            Err(_) => bail!("the check of a language's templates panicked"),
        });
        results.collect()
    })
}

fn of_language(
    project: &Project,
    toolchain: &Toolchain,
    cache: &Path,
    language: &str,
) -> Result<()> {
    for hook in HOOKS {
        println!("A module in {language} with the hook {hook}");
        one(project, toolchain, cache, (language, hook), |_| Ok(()))
            .with_context(|| format!("the template for {hook} in {language} is broken"))?;
    }
    for recipe in RECIPES.iter().filter(|recipe| recipe.language == language) {
        println!("The recipe {:?}", recipe.title);
        let follow = |module: &Path| recipe.follow(&project.root, module);
        one(project, toolchain, cache, (language, recipe.hook), follow)
            .with_context(|| format!("the recipe {:?} is broken", recipe.title))?;
    }
    Ok(())
}

/// Creates a module from its template, changes it, builds it and tests it.
fn one(
    project: &Project,
    toolchain: &Toolchain,
    cache: &Path,
    (language, hook): (&str, &str),
    change: impl Fn(&Path) -> Result<()>,
) -> Result<()> {
    let name = format!("new-{language}-{hook}");
    let folder = project.host_target.join("templates");
    let own = folder.join(&name);
    if own.exists() {
        fs::remove_dir_all(&own).with_context(|| format!("cannot remove {}", own.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let saegis = project.gateway_binary("debug");
    let new = ["module", "new", &name, "--lang", language, "--hook", hook];
    process::output(Command::new(&saegis).args(new).current_dir(&folder))?;
    change(&own)?;

    // The packages of a language are the same for every hook.
    let installed = cache.join(language);
    let mut build = match language {
        "rust" => toolchain.make(project),
        _ => Command::new("make"),
    };
    build.current_dir(&own).arg(format!("SAEGIS={}", saegis.display()));
    match language {
        "c" | "python" => {
            build.arg(format!("VENV={}", installed.display()));
        }
        "javascript" => {
            share_packages(&own, &installed)?;
            // The packages are older than the module's package.json. npm would replace the link.
            build.args(["--old-file", "node_modules"]);
        }
        _ => {}
    }
    process::output(build.args(["test"]))?;
    fs::remove_dir_all(&own).with_context(|| format!("cannot remove {}", own.display()))
}

/// Installs the dependencies of a package in a folder that equal packages share.
fn share_packages(own: &Path, installed: &Path) -> Result<()> {
    let wanted = fs::read_to_string(own.join("package.json"))?;
    let needs = wanted.split("\"devDependencies\"").nth(1).unwrap_or_default();
    let stamp = installed.join("installed.txt");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(needs) {
        fs::create_dir_all(installed)?;
        fs::copy(own.join("package.json"), installed.join("package.json"))?;
        let mut npm = Command::new("npm");
        run(npm.args(["install", "--no-audit", "--no-fund"]).current_dir(installed))?;
        // Written last, so that an interrupted installation is not used.
        fs::write(&stamp, needs)?;
    }
    std::os::unix::fs::symlink(installed.join("node_modules"), own.join("node_modules"))
        .context("cannot link the packages")
}
