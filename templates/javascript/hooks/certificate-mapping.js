// Maps a certificate that does not name an entity: its row in the policy table
// certificate-table names the entity.
import { find } from "saegis:policy/policy-tables@{{version}}";

export const certificateMapping = {
  identify({ credentialId }) {
    let row;
    try {
      row = find("certificate-table", credentialId);
    } catch {
      return { tag: "refused", val: "there is no table certificate-table" };
    }
    if (row === undefined) return { tag: "not-mine" };
    const aeId = row.get("ae_id");
    const entity = aeId === undefined ? { tag: "not-yet-known" } : { tag: "ae", val: aeId };
    return { tag: "found", val: { entity } };
  },
};
