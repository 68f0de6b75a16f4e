// Checks each request, in addition to originator-check: denies delete requests.
// ORIGINATOR_HAS_NO_PRIVILEGE
const REFUSED = 4103;

export const impersonationCheck = {
  check(association, primitive) {
    if (primitive.operation === "delete") {
      return { tag: "deny", val: { rsc: REFUSED, reason: "delete requests are not allowed here" } };
    }
    return { tag: "allow", val: "this-request" };
  },
};
