// Light 1 of the worked example, for Arduino on ESP32 (WiFiClientSecure of the core).
#include <WiFi.h>
#include <WiFiClientSecure.h>

const char *WIFI_NAME = "your network";
const char *WIFI_PASSWORD = "its password";
const char *HOST = "127.0.0.1";
const char *PORT = "8443";
const char *KPSA_ID = "AE123456789012-Light@in.provider.com";
const char *KPSA = "1a2b3c4d5e6f7a8b"; // hexadecimal digits
const char *AE_ID = "Clight-AE1";

WiFiClientSecure gateway;
int requests = 0;

void ask(const char *method, const char *path, int type, const String &content) {
  gateway.printf("%s %s HTTP/1.1\r\nHost: gateway\r\nX-M2M-Origin: %s\r\nX-M2M-RI: r%d\r\n"
                 "X-M2M-RVI: 3\r\nContent-Type: application/json;ty=%d\r\nContent-Length: %u\r\n\r\n",
                 method, path, AE_ID, ++requests, type, (unsigned)content.length());
  gateway.print(content);
  // The header ends with an empty line; the content has Content-Length bytes.
  int length = 0;
  for (String line = gateway.readStringUntil('\n'); line.length() > 1; line = gateway.readStringUntil('\n')) {
    line.toLowerCase();
    if (line.startsWith("content-length:")) length = line.substring(15).toInt();
    if (line.startsWith("x-m2m-rsc:")) Serial.println(line);
  }
  for (char c; length > 0; length--) gateway.readBytes(&c, 1);
}

void setup() {
  Serial.begin(115200);
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  while (WiFi.status() != WL_CONNECTED) delay(200);
  // The shared key authenticates both sides.
  gateway.setPreSharedKey(KPSA_ID, KPSA);
  if (!gateway.connect(HOST, atoi(PORT))) {
    Serial.println("no association");
    return;
  }
  ask("POST", "/cse", 2, R"({"m2m:ae":{"rn":"light1","api":"Nlight","rr":false,"srv":["3"]}})");
  ask("POST", "/cse/light1", 3, R"({"m2m:cnt":{"rn":"lamp","mni":10}})");
}

void loop() {
  if (gateway.connected()) ask("POST", "/cse/light1/lamp", 4, R"({"m2m:cin":{"con":"on"}})");
  delay(60000);
}
