//! Changes of the resources of a CSE that does not run, by its operator.
//!
//! The requests are executed like those of an originator, with all checks of their contents, but with
//! all privileges. They send no notifications.

use std::path::Path;
use std::time::SystemTime;

use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::{Map, Value, json};

use crate::budget::RequestBudget;
use crate::cse::{EmbeddedCse, Handled, OpenError};
use crate::export::{self, Holders, Mismatch};
use crate::record::seconds;
use crate::resource::address::{self, Resolved};
use crate::resource::attributes;
use crate::settings::Settings;

/// The reason why a resource is not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The store cannot be opened.
    #[error("a running gateway has its store open: stop it first, or use a copy ({0})")]
    Open(#[from] OpenError),
    /// The store does not exist.
    #[error("there is no store")]
    NoStore,
    /// The address or the representation has a wrong form.
    #[error("{0}")]
    Form(&'static str),
    /// A name in an exported resource has another holder here.
    #[error("{0}")]
    Holder(String),
    /// A resource that an exported resource names does not exist.
    #[error("{0}")]
    Missing(String),
    /// The CSE has refused the change.
    #[error("{rsc}: {why}")]
    Refused {
        /// Response Status Code.
        rsc: u16,
        /// Reason.
        why: String,
    },
}

/// The result of the restoration of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The resource was created.
    Created,
    /// There is a resource at its address already.
    Exists,
    /// An AE or a CSE must register itself, and the CSE creates instances of a flexContainer and
    /// results.
    NotRestorable,
}

/// The resources of a CSE that does not run.
pub struct Operator {
    cse: EmbeddedCse,
}

