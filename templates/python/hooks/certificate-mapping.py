"""Maps a certificate that does not name an entity: its row in the policy table
certificate-table names the entity.
"""

from componentize_py_types import Err
from logged import logged
from wit_world import exports
from wit_world.exports.certificate_mapping import (
    Answer_Found,
    Answer_NotMine,
    Answer_Refused,
    Mapping,
)
from wit_world.imports import policy_tables
from wit_world.imports.types import Entity_Ae, Entity_NotYetKnown


class CertificateMapping(exports.CertificateMapping):
    @logged
    def identify(self, query):
        try:
            row = policy_tables.find("certificate-table", query.credential_id)
        except Err:
            return Answer_Refused("there is no table certificate-table")
        if row is None:
            return Answer_NotMine()
        ae_id = row.get("ae_id")
        return Answer_Found(Mapping(Entity_Ae(ae_id) if ae_id else Entity_NotYetKnown(), None))
