"""Decides which AEs may register: lights, by their App-ID."""

from logged import logged
from wit_world import exports
from wit_world.imports.types import Denial, Scope, Verdict_Allow, Verdict_Deny

# APP_RULE_VALIDATION_FAILED
REFUSED = 4126


class RegistrationCheck(exports.RegistrationCheck):
    @logged
    def check(self, association, registration):
        if registration.app_id != "Nlight":
            return Verdict_Deny(Denial(REFUSED, "only lights register here"))
        return Verdict_Allow(Scope.THIS_REQUEST)