impl Operator {
    /// Opens the store of a CSE with these settings. No gateway can have it open.
    ///
    /// # Errors
    /// Returns an error if the file does not exist or cannot be opened.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OperatorError> {
        if !path.exists() {
            return Err(OperatorError::NoStore);
        }
        let cse = EmbeddedCse::open(path, Settings { is_operated: true, ..settings })?;
        Ok(Self { cse })
    }

    /// Updates a resource. Returns its new representation.
    ///
    /// # Errors
    /// Returns an error if the CSE refuses the update.
    pub fn update(&self, address: &str, representation: &Value) -> Result<Value, OperatorError> {
        self.change((Operation::Update, address, None), representation)
    }

    /// Creates a resource of the type with this number. Returns its representation.
    ///
    /// # Errors
    /// Returns an error if the CSE refuses the creation.
    pub fn create(
        &self,
        parent: &str,
        ty: u16,
        representation: &Value,
    ) -> Result<Value, OperatorError> {
        self.change((Operation::Create, parent, Some(ty)), representation)
    }

    /// Restores a resource from its exported representation, unless there is one at its address. It
    /// gets another resource-ID and other times. Its parent and the names in it must have the same
    /// `holders` as at the export.
    ///
    /// # Errors
    /// Returns an error if the CSE refuses the creation.
    pub fn restore(
        &self,
        address: &str,
        representation: &Value,
        holders: &Value,
    ) -> Result<Restored, OperatorError> {
        let no_resource = OperatorError::Form("the representation is not one resource");
        let mut members = representation.as_object().into_iter().flatten();
        let (Some((root, Value::Object(all))), None) = (members.next(), members.next()) else {
            return Err(no_resource);
        };
        let number = all.get("ty").and_then(Value::as_u64).and_then(|ty| u16::try_from(ty).ok());
        let Some(ty) = number.and_then(ResourceType::from_number) else { return Err(no_resource) };
        if self.owner(address)?.is_some() {
            return Ok(Restored::Exists);
        }
        if is_made_elsewhere(ty) {
            return Ok(Restored::NotRestorable);
        }
        let parent = address.rsplit_once('/').map(|(parent, _)| parent);
        let parent = parent.ok_or(OperatorError::Form("the address has no parent"))?;
        self.check_holders(parent, holders)?;
        let mut given = Map::new();
        given.insert(root.clone(), Value::Object(attributes::creatable(ty, all.clone())));
        self.create(parent, ty.number(), &Value::Object(given))?;
        Ok(Restored::Created)
    }

    /// Checks that the parent of an exported resource, and the names in it, have the same holders
    /// here.
    fn check_holders(&self, parent: &str, holders: &Value) -> Result<(), OperatorError> {
        let form = "the export does not name the holders of its resources and AE-IDs: repeat it \
                    with this version";
        let holders: Holders =
            serde_json::from_value(holders.clone()).map_err(|_| OperatorError::Form(form))?;
        let snapshot = self.cse.store().snapshot(&RequestBudget::unlimited());
        let snapshot = snapshot.map_err(OpenError::from)?;
        let (read, settings) = (snapshot.read(), self.cse.settings());
        let now = seconds(SystemTime::now());
        let found = export::mismatch(read, settings, parent, &holders, now);
        match found.map_err(OpenError::from)? {
            Some(Mismatch::Other(why)) => Err(OperatorError::Holder(why)),
            Some(Mismatch::Missing(why)) => Err(OperatorError::Missing(why)),
            None => Ok(()),
        }
    }

    /// Returns the owner of the resource at an address, if there is a resource.
    fn owner(&self, address: &str) -> Result<Option<Option<String>>, OperatorError> {
        let target = target(address)?;
        let snapshot = self.cse.store().snapshot(&RequestBudget::unlimited());
        let snapshot = snapshot.map_err(OpenError::from)?;
        let now = seconds(SystemTime::now());
        let found = address::resolve(snapshot.read(), self.cse.settings(), &target, now);
        Ok(match found {
            Ok(Resolved::Resource(found)) => Some(found.record.owner),
            Ok(Resolved::Instance { container, .. }) => Some(container.record.owner),
            Err(_) => None,
        })
    }

    fn change(
        &self,
        (operation, address, ty): (Operation, &str, Option<u16>),
        representation: &Value,
    ) -> Result<Value, OperatorError> {
        // The names in the resource denote those of its owner.
        let owner = self.owner(address)?.flatten();
        let from = owner.unwrap_or_else(|| self.cse.settings().cse_id.to_string());
        let content = Content::parse(representation.to_string().into());
        let content = content.map_err(|_| OperatorError::Form("the representation is invalid"))?;
        let request = RequestPrimitive {
            resource_type: ty,
            release: self.cse.settings().release_versions.last().cloned(),
            content: Some(content),
            ..RequestPrimitive::own(operation, target(address)?, from, "operator".into())
        };
        if [ResourceType::Ae, ResourceType::RemoteCse, ResourceType::AeAnnc]
            .into_iter()
            .any(|registration| request.creates(registration))
        {
            return Err(OperatorError::Form("an AE or a CSE must register itself"));
        }
        let budget = RequestBudget::unlimited();
        match self.cse.handle(&request, &budget, SystemTime::now()) {
            Handled::Done(answer) => result(&answer.response),
            Handled::Verify(_) => Err(OperatorError::Form(
                "the targets of the subscription must agree to it, for which the gateway must run",
            )),
            _ => Err(OperatorError::Form("the address is not that of one resource")),
        }
    }
}

fn target(address: &str) -> Result<Target, OperatorError> {
    Target::from_address(address).map_err(|_| OperatorError::Form("the address is invalid"))
}

/// Returns whether a resource of this type is not created by a request of the operator.
fn is_made_elsewhere(ty: ResourceType) -> bool {
    matches!(
        ty,
        ResourceType::Ae
            | ResourceType::AeAnnc
            | ResourceType::ContainerAnnc
            | ResourceType::ContentInstanceAnnc
            | ResourceType::CseBase
            | ResourceType::CseBaseAnnc
            | ResourceType::FlexContainerAnnc
            | ResourceType::FlexContainerInstance
            | ResourceType::RemoteCse
            | ResourceType::Request
    )
}

