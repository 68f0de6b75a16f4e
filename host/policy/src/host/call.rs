//! The host's side of the capabilities: what a module's imports do.
//!
//! A [`Call`] is the state of one call. Handles are numbers of entries in it, so they end with the
//! call, and another call's handles mean nothing here.

mod wasi_state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::association::Saef;
use saegis_onem2m::credential::{Entity, KeyStrength, PresharedKey};
use wasmtime::component::{HasSelf, Resource};
use wasmtime::{ResourceLimiter, Result, bail, format_err};

use crate::data::decision::ModuleFault;
use crate::data::service_subscription::{NoNode, Rule, Subscription};
use crate::data::table::{Row, Table};
use crate::host::bindings::saegis::policy::{
    clock, log, maf_keys, policy_files, policy_tables, read_stored_keys, service_subscription,
    supply_key_bytes, types,
};
use crate::host::bindings::wasi;
use crate::host::capabilities::Io;
use crate::host::log_rate_limit::LogBudget;
use crate::host::maf_keys::{Known, MafKeys};
use crate::sandbox::cpu_time::Computing;

pub(crate) use wasi_state::Wasi;

/// The tables of a generation, by name.
pub(crate) type Tables = BTreeMap<String, Arc<Table>>;
/// The files that a module may read, by name.
pub(crate) type Files = BTreeMap<String, Arc<[u8]>>;

/// Most handles of a kind that one call may make.
const MAX_HANDLES: usize = 64;

/// What stands behind a `key` of the contract.
pub struct KeyHandle;
/// What stands behind a `row` of the contract.
pub struct RowHandle;

/// Where the bytes of a key are.
pub(crate) enum KeySource {
    Stored { table: Arc<Table>, row: Row, column: usize },
    Supplied(PresharedKey),
    Maf(PresharedKey),
}

impl KeySource {
    /// The framework that a key of it belongs to.
    pub fn saef(&self) -> Saef {
        match self {
            Self::Stored { .. } | Self::Supplied(_) => Saef::ProvisionedSymmetricKey,
            Self::Maf(_) => Saef::Maf,
        }
    }

    /// The key.
    pub fn into_key(self) -> Option<PresharedKey> {
        match self {
            Self::Stored { table, row, column } => table.key(row, column),
            Self::Supplied(key) | Self::Maf(key) => Some(key),
        }
    }
}

/// The state of one call.
pub(crate) struct Call {
    tables: Arc<Tables>,
    files: Arc<Files>,
    subscription: Option<Arc<Subscription>>,
    log: Arc<LogBudget>,
    rows: Vec<(Arc<Table>, Row)>,
    keys: Vec<Option<KeySource>>,
    /// The numbers of the first row and the first key of this call: what a kept instance has of calls
    /// before means nothing.
    first_row: usize,
    first_key: usize,
    memory_left: usize,
    maf_keys: Option<Arc<dyn MafKeys>>,
    io: Arc<Io>,
    /// Handles of the module's store that it has.
    pub buckets: usize,
    /// Counts its computing, where the call also waits.
    pub computing: Option<Arc<Computing>>,
    /// The MAF and the RelativeKeyID that have to be asked for before the call can be answered.
    pub asked_maf: Option<(String, String)>,
    /// Why the call can't go on, where a limit says so before the trap does.
    pub over: Option<ModuleFault>,
    /// What the clock says, where that is not the true time.
    pub now: Option<SystemTime>,
    /// Epoch ticks that the call has used.
    pub ticks: u64,
    wasi: Option<Box<Wasi>>,
}

impl Call {
    pub fn new(tables: Arc<Tables>, files: Arc<Files>, log: Arc<LogBudget>, memory: usize) -> Self {
        Self {
            tables,
            files,
            subscription: None,
            log,
            rows: Vec::new(),
            keys: Vec::new(),
            first_row: 0,
            first_key: 0,
            memory_left: memory,
            maf_keys: None,
            io: Arc::default(),
            buckets: 0,
            computing: None,
            asked_maf: None,
            over: None,
            now: None,
            ticks: 0,
            wasi: None,
        }
    }

    /// Gives the call the service subscription.
    pub fn with_subscription(mut self, subscription: Option<Arc<Subscription>>) -> Self {
        self.subscription = subscription;
        self
    }

    /// Gives the call who fetches keys of MAFs.
    pub fn with_maf_keys(mut self, maf_keys: Option<Arc<dyn MafKeys>>) -> Self {
        self.maf_keys = maf_keys;
        self
    }

    /// Gives the call what its module has of the world.
    pub fn with_io(mut self, io: Arc<Io>) -> Self {
        self.io = io;
        self
    }

    /// Has the call's computing counted, for it also waits.
    pub fn counting(mut self) -> Self {
        self.computing = Some(Arc::new(Computing::new()));
        self
    }

    /// What its module has of the world.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// The call that an instance is used for after another: what is the instance's stays with it, and
    /// what was the other call's is gone.
    pub fn after(mut self, before: &mut Self) -> Self {
        self.memory_left = before.memory_left;
        self.wasi = before.wasi.take();
        if let Some(wasi) = &mut self.wasi {
            wasi.client.renew();
        }
        self.first_row = before.first_row + before.rows.len();
        self.first_key = before.first_key + before.keys.len();
        self
    }

