// Maps a certificate that does not name an entity: its row in the policy table
// certificate-table names the entity. A sandbox lives for one call, so nothing has to be freed.
#include "module.h"

typedef exports_saegis_policy_certificate_mapping_query_t query_t;
typedef exports_saegis_policy_certificate_mapping_answer_t answer_t;

static void refuse(answer_t *answer, const char *why) {
    answer->tag = EXPORTS_SAEGIS_POLICY_CERTIFICATE_MAPPING_ANSWER_REFUSED;
    module_string_dup(&answer->val.refused, why);
}

void exports_saegis_policy_certificate_mapping_identify(query_t *query, answer_t *answer) {
    module_string_t table;
    saegis_policy_policy_tables_option_own_row_t found;
    saegis_policy_policy_tables_error_t error;
    module_string_set(&table, "certificate-table");
    if (!saegis_policy_policy_tables_find(&table, &query->credential_id, &found, &error)) {
        refuse(answer, "there is no table certificate-table");
        return;
    }
    if (!found.is_some) {
        answer->tag = EXPORTS_SAEGIS_POLICY_CERTIFICATE_MAPPING_ANSWER_NOT_MINE;
        return;
    }
    saegis_policy_policy_tables_borrow_row_t row = saegis_policy_policy_tables_borrow_row(found.val);
    answer->tag = EXPORTS_SAEGIS_POLICY_CERTIFICATE_MAPPING_ANSWER_FOUND;
    module_string_t ae_id;
    module_string_set(&ae_id, "ae_id");
    saegis_policy_types_entity_t *entity = &answer->val.found.entity;
    if (saegis_policy_policy_tables_method_row_get(row, &ae_id, &entity->val.ae)) {
        entity->tag = SAEGIS_POLICY_TYPES_ENTITY_AE;
    } else {
        entity->tag = SAEGIS_POLICY_TYPES_ENTITY_NOT_YET_KNOWN;
    }
    answer->val.found.expires.is_some = false;
}
