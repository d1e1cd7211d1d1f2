/** nginx with the project's configuration before hubs that do as a test tells them, and single requests to it. */
import { readFileSync, writeFileSync } from "node:fs";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestOptions,
  request,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { nginxArgs, writeConf } from "../../src/cluster/nginx.ts";
import { findPrograms } from "../../src/cluster/programs.ts";
import { tempFolder } from "../support/cleanup.ts";
import { freePort } from "../support/ports.ts";
import { startProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** One request on a connection of its own. Rejects when there is no answer. */
export function ask(url: string, options: RequestOptions & { body?: string } = {}): Promise<Reply> {
  const { body, ...rest } = options;
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent: false, ...rest }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
      );
      response.on("error", reject);
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** A hub that answers its name, unless it is told otherwise. */
export class ScriptedHub {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** What has come. */
  readonly requests: IncomingMessage[] = [];
  /** What it does with a request, `undefined` for the usual. */
  act: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  readonly #server: Server;

  private constructor(name: string, port: number, server: Server) {
    this.name = name;
    this.port = port;
    this.address = `127.0.0.1:${port}`;
    this.#server = server;
    server.on("request", (incoming: IncomingMessage, response: ServerResponse) => {
      this.requests.push(incoming);
      if (this.act) this.act(incoming, response);
      else incoming.resume().on("end", () => response.end(name));
    });
  }

  static async start(name: string): Promise<ScriptedHub> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new ScriptedHub(name, (server.address() as AddressInfo).port, server);
  }

  /** Refuses connections; those that are open are cut. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async open(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.port, "127.0.0.1", resolve));
  }
}

export interface Front {
  readonly url: string;
  readonly hubs: readonly ScriptedHub[];
  /** All that nginx has written: its error log, and its access log. */
  written(): string;
  stop(): Promise<void>;
}

/** nginx before three scripted hubs. `edits`: what is replaced in nginx.conf, so that no test waits for long. */
export async function startFront(edits: Readonly<Record<string, string>> = {}): Promise<Front> {
  const hubs = await Promise.all(["hub-1", "hub-2", "hub-3"].map((name) => ScriptedHub.start(name)));
  const folder = tempFolder("front");
  const port = await freePort();
  writeConf(folder.path, hubs, `127.0.0.1:${port}`);
  const file = join(folder.path, "nginx.conf");
  let text = readFileSync(file, "utf8");
  for (const [before, after] of Object.entries(edits)) {
    if (!text.includes(before)) throw new Error(`nginx.conf has no ${before}`);
    text = text.replaceAll(before, after);
  }
  writeFileSync(file, text);
  const { nginx } = findPrograms(process.env.PATH ?? "");
  const running = startProcess(nginx, nginxArgs(folder.path), { cwd: folder.path });
  const url = `http://127.0.0.1:${port}`;
  await until(() => ask(url).then(Boolean, () => false));
  return {
    url,
    hubs,
    written: () => [...running.output, readFileSync(join(folder.path, "access.log"), "utf8")].join("\n"),
    async stop() {
      await running.stop();
      await Promise.all(hubs.map((hub) => hub.close()));
      folder.remove();
    },
  };
}
