//! A walk through the resources below a resource: parents before their children, children of a type
//! in the order of their creation.
//!
//! The walk holds one frame for each level, and no list of resources. Each resource takes a step of
//! the request's budget. The resources of other registrees have separate steps in it, which the
//! registrees share. Those that are closed to the originator cost more. So a registree that fills
//! its subtree exhausts neither the originator's steps nor those for other registrees.

use saegis_onem2m::resource::ResourceType;

use crate::access::decision::{Originator, allows};
use crate::access::grants::Access;
use crate::access::rule::Rule;
use crate::error::Refusal;
use crate::record::{Record, Seconds, alive, earlier};
use crate::resource::address::ResolvedResource;
use crate::resource::content_instance;
use crate::store::{Child, Read, StoreError};

/// Maximum number of parts into which the remaining steps for other registrees are divided. If
/// fewer registrees follow, they get equal parts.
const MAX_PARTS: u64 = 16;

/// Cost factor of a step to a resource that is closed to the originator.
const CLOSED_WEIGHT: u64 = 10;

/// A visited resource.
pub(crate) struct VisitedResource {
    /// Resource.
    pub(crate) record: Record,
    /// Expiration time of the resource or of an ancestor, whichever is first.
    pub(crate) expires: Option<Seconds>,
    /// Structured address.
    pub(crate) path: String,
    /// Level below the start, from 1.
    pub(crate) level: u16,
}

/// A walk through a subtree.
pub(crate) struct TreeWalk<'a> {
    read: &'a dyn Read,
    who: Originator<'a>,
    access: Access,
    levels: u16,
    /// Types of the only resources that are wanted, if they are limited.
    types: Option<Vec<u16>>,
    now: Seconds,
    frames: Vec<Frame>,
    /// Whether it starts above the subtrees of registrees.
    is_shared: bool,
    /// Subtree of another registree that the walk is in.
    visited: Option<ForeignSubtree>,
    /// Whether resources were skipped because their subtree had exhausted its steps.
    cut: bool,
    /// Remaining steps of the budget at the last charge.
    charged: u64,
}

/// The subtree of a registree other than the originator, which the walk is in.
struct ForeignSubtree {
    /// Number of frames outside of it.
    outside: usize,
    /// Remaining steps for it.
    left: u64,
}

struct Frame {
    parent: String,
    path: String,
    expires: Option<Seconds>,
    level: u16,
    last: Option<Child>,
    /// Lower bound of the number of children that follow, as far as they were counted.
    following: u64,
    /// Access rule of the parent.
    rule: Rule,
    /// Whether the parent was skipped. Its instances, which follow its rule, are then skipped too.
    hidden: bool,
    /// Whether the instances of the parent cannot be retrieved.
    is_closed: bool,
}

