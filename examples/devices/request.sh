#!/bin/sh
# Sends one oneM2M request over TLS-PSK, with OpenSSL.
#
#   request.sh METHOD PATH [RESOURCE-TYPE CONTENT]
#
# The environment has the identity: GATEWAY, KPSA_ID, KPSA (hexadecimal), AE_ID.
set -eu
method=$1 path=$2 type=${3:-} content=${4:-}
gateway=${GATEWAY:-127.0.0.1:8443}
suite=${SUITE:-ECDHE-PSK-CHACHA20-POLY1305}
request_id=$(od -An -tx1 -N8 /dev/urandom | tr -d ' \n')
{
    printf '%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "$method" "$path" "$gateway"
    printf 'X-M2M-Origin: %s\r\nX-M2M-RI: %s\r\nX-M2M-RVI: 3\r\n' "$AE_ID" "$request_id"
    if [ -n "$content" ]; then
        media_type="application/json${type:+;ty=$type}"
        length=$(printf %s "$content" | wc -c)
        printf 'Content-Type: %s\r\nContent-Length: %s\r\n' "$media_type" "$length"
    fi
    printf '\r\n%s' "$content"
} | openssl s_client -quiet -connect "$gateway" -tls1_2 -cipher "$suite" -psk "$KPSA" -psk_identity "$KPSA_ID"
