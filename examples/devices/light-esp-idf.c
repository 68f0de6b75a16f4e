/* Light 1 of the worked example, for ESP-IDF 5: main/light.c of a project with a network connection.
   menuconfig: Component config > mbedTLS > enable PSK based ciphersuite modes, and
   Component config > ESP-TLS > enable PSK verification. */
#include "esp_log.h"
#include "esp_tls.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *TAG = "light1";
static const uint8_t kpsa[] = {0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x7a, 0x8b};
static const psk_hint_key_t credential = {
    .key = kpsa,
    .key_size = sizeof kpsa,
    .hint = "AE123456789012-Light@in.provider.com",
};

static bool ask(esp_tls_t *gateway, const char *method, const char *path, int type,
                const char *content) {
    static int requests;
    static char text[2048];
    int length = snprintf(text, sizeof text,
                          "%s %s HTTP/1.1\r\nHost: gateway\r\nX-M2M-Origin: Clight-AE1\r\n"
                          "X-M2M-RI: r%d\r\nX-M2M-RVI: 3\r\n"
                          "Content-Type: application/json;ty=%d\r\nContent-Length: %u\r\n\r\n%s",
                          method, path, ++requests, type, (unsigned)strlen(content), content);
    for (int sent = 0; sent < length;) {
        int more = esp_tls_conn_write(gateway, text + sent, length - sent);
        if (more <= 0)
            return false;
        sent += more;
    }
    int got = esp_tls_conn_read(gateway, text, sizeof text - 1);
    if (got <= 0)
        return false;
    text[got] = 0;
    ESP_LOGI(TAG, "%s", text);
    return true;
}

/* Called once the network is connected. */
void light(void) {
    esp_tls_cfg_t settings = {.psk_hint_key = &credential, .timeout_ms = 10000};
    esp_tls_t *gateway = esp_tls_init();
    const char host[] = "127.0.0.1";
    if (gateway == NULL || esp_tls_conn_new_sync(host, strlen(host), atoi("8443"), &settings, gateway) != 1) {
        ESP_LOGE(TAG, "no association");
    } else {
        ask(gateway, "POST", "/cse", 2,
            "{\"m2m:ae\":{\"rn\":\"light1\",\"api\":\"Nlight\",\"rr\":false,\"srv\":[\"3\"]}}");
        ask(gateway, "POST", "/cse/light1", 3, "{\"m2m:cnt\":{\"rn\":\"lamp\",\"mni\":10}}");
        ask(gateway, "POST", "/cse/light1/lamp", 4, "{\"m2m:cin\":{\"con\":\"on\"}}");
    }
    esp_tls_conn_destroy(gateway);
}
