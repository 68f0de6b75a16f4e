//! A walk through what is below a resource, parents before their children, children of a type in
//! the order in which they were created.
//!
//! It holds one place for each level and no list of resources. Each resource is a step of the
//! request's budget. What is in the subtree of another registree, and above all what is closed to the
//! originator there, is looked at up to an allowance: whoever fills a subtree of its own does not use
//! up the budgets of others.

use saegis_onem2m::resource::ResourceType;

use crate::access::{Access, Originator, Rule, allows};
use crate::address::Found;
use crate::record::{Record, Seconds, alive, earlier};
use crate::refusal::Refusal;
use crate::store::{Child, Read, StoreError};

/// What a walk may spend in the subtree of another registree, in steps.
const ALLOWANCE: u64 = 10_000;

/// How much more a step costs that leads to something closed to the originator.
const CLOSED: u64 = 10;

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
    visited: Option<Visited>,
    /// Whether something was passed over because its subtree had used up its allowance.
    cut: bool,
}

/// The subtree of another registree than the originator, that a walk is in.
struct Visited {
    /// How many frames there are outside of it.
    outside: usize,
    /// What is left of the allowance.
    left: u64,
}

struct Frame {
    parent: String,
    path: String,
    expires: Option<Seconds>,
    level: u16,
    last: Option<Child>,
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
        })
    }

    /// The next resource.
    ///
    /// # Errors
    /// When there is too much to look at.
    pub(crate) fn next(&mut self) -> Result<Option<Visit>, Refusal> {
        loop {
            if self.visited.as_ref().is_some_and(|v| self.frames.len() <= v.outside) {
                self.visited = None;
            }
            let before = self.read.budget().left();
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
            let expires = earlier(frame.expires, record.expires);
            let is_there = alive(expires, self.now);
            let rule = self.who.rule_below(&frame.rule, &record)?;
            let hidden = !is_there || !allows(&self.who, self.access, &record, &rule)?;
            let path = format!("{}/{}", frame.path, record.name);
            let level = frame.level;
            let is_left = !self.afford(&record, before, hidden);
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

    /// Takes what a resource cost out of the allowance of the subtree that it is in. Leaves the
    /// subtree when that is used up, and returns whether the walk is still in it.
    fn afford(&mut self, record: &Record, before: u64, hidden: bool) -> bool {
        let owner = record.owner.as_deref();
        if self.visited.is_none() && self.is_shared && owner.is_some() && !self.who.is(owner) {
            self.visited = Some(Visited { outside: self.frames.len(), left: ALLOWANCE });
        }
        let Some(visited) = &mut self.visited else { return true };
        let cost = before.saturating_sub(self.read.budget().left());
        let cost = if hidden { cost.saturating_mul(CLOSED) } else { cost };
        visited.left = visited.left.saturating_sub(cost);
        if visited.left > 0 {
            return true;
        }
        self.frames.truncate(visited.outside);
        self.cut = true;
        false
    }
}
