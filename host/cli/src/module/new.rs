//! `saegis module new`: creates a folder with a module, its build and tests.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use saegis_policy::{Capability, Hook};
use serde_json::json;

use super::bindings::{self, Bindings, WORLD};
use super::error::ModuleError;

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../templates");
static CONTRACT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

/// Arguments of `saegis module new`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the module and of its folder: lower-case letters, digits and hyphens
    name: String,
    /// Programming language
    #[arg(long)]
    lang: Language,
    /// Hook that the module implements
    #[arg(long, value_parser = hook, value_name = "HOOK", long_help = HOOKS)]
    hook: Hook,
}

const HOOKS: &str = "Hook that the module implements: credential-lookup, impersonation-check, \
                     registration-check, certificate-mapping or key-registration-check";

/// Language with a template.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Language {
    Rust,
    C,
    Python,
    Javascript,
}

impl Language {
    /// Returns the folder of its template.
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Python => "python",
            Self::Javascript => "javascript",
        }
    }

    /// Returns the kind of bindings that its template contains.
    fn bindings(self) -> Option<Bindings> {
        match self {
            Self::Rust => Some(Bindings::Rust),
            Self::C => Some(Bindings::C),
            // Their compilers generate them.
            Self::Python | Self::Javascript => None,
        }
    }

    /// Returns the path of the source file of a module.
    fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::C => "policy.c",
            Self::Python => "src/app.py",
            Self::Javascript => "policy.js",
        }
    }
}

fn hook(text: &str) -> Result<Hook, String> {
    Hook::ALL.into_iter().find(|hook| hook.name() == text).ok_or_else(|| {
        let all = Hook::ALL.map(Hook::name).join(", ");
        format!("there is no such hook; the hooks are: {all}")
    })
}

/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 64;

/// Creates the folder.
///
/// # Errors
/// Fails if the name is invalid, or if the folder already exists or cannot be created.
pub fn run(args: &Args, as_json: bool) -> Result<(), ModuleError> {
    check_name(&args.name).map_err(ModuleError::Name)?;
    let folder = PathBuf::from(&args.name);
    let unusable = |file: &Path, why: String| ModuleError::Unusable { file: file.into(), why };
    let files = files(args).map_err(|why| unusable(&folder, why))?;
    // Only a folder that this command created is written to.
    fs::create_dir(&folder).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            let why =
                "already exists and is not overwritten; choose another name, or move the folder";
            unusable(&folder, why.into())
        }
        _ => unusable(&folder, format!("cannot be created: {e}")),
    })?;
    let write = |files: &BTreeMap<String, Vec<u8>>| -> Result<(), ModuleError> {
        for (path, bytes) in files {
            let path = folder.join(path);
            let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
            let made =
                parent.and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path));
            let written = made.and_then(|mut file| file.write_all(bytes));
            written.map_err(|e| unusable(&path, format!("cannot be written: {e}")))?;
        }
        Ok(())
    };
    write(&files)?;
    if let Some(language) = args.lang.bindings() {
        let generated = bindings::generate(language, &folder.join("wit"));
        write(&generated.map_err(|why| unusable(&folder.join("wit"), why))?)?;
    }
    if as_json {
        let out = json!({ "folder": folder, "module": args.name, "hook": args.hook.name() });
        crate::output::print(&out.to_string());
    } else {
        crate::output::print(&format!("created {}/", args.name));
        for (file, what) in [
            (args.lang.source(), "its responses"),
            ("cases.toml", "its expected responses"),
            (&format!("{}.toml", args.name), "its manifest"),
            ("README.md", "how to build, test and install it"),
        ] {
            crate::output::print(&format!("  {file:<20} {what}"));
        }
        crate::output::print(&format!("next: cd {} && make && make test", args.name));
    }
    Ok(())
}

/// Checks that the name is valid for a file, for a package of each language, and for a module.
fn check_name(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && !name.contains("--")
        && name.len() <= MAX_NAME;
    if good {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a valid module name: it must start with a lower-case letter, contain only lower-case \
         letters, digits and single hyphens, not end with a hyphen, and have at most {MAX_NAME} bytes"
    ))
}

