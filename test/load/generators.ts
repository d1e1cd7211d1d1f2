/** The parent's side of the processes that hold the watchers. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { undoAtExit } from "../support/cleanup.ts";
import type { Order, OrderAnswer, OrderName, Orders } from "./orders.ts";

const PROGRAM = fileURLToPath(new URL("generator.ts", import.meta.url));

export class GeneratorProcess {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #open = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>();
  #orders = 0;

  constructor(name: string) {
    this.name = name;
    this.#child = fork(PROGRAM, { execArgv: ["--import", "tsx"] });
    const forget = undoAtExit(`process ${this.#child.pid} (${name})`, () => this.#child.kill("SIGKILL"));
    this.#child.on("message", (answer: OrderAnswer) => this.#answered(answer));
    this.#exited = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => {
        forget();
        for (const { reject } of this.#open.values())
          reject(new Error(`${name} has ended: ${code ?? signal}`));
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  ask<Name extends OrderName>(name: Name, request: Orders[Name]["request"]): Promise<Orders[Name]["answer"]> {
    const order: Order<Name> = { id: ++this.#orders, name, request };
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) {
        reject(new Error(`${this.name} has ended`));
        return;
      }
      this.#open.set(order.id, { resolve: resolve as (answer: unknown) => void, reject });
      this.#child.send(order);
    });
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  #answered({ id, answer, error }: OrderAnswer): void {
    const open = this.#open.get(id);
    this.#open.delete(id);
    if (error !== undefined) open?.reject(new Error(`${this.name}: ${error}`));
    else open?.resolve(answer);
  }
}
