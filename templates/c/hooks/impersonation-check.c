// Checks each request, in addition to originator-check: denies delete requests.
// A sandbox lives for one call, so nothing has to be freed.
#include "module.h"

// ORIGINATOR_HAS_NO_PRIVILEGE
static const uint16_t REFUSED = 4103;

void exports_saegis_policy_impersonation_check_check(
    exports_saegis_policy_impersonation_check_association_t *association,
    exports_saegis_policy_impersonation_check_primitive_t *primitive,
    exports_saegis_policy_impersonation_check_verdict_t *verdict
) {
    (void)association;
    if (primitive->operation == SAEGIS_POLICY_TYPES_OPERATION_DELETE) {
        verdict->tag = SAEGIS_POLICY_TYPES_VERDICT_DENY;
        verdict->val.deny.rsc = REFUSED;
        module_string_dup(&verdict->val.deny.reason, "delete requests are not allowed here");
        return;
    }
    verdict->tag = SAEGIS_POLICY_TYPES_VERDICT_ALLOW;
    verdict->val.allow = SAEGIS_POLICY_TYPES_SCOPE_THIS_REQUEST;
}
