//! Who may do what (TS-0001 clauses 9.6.1.3.2 and 9.6.2, TS-0003 clause 7.1).
//!
//! The policies in a resource's `acpi` say who may do what with it. A resource that has none follows
//! its parent, up to the AE or the CSE that registered, and no further: what opens the `<CSEBase>`
//! to others does not open what is below it. An instance always follows its container, and a policy
//! goes by its own `pvs`. Where no policy applies, a subtree is its AE's or its CSE's, and what is
//! in it also its creator's (`cr`), or, where one is named, its custodian's alone (`cstn`).
//!
//! [`allows`] is the whole rule.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::access::decision;
use crate::access::grants::{Access, Grants};
use crate::access::originator::Identity;
use crate::error::Refusal;
use crate::identifiers;
use crate::record::names::{Reference, Registrants};
use crate::record::{Record, Seconds};
use crate::resource::access_contexts::RequestContext;
use crate::resource::access_rules::{PRIVILEGES, SELF_PRIVILEGES};
use crate::resource::ae_announcement;
use crate::resource::links;
use crate::resource::registrant;
use crate::resource::remote_cse;
use crate::resource::schema::{CREATOR, CUSTODIAN, POLICIES};
use crate::resource::service_subscription;
use crate::settings::Settings;
use crate::store::{Read, StoreError, Writer};

/// What an originator is to this CSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An AE that is registered here.
    Ae,
    /// An AE that is registered here, and that the settings name as an administrator.
    Administrator,
    /// A CSE. An AE of another CSE with an S-type stem writes its AE-ID in the same form, so
    /// this gives no more than such an AE may have.
    Cse,
    /// An AE of another CSE.
    AeElsewhere,
    /// Anybody else: an AE that is not registered, or a From that only we could write.
    Stranger,
}

/// Who asks, with what it takes to tell what that originator may do.
pub(crate) struct Originator<'a> {
    kind: Kind,
    identity: Identity,
    /// Whether it is one that this CSE itself knows to be who it says (TS-0003 clause 7.1.2).
    is_authenticated: bool,
    read: &'a dyn Read,
    settings: &'a Settings,
    now: Seconds,
    /// The address that the request came from, where that is known.
    source: Option<IpAddr>,
    /// What policies grant it, by their resource-IDs.
    grants: RefCell<HashMap<String, Option<Rc<Grants>>>>,
}

impl<'a> Originator<'a> {
    /// Finds out who asks.
    ///
    /// # Errors
    /// When there is no From, or one that only an AE that registers may write, or one in no known
    /// form.
    pub(crate) fn identify(
        read: &'a dyn Read,
        settings: &'a Settings,
        from: Option<&str>,
        now: Seconds,
    ) -> Result<Self, Refusal> {
        let from = from.ok_or(Refusal::NoOriginator)?;
        OriginatorId::parse(from).map_err(Refusal::Originator)?;
        let from = settings.canonical_id(from);
        let elsewhere = |sp, rest: &str| Identity::elsewhere(settings, sp, rest);
        let (kind, identity) = match OriginatorId::parse(&from).map_err(Refusal::Originator)? {
            OriginatorId::AssignByRegistrar
            | OriginatorId::AssignByServiceProvider
            | OriginatorId::SpRelativeAssign { .. } => return Err(Refusal::NoOriginator),
            OriginatorId::Stem(stem) if registrant::registered_ae(read, stem, now)?.is_some() => {
                let administers = settings.administrators.iter().any(|a| a.as_str() == stem);
                let kind = if administers { Kind::Administrator } else { Kind::Ae };
                let registrant = registrant::registrant(read, stem, now)?;
                (kind, Identity::of_ae(settings, stem, registrant))
            }
            // An AE of this CSE writes its stem and nothing else, so what looks like one of
            // ours, or like ourselves, in another form is somebody else's word.
            OriginatorId::Stem(_) => (Kind::Stranger, Identity::default()),
            OriginatorId::SpRelativeAe { cse, .. } if cse == settings.cse_id.bare() => {
                (Kind::Stranger, Identity::default())
            }
            OriginatorId::SpRelative(bare)
                if bare == settings.cse_id.bare()
                    || identifiers::may_be_ae(bare)
                        && registrant::registered_ae(read, bare, now)?.is_some() =>
            {
                (Kind::Stranger, Identity::default())
            }
            OriginatorId::SpRelative(bare) if identifiers::may_be_ae(bare) => {
                let registrant = registrant::registrant(read, bare, now)?;
                (Kind::Cse, Identity::announced(settings, bare, registrant))
            }
            OriginatorId::SpRelative(bare) => (Kind::Cse, elsewhere(None, bare)),
            OriginatorId::SpRelativeAe { cse, stem } => {
                (Kind::AeElsewhere, elsewhere(None, &format!("{cse}/{stem}")))
            }
            OriginatorId::Absolute { sp, first, stem: None } => {
                (Kind::Cse, elsewhere(Some(sp), first))
            }
            OriginatorId::Absolute { sp, first, stem: Some(stem) } => {
                (Kind::AeElsewhere, elsewhere(Some(sp), &format!("{first}/{stem}")))
            }
        };
        let is_authenticated = match kind {
            Kind::Ae | Kind::Administrator => true,
            Kind::Cse => remote_cse::of(read, settings, &from, now)?.is_some(),
            Kind::AeElsewhere | Kind::Stranger => false,
        };
        let grants = RefCell::default();
        let source = None;
        Ok(Self { kind, identity, is_authenticated, read, settings, now, source, grants })
    }

