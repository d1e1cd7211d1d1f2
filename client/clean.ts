import type { Json, JsonObject } from "../src/protocol/types.ts";
import { TrainwireError } from "./errors.ts";
import { KEPT_LIMITS } from "./event-table.ts";

/** Every value takes two bytes of JSON at least, so more of them cannot be within the limit of one event. */
const VALUES = KEPT_LIMITS.eventBytes / 2;

interface CleanOptions {
  omitNumbers?: boolean;
  /** How often the limit of one event may be passed, because texts are shortened later. */
  room?: number;
}

/** What the hub counts above `data`: the packet, the batch, the event. */
const ABOVE = 3;

/**
 * A copy of anything that a training loop may hand over, as JSON that the hub accepts: the caller may go on changing the
 * original. Numbers without a JSON form become `"NaN"`, `"Infinity"`, `"-Infinity"` (with `omitNumbers` they are left out),
 * BigInts numbers or, when too large, text; dates ISO 8601; maps objects; sets and typed arrays arrays; errors
 * `{type, message}`. Undefined, functions and symbols are left out of objects and null in arrays.
 *
 * @throws TrainwireError `invalid_event` for cycles and `__proto__` keys, `too_deep`, `event_too_large`; and
 *   whatever getters and `toString` throw.
 */
export function clean(value: unknown, options: CleanOptions = {}): Json | undefined {
  return new Cleaner(options).value(value, ABOVE + 1);
}

class Cleaner {
  readonly #omit: boolean;
  readonly #above = new Set<object>();
  #left: number;

  constructor({ omitNumbers = false, room = 1 }: CleanOptions) {
    this.#omit = omitNumbers;
    this.#left = VALUES * room;
  }

  value(value: unknown, depth: number): Json | undefined {
    this.#count(1);
    switch (typeof value) {
      case "string":
        this.#count(value.length / 2);
        return value;
      case "boolean":
        return value;
      case "number":
        return this.#number(value);
      case "bigint":
        return Number.isSafeInteger(Number(value)) ? Number(value) : this.#text(value.toString());
      case "object":
        return value === null ? null : this.#object(value, depth);
      default:
        return undefined;
    }
  }

  #number(value: number): Json | undefined {
    if (Number.isFinite(value)) return value;
    return this.#omit ? undefined : String(value);
  }

  #text(value: string): string {
    this.#count(value.length / 2);
    return value;
  }

  #count(values: number): void {
    this.#check(values);
    this.#left -= values;
  }

  #check(values: number): void {
    if (values > this.#left) {
      throw new TrainwireError("event_too_large", `An event is over ${KEPT_LIMITS.eventBytes} bytes.`);
    }
  }

  #object(value: object, depth: number): Json | undefined {
    if (depth > KEPT_LIMITS.depth) {
      throw new TrainwireError("too_deep", `An event is nested deeper than ${KEPT_LIMITS.depth}.`);
    }
    if (this.#above.has(value)) throw new TrainwireError("invalid_event", "An event contains itself.");
    this.#above.add(value);
    try {
      return this.#inside(value, depth);
    } finally {
      this.#above.delete(value);
    }
  }

  #inside(value: object, depth: number): Json | undefined {
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return this.value(value.valueOf(), depth);
    }
    if (value instanceof Error)
      return this.#entries(
        [
          ["type", value.name],
          ["message", value.message],
        ],
        depth,
      );
    if (Array.isArray(value)) return this.#items(value, value.length, depth);
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
      const numbers = value as unknown as ArrayLike<unknown>;
      return this.#items(numbers, numbers.length, depth);
    }
    if (value instanceof Set) return this.#items([...value], value.size, depth);
    if (value instanceof Map) return this.#entries(value, depth);
    if ("toJSON" in value && typeof value.toJSON === "function") return this.value(value.toJSON(), depth + 1);
    return this.#entries(Object.entries(value), depth);
  }

  #items(values: ArrayLike<unknown>, length: number, depth: number): Json[] {
    this.#check(length);
    // Not map: it skips the holes of a sparse array.
    return Array.from({ length }, (_, index) => this.value(values[index], depth + 1) ?? null);
  }

  #entries(entries: Iterable<readonly [unknown, unknown]>, depth: number): JsonObject {
    const object: JsonObject = {};
    for (const [key, item] of entries) {
      const name = this.#text(String(key));
      if (name === "__proto__")
        throw new TrainwireError("invalid_event", "`__proto__` is no name for a field.");
      const value = this.value(item, depth + 1);
      if (value !== undefined) object[name] = value;
    }
    return object;
  }
}
