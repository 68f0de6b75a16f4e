// Decides, at a MAF, which keys its clients may register: those for security associations (SUID 32).
// A sandbox lives for one call, so nothing has to be freed.
#include "module.h"

// ORIGINATOR_HAS_NO_PRIVILEGE
static const uint16_t REFUSED = 4103;

void exports_saegis_policy_key_registration_check_check(
    exports_saegis_policy_key_registration_check_association_t *association,
    exports_saegis_policy_key_registration_check_key_registration_t *registration,
    exports_saegis_policy_key_registration_check_verdict_t *verdict
) {
    (void)association;
    if (registration->suid != 32) {
        verdict->tag = SAEGIS_POLICY_TYPES_VERDICT_DENY;
        verdict->val.deny.rsc = REFUSED;
        module_string_dup(&verdict->val.deny.reason, "keys are for security associations only");
        return;
    }
    verdict->tag = SAEGIS_POLICY_TYPES_VERDICT_ALLOW;
    verdict->val.allow = SAEGIS_POLICY_TYPES_SCOPE_THIS_REQUEST;
}