    /// Finds out who asks with a request, and from where.
    ///
    /// # Errors
    /// Those of [`identify`](Self::identify).
    pub(crate) fn of_request(
        read: &'a dyn Read,
        settings: &'a Settings,
        request: &RequestPrimitive,
        now: Seconds,
    ) -> Result<Self, Refusal> {
        let mut who = Self::identify(read, settings, request.from.as_deref(), now)?;
        if matches!(who.kind, Kind::Ae | Kind::Administrator)
            && let Some(ae) =
                request.from.as_deref().map(|stem| read.get(stem)).transpose()?.flatten()
            && registrant::belongs_to_another(&ae, request)
        {
            (who.kind, who.identity) = (Kind::Stranger, Identity::default());
            who.is_authenticated = false;
        }
        Ok(who.at_address(request.source_address))
    }

    /// Who asks from that address. Without it, what is granted to some addresses is not granted.
    pub(crate) fn at_address(self, source: Option<IpAddr>) -> Self {
        Self { source, ..self }
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a record names this originator, by an identifier that nobody else can have.
    pub(crate) fn is(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| self.identity.is(&self.settings.canonical_id(id)))
    }

    /// Whether this originator is the one that an attribute of a record named when that was stored.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn is_the(&self, named: &NamedOriginator) -> Result<bool, StoreError> {
        if !self.is(Some(&named.id)) {
            return Ok(false);
        }
        let registrant = self.registrant_in(named.registrants.as_ref())?;
        Ok(self.identity.is_registrant(registrant.as_deref()))
    }

    /// The registrant that an attribute of a record knows for this originator's AE-ID.
    fn registrant_in(&self, known: Option<&Registrants>) -> Result<Option<String>, StoreError> {
        match self.identity.stem_of_registrant() {
            Some(stem) => registrant::known(self.read, known, stem),
            None => Ok(None),
        }
    }

    /// What a policy grants, if it is still there.
    fn grants_of(&self, policy: &Reference) -> Result<Option<Rc<Grants>>, StoreError> {
        if let Some(known) = self.grants.borrow().get(&policy.ri) {
            return Ok(known.clone());
        }
        let found = policy.find(self.read, self.now)?.map(|found| found.record);
        let found = found.filter(|r| r.ty == ResourceType::AccessControlPolicy);
        let grants = found.map(|p| self.grants_in(&p, PRIVILEGES)).transpose()?.map(Rc::new);
        self.grants.borrow_mut().insert(policy.ri.clone(), grants.clone());
        Ok(grants)
    }

    fn grants_in(&self, policy: &Record, set: &str) -> Result<Grants, StoreError> {
        let request = RequestContext { at: self.now, source: self.source };
        let registrant = self.registrant_in(policy.names.registrants(set))?;
        let who = (&self.identity, registrant.as_deref());
        Ok(Grants::to(who, self.is_authenticated, &request, policy.attributes.get(set)))
    }

    /// By which rule that resource goes.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn rule(&self, on: &Record) -> Result<Rule, StoreError> {
        // As deep as resources may be nested.
        if let Some(own) = self.own_rule(on)? {
            return Ok(own);
        }
        let Some(ri) = &on.parent else { return Ok(Rule::default()) };
        let parent = self.read.get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
        let above = match parent.ty {
            ResourceType::CseBase => Rule::default(),
            _ => self.rule(&parent)?,
        };
        Ok(inherit(on, above))
    }

    /// By which rule a child goes, where the parent, unless it is the `<CSEBase>`, goes by `above`.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn rule_below(&self, above: &Rule, child: &Record) -> Result<Rule, StoreError> {
        Ok(self.own_rule(child)?.unwrap_or_else(|| inherit(child, above.clone())))
    }

    /// The policies of the `<CSEBase>`, which the settings name: it is by name, for they may be created
    /// later, and so only what is an administrator's counts.
    fn policies_of_csebase(&self, base: &Record) -> Result<Vec<Option<Reference>>, StoreError> {
        let is_administrators = |policy: &Record| match policy.owner.as_deref() {
            None => true,
            Some(owner) => self.settings.administrators.iter().any(|a| a.as_str() == owner),
        };
        let mut policies = Vec::new();
        for address in base.texts(POLICIES) {
            let found = links::resolve(self.read, self.settings, address, self.now)?;
            policies.push(found.filter(is_administrators).as_ref().map(Reference::of));
        }
        Ok(policies)
    }

    /// The rule of a resource that does not follow its parent.
    fn own_rule(&self, on: &Record) -> Result<Option<Rule>, StoreError> {
        match on.ty {
            ResourceType::ContentInstance => return Ok(None),
            ResourceType::AccessControlPolicy => return Ok(Some(Rule::Own(on.ri.clone()))),
            _ => {}
        }
        if on.texts(POLICIES).next().is_none() {
            return Ok(None);
        }
        let named = match on.ty {
            ResourceType::CseBase => self.policies_of_csebase(on)?,
            _ => on.names.resources(POLICIES).to_vec(),
        };
        let mut policies = Vec::new();
        for policy in named.into_iter().flatten() {
            if let Some(grants) = self.grants_of(&policy)? {
                policies.push((policy.ri, grants));
            }
        }
        Ok(Some(match policies.is_empty() {
            true => inherit(on, Rule::default()),
            false => Rule::Policies(policies.into()),
        }))
    }
}

