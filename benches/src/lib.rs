//! Shared code of the benchmarks: temporary policies with the shipped modules.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use saegis_policy::{Changes, Faults, Policy, Settings};

/// Returns the text of a psk-lookup-table with this many rows and keys of 16 bytes.
#[must_use]
pub fn table(rows: usize) -> String {
    let mut text = String::from("ae_id,kpsa,kpsa_id\n");
    for n in 0..rows {
        let (stem, id) = (stem(n), kpsa_id(n));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{stem},{:032x},{id}", key(n));
    }
    text
}

/// Returns the AE-ID-Stem of a row.
#[must_use]
pub fn stem(n: usize) -> String {
    format!("Clight-{n:07}")
}

/// Returns the KpsaID of a row.
#[must_use]
pub fn kpsa_id(n: usize) -> String {
    format!("AE{n:012}-Light@in.provider.com")
}

/// Returns the key of a row.
#[must_use]
pub fn key(n: usize) -> u128 {
    0x1a2b_3c4d_5e6f_7a8b_0000_0000_0000_0000 + n as u128
}

/// Returns the text of a service subscription with this many rules, each for another credential.
fn rules(rules: usize) -> String {
    let mut text = String::from("[[node]]\ncse-id = \"mn-cse\"\nrule-links = [");
    (0..rules).for_each(|n| text.push_str(&format!("\"r{n}\",")));
    text.push_str("]\n");
    for n in 0..rules {
        text.push_str(&format!(
            "[[rule]]\nname = \"r{n}\"\napplicable-cred-ids = [\"12-{}\", \"31-{n}-*\"]\n\
             allowed-app-ids = [\"N*\"]\nallowed-aes = [\"C*\"]\n",
            kpsa_id(n)
        ));
    }
    text
}

/// Returns a policy of the shipped modules, with a table and a service subscription of this many
/// rows. The folder exists as long as the guard.
///
/// # Errors
/// Fails if the modules have not been built, or if the folder cannot be created.
pub async fn policy(rows: usize) -> Result<(Policy, tempfile::TempDir), Faults> {
    policy_with(rows, &[]).await
}

/// Returns the same policy with further policy files, by name.
///
/// # Errors
/// Returns the errors of [`policy`], and the faults of the files.
pub async fn policy_with(
    rows: usize,
    files: &[(&str, String)],
) -> Result<(Policy, tempfile::TempDir), Faults> {
    let folder = tempfile::tempdir().map_err(|e| fault(&e))?;
    let modules = folder.path().join("modules");
    std::fs::create_dir(&modules).map_err(|e| fault(&e))?;
    for name in ["psk-table", "originator-check", "app-rules"] {
        for file in [format!("{name}.wasm"), format!("{name}.toml")] {
            std::fs::copy(shipped().join(&file), modules.join(&file)).map_err(|e| fault(&e))?;
        }
    }
    for (file, text) in
        [("psk-lookup-table.csv", table(rows)), ("service-subscription.toml", rules(rows))]
    {
        let file = folder.path().join(file);
        std::fs::write(&file, text).map_err(|e| fault(&e))?;
        // The table contains keys.
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, owner).map_err(|e| fault(&e))?;
    }
    for (file, text) in files {
        std::fs::write(folder.path().join(file), text).map_err(|e| fault(&e))?;
    }
    let settings = Settings {
        policies: folder.path().into(),
        modules,
        code_cache: None,
        required: Vec::new(),
        required_files: Vec::new(),
        signatures: None,
        artifacts: None,
        cse: saegis_onem2m::id::CseId::parse("mn-cse").map_err(|e| fault(&e))?,
        registrars: Vec::new(),
        in_cse: None,
        known_cses: Vec::new(),
        maf_keys: None,
        recorder: None,
        changes: Changes::default(),
        allow_readable_tables: false,
        configuration: None,
        is_maf: false,
        distributes_keys: false,
        subscription_file: true,
        service_provider: Some("in.provider.com".into()),
        limits: saegis_policy::Limits::default(),
        grants: saegis_policy::Grants::default(),
        stores: std::sync::Arc::new(saegis_policy::Stores::in_memory()),
        observer: None,
    };
    Ok((Policy::open(settings).await?, folder))
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/modules")
}

fn fault(error: &dyn std::fmt::Display) -> Faults {
    let what = format!("{error}; `cargo xtask modules` builds the modules");
    Faults(vec![saegis_policy::Fault::of(&shipped(), what)])
}