    /// How much more memory the call may have.
    pub fn memory_left(&self) -> usize {
        self.memory_left
    }

    /// Takes the key behind a handle.
    pub fn take_key(&mut self, handle: &Resource<KeyHandle>) -> Option<KeySource> {
        let number = (handle.rep() as usize).checked_sub(self.first_key)?;
        self.keys.get_mut(number)?.take()
    }

    fn new_key(&mut self, key: KeySource) -> Option<Resource<KeyHandle>> {
        let number = u32::try_from(self.first_key + self.keys.len()).ok()?;
        if self.keys.len() >= MAX_HANDLES {
            return None;
        }
        self.keys.push(Some(key));
        Some(Resource::new_own(number))
    }
}

impl types::Host for Call {}

impl types::HostKey for Call {
    fn drop(&mut self, handle: Resource<KeyHandle>) -> Result<()> {
        self.take_key(&handle);
        Ok(())
    }
}

impl policy_tables::Host for Call {
    fn find(
        &mut self,
        table: String,
        value: String,
    ) -> Result<std::result::Result<Option<Resource<RowHandle>>, policy_tables::Error>> {
        let Some(table) = self.tables.get(&table) else {
            return Ok(Err(policy_tables::Error::NoSuchTable));
        };
        let Some(row) = table.find(&value) else { return Ok(Ok(None)) };
        let number = u32::try_from(self.first_row + self.rows.len())?;
        if self.rows.len() >= MAX_HANDLES {
            return Ok(Err(policy_tables::Error::TooManyRows));
        }
        self.rows.push((table.clone(), row));
        Ok(Ok(Some(Resource::new_own(number))))
    }
}

impl Call {
    fn row(&self, handle: &Resource<RowHandle>) -> Result<&(Arc<Table>, Row)> {
        let number = (handle.rep() as usize).checked_sub(self.first_row);
        number.and_then(|number| self.rows.get(number)).ok_or_else(|| format_err!("no such row"))
    }
}

impl policy_tables::HostRow for Call {
    fn get(&mut self, row: Resource<RowHandle>, column: String) -> Result<Option<String>> {
        let (table, row) = self.row(&row)?;
        Ok(table.text(*row, &column).map(Into::into))
    }

    fn key(
        &mut self,
        row: Resource<RowHandle>,
        column: String,
    ) -> Result<Option<Resource<KeyHandle>>> {
        let (table, row) = self.row(&row)?;
        let Some(column) = table.key_column(&column) else { return Ok(None) };
        let key = KeySource::Stored { table: table.clone(), row: *row, column };
        match self.new_key(key) {
            Some(handle) => Ok(Some(handle)),
            None => bail!("the call has asked for more than {MAX_HANDLES} keys"),
        }
    }

    fn drop(&mut self, _: Resource<RowHandle>) -> Result<()> {
        Ok(())
    }
}

impl policy_files::Host for Call {
    fn read(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.files.get(&name).map(|bytes| bytes.to_vec()))
    }
}

impl log::Host for Call {
    fn write(&mut self, level: log::Level, message: String) -> Result<()> {
        self.log.write(level, &message);
        Ok(())
    }
}

impl clock::Host for Call {
    fn now(&mut self) -> Result<u64> {
        let now = self.now.unwrap_or_else(SystemTime::now);
        Ok(now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
    }
}

impl supply_key_bytes::Host for Call {
    fn supply(&mut self, bytes: Vec<u8>) -> Result<Option<Resource<KeyHandle>>> {
        let bytes = zeroize::Zeroizing::new(bytes);
        if KeyStrength::of(&bytes, PresharedKey::MIN_PROVISIONED).is_err() {
            return Ok(None);
        }
        Ok(PresharedKey::new(&bytes).ok().and_then(|key| self.new_key(KeySource::Supplied(key))))
    }
}

impl read_stored_keys::Host for Call {
    fn read(&mut self, key: Resource<KeyHandle>) -> Result<Vec<u8>> {
        let number = (key.rep() as usize).checked_sub(self.first_key);
        match number.and_then(|number| self.keys.get(number)) {
            Some(Some(KeySource::Stored { table, row, column })) => {
                let key = table.key(*row, *column);
                Ok(key.map(|key| key.expose().to_vec()).unwrap_or_default())
            }
            // One that a MAF gave is in no table.
            Some(Some(KeySource::Supplied(key) | KeySource::Maf(key))) => Ok(key.expose().to_vec()),
            _ => bail!("no such key"),
        }
    }
}

impl service_subscription::Host for Call {
    fn find_rules(
        &mut self,
        credential_id: String,
        app_id: String,
        from: Option<String>,
    ) -> Result<std::result::Result<Vec<service_subscription::Rule>, service_subscription::Error>>
    {
        let Some(subscription) = &self.subscription else {
            return Ok(Err(service_subscription::Error::NoProfile));
        };
        Ok(match subscription.find(&credential_id, &app_id, from.as_deref()) {
            Err(NoNode) => Err(service_subscription::Error::NoNode),
            Ok(rules) => Ok(rules.into_iter().cloned().map(Into::into).collect()),
        })
    }

