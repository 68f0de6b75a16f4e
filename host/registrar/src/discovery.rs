//! What is below a resource: as addresses, as references, or whole
//! (TS-0001 clause 10.2.6).
//!
//! The target itself is not among the results. Results that had to be cut off are marked as
//! partial, with the offset to go on from (TS-0004, Content Status and Content Offset).

use std::collections::HashSet;
use std::iter::Peekable;

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use serde_json::{Map, Value, json};

use crate::access::{Access, Originator, may};
use crate::address::{self, Found, Place};
use crate::context::Context;
use crate::options::ResultContent;
use crate::record::Attributes;
use crate::refusal::Refusal;
use crate::representation::{attributes, rooted};
use crate::store::Read;
use crate::walk::{Visit, Walk};

/// m2m:contentStatus: what was found is not all there is.
const PARTIAL: &str = "1";

/// Most bytes of nested children in an answer.
const MAX_NESTED: usize = 4 << 20;

/// The resources that an answer lists.
struct Results {
    visits: Vec<Visit>,
    /// The offset of the first that was cut off.
    next: Option<usize>,
}

fn walk<'a>(
    read: &'a dyn Read,
    context: &Context<'_>,
    who: (Originator<'a>, Access),
    from: &Found,
) -> Result<Walk<'a>, Refusal> {
    let path = address::structured(read, &from.record)?;
    Ok(Walk::below(read, (from, path), who, context.options.levels, context.now)?)
}

fn find(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
) -> Result<Results, Refusal> {
    let options = &context.options;
    let mut walk = walk(read, context, (who, Access::Discover), from)?;
    let mut results = Results { visits: Vec::new(), next: None };
    let mut matched: usize = 0;
    let mut seen = HashSet::new();
    let onward = match &options.relative {
        Some(path) => Some((context.originator(read)?, path)),
        None => None,
    };
    while let Some(mut visit) = walk.next()? {
        if !options.filter.matches(context.settings, &visit.record, visit.expires) {
            continue;
        }
        if let Some((who, path)) = &onward {
            // Several may lead to the same.
            match relative(read, context, who, &visit.path, path)? {
                Some(there) if seen.insert(there.record.ri.clone()) => visit = there,
                _ => continue,
            }
        }
        matched += 1;
        if matched <= options.skip {
            continue;
        }
        if results.visits.len() == options.limit {
            results.next = Some(matched);
            break;
        }
        // Only its type and names are needed, and a thousand instances are a lot of content.
        visit.record.attributes = Attributes::new();
        results.visits.push(visit);
    }
    Ok(results)
}