fn result(response: &ResponsePrimitive) -> Result<Value, OperatorError> {
    let content = response.content.as_ref();
    let content = content.and_then(|content| serde_json::from_slice(content).ok());
    let content: Value = content.unwrap_or(json!(null));
    if response.rsc.is_success() {
        return Ok(content);
    }
    let why = content.get("m2m:dbg").and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(OperatorError::Refused { rsc: response.rsc.code(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inspection;
    use crate::testing::{Bench, LIGHT1, LIGHT2, request, settings};
    use saegis_onem2m::id::CredentialId;
    use saegis_onem2m::primitive::AssociationCredential;

    #[test]
    fn operator_changes_resources() {
        let bench = Bench::with_lights();
        let path = bench.path();
        let refused = Operator::open(&path, settings()).err().unwrap().to_string();
        assert!(refused.contains("stop it first"), "{refused}");
        let (directory, path) = bench.stop();
        let operator = Operator::open(&path, settings()).unwrap();
        let changed = json!({"m2m:cnt": {"lbl": ["x"]}});
        let changed = operator.update("cse/light1/state", &changed).unwrap();
        assert_eq!(changed["m2m:cnt"]["lbl"], json!(["x"]));
        let acp = json!({"m2m:acp": {"rn": "acp", "pv": {}, "pvs": {"acr": [
            {"acor": [LIGHT1], "acop": 63}]}}});
        operator.create("cse/light1", 1, &acp).unwrap();
        for (address, change, why) in [
            ("cse/light1/other", json!({"m2m:cnt": {}}), "4004"),
            ("cse/light1/state", json!({"m2m:cnt": {"lbl": 1}}), "4000"),
            ("cse/light1/state", json!({"m2m:ae": {}}), "4000"),
            ("cse", json!({"m2m:cb": {}}), "4005"),
            ("a b", json!({}), "address"),
        ] {
            let refused = operator.update(address, &change).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let ae = json!({"m2m:ae": {"api": "Nx", "rr": true}});
        let refused = operator.create("cse", 2, &ae).unwrap_err().to_string();
        assert!(refused.contains("register itself"), "{refused}");
        drop(operator);
        let missing = directory.path().join("missing");
        assert!(matches!(Operator::open(&missing, settings()), Err(OperatorError::NoStore)));
        assert!(!missing.exists());
    }

    /// Returns a CSE with two lights, each with a container. Another credential has registered light 2
    /// if `second` is not its AE-ID.
    fn lights(second: &str) -> Bench {
        let bench = Bench::new(settings());
        for (stem, id, name) in [(LIGHT1, LIGHT1, "light1"), (LIGHT2, second, "light2")] {
            let ae = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": false, "srv": ["3"]}});
            let mut register = request(Operation::Create, "/cse", Some(stem), Some(ae));
            register.resource_type = Some(2);
            let id = CredentialId::parse(&format!("12-{id}")).unwrap();
            register.credential = Some(AssociationCredential { id, learns_ae_id: false });
            assert_eq!(bench.send(&register).code, 2001);
            let reply = bench.container(stem, &format!("/cse/{name}"), json!({"rn": "state"}));
            assert_eq!(reply.code, 2001);
        }
        bench
    }

    #[test]
    fn exported_resources_are_restored() {
        let bench = lights(LIGHT2);
        let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": [
            {"acor": [LIGHT2], "acop": 2}, {"acor": [LIGHT1], "acop": 63}]}, "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]}}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
        let cnt = json!({"rn": "lamp", "acpi": ["cse/light1/acp"], "mni": 5, "cr": null});
        assert_eq!(bench.container(LIGHT1, "/cse/light1", cnt).code, 2001);
        let instance = json!({"rn": "one", "con": {"on": true}, "lbl": ["x"]});
        assert_eq!(bench.instance(LIGHT1, "/cse/light1/lamp", instance).code, 2001);
        let (_directory, path) = bench.stop();
        let mut exported = Vec::new();
        let inspection = Inspection::open(&path, settings()).unwrap();
        inspection.visit("cse", usize::MAX, &mut |found| exported.push(found)).unwrap();
        drop(inspection);

        // Another CSE, at which the AEs have registered again.
        let bench = lights(LIGHT2);
        let (_directory, path) = bench.stop();
        let operator = Operator::open(&path, settings()).unwrap();
        let restored: Vec<_> = exported
            .iter()
            .map(|found| {
                operator.restore(&found.address, &found.representation, &found.holders).unwrap()
            })
            .collect();
        let created = restored.iter().filter(|restored| **restored == Restored::Created).count();
        assert_eq!(created, 3, "{restored:?}");
        drop(operator);
        let inspection = Inspection::open(&path, settings()).unwrap();
        let mut again = Vec::new();
        inspection.visit("cse", usize::MAX, &mut |found| again.push(found)).unwrap();
        let addresses = |all: &[crate::InspectedResource]| {
            all.iter().map(|found| found.address.clone()).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&again), addresses(&exported));
        let of = |all: &[crate::InspectedResource], name: &str| {
            let found = all.iter().find(|found| found.address.ends_with(name)).unwrap();
            found.representation.clone()
        };
        assert_eq!(of(&again, "/one")["m2m:cin"]["con"], json!({"on": true}));
        assert_eq!(of(&again, "/lamp")["m2m:cnt"]["acpi"], json!(["cse/light1/acp"]));
        drop(inspection);
        let bench = crate::EmbeddedCse::open(&path, settings()).unwrap();
        bench.store().assert_consistent();
    }

    #[test]
    fn names_with_other_holders_are_not_restored() {
        let bench = lights(LIGHT2);
        let policy = |names: &[&str]| json!({"acr": [{"acor": names, "acop": 2}, {"acor": [LIGHT1], "acop": 63}]});
        let acp =
            json!({"m2m:acp": {"rn": "acp", "pv": policy(&[LIGHT2]), "pvs": policy(&["Cnew"])}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
        let governed = json!({"rn": "governed", "acpi": ["cse/light1/acp"]});
        assert_eq!(bench.container(LIGHT1, "/cse/light1", governed).code, 2001);
        let dangling = json!({"rn": "dangling", "acpi": ["cse/light2/acp"]});
        assert_eq!(bench.container(LIGHT1, "/cse/light1", dangling).code, 2001);
        let (_directory, path) = bench.stop();
        let mut exported = Vec::new();
        let inspection = Inspection::open(&path, settings()).unwrap();
        inspection.visit("cse/light1", 1, &mut |found| exported.push(found)).unwrap();
        drop(inspection);
        let find = |name: &str| exported.iter().find(|found| found.name == name).unwrap();
        let holders = &find("acp").holders;
        let own = json!({"owner": LIGHT1, "registrant": format!("12-{LIGHT1}")});
        assert_eq!(holders["owner"], own);
        assert_eq!(
            holders["aes"],
            json!({ LIGHT1: format!("12-{LIGHT1}"), LIGHT2: format!("12-{LIGHT2}"), "Cnew": null })
        );
        assert_eq!(find("governed").holders["addresses"]["acpi"]["cse/light1/acp"], own);
        let dangling = &find("dangling").holders["addresses"]["acpi"];
        assert_eq!(*dangling, json!({"cse/light2/acp": null}));

        // Another credential has registered light 2, and somebody has the name that was free.
        let bench = lights("Cother");
        let acp =
            json!({"m2m:acp": {"rn": "acp", "pv": policy(&[LIGHT1]), "pvs": policy(&[LIGHT1])}});
        assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 1, acp.clone()).code, 2001);
        let (_directory, path) = bench.stop();
        let operator = Operator::open(&path, settings()).unwrap();
        let restore = |name: &str, holders: &Value| {
            let found = find(name);
            operator.restore(&found.address, &found.representation, holders)
        };
        for name in ["acp", "dangling"] {
            let refused = restore(name, &find(name).holders).unwrap_err();
            assert!(matches!(refused, OperatorError::Holder(_)), "{refused}");
        }
        for holders in [Value::Null, json!({}), json!({ LIGHT1: format!("12-{LIGHT1}") })] {
            let refused = restore("governed", &holders).unwrap_err().to_string();
            assert!(refused.contains("holders"), "{refused}");
        }
        // A policy that does not exist yet may be restored before.
        let missing = restore("governed", &find("governed").holders).unwrap_err();
        assert!(matches!(missing, OperatorError::Missing(_)), "{missing}");
        operator.create("cse/light1", 1, &acp).unwrap();
        assert_eq!(restore("governed", &find("governed").holders).unwrap(), Restored::Created);
    }

    /// The AE that registers first after a loss can take the resource name of another one.
    #[test]
    fn taken_resource_names_are_not_restored() {
        let bench = lights(LIGHT2);
        let policy = |stem: &str| {
            json!({"m2m:acp": {"rn": "acp",
            "pv": {"acr": [{"acor": [stem], "acop": 63}]},
            "pvs": {"acr": [{"acor": [stem], "acop": 63}]}}})
        };
        assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 1, policy(LIGHT2)).code, 2001);
        let governed = json!({"rn": "governed", "acpi": ["cse/light2/acp"]});
        assert_eq!(bench.container(LIGHT1, "/cse/light1", governed).code, 2001);
        let secret = json!({"con": "secret", "rn": "secret"});
        assert_eq!(bench.instance(LIGHT2, "/cse/light2/state", secret).code, 2001);
        let (_directory, path) = bench.stop();
        let mut exported = Vec::new();
        let inspection = Inspection::open(&path, settings()).unwrap();
        inspection.visit("cse", usize::MAX, &mut |found| exported.push(found)).unwrap();
        drop(inspection);

        // Light 2 registers again with its credential, but its name is that of another AE.
        let bench = Bench::new(settings());
        for (stem, name) in [(LIGHT1, "light1"), ("Cother", "light2"), (LIGHT2, "light2-new")] {
            let ae = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": false, "srv": ["3"]}});
            let mut register = request(Operation::Create, "/cse", Some(stem), Some(ae));
            register.resource_type = Some(2);
            let id = CredentialId::parse(&format!("12-{stem}")).unwrap();
            register.credential = Some(AssociationCredential { id, learns_ae_id: false });
            assert_eq!(bench.send(&register).code, 2001);
        }
        assert_eq!(bench.create(Some("Cother"), "/cse/light2", 1, policy("Cother")).code, 2001);
        let state = bench.container("Cother", "/cse/light2", json!({"rn": "state"}));
        assert_eq!(state.code, 2001);
        let (_directory, path) = bench.stop();
        let operator = Operator::open(&path, settings()).unwrap();
        for (name, address) in [
            ("governed", "cse/light1/governed"),
            ("state", "cse/light2/state-2"),
            ("secret", "cse/light2/state/secret"),
        ] {
            let mut of_name = exported.iter().filter(|found| found.name == name);
            let found = of_name.rfind(|found| found.address.contains("light2") || name != "state");
            let found = found.unwrap();
            let refused = operator.restore(address, &found.representation, &found.holders);
            let refused = refused.unwrap_err();
            assert!(matches!(refused, OperatorError::Holder(_)), "{name}: {refused}");
        }
    }

    /// Resources below a CSE belong to its registration as well.
    #[test]
    fn resources_of_another_cse_are_not_restored() {
        let registered = |credential: &str| {
            let bench = Bench::new(Settings { cse_type: 1, ..settings() });
            let csr = json!({"m2m:csr": {"rn": "mn", "cb": "/mn-1/cse", "rr": false}});
            let mut register = request(Operation::Create, "/cse", Some("/mn-1"), Some(csr));
            register.resource_type = Some(16);
            let id = CredentialId::parse(credential).unwrap();
            register.credential = Some(AssociationCredential { id, learns_ae_id: false });
            assert_eq!(bench.send(&register).code, 2001);
            bench
        };
        let bench = registered("12-one");
        let state = bench.container("/mn-1", "/cse/mn", json!({"rn": "state"}));
        assert_eq!(state.code, 2001, "{}", state.why());
        let (_directory, path) = bench.stop();
        let mut exported = Vec::new();
        let inspection = Inspection::open(&path, settings()).unwrap();
        inspection.visit("cse/mn/state", 0, &mut |found| exported.push(found)).unwrap();
        drop(inspection);
        for (credential, is_restored) in [("12-one", true), ("12-two", false)] {
            let (_directory, path) = registered(credential).stop();
            let operator = Operator::open(&path, settings()).unwrap();
            let found = &exported[0];
            let restored = operator.restore(&found.address, &found.representation, &found.holders);
            match is_restored {
                true => assert_eq!(restored.unwrap(), Restored::Created),
                false => assert!(matches!(restored.unwrap_err(), OperatorError::Holder(_))),
            }
        }
    }
}
