# Prints a certification request for the URI in the argument, in base64.
import base64
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())
name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(sys.argv[1])])
builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
request = builder.add_extension(name, critical=False).sign(key, hashes.SHA256())
print(base64.b64encode(request.public_bytes(serialization.Encoding.DER)).decode())
