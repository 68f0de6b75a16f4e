//! `saegis module bindings`: generates the bindings of a module in C or Rust from its WIT.
//!
//! A module in Rust could generate them with a macro while it is compiled. Then each new module would
//! compile the generator first, for minutes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::ModuleError;

/// Name of the world in the WIT of a module.
pub const WORLD: &str = "module";

/// Arguments of `saegis module bindings`.
#[derive(clap::Args)]
pub struct Args {
    /// Language of the bindings
    #[arg(long)]
    lang: Bindings,
    /// Folder of the module, with the folder `wit`
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Language of bindings that this program generates.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Bindings {
    /// `src/bindings.rs`
    Rust,
    /// The folder `bindings`
    C,
}

/// Generates the bindings, and replaces older ones.
///
/// # Errors
/// Fails if the WIT is invalid or a file cannot be written.
pub fn run(args: &Args) -> Result<(), ModuleError> {
    let unusable = |file: &Path, why: String| ModuleError::Unusable { file: file.into(), why };
    let wit = args.folder.join("wit");
    let files = generate(args.lang, &wit).map_err(|why| unusable(&wit, why))?;
    for (name, bytes) in files {
        let path = args.folder.join(name);
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        parent
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|e| unusable(&path, format!("cannot be written: {e}")))?;
    }
    Ok(())
}

/// Returns the bindings for a folder of WIT: files, by their paths in the folder of the module.
///
/// # Errors
/// Fails if the WIT is invalid.
#[cfg(feature = "module-tools")]
pub fn generate(language: Bindings, wit: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    use wit_bindgen_core::Files;
    use wit_bindgen_core::wit_parser::Resolve;

    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).map_err(|e| format!("{e:#}"))?;
    let world = WORLD;
    let world = resolve.select_world(&[package], Some(world)).map_err(|e| format!("{e:#}"))?;
    let mut made = Files::default();
    let (mut generator, folder) = match language {
        Bindings::C => (wit_bindgen_c::Opts::default().build(), "bindings"),
        Bindings::Rust => {
            let options = wit_bindgen_rust::Opts {
                format: true,
                generate_all: true,
                default_bindings_module: Some("bindings".into()),
                ..wit_bindgen_rust::Opts::default()
            };
            (Box::new(options.build()) as _, "src")
        }
    };
    generator.generate(&mut resolve, world, &mut made).map_err(|e| format!("{e:#}"))?;
    let name = |name: &str| match language {
        Bindings::C => format!("{folder}/{name}"),
        // It has the name of the world.
        Bindings::Rust => format!("{folder}/bindings.rs"),
    };
    Ok(made.iter().map(|(file, bytes)| (name(file), bytes.to_vec())).collect())
}

/// Fails, because this build has no generators.
#[cfg(not(feature = "module-tools"))]
pub fn generate(_: Bindings, _: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    Err(super::error::WITHOUT_TOOLS.into())
}
