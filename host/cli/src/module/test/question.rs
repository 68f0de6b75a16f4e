//! Converts the text of a case to a question for the policy runtime.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use saegis_certificate::Flavour;
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::credential::{self, PresharedKey};
use saegis_onem2m::id::{AbsoluteId, AeIdStem, CredentialId, CseId};
use saegis_onem2m::primitive::{self, Content, RequestPrimitive};
use saegis_onem2m::saef;
use saegis_onem2m::target::Target;
use saegis_onem2m::timestamp;
use saegis_policy::{
    CannedResponse, CertificateQuery, Document, Hook, MafKeyState, MafKeys, PskQuery, Rules,
    Subscription, Table, TestContext,
};
use toml::Spanned;

use crate::module::test::cases::{
    Association, Case, Certificate, Entity, Expect, File, Http, Limits, Maf, MafKey, Operation,
    Policy, Request, Saef,
};

/// A case, ready to run.
pub struct Question {
    /// Purpose of the case.
    pub name: String,
    /// Hook to call.
    pub hook: Hook,
    /// Arguments of the call.
    pub ask: Ask,
    /// Policy around the call.
    pub around: TestContext,
    /// MAFs. Each run starts with fresh ones.
    pub mafs: Vec<Maf>,
    /// Expected entity, expiry and key, if a credential should be found.
    pub found: Option<Found>,
    /// Maximum fuel.
    pub fuel: Option<u64>,
}

/// Expected entity, expiry and key.
pub struct Found {
    pub entity: credential::Entity,
    pub credential_id: Option<String>,
    pub key: Option<PresharedKey>,
    /// `None` matches any expiry.
    pub expires: Option<Option<SystemTime>>,
}

/// Question for a module.
pub enum Ask {
    Lookup(PskQuery),
    Certificate(CertificateQuery),
    Request(Box<SecurityAssociation>, Box<RequestPrimitive>),
    Registration(Box<SecurityAssociation>, saegis_policy::Registration),
    KeyRegistration(Box<SecurityAssociation>, saegis_policy::KeyRegistration),
}

/// Default address of a peer, reserved for documentation (RFC 5737).
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Default quota of a store, in bytes.
const QUOTA: u64 = 1 << 20;

/// Converts the cases, and adds all their faults to the document.
pub fn questions(
    file: &File,
    defaults: &saegis_policy::Limits,
    document: &mut Document<'_>,
) -> Vec<Question> {
    let mut reader = Reader { document, tables: BTreeMap::new() };
    file.cases.iter().filter_map(|case| reader.question(file, case, defaults)).collect()
}

/// Returns the limits of a case.
pub fn bounds(of: [Limits; 2], defaults: &saegis_policy::Limits) -> saegis_policy::Limits {
    let [file, case] = of;
    let deadline = case.deadline_milliseconds.or(file.deadline_milliseconds);
    saegis_policy::Limits {
        deadline: deadline.map_or(defaults.deadline, Duration::from_millis),
        memory: case.memory_bytes.or(file.memory_bytes).unwrap_or(defaults.memory),
        ..defaults.clone()
    }
}

/// Converts texts, and collects their faults.
struct Reader<'d, 't> {
    document: &'d mut Document<'t>,
    /// Parsed tables by their position in the file, so that a table of all cases is parsed once.
    tables: BTreeMap<usize, Option<Arc<Table>>>,
}

impl Reader<'_, '_> {
    fn question(
        &mut self,
        file: &File,
        case: &Case,
        defaults: &saegis_policy::Limits,
    ) -> Option<Question> {
        let policy = overlaid(&file.policy, &case.policy);
        let around = self.surroundings(&policy, bounds([file.limits, case.limits], defaults));
        let (hook, ask) = self.ask(file, case)?;
        let found = match case.expect.get_ref() {
            Expect::Found(found) => {
                let entity = self.entity(&found.entity)?;
                let key = found.key.as_ref().map(|key| self.key(key));
                let expires = found.expires.as_ref().map(|at| match at.get_ref().as_str() {
                    "never" => Some(None),
                    _ => self.time(at).map(Some),
                });
                Some(Found {
                    entity,
                    credential_id: found.credential_id.clone(),
                    key: if let Some(key) = key { Some(key?) } else { None },
                    expires: if let Some(expires) = expires { Some(expires?) } else { None },
                })
            }
            _ => None,
        };
        let mafs = policy.mafs.unwrap_or_default();
        for key in mafs.iter().flat_map(|maf| &maf.keys) {
            self.key(&key.key)?;
            self.entity(&key.source)?;
            self.time(&key.expires)?;
        }
        for maf in &mafs {
            for key in &maf.keys {
                self.parsed(&key.id, |id| credential_id_of(maf, id))?;
            }
        }
        Some(Question {
            name: case.name.get_ref().clone(),
            hook,
            ask,
            around: around?,
            mafs,
            found,
            fuel: case.limits.fuel.or(file.limits.fuel),
        })
    }

