/** Which version of trainwire this is, read once from its package.json. */
import { readFileSync } from "node:fs";

/** Beside src/, and two folders above the compiled file. */
const PLACES = ["../package.json", "../../package.json"];

export const VERSION: string = versionIn(PLACES);

function versionIn([place, ...others]: readonly string[]): string {
  if (place === undefined) throw new Error("trainwire's package.json is missing");
  try {
    return JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")).version;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return versionIn(others);
  }
}
