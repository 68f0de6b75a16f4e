//! Links a component to the imports of its capabilities.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::host::bindings::saegis::policy::{
    clock, log, maf_keys, policy_files, policy_tables, read_stored_keys, service_subscription,
    supply_key_bytes, types,
};
use crate::host::bindings::wasi;
use crate::host::call::Call;
use crate::module::capability::Capability;

/// Adds the types of the contract, or the interfaces of a capability.
pub(crate) fn link(linker: &mut Linker<Call>, capability: Option<Capability>) -> Result<()> {
    type Own = HasSelf<Call>;
    fn get(call: &mut Call) -> &mut Call {
        call
    }
    match capability {
        None => types::add_to_linker::<_, Own>(linker, get),
        Some(Capability::PolicyTables) => policy_tables::add_to_linker::<_, Own>(linker, get),
        Some(Capability::PolicyFiles) => policy_files::add_to_linker::<_, Own>(linker, get),
        Some(Capability::Log) => log::add_to_linker::<_, Own>(linker, get),
        Some(Capability::Clock) => clock::add_to_linker::<_, Own>(linker, get),
        Some(Capability::SupplyKeyBytes) => supply_key_bytes::add_to_linker::<_, Own>(linker, get),
        Some(Capability::ReadStoredKeys) => read_stored_keys::add_to_linker::<_, Own>(linker, get),
        Some(Capability::MafKeys) => maf_keys::add_to_linker::<_, Own>(linker, get),
        Some(Capability::ServiceSubscription) => {
            service_subscription::add_to_linker::<_, Own>(linker, get)
        }
        Some(Capability::OutgoingHttp) => {
            wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
        }
        Some(Capability::KeyValue) => {
            wasi::keyvalue::store::add_to_linker::<_, Own>(linker, get)?;
            wasi::keyvalue::atomics::add_to_linker::<_, Own>(linker, get)?;
            wasi::keyvalue::batch::add_to_linker::<_, Own>(linker, get)
        }
        Some(Capability::Config) => wasi::config::store::add_to_linker::<_, Own>(linker, get),
    }
}