/// By which rule a resource goes.
#[derive(Clone)]
pub(crate) enum Rule {
    /// One of these policies must allow it; each has its resource-ID.
    Policies(Rc<[(String, Rc<Grants>)]>),
    /// The policy with that resource-ID must allow it, by what it says about itself.
    Own(String),
    /// No policy applies.
    Default {
        /// The custodian, if one is named for it or above it.
        custodian: Option<NamedOriginator>,
        /// The creator, if it is noted.
        creator: Option<NamedOriginator>,
    },
}

/// An originator that an attribute of a resource names, and who it was when that was stored.
#[derive(Clone)]
pub(crate) struct NamedOriginator {
    id: Rc<str>,
    registrants: Option<Registrants>,
}

impl NamedOriginator {
    /// The originator with that identifier in what `attribute` of a record says.
    pub(crate) fn of(record: &Record, attribute: &str, id: &str) -> Self {
        Self { id: id.into(), registrants: record.names.registrants(attribute).cloned() }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self::Default { custodian: None, creator: None }
    }
}

/// The rule of a resource that follows its parent.
fn inherit(on: &Record, above: Rule) -> Rule {
    let named = |attribute: &str| {
        let id = on.attributes.get(attribute).and_then(Value::as_str)?;
        Some(NamedOriginator::of(on, attribute, id))
    };
    match above {
        // An instance is its container's in every way: who created it does not matter.
        _ if on.ty == ResourceType::ContentInstance => above,
        Rule::Default { custodian, .. } => {
            Rule::Default { custodian: named(CUSTODIAN).or(custodian), creator: named(CREATOR) }
        }
        Rule::Policies(_) | Rule::Own(_) => above,
    }
}

