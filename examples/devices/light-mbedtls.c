/* Light 1 of the worked example, with Mbed TLS 2.28 or 3:
   cc -o light light-mbedtls.c -lmbedtls -lmbedcrypto -lmbedx509 */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kpsa_id[] = "AE123456789012-Light@in.provider.com";
static const unsigned char kpsa[] = {0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x7a, 0x8b};
static const char ae_id[] = "Clight-AE1";

static void check(int result, const char *what) {
    if (result != 0) {
        fprintf(stderr, "%s: -0x%04x\n", what, (unsigned)-result);
        exit(1);
    }
}

/* Sends a request, and prints the response. A device parses it, up to Content-Length. */
static void ask(mbedtls_ssl_context *gateway, const char *method, const char *path, int type,
                const char *content) {
    static int requests;
    unsigned char text[4096];
    int length = snprintf((char *)text, sizeof text,
                          "%s %s HTTP/1.1\r\nHost: gateway\r\nX-M2M-Origin: %s\r\nX-M2M-RI: r%d\r\n"
                          "X-M2M-RVI: 3\r\nContent-Type: application/json;ty=%d\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          method, path, ae_id, ++requests, type, strlen(content), content);
    if (length >= (int)sizeof text || mbedtls_ssl_write(gateway, text, length) != length)
        exit(1);
    int got = mbedtls_ssl_read(gateway, text, sizeof text - 1);
    if (got <= 0)
        exit(1);
    text[got] = 0;
    printf("%s\n\n", text);
}

int main(void) {
    /* A shared key alone authenticates both sides, so no certificates are compiled in. */
    static const int suites[] = {MBEDTLS_TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256,
                                 MBEDTLS_TLS_PSK_WITH_AES_128_CBC_SHA256, 0};
    mbedtls_net_context socket;
    mbedtls_ssl_context gateway;
    mbedtls_ssl_config settings;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_net_init(&socket);
    mbedtls_ssl_init(&gateway);
    mbedtls_ssl_config_init(&settings);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    check(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "random");
    check(mbedtls_ssl_config_defaults(&settings, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT), "defaults");
    mbedtls_ssl_conf_rng(&settings, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_ciphersuites(&settings, suites);
    check(mbedtls_ssl_conf_psk(&settings, kpsa, sizeof kpsa, (const unsigned char *)kpsa_id,
                               strlen(kpsa_id)), "key");
    check(mbedtls_ssl_setup(&gateway, &settings), "setup");
    /* The environment may name another gateway, as HOST:PORT. */
    const char *host = "127.0.0.1", *port = "8443";
    char other[256];
    if (getenv("GATEWAY")) {
        snprintf(other, sizeof other, "%s", getenv("GATEWAY"));
        char *colon = strrchr(other, ':');
        if (colon) {
            *colon = 0;
            host = other;
            port = colon + 1;
        }
    }
    check(mbedtls_net_connect(&socket, host, port, MBEDTLS_NET_PROTO_TCP), "connection");
    mbedtls_ssl_set_bio(&gateway, &socket, mbedtls_net_send, mbedtls_net_recv, NULL);
    check(mbedtls_ssl_handshake(&gateway), "no association");
    ask(&gateway, "POST", "/cse", 2,
        "{\"m2m:ae\":{\"rn\":\"light1\",\"api\":\"Nlight\",\"rr\":false,\"srv\":[\"3\"]}}");
    ask(&gateway, "POST", "/cse/light1", 3, "{\"m2m:cnt\":{\"rn\":\"lamp\",\"mni\":10}}");
    ask(&gateway, "POST", "/cse/light1/lamp", 4, "{\"m2m:cin\":{\"con\":\"on\"}}");
    mbedtls_ssl_close_notify(&gateway);
    mbedtls_net_free(&socket);
    mbedtls_ssl_free(&gateway);
    mbedtls_ssl_config_free(&settings);
    mbedtls_ctr_drbg_free(&random);
    mbedtls_entropy_free(&entropy);
    return 0;
}
