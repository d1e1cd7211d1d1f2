/** Processes that do what their parent asks: both ends of the conversation. JSON goes between them. */
import { type ChildProcess, fork } from "node:child_process";
import { undoAtExit } from "./cleanup.ts";

/** What may be asked, by name. */
export type OrdersOf<Orders> = { [Name in keyof Orders]: { request: unknown; answer: unknown } };

/** What the process does for each of them. */
export type CarryOut<Orders extends OrdersOf<Orders>> = {
  [Name in keyof Orders]: (
    request: Orders[Name]["request"],
  ) => Promise<Orders[Name]["answer"]> | Orders[Name]["answer"];
};

interface Order {
  id: number;
  name: string;
  request: unknown;
}

/** Without an id: a line that the process wants shown. */
interface OrderAnswer {
  id?: number;
  answer?: unknown;
  error?: string;
  line?: string;
}

interface OpenOrder {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export interface AskedOptions {
  /** Shows a line of the process. */
  say?: (line: string) => void;
  /** In a session of its own (default: in its parent's). Linux shares the processors out among sessions first. */
  ownSession?: boolean;
}

export class AskedProcess<Orders extends OrdersOf<Orders>> {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #open = new Map<number, OpenOrder>();
  #orders = 0;

  constructor(name: string, program: string, { say, ownSession = false }: AskedOptions = {}) {
    this.name = name;
    this.#child = fork(program, [name], { execArgv: ["--import", "tsx"], detached: ownSession });
    const forget = undoAtExit(`process ${this.#child.pid} (${name})`, () => this.#child.kill("SIGKILL"));
    this.#child.on("message", ({ line, ...answer }: OrderAnswer) => {
      if (line !== undefined) say?.(line);
      else this.#answered(answer);
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => {
        forget();
        for (const { reject } of this.#open.values())
          reject(new Error(`${name} has ended: ${code ?? signal}`));
        this.#open.clear();
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Rejects when the process cannot, has ended, or does not answer within `limitMs` (default: waits for its end). */
  ask<Name extends keyof Orders & string>(
    name: Name,
    request: Orders[Name]["request"],
    limitMs?: number,
  ): Promise<Orders[Name]["answer"]> {
    const order: Order = { id: ++this.#orders, name, request };
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) {
        reject(new Error(`${this.name} has ended`));
        return;
      }
      const late = () => this.#answered({ id: order.id, error: `no answer to ${name} within ${limitMs} ms` });
      const timer = limitMs === undefined ? undefined : setTimeout(late, limitMs);
      const settle = () => {
        clearTimeout(timer);
        this.#open.delete(order.id);
      };
      this.#open.set(order.id, {
        resolve: (answer) => {
          settle();
          resolve(answer as Orders[Name]["answer"]);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      this.#child.send(order);
    });
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  #answered({ id, answer, error }: OrderAnswer): void {
    const open = this.#open.get(id as number);
    if (error !== undefined) open?.reject(new Error(`${this.name}: ${error}`));
    else open?.resolve(answer);
  }
}

/** The process's side. Without its parent nobody needs it: it ends. */
export function serveOrders<Orders extends OrdersOf<Orders>>(carryOut: CarryOut<Orders>): void {
  process.on("message", async ({ id, name, request }: Order) => {
    let said: OrderAnswer;
    try {
      const work = carryOut[name as keyof Orders] as (request: unknown) => unknown;
      said = { id, answer: await work(request) };
    } catch (error) {
      said = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.send?.(said);
  });
  process.on("disconnect", () => process.exit());
}

/** One line, shown by the parent. */
export function sayToParent(line: string): void {
  process.send?.({ line } satisfies OrderAnswer);
}