impl<'a> TreeWalk<'a> {
    /// Starts a walk below `from`, whose structured address is `path`. Resources to which `who` has
    /// no `access` are skipped. A resource below them may be open to `who`: it is discovered, but
    /// not retrieved, because the response could not contain it.
    pub(crate) fn below(
        read: &'a dyn Read,
        (from, path): (&ResolvedResource, String),
        (who, access): (Originator<'a>, Access),
        levels: Option<u16>,
        now: Seconds,
    ) -> Result<Self, StoreError> {
        let rule = match from.record.ty {
            ResourceType::CseBase => Rule::default(),
            _ => who.rule(&from.record)?,
        };
        let start = Frame {
            parent: from.record.ri.clone(),
            path,
            expires: from.expires,
            level: 1,
            last: None,
            following: 0,
            rule,
            hidden: false,
            is_closed: access == Access::Retrieve && content_instance::is_closed(&from.record),
        };
        let levels = levels.unwrap_or(u16::MAX);
        Ok(Self {
            read,
            who,
            access,
            levels,
            types: None,
            now,
            frames: vec![start],
            is_shared: from.record.owner.is_none(),
            visited: None,
            cut: false,
            charged: read.budget().left(),
        })
    }

    /// Limits the walk to resources of these types. Instances of other types are passed over without
    /// a step for each. Other resources are visited, because there may be wanted ones below them.
    pub(crate) fn limited_to(self, types: &[u16]) -> Self {
        Self { types: (!types.is_empty()).then(|| types.to_vec()), ..self }
    }

    /// Returns the next resource.
    ///
    /// # Errors
    /// Returns an error if the work limit is exceeded.
    pub(crate) fn next(&mut self) -> Result<Option<VisitedResource>, Refusal> {
        loop {
            // Includes the lookups that the caller made for the last resource.
            self.charge(1);
            if self.visited.as_ref().is_some_and(|v| self.frames.len() <= v.outside) {
                self.visited = None;
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(child) = self.read.next_child(&frame.parent, frame.last.as_ref())? else {
                self.frames.pop();
                continue;
            };
            let ty = ResourceType::from_number(child.ty);
            let unwanted = self.types.as_ref().is_some_and(|types| !types.contains(&child.ty));
            if (frame.hidden || frame.is_closed || unwanted)
                && ty.is_some_and(ResourceType::is_instance)
            {
                frame.last = Some(Child { sequence: u64::MAX, ..child });
                continue;
            }
            let found = self.read.get(&child.ri)?;
            let record = found.ok_or_else(|| StoreError::Corrupt(child.ri.clone()))?;
            frame.last = Some(child);
            if !self.enter(&record)? {
                continue;
            }
            let Some(frame) = self.frames.last() else { return Ok(None) };
            let expires = earlier(frame.expires, record.expires);
            let is_there = alive(expires, self.now);
            let rule = self.who.rule_below(&frame.rule, &record)?;
            let hidden = !is_there || !allows(&self.who, self.access, &record, &rule)?;
            let path = format!("{}/{}", frame.path, record.name);
            let level = frame.level;
            let is_left = !self.charge(if hidden { CLOSED_WEIGHT } else { 1 });
            if !is_there || is_left || hidden && self.access != Access::Discover {
                continue;
            }
            let leads_on = !record.ty.is_instance() && (!hidden || record.opens);
            if leads_on && level < self.levels {
                self.frames.push(Frame {
                    parent: record.ri.clone(),
                    path: path.clone(),
                    expires,
                    level: level + 1,
                    last: None,
                    following: 0,
                    rule,
                    hidden,
                    is_closed: self.access == Access::Retrieve
                        && content_instance::is_closed(&record),
                });
            }
            if hidden {
                continue;
            }
            return Ok(Some(VisitedResource { record, expires, path, level }));
        }
    }

    /// Returns whether resources were skipped because a subtree of another registree is too large.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Enters the subtree of another registree, if the resource is its top. Returns `false` if no
    /// steps are left for it.
    fn enter(&mut self, record: &Record) -> Result<bool, StoreError> {
        let owner = record.owner.as_deref();
        if self.visited.is_some() || !self.is_shared || owner.is_none() || self.who.is(owner) {
            return Ok(true);
        }
        let left = self.read.budget().foreign_left();
        if left == 0 {
            self.cut = true;
            return Ok(false);
        }
        let left = left.div_ceil(self.parts()?);
        self.visited = Some(ForeignSubtree { outside: self.frames.len(), left });
        Ok(true)
    }

    /// Returns the number of parts into which the remaining steps are divided, one of them for the
    /// last child.
    fn parts(&mut self) -> Result<u64, StoreError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(1) };
        if frame.following >= MAX_PARTS {
            frame.following -= 1;
        } else {
            frame.following = 0;
            let mut next = frame.last.clone();
            // Counts more children than needed now, to avoid counting them again for each child.
            while next.is_some() && frame.following < 2 * MAX_PARTS {
                next = self.read.next_child(&frame.parent, next.as_ref())?;
                frame.following += u64::from(next.is_some());
            }
        }
        Ok((frame.following + 1).min(MAX_PARTS))
    }

    /// Charges the steps since the last call, `weight` times each, to the subtree of another
    /// registree that the walk is in. Leaves the subtree when its steps are exhausted. Returns
    /// whether the walk is still in it.
    fn charge(&mut self, weight: u64) -> bool {
        let budget = self.read.budget();
        let steps = self.charged.saturating_sub(budget.left());
        let mut is_in = true;
        if let Some(visited) = &mut self.visited {
            visited.left = visited.left.saturating_sub(steps.saturating_mul(weight));
            budget.charge_foreign(steps, weight);
            is_in = visited.left > 0;
            if !is_in {
                self.frames.truncate(visited.outside);
                self.cut = true;
            }
        }
        self.charged = budget.left();
        is_in
    }
}
