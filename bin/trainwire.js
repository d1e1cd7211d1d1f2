#!/usr/bin/env node
/**
 * The command `trainwire`. It stays outside dist because npx links the project's own command once, at its first use, and never
 * repairs a link whose target was missing then: typed before the first build, a link into dist would stay broken.
 */
import { existsSync } from "node:fs";

const main = new URL("../dist/src/cli/main.js", import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  console.error("trainwire is not built yet: npm run build");
  process.exitCode = 1;
}
