//! Links a component to the imports of its capabilities.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::host::bindings::saegis::policy::{
    clock, log, maf_keys, policy_files, policy_tables, read_stored_keys, service_subscription,
    supply_key_bytes, types,
};
use crate::host::bindings::wasi;
use crate::host::call::Call;
use crate::module::capability::Capability as C;

/// Adds the types of the contract, or the interfaces of a capability.
pub(crate) fn link(linker: &mut Linker<Call>, capability: Option<C>) -> Result<()> {
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
