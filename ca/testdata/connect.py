"""connect.py ROOT PORT NAME...: prints for each name whether the handshake succeeds."""
import socket
import ssl
import sys

context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
for name in sys.argv[3:]:
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name):
                print(name, "trusted")
        except ssl.SSLCertVerificationError as e:
            print(name, "refused:", e.verify_message)