    fn has_rule_for(
        &mut self,
        credential_id: String,
    ) -> Result<std::result::Result<bool, service_subscription::Error>> {
        let Some(subscription) = &self.subscription else {
            return Ok(Err(service_subscription::Error::NoProfile));
        };
        Ok(match subscription.has_rule_for(&credential_id) {
            Err(NoNode) => Err(service_subscription::Error::NoNode),
            Ok(has) => Ok(has),
        })
    }
}

impl maf_keys::Host for Call {
    fn retrieve(
        &mut self,
        maf: String,
        relative_key_id: String,
    ) -> Result<std::result::Result<maf_keys::MafKey, maf_keys::Error>> {
        use maf_keys::Error;
        let Some(keys) = self.maf_keys.clone() else { return Ok(Err(Error::UnknownMaf)) };
        let found = match keys.known(&maf, &relative_key_id) {
            Known::Key(found) => found,
            Known::NoMaf => return Ok(Err(Error::UnknownMaf)),
            Known::Refused => return Ok(Err(Error::Refused)),
            Known::Unreachable => return Ok(Err(Error::Unreachable)),
            Known::NotYet => {
                self.asked_maf = Some((maf, relative_key_id));
                return Ok(Err(Error::Pending));
            }
        };
        let Some(key) = self.new_key(KeySource::Maf(found.key)) else {
            bail!("the call has asked for more than {MAX_HANDLES} keys")
        };
        let expires = found.expires.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(Ok(maf_keys::MafKey {
            source: (&found.source).into(),
            credential_id: found.credential_id.to_string(),
            suid: found.suid,
            expires,
            key,
        }))
    }
}

impl From<&Entity> for types::Entity {
    fn from(entity: &Entity) -> Self {
        match entity {
            Entity::NotYetKnown => Self::NotYetKnown,
            Entity::Ae(stem) => Self::Ae(stem.to_string()),
            Entity::Aes(stems) => Self::Aes(stems.iter().map(ToString::to_string).collect()),
            Entity::Cse(cse) => Self::Cse(cse.bare().into()),
            Entity::MafClient(id) => Self::MafClient(id.to_string()),
        }
    }
}

impl From<Rule> for service_subscription::Rule {
    fn from(rule: Rule) -> Self {
        Self {
            name: rule.name,
            applicable_cred_ids: rule.applicable_cred_ids,
            allowed_app_ids: rule.allowed_app_ids,
            allowed_aes: rule.allowed_aes,
            allowed_role_ids: rule.allowed_role_ids,
        }
    }
}

/// Most elements of one table of a module.
const MAX_TABLE_ELEMENTS: usize = 20_000;

impl ResourceLimiter for Call {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        match self.memory_left.checked_sub(desired.saturating_sub(current)) {
            Some(left) => {
                self.memory_left = left;
                Ok(true)
            }
            None => {
                // A trap, for a refused growth ends in one anyway that says less.
                self.over = Some(ModuleFault::Memory);
                bail!("the memory bound was reached")
            }
        }
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            self.over = Some(ModuleFault::Memory);
            bail!("the table bound was reached")
        }
        Ok(true)
    }
}

/// The interfaces of the contract, for the linker.
pub(crate) fn link(
    linker: &mut wasmtime::component::Linker<Call>,
    capability: Option<crate::Capability>,
) -> Result<()> {
    use crate::Capability as C;
    type Own = HasSelf<Call>;
    fn get(call: &mut Call) -> &mut Call {
        call
    }
    match capability {
        None => types::add_to_linker::<_, Own>(linker, get),
        Some(C::PolicyTables) => policy_tables::add_to_linker::<_, Own>(linker, get),
        Some(C::PolicyFiles) => policy_files::add_to_linker::<_, Own>(linker, get),
        Some(C::Log) => log::add_to_linker::<_, Own>(linker, get),
        Some(C::Clock) => clock::add_to_linker::<_, Own>(linker, get),
        Some(C::SupplyKeyBytes) => supply_key_bytes::add_to_linker::<_, Own>(linker, get),
        Some(C::ReadStoredKeys) => read_stored_keys::add_to_linker::<_, Own>(linker, get),
        Some(C::MafKeys) => maf_keys::add_to_linker::<_, Own>(linker, get),
        Some(C::ServiceSubscription) => service_subscription::add_to_linker::<_, Own>(linker, get),
        Some(C::OutgoingHttp) => wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker),
        Some(C::KeyValue) => {
            wasi::keyvalue::store::add_to_linker::<_, Own>(linker, get)?;
            wasi::keyvalue::atomics::add_to_linker::<_, Own>(linker, get)?;
            wasi::keyvalue::batch::add_to_linker::<_, Own>(linker, get)
        }
        Some(C::Config) => wasi::config::store::add_to_linker::<_, Own>(linker, get),
    }
}
