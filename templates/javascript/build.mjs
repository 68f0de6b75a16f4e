// Builds a component from policy.js, without imports that a policy module does not need.
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

// The bindings of componentize-js 0.23 use the class of a key, which a row returns, but do not define it,
// because a key has no functions. So it is defined here.
const { writeFile } = fs;
fs.writeFile = (path, data, ...options) => {
  const bindings = String(path).endsWith("initializer.js") && String(data);
  const key = bindings && /import_types_\w+\$Key/.exec(bindings)?.[0];
  return writeFile(path, key ? `class ${key} {}\n${bindings}` : data, ...options);
};
syncBuiltinESMExports();

const { componentize } = await import("@bytecodealliance/componentize-js");
const { component } = await componentize(await fs.readFile("policy.js", "utf8"), {
  witPath: "wit",
  worldName: "module",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2], component);
