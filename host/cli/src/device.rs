//! `saegis device`: adds, lists and removes devices with pre-shared keys. It edits the policy files as
//! a person would, and the running gateway loads them.

mod import;
mod recipe;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use saegis_gateway::config::Config;
use saegis_gateway::devices::{Device, DeviceError, Devices, Ends, FileLimits, LockedDevices, Row};
use serde_json::{Value, json};

use crate::admin;
use crate::output::{BAD_INPUT, print};
use recipe::{Format, Recipe};

/// Arguments of `saegis device`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Add a device: create its AE-ID, KpsaID and key, and permit its registration
    Add {
        /// Name of the device, of letters, digits, `.`, `_` and `-`. Its AE-ID is the name after a C.
        name: String,
        /// App-ID; by default N and the name
        #[arg(long)]
        app_id: Option<String>,
        /// End of the validity of its key, in UTC, such as 20271231T235959
        #[arg(long)]
        expires: Option<String>,
        #[command(flatten)]
        show: Instructions,
    },
    /// List the devices with pre-shared keys, without their keys
    List,
    /// Show a device and, with `--format`, how it uses its key
    Show {
        /// Name, AE-ID or KpsaID of the device
        name: String,
        #[command(flatten)]
        show: Instructions,
    },
    /// Remove the keys of a device, and its rule; its associations end, however many they are
    Revoke {
        /// Name, AE-ID or KpsaID of the device
        name: String,
    },
    /// Give a device a new key; the old one remains valid for some days
    RotateKey {
        /// Name, AE-ID or KpsaID of the device
        name: String,
        /// Days for which the old key remains valid; 0 removes it at once
        #[arg(long, default_value_t = 7)]
        overlap_days: u64,
        #[command(flatten)]
        show: Instructions,
    },
    /// Write all devices with their keys as CSV, for provisioning
    Export {
        /// File to create, readable by its owner only; by default standard output
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Add the devices of a CSV file with the columns name, app_id and expires
    Import {
        /// The file
        file: PathBuf,
        /// File to create with the keys of the new devices, readable by its owner only
        #[arg(long)]
        output: PathBuf,
    },
}

/// The instructions to print.
#[derive(clap::Args)]
struct Instructions {
    /// Form of the instructions for the device
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Address of the gateway for the device: HOST:PORT; by default `listen.address`
    #[arg(long)]
    gateway: Option<String>,
}

/// Returns the exit code: 4 if the gateway rejected the change, 2 for faults of the input.
pub fn exit_code(error: &DeviceError) -> u8 {
    if matches!(error, DeviceError::Refused(_)) { 4 } else { BAD_INPUT }
}

/// Runs a command.
///
/// # Errors
/// Fails if nothing was changed.
pub fn run(args: Args, as_json: bool) -> Result<(), DeviceError> {
    let config = Config::load(&args.config)?;
    match args.command {
        Command::Add { name, app_id, expires, show } => {
            let device = Device { name, app_id, expires: expires.unwrap_or_default() };
            let gateway = gateway_of(&config, show.gateway)?;
            let mut devices = open(&config)?;
            let (row, app_id) = devices.add(&device)?;
            let recipe = recipe(&config, &device.name, Some(app_id), &row, gateway)?;
            let activation = write(&config, devices, Ends::Limited)?;
            report(&format!("added {}", row.ae_id), &recipe, show.format, &activation, as_json);
        }
        Command::RotateKey { name, overlap_days, show } => {
            rotate_key(&config, &name, overlap_days, show, as_json)?;
        }
        Command::Revoke { name } => {
            let mut devices = open(&config)?;
            let removed = devices.revoke(&name)?;
            let activation = write(&config, devices, Ends::Any)?;
            let ids: Vec<_> = removed.into_iter().map(|row| row.kpsa_id).collect();
            if as_json {
                print(&json!({ "revoked": ids, "activation": activation }).to_string());
            } else {
                print(&format!("revoked {}: {activation}", ids.join(", ")));
            }
        }
        Command::List => {
            let devices = open(&config)?;
            list(&devices, as_json);
        }
        Command::Show { name, show } => {
            let gateway = gateway_of(&config, show.gateway)?;
            let mut devices = open(&config)?;
            let row = devices.newest(&name)?;
            let (name, app_id) = (row.name().to_string(), devices.app_id(&row));
            let recipe = recipe(&config, &name, app_id, &row, gateway)?;
            match show.format {
                Some(format) => print(&recipe.text(format)),
                None => show_row(&recipe, &row, as_json),
            }
        }
        Command::Export { output } => {
            let mut devices = open(&config)?;
            let rows: Vec<_> = devices.table.rows().collect();
            let with_app_id = |row: Row| {
                let app_id = devices.app_id(&row).unwrap_or_default();
                (row, app_id)
            };
            let text = import::csv(&rows.into_iter().map(with_app_id).collect::<Vec<_>>());
            match output {
                Some(file) => write_private(&file, &text)?,
                None => print(text.trim_end()),
            }
        }
        Command::Import { file, output } => import_all(&config, &file, &output, as_json)?,
    }
    Ok(())
}

fn rotate_key(
    config: &Config,
    name: &str,
    overlap_days: u64,
    show: Instructions,
    as_json: bool,
) -> Result<(), DeviceError> {
    let gateway = gateway_of(config, show.gateway)?;
    let mut devices = open(config)?;
    let (row, until) = devices.rotate(name, overlap_days)?;
    let (name, app_id) = (row.name().to_string(), devices.app_id(&row));
    let recipe = recipe(config, &name, app_id, &row, gateway)?;
    let activation = write(config, devices, Ends::Any)?;
    let what = match until {
        Some(until) => format!("new key for {}; the old one ends at {until}", row.ae_id),
        None => format!("new key for {}; the old one is removed", row.ae_id),
    };
    report(&what, &recipe, show.format, &activation, as_json);
    Ok(())
}

