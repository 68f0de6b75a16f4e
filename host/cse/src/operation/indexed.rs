//! Discovery by labels or by creation times: the resources come from an index, so the time does not
//! depend on the number of other resources.
//!
//! The result is that of a walk through the tree: the same resources in the same order.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::operation::tree_walk::VisitedResource;
use crate::record::{Attributes, Record, Seconds, alive, earlier};
use crate::request::context::Context;
use crate::request::filter_criteria::Filter;
use crate::resource::address::{self, ResolvedResource};
use crate::store::{Read, StoreError};

/// Maximum number of resources with the labels or the creation times of a filter. With more of them,
/// all resources are visited.
const MAX_CANDIDATES: usize = 256;

/// The position of a resource below the target of the discovery.
#[derive(Clone)]
struct Position {
    /// Types and sequences from the target down to the resource, which define the order.
    order: Vec<(u16, u64)>,
    /// Structured address.
    path: String,
    expires: Option<Seconds>,
}

/// The positions of the resources above the candidates; `None` for those that are not below the
/// target.
type Positions = HashMap<String, Option<Rc<Position>>>;

/// Returns the resources below `from` that match the filter, which has a label or a creation time, and
/// that `who` may discover, without their attributes. Returns `None` if the filter does not require
/// one, if there are too many resources, or if they take too long.
///
/// # Errors
/// Returns an error if the work limit is exceeded.
pub(crate) fn find(
    read: &dyn Read,
    context: &Context<'_>,
    who: &Originator<'_>,
    from: &ResolvedResource,
) -> Result<Option<Vec<VisitedResource>>, Refusal> {
    let filter = &context.options.filter;
    let Some(candidates) = candidates(read, filter, &from.record)? else { return Ok(None) };
    let top = Position {
        order: Vec::new(),
        path: address::structured(read, &from.record)?,
        expires: from.expires,
    };
    let mut positions = Positions::from([(from.record.ri.clone(), Some(Rc::new(top)))]);
    let mut found = Vec::new();
    let steps = read.budget().left();
    for ri in candidates {
        // The resources of others may take long to look at. The walk limits each of them.
        if steps - read.budget().left() > steps / 4 {
            return Ok(None);
        }
        let mut record = read.get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
        let Some(position) = position(read, &record, &mut positions)? else { continue };
        let level = u16::try_from(position.order.len()).unwrap_or(u16::MAX);
        let is_in = level > 0 && context.options.levels.is_none_or(|levels| level <= levels);
        if is_in
            && alive(position.expires, context.now)
            && filter.matches(context.settings, &record, position.expires)
            && may(who, Access::Discover, &record)?
        {
            // The contents of hundreds of instances would be large.
            record.attributes = Attributes::new();
            found.push((record, level, position));
        }
    }
    found.sort_by(|(_, _, one), (_, _, other)| one.order.cmp(&other.order));
    let visit = |(record, level, position): (Record, u16, Rc<Position>)| {
        let (path, expires) = (position.path.clone(), position.expires);
        VisitedResource { record, expires, path, level }
    };
    Ok(Some(found.into_iter().map(visit).collect()))
}

/// Returns the resource-IDs of those that may match, or `None` if there are too many or no index has
/// them.
fn candidates(
    read: &dyn Read,
    filter: &Filter,
    from: &Record,
) -> Result<Option<BTreeSet<String>>, StoreError> {
    if filter.any {
        return Ok(None);
    }
    let mut candidates = BTreeSet::new();
    if filter.labels.is_empty() {
        let (Some(owner), Some((after, before))) = (&from.owner, filter.creation()) else {
            return Ok(None);
        };
        match read.created(owner, (after, before), MAX_CANDIDATES)? {
            Some(found) => candidates.extend(found),
            None => return Ok(None),
        }
    }
    for label in &filter.labels {
        match read.labeled(label, MAX_CANDIDATES)? {
            Some(found) => candidates.extend(found),
            None => return Ok(None),
        }
    }
    Ok(Some(candidates).filter(|candidates| candidates.len() <= MAX_CANDIDATES))
}

