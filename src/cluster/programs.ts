/** The programs that a cluster needs from the system. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export interface Programs {
  redis: string;
  nginx: string;
}

/** Where Debian and Homebrew put servers that are not on everybody's PATH. */
const FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin", "/usr/local/bin"];

const WANTED = [
  { key: "redis", names: ["redis-server", "valkey-server"], debian: "redis-server", brew: "redis" },
  { key: "nginx", names: ["nginx"], debian: "nginx", brew: "nginx" },
] as const;

/** @throws Error in one line that says what to install. `path` is a PATH. */
export function findPrograms(path: string, folders: readonly string[] = FOLDERS): Programs {
  const places = [...path.split(delimiter).filter((folder) => folder !== ""), ...folders];
  const find = (names: readonly string[]) =>
    names.flatMap((name) => places.map((folder) => join(folder, name))).find(isExecutable);
  const found = WANTED.map((wanted) => ({ ...wanted, file: find(wanted.names) }));
  const missing = found.filter(({ file }) => file === undefined);
  if (missing.length > 0) {
    const list = (word: (each: (typeof missing)[number]) => string, by: string) => missing.map(word).join(by);
    throw new Error(
      `${list(({ names }) => names[0], " and ")} ${missing.length > 1 ? "are" : "is"} missing. ` +
        `On Debian and Ubuntu: sudo apt-get install ${list(({ debian }) => debian, " ")}. ` +
        `On macOS: brew install ${list(({ brew }) => brew, " ")}.`,
    );
  }
  return Object.fromEntries(found.map(({ key, file }) => [key, file])) as unknown as Programs;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
