//! `saegis init`: writes the configuration, policy files and modules of a gateway that starts at once.

mod modules;

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use saegis_gateway::config::{Config, ListenAddress};
use saegis_gateway::devices::DeviceError;
use saegis_onem2m::id::{CseId, check_fqdn};
use saegis_policy::Faults;
use serde_json::json;

use crate::device;
use crate::output::print;
use modules::{NoModules, SHIPPED};

/// Arguments of `saegis init`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the files; it is created, and existing files are not changed
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// CSE-ID of the gateway, such as mn-cse-1
    #[arg(long)]
    cse_id: Option<String>,
    /// Domain name of the service provider, such as in.provider.com
    #[arg(long)]
    service_provider: Option<String>,
    /// HTTP binding of the CSE behind the gateway, such as http://127.0.0.1:8080; by default the
    /// embedded CSE
    #[arg(long)]
    upstream: Option<String>,
    /// Address and port of the TLS listener
    #[arg(long)]
    listen: Option<String>,
    /// Folder of all files that the gateway writes
    #[arg(long)]
    state_folder: Option<PathBuf>,
    /// Folder with the policy modules of Saegis; by default it is searched
    #[arg(long)]
    modules: Option<PathBuf>,
    /// Answer all questions with examples, and add a device
    #[arg(long)]
    demo: bool,
}

