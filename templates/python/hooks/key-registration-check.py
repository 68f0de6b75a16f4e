"""Decides, at a MAF, which keys its clients may register: those for security associations (SUID 32)."""

from logged import logged
from wit_world import exports
from wit_world.imports.types import Denial, Scope, Verdict_Allow, Verdict_Deny

# ORIGINATOR_HAS_NO_PRIVILEGE
REFUSED = 4103


class KeyRegistrationCheck(exports.KeyRegistrationCheck):
    @logged
    def check(self, association, registration):
        if registration.suid != 32:
            return Verdict_Deny(Denial(REFUSED, "keys are for security associations only"))
        return Verdict_Allow(Scope.THIS_REQUEST)
