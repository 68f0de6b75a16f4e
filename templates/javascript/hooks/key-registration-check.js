// Decides, at a MAF, which keys its clients may register: those for security associations (SUID 32).
// ORIGINATOR_HAS_NO_PRIVILEGE
const REFUSED = 4103;

export const keyRegistrationCheck = {
  check(association, registration) {
    if (registration.suid !== 32) {
      return { tag: "deny", val: { rsc: REFUSED, reason: "keys are for security associations only" } };
    }
    return { tag: "allow", val: "this-request" };
  },
};
