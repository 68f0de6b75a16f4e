//! `saegis ae`: an AE that establishes an association, to try a gateway or for a small device.

mod certificate;
mod config;
mod connect;
mod enrollment;
mod error;
mod maf;
mod request;
mod watch;

use std::path::PathBuf;

use clap::Subcommand;
use saegis_certificate::Flavour;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use saegis_client::{Binding, Session};

use crate::token::read_token;
use config::{AeConfig, Proof};
use connect::establish;
pub use error::AeError;
use error::broken;
use request::{VerbResult, ask, container_address, text};

/// Arguments of `saegis ae`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the AE: registrar, credential and AE-ID
    #[arg(long, global = true, default_value = "ae.toml")]
    config: PathBuf,
    /// The binding of the requests.
    #[arg(long, global = true, value_enum, default_value_t)]
    binding: BindingName,
    /// Role-ID that the requests claim, such as `technician@in.provider.com`. May be repeated.
    #[arg(long = "role", global = true, value_name = "ROLE")]
    roles: Vec<String>,
    /// File with a token that the requests carry. May be repeated. CoAP has no place for one.
    #[arg(long = "token", global = true, value_name = "FILE")]
    tokens: Vec<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

/// The name of a binding.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum BindingName {
    /// HTTP (TS-0009).
    #[default]
    Http,
    /// WebSocket (TS-0020).
    Websocket,
    /// MQTT (TS-0010).
    Mqtt,
    /// CoAP over DTLS (TS-0008).
    Coap,
}

