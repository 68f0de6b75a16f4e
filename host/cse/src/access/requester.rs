//! The originator of a request, with the state on which its privileges depend.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::role::RoleId;
use saegis_onem2m::token::{TokenPermission, VerifiedToken};
use serde_json::Value;

use crate::access::grants::{Access, Grants, Named};
use crate::access::membership;
use crate::access::originator::Identity;
use crate::access::roles;
use crate::access::rule::{NamedOriginator, Rule, inherit};
use crate::access::tokens::{self, ListedResources};
use crate::error::Refusal;
use crate::identifiers;
use crate::record::names::{Reference, Registrants};
use crate::record::{Record, Seconds};
use crate::resource::access_contexts::RequestContext;
use crate::resource::access_rules::{PRIVILEGES, SELF_PRIVILEGES, groups};
use crate::resource::links;
use crate::resource::registrant;
use crate::resource::remote_cse;
use crate::resource::schema::{ORIGINATOR, POLICIES};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The relation of an originator to this CSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A registered AE.
    Ae,
    /// A registered AE that the settings name as an administrator.
    Administrator,
    /// A CSE. An AE of another CSE with an S-type stem writes its AE-ID in the same form. So this
    /// kind has only the rights of such an AE.
    Cse,
    /// An AE of another CSE.
    AeElsewhere,
    /// Any other originator: an unregistered AE, or a From in a form that only this CSE may write.
    Stranger,
}

/// The originator of a request, with the state on which its privileges depend.
pub(crate) struct Originator<'a> {
    pub(super) kind: Kind,
    identity: Identity,
    /// Roles that it claims, and that are assigned to it.
    roles: Vec<RoleId>,
    /// Roles of its tokens that hold for all resources.
    token_roles: Vec<RoleId>,
    /// Verified tokens of which it is the holder.
    tokens: &'a [VerifiedToken],
    /// Cached resources that the permissions of the tokens list.
    listed: RefCell<Option<Rc<[ListedResources]>>>,
    /// Whether this CSE itself has authenticated the originator (TS-0003 clause 7.1.2).
    is_authenticated: bool,
    /// Whether this is a retrieve or a discovery of a registered AE that the settings let see all
    /// resources.
    observes: bool,
    read: &'a dyn Read,
    pub(super) settings: &'a Settings,
    now: Seconds,
    /// Source address of the request, if known.
    source: Option<IpAddr>,
    /// Cached grants of policies, by their resource-IDs.
    grants: RefCell<HashMap<String, Option<Rc<Grants>>>>,
    /// Cached memberships in groups, by their resource-IDs.
    memberships: RefCell<HashMap<String, bool>>,
}