    fn ask(&mut self, file: &File, case: &Case) -> Option<(Hook, Ask)> {
        if let Some(lookup) = &case.lookup {
            let query = PskQuery {
                psk_identity: lookup.psk_identity.clone(),
                server_name: lookup.server_name.clone(),
                peer: lookup.peer.unwrap_or(PEER),
            };
            return Some((Hook::CredentialLookup, Ask::Lookup(query)));
        }
        if let Some(certificate) = &case.certificate {
            let query = self.certificate(certificate)?;
            return Some((Hook::CertificateMapping, Ask::Certificate(query)));
        }
        let association = self.association(file, case);
        if let Some(request) = &case.request {
            let primitive = self.request(request)?;
            let ask = Ask::Request(Box::new(association?), Box::new(primitive));
            return Some((Hook::ImpersonationCheck, ask));
        }
        if let Some(registration) = &case.registration {
            let registration = saegis_policy::Registration {
                from: registration.from.clone(),
                app_id: registration.app_id.clone(),
                rules: Rules::OfGeneration,
                announced: None,
            };
            let ask = Ask::Registration(Box::new(association?), registration);
            return Some((Hook::RegistrationCheck, ask));
        }
        let registration = case.key_registration.as_ref()?;
        let mut targets = Vec::new();
        for target in &registration.targets {
            targets.push(self.parsed(target, AbsoluteId::parse)?);
        }
        let registration = saegis_policy::KeyRegistration { suid: registration.suid, targets };
        let ask = Ask::KeyRegistration(Box::new(association?), registration);
        Some((Hook::KeyRegistrationCheck, ask))
    }

    fn certificate(&mut self, certificate: &Certificate) -> Option<CertificateQuery> {
        let credential_id = self.parsed(&certificate.credential_id, CredentialId::parse)?;
        let flavour = match credential_id.kind().number() {
            30 => Flavour::RawPublicKey,
            31 => Flavour::Device,
            34 => Flavour::NodeId,
            _ => {
                let what = "does not need a mapping by a module: those that do are 30- \
                            (raw public keys), 31- (devices) and 34- (nodes)";
                self.document.add_fault_of(&certificate.credential_id, what);
                return None;
            }
        };
        Some(CertificateQuery {
            flavour,
            credential_id,
            server_name: certificate.server_name.clone(),
            peer: certificate.peer.unwrap_or(PEER),
            rules: Rules::OfGeneration,
        })
    }

    fn request(&mut self, request: &Request) -> Option<RequestPrimitive> {
        let to = self.parsed(&request.to, Target::from_address)?;
        let content = match &request.content {
            None => None,
            Some(content) => {
                let parse = |text: &str| Content::parse(text.to_string().into());
                Some(self.parsed(content, parse)?)
            }
        };
        let operation = match request.operation {
            Operation::Create => primitive::Operation::Create,
            Operation::Retrieve => primitive::Operation::Retrieve,
            Operation::Update => primitive::Operation::Update,
            Operation::Delete => primitive::Operation::Delete,
            Operation::Notify => primitive::Operation::Notify,
        };
        let mut primitive = RequestPrimitive::own(operation, to, String::new(), "case".into());
        primitive.from.clone_from(&request.from);
        primitive.resource_type = request.resource_type;
        primitive.content = content;
        Some(primitive)
    }