/// What a path from one resource leads to, if it leads anywhere (`arp`, TS-0001 clause 8.1.2).
fn relative(
    read: &dyn Read,
    context: &Context<'_>,
    who: &Originator<'_>,
    from: &str,
    path: &[String],
) -> Result<Option<Visit>, Refusal> {
    let mut segments: Vec<&str> = from.split('/').collect();
    for segment in path {
        if segment != ".." {
            segments.push(segment);
        } else if segments.pop().is_none() {
            return Ok(None);
        }
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let to = Target { scope: Scope::CseRelative, resource: segments.join("/") };
    let found = match address::resolve(read, context.settings, &to, context.now) {
        Ok(Place::Resource(found)) => Ok(found),
        Ok(Place::Instance { container, edge }) => {
            address::instance(read, &container, edge, context.now)
        }
        Err(refusal) => Err(refusal),
    };
    match found {
        Ok(Found { record, expires }) if may(who, Access::Discover, &record)? => {
            let path = address::structured(read, &record)?;
            Ok(Some(Visit { record, expires, path, level: 1 }))
        }
        Ok(_) | Err(Refusal::NotFound) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// What an answer says of what is below a resource.
pub(crate) struct Listing {
    /// Its content.
    pub(crate) content: Value,
    /// Whether that is all, and where to go on.
    marks: Vec<(&'static str, String)>,
}

impl Listing {
    fn new(content: Value, next: Option<usize>) -> Self {
        let marks = match next {
            None => Vec::new(),
            Some(next) => vec![("x-m2m-cts", PARTIAL.into()), ("x-m2m-cto", next.to_string())],
        };
        Self { content, marks }
    }

    /// The answer that it is.
    pub(crate) fn answer(self, context: &Context<'_>, rsc: Rsc) -> ResponsePrimitive {
        let mut response = context.answer(rsc, Some(self.content));
        response.parameters.extend(self.marks);
        response
    }
}

/// Lists what is below a resource, in the form that is asked for; none where that is not.
///
/// # Errors
/// When there is too much to look at, or to answer with.
pub(crate) fn list(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
) -> Result<Option<Listing>, Refusal> {
    let own = || attributes(context.settings, &from.record, from.expires);
    Ok(Some(match context.options.content {
        ResultContent::Discovered | ResultContent::References => {
            references(read, context, who, from)?
        }
        ResultContent::AttributesAndChildren => nested(read, context, who, from, own())?,
        ResultContent::Children => nested(read, context, who, from, Attributes::new())?,
        ResultContent::AttributesAndReferences => with_references(read, context, who, from, own())?,
        _ => return Ok(None),
    }))
}

fn address_of(context: &Context<'_>, visit: &Visit) -> String {
    context.in_scope(if context.options.unstructured { &visit.record.ri } else { &visit.path })
}

fn reference(context: &Context<'_>, visit: &Visit) -> Value {
    json!({
        "nm": visit.record.name,
        "typ": visit.record.ty.number(),
        "val": address_of(context, visit),
    })
}

/// Answers with the addresses of what is below, or with references to it.
///
/// # Errors
/// When there is too much to look at.
fn references(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
) -> Result<Listing, Refusal> {
    let found = find(read, context, who, from)?;
    let content = if context.options.content == ResultContent::References {
        let list: Vec<_> = found.visits.iter().map(|v| reference(context, v)).collect();
        json!({ "m2m:rrl": { "rrf": list } })
    } else {
        let list: Vec<_> = found.visits.iter().map(|v| address_of(context, v)).collect();
        json!({ "m2m:uril": list })
    };
    Ok(Listing::new(content, found.next))
}

/// Answers with attributes of the target, and references to what is below.
///
/// # Errors
/// When there is too much to look at.
fn with_references(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
    mut own: Attributes,
) -> Result<Listing, Refusal> {
    let found = find(read, context, who, from)?;
    if !found.visits.is_empty() {
        let list = found.visits.iter().map(|v| reference(context, v)).collect();
        own.insert("ch".into(), Value::Array(list));
    }
    Ok(Listing::new(rooted(from.record.ty, own), found.next))
}

/// Answers with attributes of the target, and the resources below it, each inside its parent.
/// A child that the filter leaves out takes along what is below it.
///
/// # Errors
/// When there is too much to look at, or to answer with.
fn nested(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
    mut own: Attributes,
) -> Result<Listing, Refusal> {
    let options = &context.options;
    let mut walk = walk(read, context, (who, Access::Retrieve), from)?;
    let mut nodes = Vec::new();
    let mut bytes: usize = 0;
    let mut partial = false;
    while let Some(visit) = walk.next()? {
        if !options.filter.matches(context.settings, &visit.record, visit.expires) {
            walk.pass_over(&visit);
            continue;
        }
        if nodes.len() == options.limit {
            partial = true;
            break;
        }
        let attributes = attributes(context.settings, &visit.record, visit.expires);
        bytes += length(&attributes);
        if bytes > MAX_NESTED {
            return Err(Refusal::NotAcceptable(
                "that is too much for one answer: ask for less, with lim, lvl or a filter",
            ));
        }
        nodes.push(Node { level: visit.level, root: visit.record.ty.root(), attributes });
    }
    nest(&mut nodes.into_iter().peekable(), 1, &mut own);
    let marks = if partial { vec![("x-m2m-cts", PARTIAL.into())] } else { Vec::new() };
    Ok(Listing { content: rooted(from.record.ty, own), marks })
}

fn length(attributes: &Attributes) -> usize {
    serde_json::to_vec(attributes).map_or(usize::MAX, |text| text.len())
}

struct Node {
    level: u16,
    root: &'static str,
    attributes: Attributes,
}

/// Puts the nodes of a level, and each one's own below it, into their parent: a list for each type.
/// The levels are as many as resources may be nested, so the recursion ends.
fn nest<I: Iterator<Item = Node>>(nodes: &mut Peekable<I>, level: u16, into: &mut Attributes) {
    let mut lists: Map<String, Value> = Map::new();
    while let Some(mut node) = nodes.next_if(|n| n.level == level) {
        nest(nodes, level + 1, &mut node.attributes);
        let list = lists.entry(node.root).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(Value::Object(node.attributes));
        }
    }
    into.extend(lists);
}
