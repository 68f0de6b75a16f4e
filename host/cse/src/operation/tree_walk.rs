//! A walk through what is below a resource, parents before their children, children of a type in
//! the order in which they were created.
//!
//! It holds one place for each level and no list of resources. Each resource is a step of the
//! request's budget. The resources of other registrees, above all those that are closed to the
//! originator, have steps of their own in it, which the registrees share. So a registree that fills
//! its subtree uses up neither the steps of the originator nor those for the others.

use saegis_onem2m::resource::ResourceType;

use crate::access::decision::{Originator, Rule, allows};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::record::{Record, Seconds, alive, earlier};
use crate::resource::address::Found;
use crate::store::{Child, Read, StoreError};

/// A registree's part of the steps that are left for all that follow, where many follow: one in so
/// many. Where fewer follow, they have equal parts.
const MAX_PARTS: u64 = 16;

/// How much more a step costs that leads to something closed to the originator.
const CLOSED_WEIGHT: u64 = 10;

/// A resource on the way.
pub(crate) struct Visit {
    /// The resource.
    pub(crate) record: Record,
    /// When it or an ancestor expires.
    pub(crate) expires: Option<Seconds>,
    /// Its structured address.
    pub(crate) path: String,
    /// How far below the start it is, from 1.
    pub(crate) level: u16,
}

/// A walk.
pub(crate) struct Walk<'a> {
    read: &'a dyn Read,
    who: Originator<'a>,
    access: Access,
    levels: u16,
    now: Seconds,
    frames: Vec<Frame>,
    /// Whether it starts above the subtrees of registrees.
    is_shared: bool,
    /// The subtree of another registree that the walk is in.
    visited: Option<ForeignSubtree>,
    /// Whether something was passed over because its subtree had used up its steps.
    cut: bool,
    /// The steps that the budget had when they were last charged.
    charged: u64,
}

/// The subtree of another registree than the originator, that a walk is in.
struct ForeignSubtree {
    /// How many frames there are outside of it.
    outside: usize,
    /// The steps that are left for it.
    left: u64,
}

struct Frame {
    parent: String,
    path: String,
    expires: Option<Seconds>,
    level: u16,
    last: Option<Child>,
    /// At least so many children follow, as far as they were counted.
    following: u64,
    /// By which rule the parent goes.
    rule: Rule,
    /// Whether the parent was passed over, and so its instances, which follow it, will be.
    hidden: bool,
}

impl<'a> Walk<'a> {
    /// Starts below `from`, whose structured address is `path`. What `who` has no privilege of
    /// `access` to is passed over. Something below it may be open to `who` all the same: that is
    /// discovered, but retrieved it would have no place in the answer.
    pub(crate) fn below(
        read: &'a dyn Read,
        (from, path): (&Found, String),
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
        };
        let levels = levels.unwrap_or(u16::MAX);
        Ok(Self {
            read,
            who,
            access,
            levels,
            now,
            frames: vec![start],
            is_shared: from.record.owner.is_none(),
            visited: None,
            cut: false,
            charged: read.budget().left(),
        })
    }

    /// The next resource.
    ///
    /// # Errors
    /// When there is too much to look at.
    pub(crate) fn next(&mut self) -> Result<Option<Visit>, Refusal> {
        loop {
            // With what was looked up because of the last resource since then.
            self.charge(1);
            if self.visited.as_ref().is_some_and(|v| self.frames.len() <= v.outside) {
                self.visited = None;
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(child) = self.read.next_child(&frame.parent, frame.last.as_ref())? else {
                self.frames.pop();
                continue;
            };
            if frame.hidden && child.ty == ResourceType::ContentInstance.number() {
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
            let leads_on = record.ty != ResourceType::ContentInstance && (!hidden || record.opens);
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
                });
            }
            if hidden {
                continue;
            }
            return Ok(Some(Visit { record, expires, path, level }));
        }
    }

    /// Whether something was passed over because there is too much of another registree's.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Enters the subtree of another registree, if the resource is the top of one. Returns false where
    /// no steps are left for it.
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

    /// Returns how many parts to make of the steps that are left, one of which is for the last child.
    fn parts(&mut self) -> Result<u64, StoreError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(1) };
        if frame.following >= MAX_PARTS {
            frame.following -= 1;
        } else {
            frame.following = 0;
            let mut next = frame.last.clone();
            // Further than now needed, so that it is not counted again for each.
            while next.is_some() && frame.following < 2 * MAX_PARTS {
                next = self.read.next_child(&frame.parent, next.as_ref())?;
                frame.following += u64::from(next.is_some());
            }
        }
        Ok((frame.following + 1).min(MAX_PARTS))
    }

    /// Charges the steps since the last time to the subtree of another registree that the walk is in,
    /// each `weight` times. Leaves the subtree when its steps are used up, and returns whether the walk
    /// is still in it.
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