/// Returns the position of a resource, if it is the target or below it. The recursion is bounded by
/// the maximum depth of resources.
fn position(
    read: &dyn Read,
    record: &Record,
    positions: &mut Positions,
) -> Result<Option<Rc<Position>>, StoreError> {
    if let Some(known) = positions.get(&record.ri) {
        return Ok(known.clone());
    }
    let above = match &record.parent {
        None => None,
        Some(parent) => match positions.get(parent) {
            Some(known) => known.clone(),
            None => {
                let parent =
                    read.get(parent)?.ok_or_else(|| StoreError::Corrupt(parent.clone()))?;
                position(read, &parent, positions)?
            }
        },
    };
    let own = above.map(|above| {
        let mut order = above.order.clone();
        order.push((record.ty.number(), record.sequence));
        let path = format!("{}/{}", above.path, record.name);
        Rc::new(Position { order, path, expires: earlier(above.expires, record.expires) })
    });
    positions.insert(record.ri.clone(), own.clone());
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, LIGHT1, LIGHT2};
    use proptest::prelude::*;
    use serde_json::json;

    /// A container: its parent among the ones before, whether it has the label, and whether its
    /// policy opens it to light 2 (`Some(true)`), closes it, or it has none.
    type Step = (usize, bool, Option<bool>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..100usize, any::<bool>(), prop::option::weighted(0.3, any::<bool>()));
        prop::collection::vec(step, 1..24)
    }

    fn policy(bench: &Bench, name: &str, who: &[&str]) {
        let rules = json!({"acr": [{"acor": who, "acop": 63}]});
        let own = json!({"acr": [{"acor": [LIGHT1], "acop": 63}]});
        let acp = json!({"m2m:acp": {"rn": name, "pv": rules, "pvs": own}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn index_finds_what_walk_finds(steps in steps()) {
            let bench = Bench::with_lights();
            policy(&bench, "open", &[LIGHT1, LIGHT2]);
            policy(&bench, "shut", &[LIGHT1]);
            let mut paths = vec!["cse/light1".to_owned()];
            for (n, (parent, is_labeled, opened)) in steps.into_iter().enumerate() {
                let parent = paths[parent % paths.len()].clone();
                let label = if is_labeled { "wanted" } else { "other" };
                let mut cnt = json!({"rn": format!("c{n}"), "lbl": [label, "all"]});
                if let Some(is_open) = opened {
                    let name = if is_open { "open" } else { "shut" };
                    cnt["acpi"] = json!([format!("cse/light1/{name}")]);
                }
                let reply = bench.container(LIGHT1, &format!("/{parent}"), cnt);
                // Too deep.
                if reply.code == 2001 {
                    paths.push(format!("{parent}/c{n}"));
                }
            }
            for who in [LIGHT1, LIGHT2] {
                for from in ["/cse", "/cse/light1"] {
                    for query in ["", "&lvl=2", "&lim=3", "&lim=3&ofst=3", "&ty=3", "&arp=.."] {
                        let find = |filter: &str| {
                            let reply = bench.retrieve(who, &format!("{from}?fu=1{query}&{filter}"));
                            let marks = crate::testing::listed(&reply.response.parameters);
                            (reply.code, reply.json, marks)
                        };
                        // A filter that does not require the label uses the walk.
                        let walked = match query {
                            "&ty=3" => continue,
                            _ => find("fo=2&lbl=wanted"),
                        };
                        prop_assert_eq!(find("lbl=wanted"), walked, "{} {} {}", who, from, query);
                    }
                }
            }
            bench.cse().store().assert_consistent();
        }
    }

    #[test]
    fn labels_are_found_after_changes() {
        let mut bench = Bench::with_lights();
        let find = |bench: &Bench, label: &str| {
            let reply = bench.retrieve(LIGHT1, &format!("/cse?fu=1&lbl={label}"));
            reply.found().len()
        };
        let label = |bench: &Bench, labels: serde_json::Value| {
            let change = json!({"m2m:cnt": {"lbl": labels}});
            assert_eq!(bench.update(LIGHT1, "/cse/light1/state", change).code, 2004);
        };
        label(&bench, json!(["a", "b", "a"]));
        assert_eq!((find(&bench, "a"), find(&bench, "b"), find(&bench, "c")), (1, 1, 0));
        label(&bench, json!(["b", "c"]));
        assert_eq!((find(&bench, "a"), find(&bench, "b"), find(&bench, "c")), (0, 1, 1));
        assert_eq!(find(&bench, "b&lbl=c"), 1);
        bench = bench.reopen();
        assert_eq!(find(&bench, "c"), 1);
        label(&bench, json!(null));
        assert_eq!(find(&bench, "b"), 0);
        label(&bench, json!(["d"]));
        let soon = json!({"m2m:cnt": {"et": crate::record::timestamp(bench.now() + 5)}});
        assert_eq!(bench.update(LIGHT1, "/cse/light1/state", soon).code, 2004);
        bench.pass(10);
        assert_eq!(find(&bench, "d"), 0);
        bench.sweep();
        bench.cse().store().assert_consistent();
    }

    #[test]
    fn many_equal_labels_are_found() {
        let bench = Bench::with_lights();
        for n in 0..=MAX_CANDIDATES {
            let instance = json!({"rn": format!("i{n}"), "con": n, "lbl": ["many"]});
            assert_eq!(bench.instance(LIGHT1, "/cse/light1/state", instance).code, 2001);
        }
        let reply = bench.retrieve(LIGHT1, "/cse?fu=1&lbl=many");
        assert_eq!(reply.found().len(), MAX_CANDIDATES + 1);
    }
}
