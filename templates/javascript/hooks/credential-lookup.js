// Finds the credential of a psk_identity: its row in the policy table psk-lookup-table.
//
// The module does not see the key: the response contains a handle to it.
import { find } from "saegis:policy/policy-tables@{{version}}";

export const credentialLookup = {
  lookup({ pskIdentity }) {
    let row;
    try {
      row = find("psk-lookup-table", pskIdentity);
    } catch {
      return { tag: "refused", val: "there is no table psk-lookup-table" };
    }
    if (row === undefined) return { tag: "not-mine" };
    const key = row.key("kpsa");
    if (key === undefined) return { tag: "refused", val: "the table has no column kpsa" };
    const aeId = row.get("ae_id");
    const entity = aeId === undefined ? { tag: "not-yet-known" } : { tag: "ae", val: aeId };
    return { tag: "found", val: { entity, credentialId: `12-${pskIdentity}`, key } };
  },
};
