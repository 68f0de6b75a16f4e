// Checks each request, after and besides originator-check: nobody deletes.
// ORIGINATOR_HAS_NO_PRIVILEGE
const REFUSED = 4103;

export const impersonationCheck = {
  check(association, primitive) {
    if (primitive.operation === "delete") {
      return { tag: "deny", val: { rsc: REFUSED, reason: "nothing is deleted here" } };
    }
    return { tag: "allow", val: "this-request" };
  },
};
