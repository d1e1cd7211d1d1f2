/** A client that writes frames itself, for what no library would send. */
import { once } from "node:events";
import WebSocket from "ws";
import type { Role } from "../../src/auth.ts";
import { type TestHub, token } from "../support/hub.ts";

const PATIENCE_MS = 8_000;

export class RawClient {
  readonly socket: WebSocket;
  /** Socket.IO packets as text, Engine.IO's `4` taken off; pings are answered and not shown. */
  readonly packets: string[] = [];
  closed = false;
  readonly #waiting = new Set<() => void>();
  #read = 0;

  constructor(url: string, query = "EIO=4&transport=websocket") {
    this.socket = new WebSocket(`${url.replace("http", "ws")}/socket.io/?${query}`);
    this.socket.on("message", (data) => this.#receive(String(data)));
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
      this.#look();
    });
  }

  /** Connected to a namespace, `welcome` read. */
  static async open(hub: TestHub, role: Role = "trainer"): Promise<RawClient> {
    const opened = new RawClient(hub.url);
    await once(opened.socket, "open");
    const namespace = role === "trainer" ? "/trainer," : "";
    opened.send(`0${namespace}${JSON.stringify({ token: token(role) })}`);
    await opened.next(/"welcome"/);
    return opened;
  }

  /** One Socket.IO packet. */
  send(packet: string): void {
    this.frame(`4${packet}`);
  }

  /** One WebSocket message. */
  frame(data: string | Buffer): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(data);
  }

  /** The first packet that matches and that no earlier `next` has passed. */
  async next(pattern: RegExp): Promise<string> {
    let found: string | undefined;
    await this.#wait(`${pattern}`, () => {
      while (found === undefined && this.#read < this.packets.length) {
        const packet = this.packets[this.#read++] as string;
        if (pattern.test(packet)) found = packet;
      }
      if (found === undefined && this.closed) throw new Error(`closed before ${pattern}: ${this.#tail()}`);
      return found !== undefined;
    });
    return found as string;
  }

  /** The code of the answer with this acknowledgement id, or `ok`. */
  async answer(id: number): Promise<string> {
    const packet = await this.next(new RegExp(`^3(?:/trainer,)?${id}\\[`));
    const [answer] = JSON.parse(packet.slice(packet.indexOf("["))) as [
      { ok: boolean; error?: { code: string } },
    ];
    return answer.ok ? "ok" : (answer.error?.code as string);
  }

  /** The code of the next `refused` notice. */
  async refused(): Promise<{ verb: string; code: string }> {
    const packet = await this.next(/\["refused"/);
    const [, { verb, error }] = JSON.parse(packet.slice(packet.indexOf("["))) as [
      string,
      { verb: string; error: { code: string } },
    ];
    return { verb, code: error.code };
  }

  async end(): Promise<void> {
    await this.#wait("the close", () => this.closed);
  }

  close(): void {
    this.socket.terminate();
  }

  #receive(text: string): void {
    if (text === "2") this.frame("3");
    else if (text.startsWith("4")) this.packets.push(text.slice(1));
    this.#look();
  }

  #look(): void {
    for (const check of [...this.#waiting]) check();
  }

  #tail(): string {
    return this.packets
      .slice(-5)
      .map((packet) => packet.slice(0, 200))
      .join(" | ");
  }

  #wait(what: string, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (error?: unknown) => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        if (error) reject(error);
        else resolve();
      };
      const check = () => {
        try {
          if (condition()) done();
        } catch (error) {
          done(error);
        }
      };
      const timer = setTimeout(() => done(new Error(`waited for ${what}: ${this.#tail()}`)), PATIENCE_MS);
      this.#waiting.add(check);
      check();
    });
  }
}
