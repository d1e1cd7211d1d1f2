/** The parent's side of the processes that hold the watchers. */
import { fileURLToPath } from "node:url";
import { AskedProcess } from "../support/asked.ts";
import type { Orders } from "./orders.ts";

const PROGRAM = fileURLToPath(new URL("generator.ts", import.meta.url));

export class GeneratorProcess extends AskedProcess<Orders> {
  constructor(name: string) {
    // As each hub is: five processes that shared one session's part of the processors would be the limit.
    super(name, PROGRAM, { ownSession: true });
  }
}