    fn association(&mut self, file: &File, case: &Case) -> Option<SecurityAssociation> {
        let (of_file, of_case) = (&file.association, &case.association);
        fn pick<'a, T>(
            of: [&'a Association; 2],
            field: impl Fn(&'a Association) -> Option<&'a T>,
        ) -> Option<&'a T> {
            of.into_iter().find_map(field)
        }
        let both = [of_case, of_file];
        let Some(entity) = pick(both, |a| a.entity.as_ref()) else {
            self.document.add_fault_of(&case.name, "needs an association.entity, here or above");
            return None;
        };
        let Some(credential_id) = pick(both, |a| a.credential_id.as_ref()) else {
            let what = "needs an association.credential-id, here or above";
            self.document.add_fault_of(&case.name, what);
            return None;
        };
        let credential_id = self.parsed(credential_id, CredentialId::parse)?;
        let entity = self.entity(entity)?;
        let peer = pick(both, |a| a.peer.as_ref()).copied().unwrap_or(PEER);
        let saef = match pick(both, |a| a.saef.as_ref()) {
            Some(Saef::Certificate) => saef::Saef::Certificate,
            Some(Saef::Maf) => saef::Saef::Maf,
            Some(Saef::ProvisionedSymmetricKey) => saef::Saef::ProvisionedSymmetricKey,
            None if credential_id.kind().number() >= 30 => saef::Saef::Certificate,
            None => saef::Saef::ProvisionedSymmetricKey,
        };
        Some(SecurityAssociation::new(
            1,
            Established {
                saef,
                credential_id,
                entity,
                peer: (peer, 0).into(),
                protocol: "TLSv1.2",
                suite: String::new(),
                resumed: false,
                expires: None,
            },
        ))
    }

    fn surroundings(
        &mut self,
        policy: &Policy,
        limits: saegis_policy::Limits,
    ) -> Option<TestContext> {
        let own = match &policy.cse_id {
            Some(id) => self.parsed(id, CseId::parse)?,
            // CSE-ID of the worked example.
            None => CseId::parse("mn-cse-123456").ok()?,
        };
        let mut tables = BTreeMap::new();
        for (name, text) in policy.tables.iter().flatten() {
            tables.insert(name.clone(), self.table(name, text)?);
        }
        let subscription = match &policy.service_subscription {
            None => None,
            Some(text) => {
                let name = Path::new("service-subscription.toml");
                match Subscription::parse(name, text.get_ref(), &own) {
                    Ok(read) => Some(Arc::new(read)),
                    Err(faults) => {
                        self.document.add_faults_within(text, faults);
                        return None;
                    }
                }
            }
        };
        let mut registrars = Vec::new();
        for id in policy.registrars.iter().flatten() {
            registrars.push(self.parsed(id, CseId::parse)?);
        }
        let now = match &policy.now {
            Some(now) => Some(self.time(now)?),
            None => None,
        };
        let http = policy.http.iter().flatten().map(|http| self.canned(http));
        let http = http.collect::<Option<Vec<_>>>()?;
        let files = policy.files.iter().flatten();
        Some(TestContext {
            tables,
            files: files.map(|(name, text)| (name.clone(), text.as_bytes().into())).collect(),
            subscription,
            maf_keys: None,
            cse: own,
            service_provider: policy.service_provider.clone(),
            registrars,
            config: policy.config.clone().unwrap_or_default(),
            http,
            key_value: policy.key_value.clone().unwrap_or_default(),
            quota: policy.quota_bytes.unwrap_or(QUOTA),
            now,
            limits,
        })
    }

    fn canned(&mut self, http: &Http) -> Option<CannedResponse> {
        let Ok(status) = StatusCode::from_u16(*http.status.get_ref()) else {
            self.document.add_fault_in(&http.status, "is not an HTTP status");
            return None;
        };
        Some(CannedResponse { url: http.url.clone(), status, body: http.body.clone() })
    }

    fn table(&mut self, name: &str, text: &Spanned<String>) -> Option<Arc<Table>> {
        if let Some(read) = self.tables.get(&text.span().start) {
            return read.clone();
        }
        let file = format!("{name}.csv");
        let read = Table::parse(Path::new(&file), text.get_ref().as_bytes());
        let read = match read {
            Ok(read) => Some(Arc::new(read)),
            Err(faults) => {
                self.document.add_faults_within(text, faults);
                None
            }
        };
        self.tables.insert(text.span().start, read.clone());
        read
    }

    fn parsed<T, E: std::fmt::Display>(
        &mut self,
        text: &Spanned<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text.get_ref()) {
            Ok(read) => Some(read),
            Err(e) => {
                self.document.add_fault_in(text, &format!("{:?}: {e}", text.get_ref()));
                None
            }
        }
    }

    fn entity(&mut self, entity: &Spanned<Entity>) -> Option<credential::Entity> {
        match read_entity(entity.get_ref()) {
            Ok(entity) => Some(entity),
            Err(what) => {
                self.document.add_fault_in(entity, &what);
                None
            }
        }
    }

    fn key(&mut self, key: &Spanned<String>) -> Option<PresharedKey> {
        match read_key(key.get_ref()) {
            Ok(key) => Some(key),
            // The text may be a key with a typing error, so it is not printed.
            Err(what) => {
                self.document.add_fault_in(key, &what);
                None
            }
        }
    }

    fn time(&mut self, at: &Spanned<String>) -> Option<SystemTime> {
        self.parsed(at, timestamp::parse)
    }
}

