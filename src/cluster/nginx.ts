/** nginx: the two files that its configuration includes, and how it is started. `nginx.conf` itself is the same everywhere. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** A hub as nginx sees it. */
export interface HubAddress {
  /** Its TRAINWIRE_INSTANCE_ID, which its session ids end with. */
  name: string;
  /** `host:port` */
  address: string;
}

/** How long a hub that has refused or hung is left out. */
export const LEFT_OUT_MS = 2_000;

/** `nginx/hubs.conf`: an upstream for each hub, four of all hubs, and the map from session ids to hubs. */
export function hubsConf(hubs: readonly HubAddress[]): string {
  const servers = hubs.map(
    ({ address }) => `  server ${address} max_fails=1 fail_timeout=${LEFT_OUT_MS / 1_000}s;`,
  );
  const all = (name: string, method: string) =>
    [`upstream ${name} {`, `  zone ${name} 256k;`, `  ${method};`, ...servers, "}"].join("\n");
  return `# Which hubs there are. Made by src/cluster/nginx.ts.

# Each by itself, for the sessions that it has. There is no other one to take these, so none is ever left out.
${hubs.map(({ name, address }) => `upstream ${name} { server ${address} max_fails=0; }`).join("\n")}

# All of them, for first requests. One that refuses or hangs is left out for ${LEFT_OUT_MS / 1_000} s, then a single request finds out
# whether it is back. Long enough that few wait for a hub that hangs; short enough that a restarted one soon has work.
# zone: nginx's workers share what they learn. HTTP has its own, so that hubs that are full still answer it.
${all("hubs_by_load", "least_conn")}
${all("hubs_by_route", "hash $trainwire_route consistent")}
${all("hubs_for_http", "least_conn")}

# All of them, and none left out: for when the others are left out, all. A WebSocket counts as well served only when it
# ends, so a hub that is back gets one every ${LEFT_OUT_MS / 1_000} s until something short has gone well.
upstream hubs_any {
  zone hubs_any 256k;
  least_conn;
${hubs.map(({ address }) => `  server ${address} max_fails=0;`).join("\n")}
}

# A session's hub is the last label of its id; ids of unknown hubs go where first requests go, and are refused there.
map $arg_sid $trainwire_hub {
  hostnames;
  default $trainwire_first;
${hubs.map(({ name }) => `  *.${name} ${name};`).join("\n")}
}
`;
}

/** `nginx/listen.conf`: `listen` is an address and port, or a port; lines of the access log go to `accessLog`, or where nginx.conf says. */
export function listenConf(listen: string, accessLog?: string): string {
  const lines = ["# Where nginx listens. Made by src/cluster/nginx.ts.", `listen ${listen} backlog=4096;`];
  if (accessLog !== undefined) lines.push(`access_log ${accessLog} trainwire if=$trainwire_logged;`);
  return `${lines.join("\n")}\n`;
}

/** The package's nginx.conf, from `src/cluster` or `dist/src/cluster`. */
function packagedConf(): string {
  for (const path of ["../../nginx.conf", "../../../nginx.conf"]) {
    const file = fileURLToPath(new URL(path, import.meta.url));
    try {
      readFileSync(file);
      return file;
    } catch {
      // The other one, then.
    }
  }
  throw new Error("nginx.conf is not where the package has it; install trainwire again.");
}

/** Writes the three files into `folder`, which is nginx's prefix as well. */
export function writeConf(folder: string, hubs: readonly HubAddress[], listen: string): void {
  mkdirSync(join(folder, "nginx"), { recursive: true });
  copyFileSync(packagedConf(), join(folder, "nginx.conf"));
  writeFileSync(join(folder, "nginx/hubs.conf"), hubsConf(hubs));
  writeFileSync(join(folder, "nginx/listen.conf"), listenConf(listen));
}

/**
 * In the foreground, so that it is a child like the others. Started by root, its workers stay root too: the user that
 * they would become could not enter a folder inside one that is root's own (a private TMPDIR), and longer bodies, which
 * go there, would fail.
 */
export function nginxArgs(folder: string): string[] {
  const isRoot = process.platform === "linux" && process.getuid?.() === 0;
  const directives = `daemon off;${isRoot ? " user root;" : ""}`;
  return ["-p", `${folder}/`, "-c", join(folder, "nginx.conf"), "-e", "stderr", "-g", directives];
}
