"""A DTLS client with python-mbedtls.

    datagrams.py PORT IDENTITY KEY

Prints the suite, then sends each line of its input, in hexadecimal digits, as one message, and prints
each received message in the same form.
"""

import select
import signal
import socket
import sys

from mbedtls import tls

MAX_MESSAGE = 4096
HANDSHAKE_TIMEOUT = 4

port, identity, key = sys.argv[1:]
configuration = tls.DTLSConfiguration(
    pre_shared_key=(identity, bytes.fromhex(key)),
    ciphers=["TLS-PSK-WITH-AES-128-CCM-8"],
    validate_certificates=False,
)
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dtls = tls.ClientContext(configuration).wrap_socket(plain, server_hostname=None)
dtls.connect(("127.0.0.1", int(port)))
# The handshake waits for its server without end.
signal.alarm(HANDSHAKE_TIMEOUT)
while True:
    try:
        dtls.do_handshake()
        break
    except (tls.WantReadError, tls.WantWriteError):
        continue
signal.alarm(0)
print(dtls.cipher(), flush=True)
while True:
    readable, _, _ = select.select([sys.stdin.buffer.raw, dtls.fileno()], [], [])
    if dtls.fileno() in readable:
        print(dtls.recv(MAX_MESSAGE).hex(), flush=True)
    if sys.stdin.buffer.raw in readable:
        line = sys.stdin.buffer.raw.readline()
        if not line:
            break
        dtls.send(bytes.fromhex(line.decode()))
dtls.close()
