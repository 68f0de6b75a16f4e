// Light 1 of the worked example over WebSocket, with Node 20 and the package `ws`.
import WebSocket from "ws";

const gateway = process.env.GATEWAY ?? "127.0.0.1:8443";
const aeId = "Clight-AE1";

const socket = new WebSocket(`wss://${gateway}/`, ["oneM2M.json"], {
  maxVersion: "TLSv1.2", // The gateway uses pre-shared keys in TLS 1.2 only.
  ciphers: "ECDHE-PSK-CHACHA20-POLY1305",
  checkServerIdentity: () => undefined, // The shared key authenticates the gateway.
  pskCallback: () => ({
    identity: "AE123456789012-Light@in.provider.com",
    psk: Buffer.from("1a2b3c4d5e6f7a8b", "hex"),
  }),
});

// Requests without a response yet, by their Request Identifier.
const pending = new Map();
let requests = 0;

function ask(op, to, others = {}) {
  const rqi = `r${++requests}`;
  socket.send(JSON.stringify({ op, to, fr: aeId, rqi, rvi: "3", ...others }));
  return new Promise((resolve, reject) => pending.set(rqi, { resolve, reject }));
}

let notify;
const notification = new Promise((resolve) => (notify = resolve));

function respond({ rqi, pc }) {
  socket.send(JSON.stringify({ rsc: 2000, rqi, rvi: "3", fr: aeId }));
  // The first request only verifies that the light wants to be notified.
  const event = pc["m2m:sgn"].nev;
  if (event) notify(event.rep["m2m:cin"].con);
}

socket.on("message", (data) => {
  const message = JSON.parse(data);
  if (message.op) return respond(message);
  const { resolve, reject } = pending.get(message.rqi);
  pending.delete(message.rqi);
  if (message.rsc < 3000) resolve(message.pc ?? {});
  else reject(new Error(`${message.rsc}: ${JSON.stringify(message.pc)}`));
});

await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
const ae = { "m2m:ae": { rn: "light1", api: "Nlight", rr: true, srv: ["3"] } };
console.log("registered as", (await ask(1, "cse", { ty: 2, pc: ae }))["m2m:ae"].aei);
await ask(1, "cse/light1", { ty: 3, pc: { "m2m:cnt": { rn: "lamp", mni: 10 } } });
const subscription = { "m2m:sub": { rn: "watch", nu: [aeId], enc: { net: [3] }, nct: 1 } };
await ask(1, "cse/light1/lamp", { ty: 23, pc: subscription });
await ask(1, "cse/light1/lamp", { ty: 4, pc: { "m2m:cin": { con: "on" } } });
console.log("latest:", (await ask(2, "cse/light1/lamp/la"))["m2m:cin"].con);
console.log("notified:", await notification);
socket.close();
