/** Which upgrade request goes where. What nobody takes is refused at once instead of hanging. */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { HubError } from "../protocol/codes.ts";
import { refuseUpgrade } from "../refusal.ts";

export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

export interface UpgradeOptions {
  /** Paths whose upgrades somebody else answers. */
  others: (path: string) => boolean;
  /** By exact path. What they throw is the refusal. */
  routes: ReadonlyMap<string, Upgrade>;
  /** Logs what nobody foresaw. */
  internal: (error: unknown, what: string) => HubError;
  onRefused: (error: HubError, request: IncomingMessage) => void;
}

/** Takes the upgrades of a server from now on. */
export function routeUpgrades(server: Server, { others, routes, internal, onRefused }: UpgradeOptions): void {
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (others(path)) return;
    try {
      const upgrade = routes.get(path);
      if (!upgrade) throw new HubError("unknown_verb", "no such route");
      upgrade(request, socket, head);
    } catch (error) {
      const told = error instanceof HubError ? error : internal(error, "upgrade failed");
      onRefused(told, request);
      refuseUpgrade(socket, told);
    }
  });
}
