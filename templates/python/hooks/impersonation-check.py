"""Checks each request, in addition to originator-check: denies delete requests."""

from logged import logged
from wit_world import exports
from wit_world.imports.types import Denial, Operation, Scope, Verdict_Allow, Verdict_Deny

# ORIGINATOR_HAS_NO_PRIVILEGE
REFUSED = 4103


class ImpersonationCheck(exports.ImpersonationCheck):
    @logged
    def check(self, association, primitive):
        if primitive.operation == Operation.DELETE:
            return Verdict_Deny(Denial(REFUSED, "delete requests are not allowed here"))
        return Verdict_Allow(Scope.THIS_REQUEST)
