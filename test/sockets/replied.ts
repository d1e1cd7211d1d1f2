/** What a verb has replied, as its client gets it. */
import { JsonText } from "../../src/sockets/encoder.ts";

export function replied<A>(data: unknown): A {
  return data instanceof JsonText ? JSON.parse(data.text) : structuredClone(data as A);
}
