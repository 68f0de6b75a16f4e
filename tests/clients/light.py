"""A light that registers, is notified of its own value and reads it, over WebSocket or MQTT.

The argument is a JSON object. The light prints what it has seen as one, and fails if a response has
another status code than the expected one.
"""

import json
import queue
import ssl
import sys
import threading

import cbor2
import paho.mqtt.client as paho
import websockets.sync.client

SETTINGS = json.loads(sys.argv[1])
PORT = SETTINGS["port"]
OWN, OTHER, CSE = "Clight-AE1", "Clight-AE2", "mn-cse-123456"
TIMEOUT = 20


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if "chain" in SETTINGS:
        context.load_verify_locations(SETTINGS["anchor"])
        context.load_cert_chain(SETTINGS["chain"], SETTINGS["private_key"])
        return context
    # The shared key authenticates the gateway.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # The mandated suite.
    context.set_ciphers("PSK-AES128-CBC-SHA256:@SECLEVEL=0")
    secret = SETTINGS["identity"], bytes.fromhex(SETTINGS["key"])
    context.set_psk_client_callback(lambda hint: secret)
    return context


class WebSocket:
    def __init__(self) -> None:
        subprotocol = SETTINGS["subprotocol"]
        self.is_cbor = subprotocol.endswith("cbor")
        self.socket = websockets.sync.client.connect(
            f"wss://127.0.0.1:{PORT}/",
            ssl=tls(),
            server_hostname=SETTINGS.get("server_name"),
            subprotocols=[subprotocol],
            open_timeout=TIMEOUT,
        )
        if self.socket.subprotocol != subprotocol:
            sys.exit(f"the subprotocol is {self.socket.subprotocol}")

    def session(self) -> ssl.SSLSocket:
        return self.socket.socket

    def send(self, primitive: dict) -> None:
        self.socket.send(cbor2.dumps(primitive) if self.is_cbor else json.dumps(primitive))

    def receive(self) -> dict:
        message = self.socket.recv(timeout=TIMEOUT)
        return cbor2.loads(message) if self.is_cbor else json.loads(message)

    def close(self) -> None:
        self.socket.close()


class Mqtt:
    def __init__(self) -> None:
        self.messages = queue.Queue()
        self.type = SETTINGS.get("type", "json")
        version = paho.CallbackAPIVersion.VERSION2
        self.client = paho.Client(version, f"A::{OWN}", clean_session=False, protocol=paho.MQTTv311)
        self.client.tls_set_context(tls())
        # paho compares the certificate with the address that it connects to.
        self.client.tls_insecure_set(True)
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        subscribed = threading.Event()
        reasons = []

        def on_subscribe(client, data, mid, codes, properties) -> None:
            reasons.extend(codes)
            subscribed.set()

        def on_connect(client, data, flags, code, properties) -> None:
            if code.is_failure:
                on_subscribe(client, data, None, [code], properties)

        self.client.on_connect = on_connect
        self.client.on_subscribe = on_subscribe
        self.client.connect("127.0.0.1", PORT)
        self.client.loop_start()
        kinds = f"req/+/{OWN}", f"resp/{OWN}", f"reg_resp/{SETTINGS['credential']}"
        self.client.subscribe([(f"/oneM2M/{kind}/#", 1) for kind in kinds])
        if not subscribed.wait(TIMEOUT) or any(reason.is_failure for reason in reasons):
            sys.exit(f"not subscribed: {reasons}")

    def session(self) -> ssl.SSLSocket:
        return self.client.socket()

    def send(self, primitive: dict) -> None:
        if "rsc" in primitive:
            topic = f"/oneM2M/resp/{CSE}/{OWN}"
        elif primitive.get("ty") == 2:
            topic = f"/oneM2M/reg_req/{SETTINGS['credential']}/{CSE}"
        else:
            topic = f"/oneM2M/req/{OWN}/{CSE}"
        content = cbor2.dumps(primitive) if self.type == "cbor" else json.dumps(primitive)
        self.client.publish(f"{topic}/{self.type}", content, qos=1).wait_for_publish(TIMEOUT)

    def receive(self) -> dict:
        message = self.messages.get(timeout=TIMEOUT)
        is_cbor = message.topic.endswith("/cbor")
        return cbor2.loads(message.payload) if is_cbor else json.loads(message.payload)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Light:
    def __init__(self, binding) -> None:
        self.binding = binding
        self.requests = 0
        self.values = []

    def receive(self) -> dict:
        """Returns the next response, and responds to notifications."""
        while "op" in (message := self.binding.receive()):
            event = message["pc"]["m2m:sgn"].get("nev")
            if event:
                self.values.append(event["rep"]["m2m:cin"]["con"])
            self.binding.send({"rsc": 2000, "rqi": message["rqi"], "rvi": "3", "fr": OWN})
        return message

    def ask(self, rsc: int, op: int, to: str, **others) -> dict:
        self.requests += 1
        request = {"op": op, "to": to, "fr": OWN, "rqi": f"r{self.requests}", "rvi": "3", **others}
        self.binding.send(request)
        response = self.receive()
        if (response["rqi"], response["rsc"]) != (request["rqi"], rsc):
            sys.exit(f"{request}: {response}")
        return response.get("pc", {})


light = Light(WebSocket() if SETTINGS["binding"] == "websocket" else Mqtt())
session = light.binding.session()
seen = {"protocol": session.version(), "suite": session.cipher()[0]}
ae = {"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": True, "srv": ["3"]}}
seen["registered"] = light.ask(2001, 1, "cse", ty=2, pc=ae)["m2m:ae"]["aei"]
light.ask(2001, 1, "cse/light1", ty=3, pc={"m2m:cnt": {"rn": "lamp"}})
subscription = {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}
light.ask(2001, 1, "cse/light1/lamp", ty=23, pc={"m2m:sub": subscription})
light.ask(2001, 1, "cse/light1/lamp", ty=4, pc={"m2m:cin": {"con": "on"}})
latest = light.ask(2000, 2, "cse/light1/lamp/la")
seen["latest"] = latest["m2m:cin"]["con"]
while not light.values:
    light.ask(2000, 2, "cse/light1")
seen["notified"] = light.values
light.ask(4106, 2, "cse/light1", fr=OTHER)
light.ask(2002, 4, "cse/light1")
light.binding.close()
print(json.dumps(seen))
