// Decides which AEs may register: lights, by their App-ID.
// A sandbox lives for one call, so nothing has to be freed.
#include <string.h>

#include "module.h"

// APP_RULE_VALIDATION_FAILED
static const uint16_t REFUSED = 4126;

void exports_saegis_policy_registration_check_check(
    exports_saegis_policy_registration_check_association_t *association,
    exports_saegis_policy_registration_check_registration_t *registration,
    exports_saegis_policy_registration_check_verdict_t *verdict
) {
    (void)association;
    if (registration->app_id.len != 6 || memcmp(registration->app_id.ptr, "Nlight", 6) != 0) {
        verdict->tag = SAEGIS_POLICY_TYPES_VERDICT_DENY;
        verdict->val.deny.rsc = REFUSED;
        module_string_dup(&verdict->val.deny.reason, "only lights register here");
        return;
    }
    verdict->tag = SAEGIS_POLICY_TYPES_VERDICT_ALLOW;
    verdict->val.allow = SAEGIS_POLICY_TYPES_SCOPE_THIS_REQUEST;
}
