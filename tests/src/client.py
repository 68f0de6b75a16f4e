# A client with Python's ssl. It prints its outcome like `openssl s_client -brief`, sends its standard
# input to the server, and writes the response to its standard output.
import os
import select
import socket
import ssl
import sys

port, name, ciphers, anchor, chain, key = sys.argv[1:]
context = ssl.create_default_context(cafile=anchor)
context.load_cert_chain(chain, key)
if ciphers:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
else:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
try:
    raw = socket.create_connection(("127.0.0.1", int(port)))
    tls = context.wrap_socket(raw, server_hostname=name)
    print("Ciphersuite:", tls.cipher()[0], file=sys.stderr, flush=True)
    tls.setblocking(False)
    open_input = [sys.stdin.fileno()]
    while True:
        readable, _, _ = select.select([tls, *open_input], [], [])
        if sys.stdin.fileno() in readable:
            said = os.read(sys.stdin.fileno(), 65536)
            if not said:
                break
            tls.setblocking(True)
            tls.sendall(said)
            tls.setblocking(False)
        try:
            came = tls.recv(65536)
        except ssl.SSLWantReadError:
            continue
        if not came:
            break
        sys.stdout.buffer.write(came)
        sys.stdout.flush()
except ssl.SSLError as error:
    print("refused:", error.reason, file=sys.stderr)
    sys.exit(1)
