// Finds the credential of a psk_identity: its row in the policy table psk-lookup-table.
//
// The module does not see the key: the response contains a handle to it.
// A sandbox lives for one call, so nothing has to be freed.
#include <stdlib.h>
#include <string.h>

#include "module.h"

typedef exports_saegis_policy_credential_lookup_query_t query_t;
typedef exports_saegis_policy_credential_lookup_answer_t answer_t;

static void refuse(answer_t *answer, const char *why) {
    answer->tag = EXPORTS_SAEGIS_POLICY_CREDENTIAL_LOOKUP_ANSWER_REFUSED;
    module_string_dup(&answer->val.refused, why);
}

// The Credential-ID of a provisioned key: 12-<KpsaID>.
static void credential_id(module_string_t *id, const module_string_t *kpsa_id) {
    id->len = 3 + kpsa_id->len;
    id->ptr = malloc(id->len);
    if (id->ptr == NULL) abort();
    memcpy(id->ptr, "12-", 3);
    memcpy(id->ptr + 3, kpsa_id->ptr, kpsa_id->len);
}

void exports_saegis_policy_credential_lookup_lookup(query_t *query, answer_t *answer) {
    module_string_t table;
    saegis_policy_policy_tables_option_own_row_t found;
    saegis_policy_policy_tables_error_t error;
    module_string_set(&table, "psk-lookup-table");
    if (!saegis_policy_policy_tables_find(&table, &query->psk_identity, &found, &error)) {
        refuse(answer, "there is no table psk-lookup-table");
        return;
    }
    if (!found.is_some) {
        answer->tag = EXPORTS_SAEGIS_POLICY_CREDENTIAL_LOOKUP_ANSWER_NOT_MINE;
        return;
    }
    saegis_policy_policy_tables_borrow_row_t row = saegis_policy_policy_tables_borrow_row(found.val);
    module_string_t kpsa;
    module_string_set(&kpsa, "kpsa");
    saegis_policy_types_own_key_t key;
    if (!saegis_policy_policy_tables_method_row_key(row, &kpsa, &key)) {
        refuse(answer, "the table has no column kpsa");
        return;
    }
    answer->tag = EXPORTS_SAEGIS_POLICY_CREDENTIAL_LOOKUP_ANSWER_FOUND;
    answer->val.found.key = key;
    credential_id(&answer->val.found.credential_id, &query->psk_identity);
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
