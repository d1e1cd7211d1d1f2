/** What to type in a second terminal to see something. */
import { styleText } from "node:util";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";

/** Where commands look when they are not told. */
const USUAL_URL = "http://127.0.0.1:3000";

/**
 * On a pipe, a line of the log.
 *
 * @param before other commands that are to be typed first, without `npx trainwire`
 * @param ending how to end what runs here
 */
export function tellHowToWatch(
  url: string,
  { jwtSecret }: Config,
  log: Log,
  { before = [], ending }: { before?: readonly string[]; ending: string },
): void {
  const commands = [...before, "watch"].map(
    (name) => `npx trainwire ${name}${url === USUAL_URL ? "" : ` --url ${url}`}`,
  );
  const command = commands.at(-1);
  if (!process.stdout.isTTY) {
    log.info({ command }, `to watch it: ${command}`);
    return;
  }
  const where = jwtSecret === undefined ? "in this folder" : "with the same JWT_SECRET";
  const line = (text = "") => console.log(`  ${text}`.trimEnd());
  line();
  line(`To watch it, type in ${before.length > 0 ? "other terminals" : "a second terminal"}, ${where}:`);
  line();
  for (const each of commands) line(`    ${styleText(["bold", "cyan"], each)}`);
  line();
  line(styleText("dim", ending));
  line();
}
