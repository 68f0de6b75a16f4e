"""Light 1 of the worked example, with the standard library of Python 3.13."""

import http.client
import json
import os
import socket
import ssl

HOST, PORT = os.environ.get("GATEWAY", "127.0.0.1:8443").rsplit(":", 1)
KPSA_ID = "AE123456789012-Light@in.provider.com"
KPSA = bytes.fromhex("1a2b3c4d5e6f7a8b")
AE_ID = "Clight-AE1"


def context() -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    # The shared key authenticates the gateway.
    tls.verify_mode = ssl.CERT_NONE
    # The gateway uses pre-shared keys in TLS 1.2 only.
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE-PSK-CHACHA20-POLY1305")
    tls.set_psk_client_callback(lambda hint: (KPSA_ID, KPSA))
    return tls


class Association(http.client.HTTPConnection):
    """One association for all requests: a handshake costs more than a request."""

    requests = 0

    def connect(self) -> None:
        self.sock = context().wrap_socket(socket.create_connection((self.host, self.port), 10))

    def ask(self, method: str, path: str, ty: int | None = None, content: object = None) -> dict:
        self.requests += 1
        headers = {"X-M2M-Origin": AE_ID, "X-M2M-RI": f"r{self.requests}", "X-M2M-RVI": "3"}
        body = None
        if content is not None:
            body = json.dumps(content)
            headers["Content-Type"] = "application/json" + (f";ty={ty}" if ty else "")
        self.request(method, path, body, headers)
        response = self.getresponse()
        text = response.read()
        if not (rsc := response.headers["X-M2M-RSC"]).startswith("2"):
            raise RuntimeError(f"{rsc}: {text.decode()}")
        return json.loads(text) if text else {}


gateway = Association(HOST, int(PORT))
gateway.connect()
print(gateway.sock.version(), gateway.sock.cipher()[0])
ae = {"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": False, "srv": ["3"]}}
print("registered as", gateway.ask("POST", "/cse", 2, ae)["m2m:ae"]["aei"])
gateway.ask("POST", "/cse/light1", 3, {"m2m:cnt": {"rn": "lamp", "mni": 10}})
gateway.ask("POST", "/cse/light1/lamp", 4, {"m2m:cin": {"con": "on"}})
print("latest:", gateway.ask("GET", "/cse/light1/lamp/la")["m2m:cin"]["con"])
