"""The server `onem2m-mcp` for agents, of PyPI, as an AE: it registers, creates, is notified, discovers
and deletes over plain HTTP.

The argument is a JSON object. The script prints the results of the tools as one.
"""

import asyncio
import json
import os
import sys
import threading
import time

SETTINGS = json.loads(sys.argv[1])
OWN, OTHER = "Cagent", "Clight-AE2"
TIMEOUT = 20

os.environ.update({
    "ACME_MCP_CSE_URL": SETTINGS["url"],
    "ACME_MCP_CSE_RN": "cse",
    "ACME_MCP_CSE_ADMIN": OTHER,
    "ACME_MCP_ORIGINATOR": OWN,
    "ACME_MCP_PORT": str(SETTINGS["port"]),
    "ACME_MCP_RVI": "3",
})

from onem2m_mcp import core, gateway  # noqa: E402

transport = gateway.HttpTransport()
server = core.Onem2mMcpServer(transport).build()


def call(tool: str, **arguments) -> dict:
    result = asyncio.run(server.call_tool(tool, arguments))
    return json.loads(result.content[0].text)


def notified() -> list:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        if told := call("get_notifications")["notifications"]:
            return told
        time.sleep(0.05)
    return []


def main() -> None:
    threading.Thread(target=core.runServer, args=(server,), daemon=True).start()
    seen = {}
    seen["registered"] = call("register_ae", name="agent")
    seen["registered_again"] = call("register_ae", name="agent")
    seen["created"] = call("create_container", parent_id="cse/agent", name="lamp")
    until = time.monotonic() + TIMEOUT
    seen["watched"] = call("watch_resource", resource_id="cse/agent/lamp")
    # The server may not listen yet, when the CSE asks it.
    while seen["watched"]["rsc"] == 5204 and time.monotonic() < until:
        time.sleep(0.1)
        seen["watched"] = call("watch_resource", resource_id="cse/agent/lamp")
    seen["added"] = call("add_content", container_id="cse/agent/lamp", content="on")
    seen["notified"] = notified()
    seen["latest"] = call("get_latest_content", container_id="cse/agent/lamp")
    seen["discovered"] = call("discover_resources", resource_type="container")
    seen["missing"] = call("retrieve_resource", resource_id="cse/agent/none")
    seen["described"] = call("annotate_resource", resource_id="cse/agent/lamp", description="x")
    seen["stopped"] = call("stop_watching", subscription_id=seen["watched"].get("subscription_id"))
    # The credential of the tunnel is that of another AE.
    seen["other"] = transport.send(core.OP_RETRIEVE, "cse", originator=OTHER)
    print(json.dumps(seen))


main()
