//! The functions of the WIT contract that a module imports, implemented on [`Call`], the state of one
//! call.
//!
//! The outer result traps the module. The inner one is returned to it.
//!
//! A module gets rows and keys as handles, so it does not see the bytes of a key without a capability
//! for that. A handle is a number. The numbers increase over all calls of a reused instance, so a
//! handle from an earlier call is invalid. When a module drops the handle of a key, the key is
//! forgotten. A row stays until the end of the call. Neither frees a handle for another
//! ([`MAX_HANDLES`]).

use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::credential::{Entity, KeyStrength, PresharedKey};
use wasmtime::component::Resource;
use wasmtime::{Result, bail, format_err};

use crate::data::service_subscription::{NoNode, Rule};
use crate::data::table::{Row, Table};
use crate::data::text::printable;
use crate::host::bindings::saegis::policy::{
    clock, log, maf_keys, policy_files, policy_tables, read_stored_keys, service_subscription,
    supply_key_bytes, types,
};
use crate::host::call::{Call, MAX_HANDLES, ReferencedKey};
use crate::host::handles::{KeyHandle, RowHandle};
use crate::host::maf_keys::MafKeyState;

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
        let key = ReferencedKey::Stored { table: table.clone(), row: *row, column };
        Ok(Some(self.new_key(key)?))
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
        if matches!(level, log::Level::Warn) {
            self.last_line = Some(printable(&message));
        }
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
        let Ok(key) = PresharedKey::new(&bytes) else { return Ok(None) };
        Ok(self.new_key(ReferencedKey::Supplied(key)).ok())
    }
}

impl read_stored_keys::Host for Call {
    fn read(&mut self, key: Resource<KeyHandle>) -> Result<Vec<u8>> {
        let number = (key.rep() as usize).checked_sub(self.first_key);
        match number.and_then(|number| self.keys.get(number)) {
            Some(Some(ReferencedKey::Stored { table, row, column })) => {
                let key = table.key(*row, *column);
                Ok(key.map(|key| key.expose().to_vec()).unwrap_or_default())
            }
            // The capability covers all keys that the module holds.
            Some(Some(ReferencedKey::Supplied(key) | ReferencedKey::Maf(key))) => {
                Ok(key.expose().to_vec())
            }
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
        let found = match keys.state(&maf, &relative_key_id) {
            MafKeyState::Key(found) => found,
            MafKeyState::NoMaf => return Ok(Err(Error::UnknownMaf)),
            MafKeyState::Refused => return Ok(Err(Error::Refused)),
            MafKeyState::Unreachable => return Ok(Err(Error::Unreachable)),
            // The host fetches the key after this call, and calls the module again.
            MafKeyState::NotFetched => {
                self.wanted_maf_key = Some((maf, relative_key_id));
                return Ok(Err(Error::Pending));
            }
        };
        let key = self.new_key(ReferencedKey::Maf(found.key))?;
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
