//! A walk through what is below a resource, parents before their children, children of a type in
//! the order in which they were created.
//!
//! It holds one place for each level and no list of resources, and it gives up after a number of
//! resources: a discovery is no way to keep a registrar busy.

use saegis_onem2m::resource::ResourceType;

use crate::access::{Access, Originator, POLICIES, Rule, allows};
use crate::address::Found;
use crate::record::{Record, Seconds, alive, earlier};
use crate::refusal::Refusal;
use crate::store::{Child, Read, StoreError};

/// How much a walk may look at: resources, with one more counted for each [`BLOCK`] of content and
/// for each policy that a resource names.
const MOST: u64 = 20_000;
const BLOCK: u64 = 4096;

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
    left: u64,
    frames: Vec<Frame>,
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
        Ok(Self { read, who, access, levels, now, left: MOST, frames: vec![start] })
    }

    /// The next resource.
    ///
    /// # Errors
    /// When there is too much to look at.
    pub(crate) fn next(&mut self) -> Result<Option<Visit>, Refusal> {
        loop {
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
            let policies = record.names.resources(POLICIES).iter().flatten().count();
            let policies = u64::try_from(policies).unwrap_or(u64::MAX);
            let cost = (1 + record.size.unwrap_or(0) / BLOCK).saturating_add(policies);
            self.left = self.left.checked_sub(cost).ok_or(Refusal::NotAcceptable(
                "there is too much below the target: choose another one, or fewer levels",
            ))?;
            let expires = earlier(frame.expires, record.expires);
            if !alive(expires, self.now) {
                continue;
            }
            let rule = self.who.rule_below(&frame.rule, &record)?;
            let hidden = !allows(&self.who, self.access, &record, &rule)?;
            if hidden && self.access != Access::Discover {
                continue;
            }
            let path = format!("{}/{}", frame.path, record.name);
            let level = frame.level;
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
}
