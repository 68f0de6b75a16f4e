# Signs or verifies a token with PyJWT. It prints the token, or its claims.
import json
import sys

import jwt

asked = json.loads(sys.argv[1])
if "claims" in asked:
    print(jwt.encode(asked["claims"], asked["key"], algorithm="ES256", headers=asked.get("headers")))
else:
    claims = jwt.decode(
        asked["token"],
        asked["key"],
        algorithms=["ES256"],
        audience=asked["audience"],
        issuer=asked["issuer"],
        options={"require": ["exp", "nbf", "iss", "aud", "jti"]},
    )
    print(json.dumps(claims))
