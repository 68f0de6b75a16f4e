// Light 1 of the worked example, with Node 20 and no packages.
import https from "node:https";

const [host, port] = (process.env.GATEWAY ?? "127.0.0.1:8443").split(":");
const aeId = "Clight-AE1";

// One association for all requests: a handshake costs more than a request.
const agent = new https.Agent({
  keepAlive: true,
  maxSockets: 1,
  maxVersion: "TLSv1.2", // The gateway uses pre-shared keys in TLS 1.2 only.
  ciphers: "ECDHE-PSK-CHACHA20-POLY1305",
  checkServerIdentity: () => undefined, // The shared key authenticates the gateway.
  pskCallback: () => ({
    identity: "AE123456789012-Light@in.provider.com",
    psk: Buffer.from("1a2b3c4d5e6f7a8b", "hex"),
  }),
});

let requests = 0;

function ask(method, path, ty, content) {
  const headers = { "X-M2M-Origin": aeId, "X-M2M-RI": `r${++requests}`, "X-M2M-RVI": "3" };
  const body = content && JSON.stringify(content);
  if (body) {
    headers["Content-Type"] = "application/json" + (ty ? `;ty=${ty}` : "");
    headers["Content-Length"] = Buffer.byteLength(body);
  }
  return new Promise((resolve, reject) => {
    const request = https.request({ host, port, method, path, headers, agent }, (response) => {
      let text = "";
      response.on("data", (part) => (text += part));
      response.on("end", () => {
        const rsc = response.headers["x-m2m-rsc"];
        if (rsc.startsWith("2")) resolve(text ? JSON.parse(text) : {});
        else reject(new Error(`${rsc}: ${text}`));
      });
    });
    request.on("socket", (socket) =>
      socket.once("secureConnect", () => console.log(socket.getProtocol(), socket.getCipher().name)));
    request.on("error", reject);
    request.end(body);
  });
}

const ae = { "m2m:ae": { rn: "light1", api: "Nlight", rr: false, srv: ["3"] } };
console.log("registered as", (await ask("POST", "/cse", 2, ae))["m2m:ae"].aei);
await ask("POST", "/cse/light1", 3, { "m2m:cnt": { rn: "lamp", mni: 10 } });
await ask("POST", "/cse/light1/lamp", 4, { "m2m:cin": { con: "on" } });
console.log("latest:", (await ask("GET", "/cse/light1/lamp/la"))["m2m:cin"].con);
agent.destroy();