/// Merges the policy of a case with the policy of all cases.
fn overlaid(all: &Policy, own: &Policy) -> Policy {
    let (all, own) = (all.clone(), own.clone());
    Policy {
        cse_id: own.cse_id.or(all.cse_id),
        service_provider: own.service_provider.or(all.service_provider),
        registrars: own.registrars.or(all.registrars),
        tables: own.tables.or(all.tables),
        files: own.files.or(all.files),
        service_subscription: own.service_subscription.or(all.service_subscription),
        mafs: own.mafs.or(all.mafs),
        config: own.config.or(all.config),
        key_value: own.key_value.or(all.key_value),
        quota_bytes: own.quota_bytes.or(all.quota_bytes),
        http: own.http.or(all.http),
        now: own.now.or(all.now),
    }
}

fn read_entity(entity: &Entity) -> Result<credential::Entity, String> {
    let stem = |text: &String| AeIdStem::parse(text).map_err(|e| format!("{text:?}: {e}"));
    Ok(match entity {
        Entity::NotYetKnown => credential::Entity::NotYetKnown,
        Entity::Ae(one) => credential::Entity::Ae(stem(one)?),
        Entity::Aes(all) => {
            credential::Entity::Aes(all.iter().map(stem).collect::<Result<_, _>>()?)
        }
        Entity::Cse(id) => {
            credential::Entity::Cse(CseId::parse(id).map_err(|e| format!("{id:?}: {e}"))?)
        }
        Entity::MafClient(id) => {
            let id = AbsoluteId::parse(id).map_err(|e| format!("{id:?}: {e}"))?;
            credential::Entity::MafClient(id)
        }
    })
}

fn read_key(digits: &str) -> Result<PresharedKey, String> {
    let bytes = hex::decode(digits).map_err(|_| "the key is not in hexadecimal digits")?;
    PresharedKey::new(&zeroize::Zeroizing::new(bytes)).map_err(|e| e.to_string())
}

fn credential_id_of(
    maf: &Maf,
    relative_key_id: &str,
) -> Result<CredentialId, saegis_onem2m::id::IdError> {
    CredentialId::parse(&format!("12-{relative_key_id}@{}", maf.fqdn))
}

/// MAFs that provide the keys of a case once they were requested.
pub struct Mafs {
    mafs: Vec<Maf>,
    asked: Mutex<HashSet<(String, String)>>,
}

impl Mafs {
    /// Creates MAFs that have not received a request.
    pub fn new(mafs: Vec<Maf>) -> Self {
        Self { mafs, asked: Mutex::default() }
    }
}

impl MafKeys for Mafs {
    fn state(&self, maf: &str, relative_key_id: &str) -> MafKeyState {
        let Some(maf) = self.mafs.iter().find(|m| m.fqdn.eq_ignore_ascii_case(maf)) else {
            return MafKeyState::NoMaf;
        };
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.contains(&(maf.fqdn.clone(), relative_key_id.into())) {
            return MafKeyState::NotFetched;
        }
        if !maf.reachable {
            return MafKeyState::Unreachable;
        }
        let key = maf.keys.iter().find(|key| key.id.get_ref() == relative_key_id);
        key.and_then(|key| maf_key(maf, key)).map_or(MafKeyState::Refused, MafKeyState::Key)
    }

    fn fetch(
        self: Arc<Self>,
        maf: String,
        relative_key_id: String,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let known = self.mafs.iter().find(|m| m.fqdn.eq_ignore_ascii_case(&maf));
            let maf = known.map_or(maf, |known| known.fqdn.clone());
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert((maf, relative_key_id));
        })
    }
}

/// Converts a key of a case. Its syntax was checked with the case.
fn maf_key(maf: &Maf, key: &MafKey) -> Option<saegis_policy::MafKey> {
    Some(saegis_policy::MafKey {
        source: read_entity(key.source.get_ref()).ok()?,
        credential_id: credential_id_of(maf, key.id.get_ref()).ok()?,
        suid: key.suid,
        expires: timestamp::parse(key.expires.get_ref()).ok()?,
        key: read_key(key.key.get_ref()).ok()?,
    })
}
