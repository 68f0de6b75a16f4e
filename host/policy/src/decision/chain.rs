//! Chains of checks, and the combined verdict of their modules.

use std::sync::Arc;

use saegis_onem2m::primitive::{Operation, RequestPrimitive};

use crate::data::decision::{Allowance, ModuleFault, Verdict};
use crate::decision::evaluate::Trace;
use crate::host::bindings::saegis::policy::types;
use crate::sandbox::module::Module;

/// Chain of checks: all must allow, and the narrowest scope is the result.
pub(crate) struct Chain {
    allowance: Allowance,
    asked: bool,
    end: Option<Verdict>,
    trace: Trace,
}

impl Chain {
    pub fn new(trace: Trace) -> Self {
        Self { allowance: Allowance::Originator, asked: false, end: None, trace }
    }

    /// Returns whether an answer ends the chain.
    pub fn ends(&mut self, of: &Arc<Module>, answer: Result<types::Verdict, ModuleFault>) -> bool {
        let module = of.name.clone();
        self.asked = true;
        let allowance = match answer {
            Ok(types::Verdict::Allow(types::Scope::Originator)) => Allowance::Originator,
            Ok(types::Verdict::Allow(types::Scope::ThisRequest)) => Allowance::ThisRequest,
            Ok(types::Verdict::Deny(types::Denial { rsc, reason })) => {
                self.trace.ended(of);
                self.end = Some(Verdict::Deny { module, rsc, reason });
                return true;
            }
            Err(fault) => {
                self.trace.ended(of);
                self.end = Some(Verdict::Failed { module, fault });
                return true;
            }
        };
        self.trace.passed(of, allowance);
        if allowance == Allowance::ThisRequest {
            self.allowance = allowance;
        }
        false
    }

    pub fn end(self) -> (Verdict, Trace) {
        (self.end.unwrap_or(Verdict::Allow(self.allowance)), self.trace)
    }

    /// Ends a chain that must not be empty: without a module, the request is refused.
    pub fn end_if_asked(self) -> (Verdict, Trace) {
        if self.asked {
            return self.end();
        }
        let fault = ModuleFault::NoSandbox("no module implements this check".into());
        (Verdict::Failed { module: String::new(), fault }, self.trace)
    }
}

/// Converts a request to the record that modules receive.
pub(crate) fn primitive_record(request: &RequestPrimitive) -> types::Primitive {
    let named = request.content.as_ref().map(|c| c.named_originators()).unwrap_or_default();
    types::Primitive {
        operation: match request.operation {
            Operation::Create => types::Operation::Create,
            Operation::Retrieve => types::Operation::Retrieve,
            Operation::Update => types::Operation::Update,
            Operation::Delete => types::Operation::Delete,
            Operation::Notify => types::Operation::Notify,
        },
        to: request.to.to_string(),
        from: request.from.clone(),
        resource_type: request.resource_type,
        named_originators: named
            .iter()
            .map(|n| types::NamedOriginator {
                attribute: n.attribute.into(),
                value: n.value.clone(),
            })
            .collect(),
    }
}
