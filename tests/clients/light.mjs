// A light that registers, is notified of its own value and reads it, over WebSocket or MQTT.
//
// The argument is a JSON object. The light prints what it has seen as one, and fails if a response has
// another status code than the expected one.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.SAEGIS_CLIENTS}/node/`);
const settings = JSON.parse(process.argv[2]);
const { port } = settings;
const [own, other, cse] = ["Clight-AE1", "Clight-AE2", "mn-cse-123456"];
const TIMEOUT = 20_000;

setTimeout(() => fail("timeout"), 3 * TIMEOUT).unref();

function fail(why) {
  console.error(why);
  process.exit(1);
}

function tls() {
  if (settings.chain) {
    const [ca, cert, key] = [settings.anchor, settings.chain, settings.private_key].map((file) => readFileSync(file));
    return { ca, cert, key, servername: settings.server_name };
  }
  return {
    minVersion: "TLSv1.2",
    maxVersion: "TLSv1.2",
    ciphers: "PSK-AES128-CBC-SHA256:@SECLEVEL=0", // The mandated suite.
    checkServerIdentity: () => undefined, // The shared key authenticates the gateway.
    pskCallback: () => ({ identity: settings.identity, psk: Buffer.from(settings.key, "hex") }),
  };
}

// Messages that have come, and the function that continues a wait for one.
const came = [];
let wake = () => {};

function arrived(primitive) {
  came.push(primitive);
  wake();
}

async function next() {
  while (!came.length) await new Promise((resolve) => (wake = resolve));
  return came.shift();
}

function coder(isCbor) {
  if (!isCbor) return { encode: JSON.stringify, decode: (bytes) => JSON.parse(bytes.toString()) };
  const { decodeFirstSync, encode } = require("cbor");
  return { encode, decode: decodeFirstSync };
}

async function webSocket() {
  const WebSocket = require("ws");
  const coding = coder(settings.subprotocol.endsWith("cbor"));
  const socket = new WebSocket(`wss://127.0.0.1:${port}/`, [settings.subprotocol], tls());
  socket.on("error", (error) => fail(error.message));
  socket.on("message", (data) => arrived(coding.decode(data)));
  let session;
  socket.on("upgrade", (response) => (session = response.socket));
  await new Promise((resolve) => socket.on("open", resolve));
  if (socket.protocol !== settings.subprotocol) fail(`the subprotocol is ${socket.protocol}`);
  const send = (primitive) => socket.send(coding.encode(primitive));
  return { session, send, close: () => socket.close() };
}

async function mqtt() {
  const type = settings.type ?? "json";
  const coding = coder(type === "cbor");
  const client = require("mqtt").connect({
    protocol: "mqtts",
    host: "127.0.0.1",
    port,
    clientId: `A::${own}`,
    clean: false,
    protocolVersion: 4,
    reconnectPeriod: 0,
    connectTimeout: TIMEOUT,
    ...tls(),
  });
  client.on("error", (error) => fail(error.message));
  client.on("close", () => settings.closing || fail("closed"));
  client.on("message", (topic, payload) => arrived(coder(topic.endsWith("/cbor")).decode(payload)));
  await new Promise((resolve) => client.on("connect", resolve));
  const kinds = [`req/+/${own}`, `resp/${own}`, `reg_resp/${settings.credential}`];
  const filters = kinds.map((kind) => `/oneM2M/${kind}/#`);
  for (const { qos } of await client.subscribeAsync(filters, { qos: 1 })) {
    if (qos > 1) fail("not subscribed");
  }
  const topic = (primitive) => {
    if (primitive.rsc) return `/oneM2M/resp/${cse}/${own}`;
    if (primitive.ty === 2) return `/oneM2M/reg_req/${settings.credential}/${cse}`;
    return `/oneM2M/req/${own}/${cse}`;
  };
  const send = (primitive) =>
    client.publish(`${topic(primitive)}/${type}`, coding.encode(primitive), { qos: 1 });
  const close = () => {
    settings.closing = true;
    return client.endAsync();
  };
  return { session: client.stream, send, close };
}

const binding = await (settings.binding === "websocket" ? webSocket() : mqtt());
const values = [];
let requests = 0;

// Returns the next response, and responds to notifications.
async function receive() {
  for (;;) {
    const message = await next();
    if (!message.op) return message;
    const event = message.pc["m2m:sgn"].nev;
    if (event) values.push(event.rep["m2m:cin"].con);
    binding.send({ rsc: 2000, rqi: message.rqi, rvi: "3", fr: own });
  }
}

async function ask(rsc, op, to, others = {}) {
  const request = { op, to, fr: own, rqi: `r${++requests}`, rvi: "3", ...others };
  binding.send(request);
  const response = await receive();
  if (response.rqi !== request.rqi || response.rsc !== rsc) {
    fail(`${JSON.stringify(request)}: ${JSON.stringify(response)}`);
  }
  return response.pc ?? {};
}

const seen = {
  protocol: binding.session.getProtocol(),
  suite: binding.session.getCipher().name,
};
const ae = { "m2m:ae": { rn: "light1", api: "Nlight", rr: true, srv: ["3"] } };
seen.registered = (await ask(2001, 1, "cse", { ty: 2, pc: ae }))["m2m:ae"].aei;
await ask(2001, 1, "cse/light1", { ty: 3, pc: { "m2m:cnt": { rn: "lamp" } } });
const subscription = { rn: "told", nu: [own], enc: { net: [3] } };
await ask(2001, 1, "cse/light1/lamp", { ty: 23, pc: { "m2m:sub": subscription } });
await ask(2001, 1, "cse/light1/lamp", { ty: 4, pc: { "m2m:cin": { con: "on" } } });
seen.latest = (await ask(2000, 2, "cse/light1/lamp/la"))["m2m:cin"].con;
while (!values.length) await ask(2000, 2, "cse/light1");
seen.notified = values;
await ask(4106, 2, "cse/light1", { fr: other });
await ask(2002, 4, "cse/light1");
await binding.close();
console.log(JSON.stringify(seen));