/// Returns the files of the folder except the bindings, by path.
fn files(args: &Args) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let hook = args.hook.name();
    let capabilities = capabilities(args.hook, args.lang);
    let version = version()?;
    let fill = |text: &str| {
        let text = text.replace("{{install}}", template("install.md").unwrap_or_default());
        text.replace("{{name}}", &args.name)
            .replace("{{hook}}", hook)
            .replace("{{version}}", version)
    };
    let mut files = BTreeMap::new();
    let own = TEMPLATES.get_dir(args.lang.folder()).ok_or("there is no template")?;
    for file in all_files(own) {
        let path = file.path().strip_prefix(own.path()).map_err(|e| e.to_string())?;
        let text = file.contents_utf8().ok_or("a template is not UTF-8")?;
        let name = match path.strip_prefix("hooks") {
            Ok(of) if of.file_stem().is_some_and(|stem| stem == hook) => args.lang.source().into(),
            Ok(_) => continue,
            Err(_) => path.display().to_string(),
        };
        files.insert(name, fill(text).into_bytes());
    }
    let cases = template(&format!("cases/{hook}.toml")).ok_or("there are no cases")?;
    files.insert("cases.toml".into(), fill(cases).into_bytes());
    let mut world = format!("package local:{};\n\n", args.name);
    world.push_str(&format!("/// Imports and exports of {}.\nworld {WORLD} {{\n", args.name));
    for capability in &capabilities {
        world.push_str(&format!("    import saegis:policy/{capability}@{version};\n"));
    }
    world.push_str(&format!("    export saegis:policy/{hook}@{version};\n}}\n"));
    files.insert("wit/world.wit".into(), world.into_bytes());
    for file in CONTRACT.files() {
        let name = file.path().display();
        files.insert(format!("wit/deps/saegis-policy/{name}"), file.contents().to_vec());
    }
    // WASI interfaces of the capabilities, for modules that import them.
    for file in CONTRACT.dirs().flat_map(all_files) {
        if file.path().extension().is_some_and(|extension| extension == "wit") {
            files.insert(format!("wit/{}", file.path().display()), file.contents().to_vec());
        }
    }
    let names: Vec<_> = capabilities.iter().map(|c| format!("{:?}", c.name())).collect();
    let manifest = format!(
        "# Modules of a hook are called in ascending order.\norder = 50\n\
         # Capabilities that the module imports; the configuration of the gateway must grant them.\ncapabilities = [{}]\n",
        names.join(", ")
    );
    files.insert(format!("{}.toml", args.name), manifest.into_bytes());
    Ok(files)
}

/// Returns the capabilities that the example of a hook needs. A panic or an exception is logged.
fn capabilities(hook: Hook, lang: Language) -> Vec<Capability> {
    let mut needed = match hook {
        Hook::CredentialLookup | Hook::CertificateMapping => vec![Capability::PolicyTables],
        Hook::ImpersonationCheck | Hook::RegistrationCheck | Hook::KeyRegistrationCheck => vec![],
    };
    if matches!(lang, Language::Rust | Language::Python) {
        needed.push(Capability::Log);
    }
    needed
}

fn template(path: &str) -> Option<&'static str> {
    TEMPLATES.get_file(path)?.contents_utf8()
}

fn all_files<'d>(folder: &'d Dir<'d>) -> Vec<&'d include_dir::File<'d>> {
    let below = folder.dirs().flat_map(all_files);
    folder.files().chain(below).collect()
}

/// Returns the version of the contract.
fn version() -> Result<&'static str, String> {
    let mut texts = CONTRACT.files().filter_map(include_dir::File::contents_utf8);
    let version = texts.find_map(|text| {
        let line = text.lines().find(|line| line.starts_with("package saegis:policy@"))?;
        line.strip_prefix("package saegis:policy@")?.strip_suffix(';')
    });
    version.ok_or_else(|| "the contract has no version".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_and_packages() {
        for good in ["a", "my-lookup", "night-2"] {
            check_name(good).unwrap();
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in ["", "-a", "a-", "a--b", "A", "2a", "a_b", "a/b", "..", "a.b", "ä", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn template_exists_for_hook_in_language() {
        for hook in Hook::ALL {
            for lang in [Language::Rust, Language::C, Language::Python, Language::Javascript] {
                let files = files(&Args { name: "x".into(), lang, hook }).unwrap();
                for file in [lang.source(), "cases.toml", "x.toml", "README.md", "Makefile"] {
                    assert!(files.contains_key(file), "{file} {lang:?} {hook}");
                }
                for (file, bytes) in files {
                    assert!(!String::from_utf8_lossy(&bytes).contains("{{"), "{file}");
                }
            }
        }
    }
}
