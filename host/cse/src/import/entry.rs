//! An exported resource, as an import reads it.

use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::export::Holders;
use crate::record::Attributes;
use crate::resource::attributes;

/// An exported resource.
pub(super) struct Entry {
    pub(super) address: String,
    /// Address of the parent; empty for the `<CSEBase>`.
    pub(super) parent: String,
    pub(super) ty: ResourceType,
    pub(super) root: String,
    /// Attributes that can be given in its creation.
    pub(super) attributes: Attributes,
    pub(super) holders: Holders,
}

impl Entry {
    pub(super) fn parse(
        address: &str,
        representation: &Value,
        holders: &Value,
    ) -> Result<Self, String> {
        let no_resource = "the representation is not one resource";
        let mut members = representation.as_object().into_iter().flatten();
        let (Some((root, Value::Object(all))), None) = (members.next(), members.next()) else {
            return Err(no_resource.into());
        };
        let number = all.get("ty").and_then(Value::as_u64).and_then(|ty| u16::try_from(ty).ok());
        let ty = number.and_then(ResourceType::from_number).ok_or(no_resource)?;
        let holders = serde_json::from_value(holders.clone()).map_err(|_| {
            "the export does not name the holders of its resources and AE-IDs: repeat it with this \
             version"
        })?;
        Ok(Self {
            address: address.into(),
            parent: address.rsplit_once('/').map_or("", |(parent, _)| parent).into(),
            ty,
            root: root.clone(),
            attributes: attributes::creatable(ty, all.clone()),
            holders,
        })
    }

    /// Returns whether a resource of this type is not created by a request of the operator.
    pub(super) fn is_made_elsewhere(&self) -> bool {
        matches!(
            self.ty,
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
}
