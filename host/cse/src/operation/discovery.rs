//! Discovery and listings: the resources below a resource as addresses, as references, or as nested
//! representations (TS-0001 clause 10.2.6).
//!
//! The target itself is not among the results. Truncated results are marked as partial, with the
//! offset of the next result (TS-0004, Content Status and Content Offset).

use std::collections::HashSet;
use std::iter::Peekable;

use saegis_onem2m::parameter::{Parameter, Parameters};
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use serde_json::{Map, Value, json};

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::operation::indexed;
use crate::operation::tree_walk::{TreeWalk, VisitedResource};
use crate::record::Attributes;
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{self, Resolved, ResolvedResource};
use crate::resource::content_instance;
use crate::resource::representation::{self, in_root_element};
use crate::store::Read;

/// m2m:contentStatus of a truncated result.
const PARTIAL: &str = "1";

/// Maximum size of nested children in a response, in bytes.
const MAX_NESTED_BYTES: usize = 4 << 20;

/// The resources in a response.
struct Results {
    visits: Vec<VisitedResource>,
    /// Offset of the first omitted resource.
    next: Option<usize>,
    /// Whether further resources were omitted.
    cut: bool,
}

fn walk<'a>(
    read: &'a dyn Read,
    context: &Context<'_>,
    who: (Originator<'a>, Access),
    from: &ResolvedResource,
) -> Result<TreeWalk<'a>, Refusal> {
    let path = address::structured(read, &from.record)?;
    Ok(TreeWalk::below(read, (from, path), who, context.options.levels, context.now)?)
}

