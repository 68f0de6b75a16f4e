/* Light 1 of the worked example, with OpenSSL 3: cc -o light light.c -lssl -lcrypto */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kpsa_id[] = "AE123456789012-Light@in.provider.com";
static const unsigned char kpsa[] = {0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x7a, 0x8b};
static const char ae_id[] = "Clight-AE1";

static unsigned int psk(SSL *ssl, const char *hint, char *identity, unsigned int identity_size,
                        unsigned char *key, unsigned int key_size) {
    (void)ssl;
    (void)hint;
    if (sizeof kpsa_id > identity_size || sizeof kpsa > key_size)
        return 0;
    memcpy(identity, kpsa_id, sizeof kpsa_id);
    memcpy(key, kpsa, sizeof kpsa);
    return sizeof kpsa;
}

/* Sends a request, and prints the response. A device parses it, up to Content-Length. */
static void ask(BIO *gateway, const char *method, const char *path, int type, const char *content) {
    static int requests;
    char request[1024], response[4096];
    int length = snprintf(request, sizeof request,
                          "%s %s HTTP/1.1\r\nHost: gateway\r\nX-M2M-Origin: %s\r\nX-M2M-RI: r%d\r\n"
                          "X-M2M-RVI: 3\r\nContent-Type: application/json;ty=%d\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          method, path, ae_id, ++requests, type, strlen(content), content);
    if (length >= (int)sizeof request || BIO_write(gateway, request, length) != length)
        exit(1);
    int got = BIO_read(gateway, response, sizeof response - 1);
    if (got <= 0)
        exit(1);
    response[got] = 0;
    printf("%s\n\n", response);
}

int main(void) {
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    /* The gateway uses pre-shared keys in TLS 1.2 only. */
    SSL_CTX_set_max_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(tls, "ECDHE-PSK-CHACHA20-POLY1305");
    SSL_CTX_set_psk_client_callback(tls, psk);
    BIO *gateway = BIO_new_ssl_connect(tls);
    const char *address = getenv("GATEWAY");
    BIO_set_conn_hostname(gateway, address ? address : "127.0.0.1:8443");
    if (BIO_do_handshake(gateway) != 1) {
        fprintf(stderr, "no association\n");
        return 1;
    }
    ask(gateway, "POST", "/cse", 2,
        "{\"m2m:ae\":{\"rn\":\"light1\",\"api\":\"Nlight\",\"rr\":false,\"srv\":[\"3\"]}}");
    ask(gateway, "POST", "/cse/light1", 3, "{\"m2m:cnt\":{\"rn\":\"lamp\",\"mni\":10}}");
    ask(gateway, "POST", "/cse/light1/lamp", 4, "{\"m2m:cin\":{\"con\":\"on\"}}");
    BIO_free_all(gateway);
    SSL_CTX_free(tls);
    return 0;
}
