//! The own attributes of a `<flexContainer>` or a `<mgmtObj>`, which depend on its definition.

use saegis_onem2m::resource::ResourceType;

use crate::definitions::Definition;
use crate::error::{Refusal, quoted};
use crate::operation::flex_container;
use crate::record::{Attributes, Record};
use crate::resource::announced;
use crate::resource::attributes::Specialization;
use crate::resource::management;
use crate::resource::schema::{AttributeError, DEFINITION};
use crate::settings::Settings;

/// Returns the own attributes of a resource with this root name.
///
/// # Errors
/// Returns an error if its definition is missing or unknown, or has another root name.
pub(crate) fn of<'s>(
    settings: &'s Settings,
    ty: ResourceType,
    attributes: &Attributes,
    root: &str,
) -> Result<Specialization<'s>, Refusal> {
    match ty {
        ResourceType::FlexContainer => {
            let definition = Some(definition(settings, attributes, root)?);
            Ok(Specialization { definition, ..Specialization::default() })
        }
        ResourceType::FlexContainerAnnc => {
            let original = announced::original_root(root);
            let definition = Some(definition(settings, attributes, original)?);
            if original == root {
                return Err(Refusal::Content(format!("{root}Annc").into()));
            }
            Ok(Specialization { definition, is_partial: true, ..Specialization::default() })
        }
        ResourceType::ManagementObject => {
            let unsupported = "management objects of this kind are not supported";
            let kind = management::kind(attributes)?;
            let kind = kind.ok_or(Refusal::NotImplemented(unsupported))?;
            if kind.root != root {
                return Err(Refusal::Content(kind.root.into()));
            }
            Ok(Specialization { rows: kind.rows, ..Specialization::default() })
        }
        _ => Ok(Specialization::default()),
    }
}

/// Returns the own attributes of a stored resource, for an update. An update requires the definition
/// of a flexContainer only for custom attributes: the operator may have removed it since the
/// creation.
///
/// # Errors
/// Returns an error if there is no definition.
pub(crate) fn for_update<'s>(
    settings: &'s Settings,
    record: &Record,
    given: &Attributes,
) -> Result<Specialization<'s>, Refusal> {
    match of(settings, record.ty, &record.attributes, record.root()) {
        Err(_)
            if record.ty == ResourceType::FlexContainer
                && !given.keys().any(|name| flex_container::is_custom(name)) =>
        {
            Ok(Specialization::default())
        }
        found => found,
    }
}

/// Returns the definition that `cnd` names.
///
/// # Errors
/// Returns an error if there is none, or if the resource has another root name.
fn definition<'s>(
    settings: &'s Settings,
    attributes: &Attributes,
    root: &str,
) -> Result<&'s Definition, Refusal> {
    let id = attributes.get(DEFINITION).ok_or(AttributeError::Missing(DEFINITION))?;
    let id = id.as_str().ok_or_else(|| AttributeError::value(DEFINITION, "must be a text"))?;
    let found = settings.definitions.get(id);
    let found = found.ok_or_else(|| Refusal::NoDefinition(quoted(id)))?;
    if found.root() == root {
        Ok(found)
    } else {
        Err(Refusal::Content(found.root().to_owned().into()))
    }
}
