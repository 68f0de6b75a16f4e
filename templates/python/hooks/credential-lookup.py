"""Finds the credential of a psk_identity: its row in the policy table psk-lookup-table.

The module does not see the key: the response contains a handle to it.
"""

from componentize_py_types import Err
from logged import logged
from wit_world import exports
from wit_world.exports.credential_lookup import (
    Answer_Found,
    Answer_NotMine,
    Answer_Refused,
    Credential,
)
from wit_world.imports import policy_tables
from wit_world.imports.types import Entity_Ae, Entity_NotYetKnown


class CredentialLookup(exports.CredentialLookup):
    @logged
    def lookup(self, query):
        try:
            row = policy_tables.find("psk-lookup-table", query.psk_identity)
        except Err:
            return Answer_Refused("there is no table psk-lookup-table")
        if row is None:
            return Answer_NotMine()
        key = row.key("kpsa")
        if key is None:
            return Answer_Refused("the table has no column kpsa")
        ae_id = row.get("ae_id")
        entity = Entity_Ae(ae_id) if ae_id else Entity_NotYetKnown()
        return Answer_Found(Credential(entity, "12-" + query.psk_identity, None, key))
