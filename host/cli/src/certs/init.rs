//! `saegis certs init`: authorities and certificates for a trial.

use std::path::PathBuf;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use saegis_certificate::{
    Anchor, Flavour, KeyKind, Names, PublicKeyId, Purpose, Trust, TrustBuilder,
};
use saegis_onem2m::id::{AeIdStem, CseId, IdError, check_fqdn};
use saegis_test_ca::{Authority, Example, ExampleNames, Validity};
use serde_json::json;

use super::error::CertsError;
use crate::certs::write::{self, File};

/// Arguments of `saegis certs init`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the files; existing files are not changed
    #[arg(long)]
    folder: PathBuf,
    /// Domain name of the service provider (cse.service-provider of the gateways)
    #[arg(long, default_value = "in.provider.com", value_parser = domain)]
    service_provider: String,
    /// CSE-ID of the IN-CSE
    #[arg(long, default_value = "in-cse")]
    in_cse: CseId,
    /// CSE-ID of the MN-CSE, the registrar of the AE
    #[arg(long, default_value = "mn-cse-123456")]
    mn_cse: CseId,
    /// AE-ID-Stem of the AE
    #[arg(long, default_value = "Clight-AE1", value_parser = AeIdStem::parse)]
    ae: AeIdStem,
    /// M2M-Node-ID of the node, a URI
    #[arg(long, default_value = "urn:gsma:imei:90420156-025763-0")]
    node: String,
    /// Validity of all certificates, in days
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

fn domain(text: &str) -> Result<String, IdError> {
    check_fqdn(text).map(|()| text.into())
}

/// Creates all files.
///
/// # Errors
/// Fails if a file cannot be created or already exists.
pub fn run(args: &Args, as_json: bool) -> Result<(), CertsError> {
    let names = ExampleNames {
        service_provider: args.service_provider.clone(),
        in_cse: args.in_cse.bare().into(),
        mn_cse: args.mn_cse.bare().into(),
        ae: args.ae.to_string(),
        node: args.node.clone(),
        ..ExampleNames::default()
    };
    let unmade = |e: &dyn std::fmt::Display| CertsError::Names(e.to_string());
    let made = Example::valid(&names, Validity::days(args.days)).map_err(|e| unmade(&e))?;
    let ids = proven(args, &made)?;
    let files = files(&names, &made, &ids);
    write::all(&args.folder, &files)?;
    if as_json {
        let files = files.iter().map(|file| {
            let path = args.folder.join(&file.path);
            json!({ "path": path, "what": file.what, "secret": file.secret })
        });
        crate::output::print(&json!({ "files": files.collect::<Vec<_>>() }).to_string());
    } else {
        print_summary(args, &ids, files.len());
    }
    Ok(())
}

/// Credential-IDs of the created credentials.
struct Ids {
    ae: String,
    node: String,
    device: String,
    raw_key: String,
}

/// Verifies the created certificates in the same way as a gateway. A name may be well-formed and
/// still not identify an entity, such as a CSE-ID with a dot.
fn proven(args: &Args, made: &Example) -> Result<Ids, CertsError> {
    let at_mn = trust(args, &args.mn_cse, made)?;
    let id = |trust: &Trust, chain: &[CertificateDer<'_>]| {
        let vouched = trust.verify(chain, Purpose::Client, SystemTime::now());
        let vouched = vouched.map_err(|e| CertsError::Names(e.to_string()))?;
        let id = vouched.identity.credential_id();
        Ok::<_, CertsError>(id.map(|id| id.to_string()).unwrap_or_default())
    };
    id(&at_mn, made.in_cse.chain())?;
    id(&trust(args, &args.in_cse, made)?, made.mn_cse.chain())?;
    let [key, ..] = PublicKeyId::all_of(&made.raw_key.public_der());
    Ok(Ids {
        ae: id(&at_mn, made.ae.chain())?,
        node: id(&at_mn, made.node.chain())?,
        device: id(&at_mn, made.device.chain())?,
        raw_key: format!("30-{key}"),
    })
}

/// Returns the trust settings of the gateway with that CSE-ID.
fn trust(args: &Args, cse: &CseId, made: &Example) -> Result<Trust, CertsError> {
    let service_provider = Some(args.service_provider.clone());
    let mut trust = TrustBuilder::new(Names::of(cse.clone(), service_provider));
    for (_, flavour, authority) in authorities(made) {
        let anchor = Anchor::new(authority.der().clone(), &[flavour], &[KeyKind::P256], &[]);
        trust.add_anchor(anchor.map_err(|e| CertsError::Names(e.to_string()))?);
    }
    Ok(trust.build())
}

