/*
 * A DTLS client with Mbed TLS, which offers a Connection ID.
 *
 *     datagrams PORT IDENTITY KEY
 *
 * Prints the suite, then sends each line of its input, in hexadecimal digits, as one message, and
 * prints each received message in the same form.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mbedtls/ctr_drbg.h"
#include "mbedtls/entropy.h"
#include "mbedtls/net_sockets.h"
#include "mbedtls/ssl.h"
#include "mbedtls/timing.h"
#include "psa/crypto.h"

enum { MAX_MESSAGE = 4096 };

static void check(const char *step, int result) {
    if (result < 0) {
        fprintf(stderr, "%s: -0x%04x\n", step, (unsigned)-result);
        exit(1);
    }
}

static size_t from_hex(const char *text, unsigned char *bytes, size_t limit) {
    size_t length = 0;
    unsigned byte;
    for (; length < limit && sscanf(text + 2 * length, "%2x", &byte) == 1; length++) {
        bytes[length] = (unsigned char)byte;
    }
    return length;
}

static void print_hex(const unsigned char *bytes, int length) {
    for (int i = 0; i < length; i++) {
        printf("%02x", bytes[i]);
    }
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const int suites[] = { MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8, 0 };
    mbedtls_net_context socket;
    mbedtls_timing_delay_context timer;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    unsigned char key[64], message[MAX_MESSAGE];
    static char line[2 * MAX_MESSAGE + 2];
    int result;

    if (argc != 4) {
        return 2;
    }
    mbedtls_net_init(&socket);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&ssl);
    check("crypto", psa_crypto_init() == PSA_SUCCESS ? 0 : -1);
    check("random", mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0));
    check("connect", mbedtls_net_connect(&socket, "127.0.0.1", argv[1], MBEDTLS_NET_PROTO_UDP));
    check("defaults", mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT,
              MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT));
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_ciphersuites(&config, suites);
    mbedtls_ssl_conf_handshake_timeout(&config, 1000, 2000);
    mbedtls_ssl_conf_read_timeout(&config, 0);
    check("key", mbedtls_ssl_conf_psk(&config, key, from_hex(argv[3], key, sizeof key),
                     (const unsigned char *)argv[2], strlen(argv[2])));
    check("identifiers", mbedtls_ssl_conf_cid(&config, 4, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE));
    check("setup", mbedtls_ssl_setup(&ssl, &config));
    check("identifier", mbedtls_ssl_set_cid(&ssl, MBEDTLS_SSL_CID_ENABLED,
                            (const unsigned char *)"mine", 4));
    mbedtls_ssl_set_bio(&ssl, &socket, mbedtls_net_send, mbedtls_net_recv,
                        mbedtls_net_recv_timeout);
    mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    do {
        result = mbedtls_ssl_handshake(&ssl);
    } while (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE);
    check("handshake", result);
    printf("%s\n", mbedtls_ssl_get_ciphersuite(&ssl));
    fflush(stdout);

    /* Without a buffer, a line that has come is seen by poll. */
    setvbuf(stdin, NULL, _IONBF, 0);
    struct pollfd inputs[] = { { STDIN_FILENO, POLLIN, 0 }, { socket.fd, POLLIN, 0 } };
    while (poll(inputs, 2, -1) > 0) {
        if (inputs[1].revents != 0) {
            result = mbedtls_ssl_read(&ssl, message, sizeof message);
            check("read", result);
            print_hex(message, result);
        }
        if (inputs[0].revents != 0) {
            if (fgets(line, sizeof line, stdin) == NULL) {
                break;
            }
            check("write", mbedtls_ssl_write(&ssl, message, from_hex(line, message, sizeof message)));
        }
    }
    mbedtls_ssl_close_notify(&ssl);
    return 0;
}
