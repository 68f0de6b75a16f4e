//! Security information in a Notify (`m2m:seci`): which kinds pass, and where.

use saegis_onem2m::primitive::SecurityInformation;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;

use super::{Handler, Refusal};
use crate::backend::Backend;

impl Handler {
    /// Checks that security information may pass.
    ///
    /// The originator of the primitive in an ESPrim object is not visible here, so such objects pass
    /// only between CSEs for which the operator allows them. Their target checks that originator
    /// (TS-0003 clause 8.4).
    pub(super) fn check_security_information(
        &self,
        information: SecurityInformation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let refused = |rsc, why: &str| Err((rsc, why.to_owned()));
        if request.operation != Operation::Notify {
            return refused(Rsc::BadRequest, "security information belongs in a Notify");
        }
        let is_local = self.is_local(request);
        match information {
            SecurityInformation::Malformed => refused(
                Rsc::BadRequest,
                "the type (sit) of the security information is missing or does not fit its content",
            ),
            SecurityInformation::Esprim if is_local => refused(
                Rsc::EsprimUnsupportedOption,
                "end-to-end protected primitives (ESPrim) are not supported by this CSE",
            ),
            SecurityInformation::Esprim if self.may_pass_esprim(request) => Ok(()),
            SecurityInformation::Esprim => refused(
                Rsc::OriginatorHasNoPrivilege,
                "end-to-end protected primitives (ESPrim) are not allowed on this way",
            ),
            // A CSE behind decides on it. It names no originator.
            SecurityInformation::Other => match self.gateway.backend {
                Backend::Remote(_) => Ok(()),
                Backend::Embedded(_) | Backend::Maf(_) | Backend::Mef(_) if is_local => refused(
                    Rsc::NotImplemented,
                    "security information of this type is not supported by this CSE",
                ),
                Backend::Embedded(_) | Backend::Maf(_) | Backend::Mef(_) => Ok(()),
            },
        }
    }

    /// Returns whether both the CSE that forwarded the request and the next CSE on its way may
    /// exchange ESPrim objects.
    fn may_pass_esprim(&self, request: &RequestPrimitive) -> bool {
        let Some((_, next)) = self.route(&request.to) else { return false };
        let allows = |cse| self.gateway.cses.allows_esprim(cse);
        next.allows_esprim() && self.came_from().is_none_or(allows)
    }
}