/// Returns the authorities with their names and the flavors that they certify. The first is that
/// for CSEs, which everyone trusts. The last is that for servers, which no gateway trusts for its
/// peers.
fn authorities(made: &Example) -> [(&'static str, Flavour, &Authority); 5] {
    [
        ("cse-authority", Flavour::CseId, &made.cse_authority),
        ("ae-authority", Flavour::AeId, &made.ae_authority),
        ("node-authority", Flavour::NodeId, &made.node_authority),
        ("device-authority", Flavour::Device, &made.device_authority),
        ("fqdn-authority", Flavour::Fqdn, &made.fqdn_authority),
    ]
}

fn files(names: &ExampleNames, made: &Example, ids: &Ids) -> Vec<File> {
    let mut all = Vec::new();
    let mut add = |path: String, what: String, text: String, secret: bool| {
        all.push(File { path: path.into(), what, text: text.into(), secret });
    };
    for (name, flavour, authority) in authorities(made) {
        let what = format!("the certificate of the authority for {flavour}");
        add(format!("authority/{name}.pem"), what, authority.pem().into(), false);
        let what = format!("the key of the authority for {flavour}");
        add(format!("authority/{name}.key"), what, authority.key_pem(), true);
    }
    for (path, issued, whose) in [
        ("mn/mn-cse", &made.mn_cse, "the MN-CSE"),
        ("in/in-cse", &made.in_cse, "the IN-CSE"),
        ("devices/ae", &made.ae, "the AE"),
        ("devices/node", &made.node, "the node"),
        ("devices/device", &made.device, "the device"),
        ("maf/maf", &made.maf, "the MAF"),
        ("mef/mef", &made.mef, "the MEF"),
    ] {
        let what = format!("the certificate of {whose}");
        add(format!("{path}.pem"), what, issued.chain_pem().into(), false);
        add(format!("{path}.key"), format!("the key of {whose}"), issued.key_pem(), true);
    }
    let raw = "devices/raw-public-key";
    let what = "a public key without a certificate".into();
    add(format!("{raw}.pem"), what, made.raw_key.public_pem(), false);
    let what = "the private key of the public key without a certificate".into();
    add(format!("{raw}.key"), what, made.raw_key.key_pem(), true);
    // Number of authorities that each trusts, starting with the first.
    for (folder, count) in [("mn", 4), ("in", 2), ("devices", 1)] {
        let trusted: Vec<_> = authorities(made).into_iter().take(count).collect();
        for (name, flavour, authority) in &trusted {
            let what = format!("the certificate of the authority for {flavour}");
            add(format!("{folder}/{name}.pem"), what, authority.pem().into(), false);
        }
        if folder != "devices" {
            let key = (folder == "mn").then_some(ids.raw_key.as_str());
            let what = "the certificates and the trust anchors of the gateway".into();
            add(format!("{folder}/certificates.toml"), what, policy(folder, &trusted, key), false);
        }
    }
    let what = "the configuration of the AE, for `saegis ae`".into();
    add("devices/ae.toml".into(), what, ae(names), false);
    let what = "the entities of the device, the node and the public key".into();
    add("mn/certificate-table.csv".into(), what, table(&names.ae, ids), false);
    all
}

/// Returns the policy file of the gateway with that folder.
fn policy(folder: &str, trusted: &[(&str, Flavour, &Authority)], raw_key: Option<&str>) -> String {
    let mut text = format!(
        "# Certificates of a trial: the certificate of the gateway, and its trust anchors.\n\
         # The files are beside this one, in the policies folder.\n\n\
         [[own]]\ncertificate = \"{folder}-cse.pem\"\nkey = \"{folder}-cse.key\"\n"
    );
    for (name, flavour, _) in trusted {
        text.push_str(&format!(
            "\n[[anchor]]\ncertificate = \"{name}.pem\"\nflavours = [\"{flavour}\"]\n"
        ));
    }
    if let Some(id) = raw_key.and_then(|id| id.strip_prefix("30-")) {
        text.push_str(&format!("\n[[public-key]]\nid = \"{id}\"\n"));
    }
    text
}

/// Returns the configuration for `saegis ae`. The AE can only be one of the MN-CSE.
fn ae(names: &ExampleNames) -> String {
    let (ExampleNames { mn_cse, ae, .. }, domain) = (names, names.mn_cse_domain());
    format!(
        "# The AE of a trial, for `saegis ae --config …/ae.toml register`.\n\n\
         [registrar]\naddress = \"127.0.0.1:8443\"\ncse-id = \"{mn_cse}\"\n\
         # This name must be in the certificate of the registrar.\ndomain-name = \"{domain}\"\n\n\
         [credential]\ncertificate = \"ae.pem\"\nkey = \"ae.key\"\n\
         trust-anchors = [\"cse-authority.pem\"]\n\n\
         [ae]\nae-id = \"{ae}\"\napp-id = \"Nlight\"\nname = \"light1\"\n"
    )
}

/// Returns the policy table for certificates that do not name an entity. A list shows that a node
/// may have several AEs.
fn table(ae: &str, ids: &Ids) -> String {
    let Ids { node, device, raw_key, .. } = ids;
    let other = if ae == "Clight-AE2" { "Clight-AE3" } else { "Clight-AE2" };
    format!(
        "credential_id,ae_id,ae_ids,comment\n\
         {device},{ae},,the device certificate\n\
         {node},,{ae} {other},the Node-ID certificate: a node with two AEs\n\
         {raw_key},{ae},,the raw public key\n"
    )
}

fn print_summary(args: &Args, ids: &Ids, count: usize) {
    let Args { folder, service_provider, mn_cse, in_cse, days, .. } = args;
    let at = |name: &str| folder.join(name).display().to_string();
    let gateway = |cse: &CseId| {
        let cse = cse.bare();
        format!("for the policies folder of the gateway with cse-id = \"{cse}\"")
    };
    let mut lines = vec![format!("created {count} files, valid for {days} days:")];
    let folders = [
        ("mn", gateway(mn_cse)),
        ("in", gateway(in_cse)),
        ("devices", "for devices: the AE's, the node's, the device's, a raw public key".into()),
        ("maf", "for a MAF".into()),
        ("mef", "for a MEF".into()),
        ("authority", "the authorities with their keys; gateways do not need the keys".into()),
    ];
    let width = folders.iter().map(|(name, _)| at(name).len()).max().unwrap_or_default();
    lines.extend(folders.iter().map(|(name, what)| format!("  {:width$}  {what}", at(name))));
    lines.push(format!("next: cp -p {}/* policies/", at("mn")));
    lines.push(format!(
        "The gateway's saegis.toml needs service-provider = \"{service_provider}\". If \
         service-subscription.toml is in its policies folder, a rule there must name the AE's \
         credential: {}",
        ids.ae
    ));
    lines.iter().for_each(|line| crate::output::print(line));
}
