"""A light that registers, writes a value and reads it, with aiocoap over DTLS of tinydtls.

The argument is a JSON object. The light prints what it has seen as one, and fails if a response has
another code or status than the expected one.
"""

import asyncio
import json
import sys

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption

SETTINGS = json.loads(sys.argv[1])
OWN, OTHER = SETTINGS["from"], "Clight-AE2"
CSE = f"coaps://127.0.0.1:{SETTINGS['port']}/~/mn-cse-123456/cse"
FROM, REQUEST_ID, RELEASE, RESOURCE_TYPE, STATUS = 279, 283, 271, 267, 307
TIMEOUT = SETTINGS["timeout"]


class Light:
    def __init__(self, context: aiocoap.Context) -> None:
        self.context = context
        self.requests = 0

    async def ask(self, expected, code: Code, path: str, content=None, ty=None, origin=OWN):
        self.requests += 1
        identifier = f"r{self.requests}".encode()
        request = aiocoap.Message(code=code, uri=CSE + path)
        options = [(FROM, origin.encode()), (REQUEST_ID, identifier), (RELEASE, b"3")]
        if ty is not None:
            options.append((RESOURCE_TYPE, bytes([ty])))
        for number, value in options:
            request.opt.add_option(OpaqueOption(OptionNumber(number), value))
        if content is not None:
            request.opt.content_format = 50
            request.payload = json.dumps(content).encode()
        response = await asyncio.wait_for(self.context.request(request).response, TIMEOUT)
        found = {int(option.number): option.encode() for option in response.opt.option_list()}
        status = int.from_bytes(found.get(STATUS, b""), "big")
        if (response.code, status, found.get(REQUEST_ID)) != (*expected, identifier):
            sys.exit(f"{request}: {response} {status}")
        return json.loads(response.payload) if response.payload else None


async def main() -> None:
    context = await aiocoap.Context.create_client_context(transports=["tinydtls"])
    key = {"psk": {"hex": SETTINGS["key"]}, "client-identity": {"ascii": SETTINGS["identity"]}}
    context.client_credentials.load_from_dict({f"{CSE}*": {"dtls": key}})
    light = Light(context)
    created, content, forbidden = (Code.CREATED, 2001), (Code.CONTENT, 2000), Code.FORBIDDEN
    ae = {"m2m:ae": {"rn": "light", "api": "Nlight", "rr": False, "srv": ["3"]}}
    # The App-ID of another kind of device.
    foreign = {"m2m:ae": {**ae["m2m:ae"], "api": "Nother"}}
    await light.ask((forbidden, 4126), Code.POST, "", foreign, 2)
    registered = await light.ask(created, Code.POST, "", ae, 2)
    await light.ask(created, Code.POST, "/light", {"m2m:cnt": {"rn": "lamp"}}, 3)
    # The second one goes and comes in blocks.
    values = []
    for value in ["on", "v" * 5000]:
        await light.ask(created, Code.POST, "/light/lamp", {"m2m:cin": {"con": value}}, 4)
        latest = await light.ask(content, Code.GET, "/light/lamp/la")
        values.append(latest["m2m:cin"]["con"] == value)
    await light.ask((forbidden, 4106), Code.GET, "/light", origin=OTHER)
    await light.ask((Code.DELETED, 2002), Code.DELETE, "/light")
    await context.shutdown()
    print(json.dumps({"registered": registered["m2m:ae"]["aei"], "values": values}))


asyncio.run(main())