impl BindingName {
    /// Returns the binding of a verb.
    fn of(self, verb: &Verb) -> Binding {
        match (self, verb) {
            (Self::Http, _) => Binding::Http,
            (Self::Websocket, _) => Binding::WebSocket,
            (Self::Mqtt, Verb::Register) => Binding::MqttRegistration,
            (Self::Mqtt, _) => Binding::Mqtt,
            (Self::Coap, _) => Binding::Coap,
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Get a first certificate from the MEF in `[mef]`
    Enroll,
    /// Renew the certificate, if less than a third of its lifetime is left
    Renew {
        /// Renew it in any case
        #[arg(long)]
        force: bool,
    },
    /// Register with the registrar
    Register,
    /// Deregister; this deletes everything that the AE created
    Deregister,
    /// Create a resource below the AE
    Create {
        #[command(subcommand)]
        what: Create,
    },
    /// Let the named originators and roles, and only them, read a container and add values to it
    Allow {
        /// Name of the container
        container: String,
        /// AE-IDs as the CSE of the container sees them, such as `/in-cse/Cphone` for an AE of
        /// another CSE; or Role-IDs
        #[arg(required_unless_present = "readers")]
        originators: Vec<String>,
        /// AE-ID or Role-ID that may only read the container. May be repeated.
        #[arg(long = "reader", value_name = "ORIGINATOR")]
        readers: Vec<String>,
    },
    /// Add a value to a container
    Send {
        /// Name of a container of this AE, or address of another one, such as
        /// `/mn-cse-123456/cse/light1/lamp`
        container: String,
        /// Value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Print the latest value in a container
    Latest {
        /// Name or address of the container, as for `send`
        container: String,
    },
    /// Print a resource: the AE itself, or the one at the address
    Show {
        /// Address at the registrar, such as `-/light1/lamp`, or at a CSE that it can reach, such
        /// as `/mn-cse-123456/cse/light1/lamp`
        #[arg(allow_hyphen_values = true)]
        address: Option<String>,
    },
    /// Print each new value in a container, or each change of a resource, until interrupted. Needs
    /// `--binding websocket`, `mqtt` or `coap`, and an AE that has registered with it.
    Watch {
        /// The container's name; or, of a resource that is not a container of the AE, its address, such
        /// as `/mn-cse-123456/cse/light1/lamp`.
        resource: String,
    },
}

#[derive(Subcommand)]
enum Create {
    /// Create a container
    Container {
        /// Name of the container
        name: String,
    },
}

/// Runs one verb.
///
/// # Errors
/// Fails if there is no association, or if the registrar rejects the request.
pub async fn run(args: Args, as_json: bool) -> Result<(), AeError> {
    let config = AeConfig::load(&args.config)?;
    match &args.verb {
        Verb::Enroll => return enrollment::enroll(&args.config, &config, as_json).await,
        Verb::Renew { force } => {
            return enrollment::renew(&args.config, &config, *force, as_json).await;
        }
        _ if config.mef.is_some() => enrollment::ensure(&args.config, &config).await?,
        _ => {}
    }
    let from = config.ae.ae_id.to_string();
    let binding = args.binding.of(&args.verb);
    if matches!(args.verb, Verb::Watch { .. }) && !binding.is_bidirectional() {
        return Err(AeError::Binding);
    }
    let tokens = args.tokens.iter().map(|file| read_token(file)).collect::<Result<Vec<_>, _>>()?;
    let (mut session, kind, proof) = associate(&config, from, binding).await?;
    session.claim_roles(args.roles);
    session.use_tokens(&tokens);
    if !as_json {
        crate::output::print(&format!(
            "association: {} {} with {} at {}, as {}",
            session.protocol,
            session.suite,
            config.registrar.cse_id,
            config.registrar.address,
            proof,
        ));
    }
    if let Verb::Watch { resource } = &args.verb {
        let watched = watch::watch(&mut session, &config, resource, as_json).await;
        session.close().await;
        return watched;
    }
    let (protocol, suite) = (session.protocol, session.suite.clone());
    let done = carry_out(&mut session, &config, binding, args.verb).await;
    session.close().await;
    let done = done.map_err(|error| error.explained(protocol))?;
    if as_json {
        let association = json!({
            "protocol": protocol,
            "suite": suite,
            "cse_id": config.registrar.cse_id.to_string(),
            kind: proof,
        });
        let out =
            json!({ "association": association, "rsc": done.rsc.code(), "content": done.content });
        crate::output::print(&out.to_string());
    } else {
        crate::output::print(&done.text);
    }
    Ok(())
}

/// Establishes the association of an AE, also by a key of its MAF. Returns it with the kind and the name of
/// the credential.
async fn associate(
    config: &AeConfig,
    from: String,
    binding: Binding,
) -> Result<(Session, &'static str, String), AeError> {
    Ok(match &config.maf {
        None => {
            let (kind, proof) = match &config.credential {
                Proof::Key(credential) => ("kpsa_id", credential.kpsa_id.to_string()),
                Proof::Certificate(files) => {
                    ("certificate", saegis_policy::Shown(&files.certificate).to_string())
                }
            };
            let to = (&config.registrar, Flavour::CseId);
            (establish(to, &config.credential, from, binding).await?, kind, proof)
        }
        Some(maf) => {
            let credential = maf::credential(maf, &config.credential).await?;
            let proof = credential.kpsa_id.to_string();
            let by = saegis_client::Proof::Key(&credential);
            let peer = config.registrar.peer();
            (Session::establish(&peer, by, from, binding).await?, "maf_key", proof)
        }
    })
}

async fn carry_out(
    session: &mut Session,
    config: &AeConfig,
    binding: Binding,
    verb: Verb,
) -> Result<VerbResult, AeError> {
    let own = format!("-/{}", config.ae.resource_name());
    match verb {
        Verb::Register => {
            let body = json!({ ResourceType::Ae.root(): {
                "rn": config.ae.resource_name(),
                "api": config.ae.app_id.as_str(),
                // Over these bindings it receives notifications.
                "rr": binding.is_bidirectional(),
                "srv": ["3", "4"],
            }});
            let done = ask(session, Operation::Create, "-", Some((ResourceType::Ae, body))).await?;
            let registered =
                |c: &Value| format!("registered as {}: {own}", text(c, "m2m:ae", "aei"));
            Ok(done.with_text(registered))
        }
        Verb::Deregister => {
            let done = ask(session, Operation::Delete, &own, None).await?;
            Ok(done.with_text(|_| format!("deregistered: {own}")))
        }
        Verb::Create { what: Create::Container { name } } => {
            let body = json!({ ResourceType::Container.root(): { "rn": name } });
            let content = Some((ResourceType::Container, body));
            let done = ask(session, Operation::Create, &own, content).await?;
            Ok(done.with_text(|_| format!("created: {own}/{name}")))
        }
        Verb::Allow { container, originators, readers } => {
            let to = format!("{own}/{container}");
            let policy = policy(session, &config.ae, &container, (&originators, &readers)).await?;
            let body = json!({ ResourceType::Container.root(): { "acpi": [policy] } });
            let content = Some((ResourceType::Container, body));
            let done = ask(session, Operation::Update, &to, content).await?;
            let mut lines = Vec::new();
            if !originators.is_empty() {
                let whom = originators.join(", ");
                lines.push(format!("may read {to} and put values into it: {whom}"));
            }
            if !readers.is_empty() {
                lines.push(format!("may read {to}: {}", readers.join(", ")));
            }
            Ok(done.with_text(|_| lines.join("\n")))
        }
        Verb::Send { container, value } => {
            let to = container_address(&own, &container);
            let body = json!({ ResourceType::ContentInstance.root(): { "con": value } });
            let content = Some((ResourceType::ContentInstance, body));
            let done = ask(session, Operation::Create, &to, content).await?;
            Ok(done.with_text(|_| format!("sent to {to}: {value}")))
        }
        Verb::Latest { container } => {
            let to = format!("{}/la", container_address(&own, &container));
            let done = ask(session, Operation::Retrieve, &to, None).await?;
            Ok(done.with_text(|c| text(c, "m2m:cin", "con")))
        }
        Verb::Enroll | Verb::Renew { .. } | Verb::Watch { .. } => {
            Err(broken("the verb has no result".into()))
        }
        Verb::Show { address } => {
            let to = address.unwrap_or(own);
            let done = ask(session, Operation::Retrieve, &to, None).await?;
            Ok(done.with_text(|c| serde_json::to_string_pretty(c).unwrap_or_default()))
        }
    }
}

/// Creates or replaces the access control policy `NAME-access` of a container, and returns its
/// resourceID.
async fn policy(
    session: &mut Session,
    ae: &config::Ae,
    container: &str,
    (originators, readers): (&[String], &[String]),
) -> Result<String, AeError> {
    // The AE gets all operations: once a container has a policy, its creator has no implicit
    // privilege. The others get CREATE and RETRIEVE, or RETRIEVE.
    let own = json!({ "acor": [ae.ae_id.as_str()], "acop": 63 });
    let mut rules = vec![own.clone()];
    for (whom, operations) in [(originators, 3), (readers, 2)] {
        if !whom.is_empty() {
            rules.push(json!({ "acor": whom, "acop": operations }));
        }
    }
    let privileges = json!({ "acr": rules });
    let (kind, parent) = (ResourceType::AccessControlPolicy, format!("-/{}", ae.resource_name()));
    let name = format!("{container}-access");
    let body = json!({ kind.root(): { "rn": name, "pv": privileges, "pvs": { "acr": [own] } } });
    let at = format!("{parent}/{name}");
    match ask(session, Operation::Create, &parent, Some((kind, body))).await {
        Err(AeError::Refused { rsc: Rsc::Conflict, .. }) => {
            let body = json!({ kind.root(): { "pv": privileges } });
            ask(session, Operation::Update, &at, Some((kind, body))).await?;
        }
        created => {
            created?;
        }
    }
    let there = ask(session, Operation::Retrieve, &at, None).await?;
    Ok(text(&there.content, kind.root(), "ri"))
}
