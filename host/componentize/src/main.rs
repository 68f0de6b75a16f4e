//! `saegis-componentize CORE COMPONENT …`: converts each core module to a component, for
//! `cargo xtask modules`.

use std::fs;

use anyhow::{Context, Result, bail};
use saegis_componentize::componentize;

fn main() -> Result<()> {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    let (pairs, rest) = files.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        bail!("needs pairs of files: a core module, and the component to write");
    }
    for [core, component] in pairs {
        let core =
            fs::canonicalize(core).with_context(|| format!("cannot find {}", core.display()))?;
        let bytes = fs::read(&core).with_context(|| format!("cannot read {}", core.display()))?;
        let encoded = componentize(&bytes)
            .with_context(|| format!("{} is not a component", core.display()))?;
        fs::write(component, encoded)
            .with_context(|| format!("cannot write {}", component.display()))?;
    }
    Ok(())
}
