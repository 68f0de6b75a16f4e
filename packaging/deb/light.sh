#!/bin/sh
# light.sh PORT TABLE: adds a light with a new key to a table of keys, and prints its configuration for a
# gateway at this port.
set -eu
key=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
echo "Clight-AE1,$key,AE1-Light@in.provider.com" >> "$2"
cat << END
[registrar]
address = "127.0.0.1:$1"
cse-id = "mn-cse-1"
[credential]
kpsa-id = "AE1-Light@in.provider.com"
kpsa = "$key"
[ae]
ae-id = "Clight-AE1"
app-id = "Nlight"
name = "light1"
END