/// Error of `saegis init`.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// An answer is not usable.
    #[error("{0}")]
    Answer(String),
    /// The modules were not found.
    #[error("{0}")]
    NoModules(#[from] NoModules),
    /// A file cannot be written.
    #[error("{}: {error}", saegis_policy::Shown(file))]
    File {
        /// The file.
        file: PathBuf,
        /// Cause.
        error: io::Error,
    },
    /// The written files are invalid.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// The device of the demonstration could not be added.
    #[error("{0}")]
    Device(#[from] DeviceError),
}

/// Answers to the questions.
struct Answers {
    cse_id: CseId,
    service_provider: String,
    upstream: Option<String>,
    listen: String,
    state_folder: Option<PathBuf>,
    /// Whether the web page is on.
    web: bool,
}

/// Values of the demonstration.
const DEMO_CSE: &str = "mn-cse-1";
const DEMO_PROVIDER: &str = "demo.example";
const DEMO_DEVICE: &str = "light1";
const LISTEN: &str = "127.0.0.1:8443";
const WEB_LISTEN: &str = "127.0.0.1:9465";

/// Writes all files.
///
/// # Errors
/// Fails if an answer is not usable, or a file exists or cannot be written.
pub async fn run(args: Args, as_json: bool) -> Result<u8, InitError> {
    let source = modules::find(args.modules.as_deref())?;
    let folder = args.folder.clone();
    let demo = args.demo;
    let answers = answers(args)?;
    let files = files(&answers);
    let config_file = folder.join("saegis.toml");
    // Before anything is written.
    for (name, _) in &files {
        if folder.join(name).exists() {
            let what = format!("{} exists; init does not change it", folder.join(name).display());
            return Err(InitError::Answer(what));
        }
    }
    let modules_folder = folder.join("policies/modules");
    fs::create_dir_all(&modules_folder).map_err(of_file(&modules_folder))?;
    for name in SHIPPED {
        // The manifest first, as for an active gateway.
        for extension in ["toml", "wasm"] {
            let file = format!("{name}.{extension}");
            let (from, to) = (source.join(&file), modules_folder.join(&file));
            let content = fs::read(&from).map_err(of_file(&from))?;
            write_new(&to, &content)?;
        }
    }
    for (name, content) in files {
        write_new(&folder.join(name), content.as_bytes())?;
    }
    let device = if demo { Some(add_device(&config_file, &folder)?) } else { None };
    // This also compiles the modules, so that the first start is fast.
    crate::check::load_for_check(&config_file).await?;
    let shown = saegis_policy::Shown(&config_file);
    if as_json {
        let device = device.as_ref().map(|file| file.to_string_lossy());
        let written = json!({ "config": config_file.to_string_lossy(), "device": device });
        print(&written.to_string());
        return Ok(0);
    }
    print(&format!("{shown} is ready. Next:\n"));
    print(&format!("  saegis run --config {shown}"));
    match &device {
        Some(device) => {
            print(&format!("  saegis ae --config {} register", saegis_policy::Shown(device)));
        }
        None => print(&format!("  saegis device add light1 --config {shown}")),
    }
    Ok(0)
}

/// Adds a device, and writes its configuration for `saegis ae`.
fn add_device(config: &Path, folder: &Path) -> Result<PathBuf, InitError> {
    let config = Config::load(config)?;
    let text = device::add_for_ae(&config, DEMO_DEVICE)?;
    let file = folder.join(format!("{DEMO_DEVICE}.toml"));
    write_new(&file, text.as_bytes())?;
    Ok(file)
}

/// Takes the answers from the arguments, and asks for missing ones on a terminal.
fn answers(args: Args) -> Result<Answers, InitError> {
    let ask = io::stdin().is_terminal() && io::stderr().is_terminal() && !args.demo;
    let wrong = |what: String| InitError::Answer(what);
    let answer = |given: Option<String>, option: &str, question: &str, default: Option<&str>| match (
        given, default,
    ) {
        (Some(given), _) => Ok(given),
        (None, default) if ask => prompt(question, default),
        (None, Some(default)) => Ok(default.to_string()),
        (None, None) => Err(wrong(format!("{option} is missing: {question}"))),
    };
    let demo = |value| args.demo.then_some(value);
    let cse_id = answer(
        args.cse_id,
        "--cse-id",
        "CSE-ID of this gateway, such as mn-cse-1",
        demo(DEMO_CSE),
    )?;
    let cse_id =
        CseId::parse(&cse_id).map_err(|e| wrong(format!("{cse_id:?} is not a CSE-ID: {e}")))?;
    let question = "domain name of the service provider, such as in.provider.com";
    let service_provider =
        answer(args.service_provider, "--service-provider", question, demo(DEMO_PROVIDER))?;
    check_fqdn(&service_provider).map_err(|e| wrong(format!("{service_provider:?} {e}")))?;
    let question = "address of the CSE behind the gateway, such as http://127.0.0.1:8080; \
                    empty for the embedded CSE";
    let upstream = answer(args.upstream, "--upstream", question, Some(""))?;
    let listen =
        answer(args.listen, "--listen", "address and port of the TLS listener", Some(LISTEN))?;
    listen
        .parse::<ListenAddress>()
        .map_err(|e| wrong(format!("{listen:?} is not an address with a port: {e}")))?;
    // They stand between quotes in the configuration.
    let folder = args.state_folder.as_ref().map(|folder| folder.to_string_lossy());
    for text in [Some(upstream.as_str().into()), folder].into_iter().flatten() {
        if text.contains(|c: char| c == '"' || c == '\\' || c.is_control()) {
            return Err(wrong(format!("{text:?} has a character that cannot be written")));
        }
    }
    let upstream = Some(upstream).filter(|url| !url.is_empty());
    let (state_folder, web) = (args.state_folder, args.demo);
    Ok(Answers { cse_id, service_provider, upstream, listen, state_folder, web })
}

fn prompt(question: &str, default: Option<&str>) -> Result<String, InitError> {
    let default_text = default.map(|text| format!(" [{text}]")).unwrap_or_default();
    let _ = write!(io::stderr(), "{question}{default_text}: ");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(of_file(Path::new("standard input")))?;
    match (line.trim(), default) {
        ("", Some(default)) => Ok(default.into()),
        (answer, _) => Ok(answer.into()),
    }
}

/// Returns the files, by their paths in the folder.
fn files(answers: &Answers) -> [(&'static str, String); 3] {
    let cse_id = answers.cse_id.bare();
    let rules = include_str!("init/service-subscription.toml").replace("CSE-ID", cse_id);
    [
        ("saegis.toml", configuration(answers)),
        ("policies/psk-lookup-table.csv", include_str!("init/psk-lookup-table.csv").into()),
        ("policies/service-subscription.toml", rules),
    ]
}

fn configuration(answers: &Answers) -> String {
    let Answers { cse_id, service_provider, upstream, listen, state_folder, web } = answers;
    let off = if *web { "" } else { "# " };
    let web = format!(
        "# Web page for this machine only. `saegis admin link` prints a link that opens it.\n\
         {off}[admin.web]\n{off}listen = \"{WEB_LISTEN}\""
    );
    let state = match state_folder {
        Some(folder) => format!("state-folder = \"{}\"", folder.to_string_lossy()),
        None => "# state-folder = \"/var/lib/saegis\"".into(),
    };
    let upstream = match upstream {
        Some(url) => format!("[upstream]\nurl = \"{url}\""),
        None => "# [upstream]\n# url = \"http://127.0.0.1:8080\"".into(),
    };
    include_str!("init/saegis.toml")
        .replace("{cse-id}", cse_id.bare())
        .replace("{service-provider}", service_provider)
        .replace("{listen}", listen)
        .replace("{state}", &state)
        .replace("{upstream}", &upstream)
        .replace("{web}", &web)
}

fn of_file(file: &Path) -> impl FnOnce(io::Error) -> InitError + use<'_> {
    move |error| InitError::File { file: file.into(), error }
}

/// Creates a file that only its owner can read.
fn write_new(file: &Path, content: &[u8]) -> Result<(), InitError> {
    let mut options = OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o600).open(file);
    new.and_then(|mut new| new.write_all(content)).map_err(of_file(file))
}
