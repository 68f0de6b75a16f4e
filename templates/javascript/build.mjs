// Makes a component of policy.js, without anything that a policy module has no use for.
import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize(await readFile("policy.js", "utf8"), {
  witPath: "wit",
  worldName: "module",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2], component);