impl<'a> Originator<'a> {
    /// Identifies an originator.
    ///
    /// # Errors
    /// Returns an error if there is no From, only a registering AE may write it, or its form is
    /// unknown.
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
            // An AE of this CSE writes only its stem. Another form of its identifier, or of this
            // CSE's own, comes from another entity.
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
        Ok(Self {
            kind,
            identity,
            roles: Vec::new(),
            token_roles: Vec::new(),
            tokens: &[],
            listed: RefCell::default(),
            is_authenticated,
            observes: false,
            read,
            settings,
            now,
            source: None,
            grants: RefCell::default(),
            memberships: RefCell::default(),
        })
    }

    /// Identifies the originator of a request, with its roles and its source address.
    ///
    /// # Errors
    /// Returns the errors of [`identify`](Self::identify).
    pub(crate) fn of_request(
        read: &'a dyn Read,
        settings: &'a Settings,
        request: &'a RequestPrimitive,
        now: Seconds,
    ) -> Result<Self, Refusal> {
        let mut who = Self::identify(read, settings, request.from.as_deref(), now)?;
        // The view serves nothing else, such as a subscription.
        who.observes = request.operation == Operation::Retrieve
            && matches!(who.kind, Kind::Ae | Kind::Administrator)
            && settings.observers.iter().any(|stem| Some(stem.as_str()) == request.from.as_deref());
        let ae = match who.kind {
            Kind::Ae | Kind::Administrator => {
                request.from.as_deref().map(|stem| read.get(stem)).transpose()?.flatten()
            }
            Kind::Cse | Kind::AeElsewhere | Kind::Stranger => None,
        };
        if ae.as_ref().is_some_and(|ae| registrant::belongs_to_another(ae, request)) {
            (who.kind, who.identity) = (Kind::Stranger, Identity::default());
            (who.is_authenticated, who.observes) = (false, false);
        }
        if who.kind != Kind::Stranger {
            who.roles = roles::held(&request.roles, ae.as_ref());
            who.token_roles = tokens::general_roles(&request.tokens).collect();
            who.tokens = &request.tokens;
        }
        Ok(who.at_address(request.source_address))
    }

    /// Sets the source address. Without one, grants that are limited to addresses do not apply.
    pub(crate) fn at_address(self, source: Option<IpAddr>) -> Self {
        Self { source, ..self }
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether a record names this originator, by an identifier that no other originator
    /// can have.
    pub(crate) fn is(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| self.identity.is(&self.settings.canonical_id(id)))
    }

    /// Returns whether an attribute of a record named this originator when it was stored.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub(crate) fn is_the(&self, named: &NamedOriginator) -> Result<bool, StoreError> {
        if !self.is(Some(&named.id)) {
            return Ok(false);
        }
        let registrant = self.registrant_in(named.registrants.as_ref())?;
        Ok(self.identity.is_registrant(registrant.as_deref()))
    }

    /// Returns the registrant that an attribute of a record stores for this originator's AE-ID.
    fn registrant_in(&self, known: Option<&Registrants>) -> Result<Option<String>, StoreError> {
        match self.identity.stem_of_registrant() {
            Some(stem) => registrant::known(self.read, known, stem),
            None => Ok(None),
        }
    }

    /// Returns whether the settings let this originator see a resource, whoever it belongs to. The
    /// result of a request belongs to its originator alone, and so does a polling channel.
    pub(super) fn observes(&self, access: Access, on: &Record) -> bool {
        self.observes
            && matches!(access, Access::Retrieve | Access::Discover)
            && !matches!(on.ty, ResourceType::PollingChannel | ResourceType::Request)
            && !self.is(on.owner.as_deref())
    }

    /// Returns whether a resource is an announcement of this originator.
    pub(super) fn has_announced(&self, on: &Record) -> bool {
        on.ty.is_announcement() && self.is_authenticated && self.is(on.owner.as_deref())
    }

    /// Returns the grants of a policy, if it still exists.
    fn grants_of(&self, policy: &Reference) -> Result<Option<Rc<Grants>>, StoreError> {
        if let Some(known) = self.grants.borrow().get(&policy.ri) {
            return Ok(known.clone());
        }
        let found = policy.find(self.read, self.now)?.map(|found| found.record);
        let found = found.filter(|r| r.ty == ResourceType::AccessControlPolicy);
        let grants = found.map(|p| self.grants_in(&p)).transpose()?.map(Rc::new);
        self.grants.borrow_mut().insert(policy.ri.clone(), grants.clone());
        Ok(grants)
    }

    /// Returns the grants of a policy for itself.
    pub(crate) fn own_grants(&self, ri: &str) -> Result<Grants, StoreError> {
        let policy = self.read.get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.into()))?;
        self.grants_with(&self.roles, &policy, SELF_PRIVILEGES)
    }

    /// Returns the grants of a policy for other resources. The roles of tokens do not count:
    /// [`Self::is_permitted_by_token`] limits what they give.
    fn grants_in(&self, policy: &Record) -> Result<Grants, StoreError> {
        self.grants_with(&self.roles, policy, PRIVILEGES)
    }

    /// Returns the grants of a policy for the originator with these roles.
    fn grants_with(
        &self,
        roles: &[RoleId],
        policy: &Record,
        set: &str,
    ) -> Result<Grants, StoreError> {
        let request = self.context();
        let registrant = self.registrant_in(policy.names.registrants(set))?;
        let identity = &self.identity;
        let who = Named { identity, registrant: registrant.as_deref(), roles };
        let rules = policy.attributes.get(set);
        let named = policy.names.resources(set);
        let groups = if named.is_empty() { Vec::new() } else { rules.map_or(vec![], groups) };
        let in_group = |entry: &str| {
            let at = groups.iter().position(|group| group == entry);
            match at.and_then(|at| named.get(at)).and_then(Option::as_ref) {
                Some(group) => self.is_member(group),
                None => Ok(false),
            }
        };
        Grants::to(&who, self.is_authenticated, &request, rules, &in_group)
    }

    fn context(&self) -> RequestContext {
        RequestContext { at: self.now, source: self.source }
    }

    /// Returns the resources that each permission of its tokens lists.
    fn listed_resources(&self) -> Result<Rc<[ListedResources]>, StoreError> {
        if let Some(known) = self.listed.borrow().as_ref() {
            return Ok(known.clone());
        }
        let listed = tokens::listed(self.read, self.settings, self.tokens, self.now)?;
        *self.listed.borrow_mut() = Some(listed.clone());
        Ok(listed)
    }

    /// Returns whether a token gives the originator access to a resource whose rule is `rule`.
    pub(super) fn is_permitted_by_token(
        &self,
        access: Access,
        on: &Record,
        rule: &Rule,
    ) -> Result<bool, StoreError> {
        if self.tokens.is_empty() || !tokens::can_give(access, on) {
            return Ok(false);
        }
        let general = [&*self.roles, &*self.token_roles].concat();
        if !self.token_roles.is_empty() && self.is_permitted_with(&general, access, on, rule)? {
            return Ok(true);
        }
        let listed = self.listed_resources()?;
        let permissions = listed.iter().zip(tokens::permissions(self.tokens));
        for (_, permission) in permissions.filter(|(resources, _)| resources.include(on)) {
            let TokenPermission { rules, roles, .. } = permission;
            let all = [&*general, &**roles].concat();
            let registrant = self.identity.own_registrant();
            let who = Named { identity: &self.identity, registrant, roles: &all };
            let none = |_: &str| Ok(false);
            let (is_authenticated, rules) = (self.is_authenticated, rules.as_ref());
            let given = Grants::to(&who, is_authenticated, &self.context(), rules, &none)?;
            if given.allow(access, on.ty)
                || !roles.is_empty() && self.is_permitted_with(&all, access, on, rule)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the policies of a resource permit an access with these roles.
    fn is_permitted_with(
        &self,
        roles: &[RoleId],
        access: Access,
        on: &Record,
        rule: &Rule,
    ) -> Result<bool, StoreError> {
        let Rule::Policies(policies) = rule else { return Ok(false) };
        for (ri, _) in policies.iter() {
            let policy = self.read.get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
            if self.grants_with(roles, &policy, PRIVILEGES)?.allow(access, on.ty) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the originator is a member of a group.
    fn is_member(&self, group: &Reference) -> Result<bool, StoreError> {
        if let Some(known) = self.memberships.borrow().get(&group.ri) {
            return Ok(*known);
        }
        let (read, settings) = (self.read, self.settings);
        let is_member = membership::has_member(read, settings, group, &self.identity, self.now)?;
        self.memberships.borrow_mut().insert(group.ri.clone(), is_member);
        Ok(is_member)
    }

    /// Returns the access rule of a resource.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub(crate) fn rule(&self, on: &Record) -> Result<Rule, StoreError> {
        // The recursion is bounded by the maximum depth of resources.
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

    /// Returns the access rule of a child. `above` is the rule of its parent, unless that is the
    /// `<CSEBase>`.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub(crate) fn rule_below(&self, above: &Rule, child: &Record) -> Result<Rule, StoreError> {
        Ok(self.own_rule(child)?.unwrap_or_else(|| inherit(child, above.clone())))
    }

    /// Returns the policies of the `<CSEBase>` that the settings name. They are resolved by name
    /// because they may be created later, so only policies of administrators are accepted.
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

    /// Returns the rule of a resource that does not inherit from its parent.
    fn own_rule(&self, on: &Record) -> Result<Option<Rule>, StoreError> {
        match on.ty {
            _ if on.ty.is_instance() => return Ok(None),
            ResourceType::AccessControlPolicy => return Ok(Some(Rule::Own(on.ri.clone()))),
            // The result belongs to the originator of its request alone, whoever has access to the
            // resource above.
            ResourceType::Request => {
                let id = on.attributes.get(ORIGINATOR).and_then(Value::as_str).unwrap_or_default();
                let custodian = Some(NamedOriginator::of(on, ORIGINATOR, id));
                return Ok(Some(Rule::Default { custodian, creator: None }));
            }
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
