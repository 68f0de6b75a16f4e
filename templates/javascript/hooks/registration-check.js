// Decides which AEs may register: lights, by their App-ID.
// APP_RULE_VALIDATION_FAILED
const REFUSED = 4126;

export const registrationCheck = {
  check(association, registration) {
    if (registration.appId !== "Nlight") {
      return { tag: "deny", val: { rsc: REFUSED, reason: "only lights register here" } };
    }
    return { tag: "allow", val: "this-request" };
  },
};
