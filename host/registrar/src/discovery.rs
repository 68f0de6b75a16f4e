//! What is below a resource: as addresses, as references, or whole
//! (TS-0001 clause 10.2.6).
//!
//! The target itself is not among the results. Results that had to be cut off are marked as
//! partial, with the offset to go on from (TS-0004, Content Status and Content Offset).

use std::iter::Peekable;

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Map, Value, json};

use crate::access::{Access, Originator};
use crate::address::{self, Found};
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
    while let Some(mut visit) = walk.next()? {
        if !options.filter.matches(&visit.record, visit.expires) {
            continue;
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

fn mark(response: &mut ResponsePrimitive, next: Option<usize>) {
    if let Some(next) = next {
        response.parameters.push(("x-m2m-cts", PARTIAL.into()));
        response.parameters.push(("x-m2m-cto", next.to_string()));
    }
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
pub(crate) fn references(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
) -> Result<ResponsePrimitive, Refusal> {
    let found = find(read, context, who, from)?;
    let content = if context.options.content == ResultContent::References {
        let list: Vec<_> = found.visits.iter().map(|v| reference(context, v)).collect();
        json!({ "m2m:rrl": { "rrf": list } })
    } else {
        let list: Vec<_> = found.visits.iter().map(|v| address_of(context, v)).collect();
        json!({ "m2m:uril": list })
    };
    let mut response = context.answer(Rsc::Ok, Some(content));
    mark(&mut response, found.next);
    Ok(response)
}

/// Answers with attributes of the target, and references to what is below.
///
/// # Errors
/// When there is too much to look at.
pub(crate) fn with_references(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
    mut own: Attributes,
) -> Result<ResponsePrimitive, Refusal> {
    let found = find(read, context, who, from)?;
    if !found.visits.is_empty() {
        let list = found.visits.iter().map(|v| reference(context, v)).collect();
        own.insert("ch".into(), Value::Array(list));
    }
    let mut response = context.answer(Rsc::Ok, Some(rooted(from.record.ty, own)));
    mark(&mut response, found.next);
    Ok(response)
}

/// Answers with attributes of the target, and the resources below it, each inside its parent.
/// A child that the filter leaves out takes along what is below it.
///
/// # Errors
/// When there is too much to look at, or to answer with.
pub(crate) fn nested(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &Found,
    mut own: Attributes,
) -> Result<ResponsePrimitive, Refusal> {
    let options = &context.options;
    let mut walk = walk(read, context, (who, Access::Retrieve), from)?;
    let mut nodes = Vec::new();
    let mut bytes: usize = 0;
    let mut partial = false;
    while let Some(visit) = walk.next()? {
        if !options.filter.matches(&visit.record, visit.expires) {
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
    let mut response = context.answer(Rsc::Ok, Some(rooted(from.record.ty, own)));
    if partial {
        response.parameters.push(("x-m2m-cts", PARTIAL.into()));
    }
    Ok(response)
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