fn find(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &ResolvedResource,
) -> Result<Results, Refusal> {
    let options = &context.options;
    let mut walk = match indexed::find(read, context, &who, from)? {
        Some(found) => Source::Index(found.into_iter()),
        None => {
            let walk = walk(read, context, (who, Access::Discover), from)?;
            // With `fo=2`, the other conditions may hold as well.
            let types = if options.filter.any { &[] } else { options.filter.types.as_slice() };
            Source::Walk(Box::new(walk.limited_to(types)))
        }
    };
    let mut results = Results { visits: Vec::new(), next: None, cut: false };
    let mut matched: usize = 0;
    let (mut seen, mut followed) = (HashSet::new(), HashSet::new());
    let onward = match &options.relative {
        Some(path) => Some((context.originator(read)?, path)),
        None => None,
    };
    while let Some(mut visit) = walk.next()? {
        if !walk.has_filtered()
            && !options.filter.matches(context.settings, &visit.record, visit.expires)
        {
            continue;
        }
        if let Some((who, path)) = &onward {
            // Several resources may lead to the same address, which is followed once.
            let Some(to) = joined(&visit.path, path).filter(|to| followed.insert(to.clone()))
            else {
                continue;
            };
            match relative(read, context, who, to)? {
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
        // Only the type and the names are needed. The content of a thousand instances would be
        // large.
        visit.record.attributes = Attributes::new();
        results.visits.push(visit);
    }
    results.cut = walk.is_cut();
    Ok(results)
}

/// The source of the resources that a discovery compares with its filter.
enum Source<'a> {
    /// All resources below the target.
    Walk(Box<TreeWalk<'a>>),
    /// Those that match the filter, found by an index, in the same order.
    Index(std::vec::IntoIter<VisitedResource>),
}

impl Source<'_> {
    fn next(&mut self) -> Result<Option<VisitedResource>, Refusal> {
        match self {
            Self::Walk(walk) => walk.next(),
            Self::Index(found) => Ok(found.next()),
        }
    }

    fn is_cut(&self) -> bool {
        match self {
            Self::Walk(walk) => walk.is_cut(),
            Self::Index(_) => false,
        }
    }

    /// Returns whether all of them match the filter.
    fn has_filtered(&self) -> bool {
        matches!(self, Self::Index(_))
    }
}

/// Returns the address that a relative path leads to, if it stays below the `<CSEBase>`.
fn joined(from: &str, path: &[String]) -> Option<String> {
    let mut segments: Vec<&str> = from.split('/').collect();
    for segment in path {
        if segment != ".." {
            segments.push(segment);
        } else {
            segments.pop()?;
        }
    }
    if segments.is_empty() { None } else { Some(segments.join("/")) }
}

/// Returns the resource at an address that a relative path leads to, if it exists (`arp`, TS-0001
/// clause 8.1.2).
fn relative(
    read: &dyn Read,
    context: &Context<'_>,
    who: &Originator<'_>,
    to: String,
) -> Result<Option<VisitedResource>, Refusal> {
    let to = Target { scope: Scope::CseRelative, resource: to };
    let found = match address::resolve(read, context.settings, &to, context.now) {
        Ok(Resolved::Resource(found)) => Ok(found),
        Ok(Resolved::Instance { container, edge }) => {
            address::instance(read, &container, edge, context.now)
        }
        Err(refusal) => Err(refusal),
    };
    match found {
        Ok(ResolvedResource { record, expires }) if may(who, Access::Discover, &record)? => {
            let path = address::structured(read, &record)?;
            Ok(Some(VisitedResource { record, expires, path, level: 1 }))
        }
        Ok(_) | Err(Refusal::NotFound) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// A listing of the resources below a resource.
pub(crate) struct Listing {
    /// Content of the response.
    pub(crate) content: Value,
    /// Content Status and Content Offset.
    marks: Parameters,
}

impl Listing {
    fn new(content: Value, next: Option<usize>, cut: bool) -> Self {
        let mut marks = Parameters::default();
        if next.is_some() || cut {
            marks.set(Parameter::ContentStatus, PARTIAL);
        }
        if let Some(next) = next {
            marks.set(Parameter::ContentOffset, next.to_string());
        }
        Self { content, marks }
    }

    /// Converts the listing to a response.
    pub(crate) fn answer(self, context: &Context<'_>, rsc: Rsc) -> ResponsePrimitive {
        let mut response = context.answer(rsc, Some(self.content));
        response.parameters = self.marks;
        response
    }
}

/// Lists the resources below a resource in the requested form; `None` if the request does not ask
/// for them.
///
/// # Errors
/// Returns an error if the work limit or the maximum size of a response is exceeded.
pub(crate) fn list(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &ResolvedResource,
) -> Result<Option<Listing>, Refusal> {
    let own = || {
        let mut found = ResolvedResource { record: from.record.clone(), expires: from.expires };
        context.retrieved(read, &mut found)
    };
    Ok(Some(match context.options.content {
        ResultContent::Discovered | ResultContent::References => {
            references(read, context, who, from)?
        }
        ResultContent::AttributesAndChildren => nested(read, context, who, from, own()?)?,
        ResultContent::Children => nested(read, context, who, from, Attributes::new())?,
        ResultContent::AttributesAndReferences => {
            with_references(read, context, who, from, own()?)?
        }
        _ => return Ok(None),
    }))
}

fn address_of(context: &Context<'_>, visit: &VisitedResource) -> String {
    context.in_scope(if context.options.unstructured { &visit.record.ri } else { &visit.path })
}

fn reference(context: &Context<'_>, visit: &VisitedResource) -> Value {
    json!({
        "nm": visit.record.name,
        "typ": visit.record.ty.number(),
        "val": address_of(context, visit),
    })
}

/// Lists the addresses of the resources, or references to them.
///
/// # Errors
/// Returns an error if the work limit is exceeded.
fn references(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &ResolvedResource,
) -> Result<Listing, Refusal> {
    let found = find(read, context, who, from)?;
    let content = if context.options.content == ResultContent::References {
        let list: Vec<_> = found.visits.iter().map(|v| reference(context, v)).collect();
        json!({ "m2m:rrl": { "rrf": list } })
    } else {
        let list: Vec<_> = found.visits.iter().map(|v| address_of(context, v)).collect();
        json!({ "m2m:uril": list })
    };
    Ok(Listing::new(content, found.next, found.cut))
}

/// Lists the attributes of the target, with references to the resources below it.
///
/// # Errors
/// Returns an error if the work limit is exceeded.
fn with_references(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &ResolvedResource,
    mut own: Attributes,
) -> Result<Listing, Refusal> {
    let found = find(read, context, who, from)?;
    if !found.visits.is_empty() {
        let list = found.visits.iter().map(|v| reference(context, v)).collect();
        own.insert("ch".into(), Value::Array(list));
    }
    Ok(Listing::new(in_root_element(&from.record, own), found.next, found.cut))
}

/// Lists the attributes of the target, with the matching resources nested in their parents. The
/// parents of a match are included and count.
///
/// # Errors
/// Returns an error if the work limit or the maximum size of a response is exceeded.
fn nested(
    read: &dyn Read,
    context: &Context<'_>,
    who: Originator<'_>,
    from: &ResolvedResource,
    mut own: Attributes,
) -> Result<Listing, Refusal> {
    let options = &context.options;
    let mut walk = walk(read, context, (who, Access::Retrieve), from)?;
    let mut branches = Branches::new(options.skip, options.limit);
    // Possible ancestors of the next match.
    let mut above: Vec<VisitedResource> = Vec::new();
    while let Some(visit) = walk.next()? {
        above.retain(|parent| parent.level < visit.level);
        if visit.level == 1 && !branches.begin()? {
            break;
        }
        if !options.filter.matches(context.settings, &visit.record, visit.expires) {
            // An instance has no children.
            if !visit.record.ty.is_instance() {
                above.push(visit);
            }
            continue;
        }
        for mut resource in above.drain(..).chain([visit]) {
            content_instance::without_expired(read, &mut resource.record, context.now)?;
            let attributes =
                representation::of_resource(context.settings, &resource.record, resource.expires);
            branches.put(resource.level, resource.record.root(), attributes);
        }
        if branches.is_full() {
            break;
        }
    }
    let (nodes, next) = branches.end()?;
    nest(&mut nodes.into_iter().peekable(), 1, &mut own);
    Ok(Listing::new(in_root_element(&from.record, own), next, walk.is_cut()))
}

/// The direct children of the target, each with the resources below it.
///
/// A child that does not fit into the response is omitted together with those that follow, and the
/// response has the offset of the next one (TS-0001 clause 8.1.2). The first child is included as
/// far as the originator's limit allows.
struct Branches {
    skip: usize,
    limit: usize,
    nodes: Vec<Node>,
    bytes: usize,
    /// The branch that is being walked.
    branch: Vec<Node>,
    branch_bytes: usize,
    /// Whether the branch exceeds the limit.
    is_cut: bool,
    /// Number of non-empty branches that are complete.
    ended: usize,
    next: Option<usize>,
}

impl Branches {
    fn new(skip: usize, limit: usize) -> Self {
        let (nodes, branch) = (Vec::new(), Vec::new());
        let (bytes, branch_bytes, ended) = (0, 0, 0);
        Self { skip, limit, nodes, bytes, branch, branch_bytes, is_cut: false, ended, next: None }
    }

    /// Starts the next direct child. Returns whether it may fit into the response.
    fn begin(&mut self) -> Result<bool, Refusal> {
        if self.next.is_some() {
            return Ok(false);
        }
        if self.branch.is_empty() {
            return Ok(true);
        }
        self.ended += 1;
        let (branch, bytes) = (std::mem::take(&mut self.branch), self.branch_bytes);
        let is_cut = std::mem::take(&mut self.is_cut);
        self.branch_bytes = 0;
        if self.ended <= self.skip {
            return Ok(true);
        }
        let is_first = self.nodes.is_empty();
        let is_too_large = self.bytes.saturating_add(bytes) > MAX_NESTED_BYTES;
        if is_first && is_too_large {
            return Err(Refusal::NotAcceptable(
                "the result is too large for one response: request less, with lim, lvl or a filter",
            ));
        }
        if !is_first && (is_too_large || self.nodes.len() + branch.len() > self.limit) {
            self.next = Some(self.ended);
            return Ok(false);
        }
        self.nodes.extend(branch);
        self.bytes += bytes;
        if is_cut {
            self.next = Some(self.ended + 1);
        }
        Ok(self.next.is_none())
    }

    /// Adds a resource to the current branch.
    fn put(&mut self, level: u16, root: &str, attributes: Attributes) {
        // For a skipped branch it suffices to know that it is not empty.
        let is_skipped = self.ended < self.skip;
        let limit = if is_skipped { 1 } else { self.limit };
        if self.branch.len() >= limit {
            self.is_cut = !is_skipped;
        } else if self.branch_bytes <= MAX_NESTED_BYTES {
            self.branch_bytes = self.branch_bytes.saturating_add(length(&attributes));
            self.branch.push(Node { level, root: root.into(), attributes });
        }
    }

    /// Returns whether no further resource fits into the response.
    fn is_full(&self) -> bool {
        self.ended >= self.skip
            && (self.is_cut
                || self.nodes.len() + self.branch.len() > self.limit
                || self.bytes.saturating_add(self.branch_bytes) > MAX_NESTED_BYTES)
    }

    /// Returns the nodes of the response, and the next offset unless it is complete.
    fn end(mut self) -> Result<(Vec<Node>, Option<usize>), Refusal> {
        self.begin()?;
        Ok((self.nodes, self.next))
    }
}

fn length(attributes: &Attributes) -> usize {
    serde_json::to_vec(attributes).map_or(usize::MAX, |text| text.len())
}

struct Node {
    level: u16,
    root: String,
    attributes: Attributes,
}

/// Nests the nodes of a level with their children into their parent, as one list for each type. The
/// recursion is bounded by the maximum depth of resources.
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