/// Notes in all that is above a resource that it does not simply follow its parent, if so.
///
/// # Errors
/// When the store fails.
pub(crate) fn mark_ancestors(writer: &mut Writer<'_>, record: &Record) -> Result<(), StoreError> {
    let creator = record.attributes.get(CREATOR).and_then(Value::as_str);
    let differs = record.ty == ResourceType::AccessControlPolicy
        || [POLICIES, CUSTODIAN].iter().any(|name| record.attributes.contains_key(*name))
        || creator.is_some_and(|creator| record.owner.as_deref() != Some(creator));
    let mut above = record.parent.clone().filter(|_| differs);
    while let Some(ri) = above {
        let mut parent = writer.read().get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
        above = parent.parent.clone().filter(|_| !parent.opens);
        if !parent.opens {
            parent.opens = true;
            writer.put(&parent)?;
        }
    }
    Ok(())
}

/// The access rule: whether the originator may do that, where the resource goes by `rule`.
pub(crate) fn allows(
    who: &Originator<'_>,
    access: Access,
    on: &Record,
    rule: &Rule,
) -> Result<bool, StoreError> {
    // What is no registree's is the administrators', whatever policies say: they can lock
    // themselves out of nothing. Who may register is theirs alone.
    if who.kind == Kind::Administrator && on.owner.is_none() {
        return Ok(true);
    }
    if who.kind == Kind::Stranger || decision::is_change(access, on.ty) {
        return Ok(false);
    }
    // A polling channel is its AE's alone, whoever else the policies let in (TS-0004 clause
    // 7.4.21.2): what others are not shown, they do not find either.
    if on.ty == ResourceType::PollingChannel && !who.is(on.owner.as_deref()) {
        return Ok(false);
    }
    let own = |ri: &str, access| {
        let policy = who.read.get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.into()))?;
        let grants = who.grants_in(&policy, SELF_PRIVILEGES)?;
        Ok::<_, StoreError>(grants.allow(access, ResourceType::AccessControlPolicy))
    };
    match rule {
        Rule::Own(ri) => own(ri, access),
        // Who may change a policy may change where it applies.
        Rule::Policies(policies) if access == Access::UpdatePrivileges => {
            for (ri, _) in policies.iter() {
                if own(ri, Access::Update)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Rule::Policies(policies) => Ok(policies.iter().any(|(_, p)| p.allow(access, on.ty))),
        Rule::Default { custodian: Some(custodian), .. } => who.is_the(custodian),
        Rule::Default { custodian: None, creator } => {
            let looks = matches!(access, Access::Retrieve | Access::Discover)
                && on.ty == ResourceType::CseBase
                && matches!(who.kind, Kind::Ae | Kind::Administrator | Kind::Cse);
            // A CSE speaks of an AE that it announces as that AE (TS-0001 clause 10.2.2.2).
            let announced = ae_announcement::ae_of(on);
            let owns = who.is(on.owner.as_deref()) || who.is(announced.as_deref());
            match creator {
                Some(creator) if !looks && !owns => who.is_the(creator),
                _ => Ok(looks || owns),
            }
        }
    }
}

/// [`allows`], by the rule that the resource goes by.
pub(crate) fn may(who: &Originator<'_>, access: Access, on: &Record) -> Result<bool, StoreError> {
    allows(who, access, on, &who.rule(on)?)
}

/// [`may`], as a refusal.
pub(crate) fn require(who: &Originator<'_>, access: Access, on: &Record) -> Result<(), Refusal> {
    if may(who, access, on)? { Ok(()) } else { Err(Refusal::NoPrivilege(access.name())) }
}

/// Whether that changes a service subscription.
fn is_change(access: Access, on: ResourceType) -> bool {
    match access {
        Access::Create(child) => service_subscription::is_part(child),
        Access::Update | Access::Delete | Access::UpdatePrivileges => {
            service_subscription::is_part(on)
        }
        Access::Retrieve | Access::Discover | Access::Notify => false,
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
