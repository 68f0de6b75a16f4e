// Makes a component of policy.js, without anything that a policy module has no use for.
import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

// A key that a row gives is an object of this class. The bindings of componentize-js 0.23 name it, but
// define it only for who calls one of its functions, and it has none.
const key = 'globalThis["import_types_{{underscored}}$Key"] = class Key {};\n';
const source = await readFile("policy.js", "utf8");

const { component } = await componentize(key + source, {
  witPath: "wit",
  worldName: "module",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2], component);
