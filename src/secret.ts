/** The secret of a hub on one machine: made at the first start, kept in a file that only its owner reads. */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { SECRET_BYTES } from "./auth.ts";
import { ConfigError } from "./config.ts";

/**
 * Reads the secret at `path`, or makes it: directory 0700, file 0600, 32 random bytes as base64url (43 characters).
 * Processes that start at once all get the same secret.
 * Throws ConfigError, one sentence, for a file that others may read, is too short, or cannot be read or made.
 */
export function localSecret(path: string): string {
  try {
    return read(path) ?? make(path);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code = "unknown error" } = error as NodeJS.ErrnoException;
    throw new ConfigError([`The secret file ${quote(path)} cannot be read or made (${code}).`]);
  }
}

function read(path: string): string | undefined {
  let file: number;
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer. Windows has no such flag.
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new ConfigError([`The secret file ${quote(path)} is not a regular file.`]);
    // Windows has no such modes; its files belong to the user's profile.
    if (process.platform !== "win32" && (stat.mode & 0o077) !== 0) {
      throw new ConfigError([
        `The secret file ${quote(path)} is open to other users; run: chmod 600 ${quote(path)}`,
      ]);
    }
    const secret = readFileSync(file, "utf8").trim();
    if (Buffer.byteLength(secret) < SECRET_BYTES) {
      throw new ConfigError([
        `The secret file ${quote(path)} has fewer than ${SECRET_BYTES} bytes; remove it, and a new one is made.`,
      ]);
    }
    return secret;
  } finally {
    closeSync(file);
  }
}

function make(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  // Written whole under another name, then linked: nobody ever reads half a secret, and of two processes one wins.
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    writeFileSync(draft, `${randomBytes(32).toString("base64url")}\n`, { flag: "wx", mode: 0o600 });
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  const secret = read(path);
  if (secret === undefined)
    throw new ConfigError([`The secret file ${quote(path)} was removed while it was made.`]);
  return secret;
}

function quote(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`;
}