fn import_all(
    config: &Config,
    file: &Path,
    output: &Path,
    as_json: bool,
) -> Result<(), DeviceError> {
    let wanted = import::read(file)?;
    let mut devices = open(config)?;
    let rows = import::add(&mut devices, file, &wanted)?;
    // Before the keys are valid, so that none is lost.
    write_private(output, &import::csv(&rows))?;
    let activation = match write(config, devices, Ends::Limited) {
        Ok(activation) => activation,
        Err(e) => {
            // The keys in it are not valid.
            let _ = std::fs::remove_file(output);
            return Err(e);
        }
    };
    if as_json {
        print(&json!({ "added": rows.len(), "activation": activation }).to_string());
    } else {
        let (count, keys) = (rows.len(), saegis_policy::Shown(output));
        print(&format!("added {count} devices, with their keys in {keys}: {activation}"));
    }
    Ok(())
}

/// Adds a device, and returns its configuration for `saegis ae`.
///
/// # Errors
/// Fails if nothing was changed.
pub fn add_for_ae(config: &Config, name: &str) -> Result<String, DeviceError> {
    let gateway = gateway_of(config, None)?;
    let mut devices = open(config)?;
    let device = Device { name: name.into(), app_id: None, expires: String::new() };
    let (row, app_id) = devices.add(&device)?;
    let recipe = recipe(config, name, Some(app_id), &row, gateway)?;
    write(config, devices, Ends::Limited)?;
    Ok(recipe.text(Format::Ae) + "\n")
}

fn open(config: &Config) -> Result<LockedDevices<'_>, DeviceError> {
    LockedDevices::open(config, FileLimits::OF_COMMAND)
}

/// Writes the files, and has the running gateway load them. Returns when the change takes effect.
fn write(config: &Config, devices: LockedDevices<'_>, ends: Ends) -> Result<String, DeviceError> {
    devices.write(ends, |ends| admin::reload(config, ends == Ends::Any))
}

/// Returns the address of the gateway for devices.
fn gateway_of(config: &Config, given: Option<String>) -> Result<String, DeviceError> {
    let gateway = given.unwrap_or_else(|| config.listen.address.to_string());
    if gateway.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(DeviceError::Argument(format!("{gateway:?} is not of the form HOST:PORT")));
    }
    Ok(gateway)
}

fn recipe(
    config: &Config,
    name: &str,
    app_id: Option<String>,
    row: &Row,
    gateway: String,
) -> Result<Recipe, DeviceError> {
    let recipe = Recipe {
        gateway,
        cse_id: config.cse.cse_id.bare().into(),
        csebase: config.cse.csebase_name.clone(),
        ae_id: if row.ae_id.is_empty() { "C".into() } else { row.ae_id.clone() },
        app_id: app_id.unwrap_or_else(|| format!("N{name}")),
        name: name.into(),
        kpsa_id: row.kpsa_id.clone(),
        kpsa: row.kpsa.to_string(),
    };
    recipe.checked()
}

/// Prints a new key, and how the device uses it.
fn report(what: &str, recipe: &Recipe, format: Option<Format>, activation: &str, as_json: bool) {
    if as_json {
        return print(&json!({ "device": recipe.json(), "activation": activation }).to_string());
    }
    if let Some(format) = format {
        return print(&recipe.text(format));
    }
    let name = &recipe.name;
    print(&format!("{what}: {activation}\n"));
    print(&format!("# {name}.toml, for saegis ae --config {name}.toml register"));
    print(&recipe.text(Format::Ae));
    print(&format!("\n# Registration with OpenSSL\n{}\n", recipe.text(Format::Openssl)));
    print(&format!(
        "# Programs and a QR code: saegis device show {name} --format \
         c|mbedtls|esp-idf|arduino|python|node|qr"
    ));
}

fn without_key(row: &Row) -> Value {
    json!({
        "name": row.name(),
        "ae_id": row.ae_id,
        "kpsa_id": row.kpsa_id,
        "expires": row.expires,
        "state": row.state(),
        "line": row.line,
    })
}

fn list(devices: &Devices<'_>, as_json: bool) {
    let rows: Vec<_> = devices.table.rows().map(|row| without_key(&row)).collect();
    let rows = Value::from(rows);
    if as_json {
        return print(&json!({ "devices": rows }).to_string());
    }
    let columns = ["name", "ae_id", "kpsa_id", "expires", "state"];
    crate::table::table(Some(&rows), &columns).iter().for_each(|line| print(line));
}

fn show_row(recipe: &Recipe, row: &Row, as_json: bool) {
    let mut shown = without_key(row);
    if let Value::Object(entries) = &mut shown {
        entries.insert("app_id".into(), recipe.app_id.clone().into());
        entries.insert("gateway".into(), recipe.gateway.clone().into());
    }
    if as_json {
        return print(&shown.to_string());
    }
    for (name, value) in shown.as_object().into_iter().flatten() {
        print(&format!("{name:8} {}", crate::table::text(value)));
    }
}

/// Creates a file that only its owner can read.
fn write_private(file: &Path, text: &str) -> Result<(), DeviceError> {
    let mut options = std::fs::OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o600).open(file);
    new.and_then(|mut new| new.write_all(text.as_bytes())).map_err(DeviceError::file(file))
}
