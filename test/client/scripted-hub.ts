/**
 * A Socket.IO server that does what a test says, and checks that everything it is sent is what the protocol allows.
 * Calls that no handler takes wait for `next(verb)`.
 */
import { once } from "node:events";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server, type Socket } from "socket.io";
import { Compile } from "typebox/compile";
import { EVENTS, publishedSchema } from "../../src/protocol/events.ts";
import { LIMITS } from "../../src/protocol/limits.ts";
import type {
  AnswerError,
  DeliveredEvent,
  EventType,
  PublishAnswer,
  PublishedEvent,
  SubscribeRequest,
} from "../../src/protocol/types.ts";
import { VERBS, type VerbName } from "../../src/protocol/verbs.ts";

/** A verb that a client has sent. */
export interface Call<R = SubscribeRequest> {
  verb: string;
  request: R;
  socket: Socket;
  answer(data: unknown): void;
  refuse(code: string, temporary?: boolean): void;
}

// biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
type AnyCall = Call<any>;

export class ScriptedHub {
  readonly #http: HttpServer;
  readonly #io: Server;
  readonly #waiting = new Map<string, AnyCall[]>();
  readonly #takers = new Map<string, Array<(call: AnyCall) => void>>();
  /** What clients sent against the protocol; `stop` fails with it. */
  readonly violations: string[] = [];
  /** The `auth` of every attempt to connect. */
  readonly auths: Array<{ token?: string }> = [];
  /** Every call, in order. */
  readonly calls: AnyCall[] = [];
  /** Refuses a connection with what it returns. */
  admit: (auth: { token?: string }) => AnswerError | Error | undefined = () => undefined;
  readonly on: { [verb: string]: ((call: AnyCall) => void) | undefined } = {
    ping: (call) => call.answer({ server_time: new Date().toISOString(), positions: [] }),
    announce: ({ request, answer }) => answer({ job_id: request.job_id, trainer_id: request.trainer_id }),
    heartbeat: ({ request, answer }) =>
      answer({ job_id: request.job_id, server_time: new Date().toISOString() }),
    withdraw: ({ answer }) => answer({}),
  };

  private constructor(http: HttpServer) {
    this.#http = http;
    this.#io = new Server(http, { serveClient: false });
    for (const namespace of ["/", "/trainer"]) {
      this.#io.of(namespace).use((socket, next) => {
        this.auths.push({ ...socket.handshake.auth });
        const refusal = this.admit(socket.handshake.auth);
        if (!refusal) return next();
        next(refusal instanceof Error ? refusal : Object.assign(new Error(refusal.code), { data: refusal }));
      });
      this.#io.of(namespace).on("connection", (socket) => this.#connected(socket));
    }
  }

  static async start(port = 0): Promise<ScriptedHub> {
    const http = createServer();
    http.listen(port, "127.0.0.1");
    await once(http, "listening");
    return new ScriptedHub(http);
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The next call of a verb, or `connection`, that nobody has taken. */
  async next<R = SubscribeRequest>(verb: string): Promise<Call<R>> {
    const waiting = this.#waiting.get(verb)?.shift();
    if (waiting) return waiting;
    return await new Promise((resolve) => {
      this.#takers.set(verb, [...(this.#takers.get(verb) ?? []), resolve]);
    });
  }

  /** Whether calls of this verb wait for somebody. */
  waiting(verb: string): number {
    return this.#waiting.get(verb)?.length ?? 0;
  }

  /** Cuts every connection, as a network does: the client reconnects. */
  cut(): void {
    this.#io.engine.close();
  }

  async stop(): Promise<void> {
    await this.#io.close();
    if (this.violations.length > 0) throw new Error(`Against the protocol: ${this.violations.join("; ")}`);
  }

  #connected(socket: Socket): void {
    this.#take({ verb: "connection", request: socket.handshake.auth, socket, answer() {}, refuse() {} });
    socket.onAny((verb: string, request: unknown, ack: unknown) => {
      if (typeof ack !== "function") {
        this.violations.push(`${verb} without an acknowledgement`);
        return;
      }
      this.#check(socket.nsp.name, verb, request);
      this.#take({
        verb,
        request,
        socket,
        answer: (data) => ack({ ok: true, data }),
        refuse: (code, temporary = false) => ack({ ok: false, error: { code, message: code, temporary } }),
      });
    });
  }

  #take(call: AnyCall): void {
    this.calls.push(call);
    const handler = this.on[call.verb];
    const taker = this.#takers.get(call.verb)?.shift();
    if (taker) taker(call);
    else if (handler) handler(call);
    else this.#waiting.set(call.verb, [...(this.#waiting.get(call.verb) ?? []), call]);
  }

  #check(namespace: string, verb: string, request: unknown): void {
    const known = VERBS[verb as VerbName];
    if (!known || !(known.namespace as readonly string[]).includes(namespace)) {
      this.violations.push(`${verb} on ${namespace}`);
    } else if (!Compile(known.request).Check(request)) {
      this.violations.push(`${verb} with ${JSON.stringify(request)}`);
    }
    if (verb !== "publish") return;
    const events = request as PublishedEvent[];
    if (events.length > LIMITS.batchEvents) this.violations.push(`${events.length} events in one call`);
    if (JSON.stringify(events).length > LIMITS.messageBytes) this.violations.push("a call that is too large");
    for (const event of events) this.#checkEvent(event);
  }

  #checkEvent(event: PublishedEvent): void {
    const durable = EVENTS[event.type]?.class === "durable";
    if (durable !== (event.producer !== undefined && event.n !== undefined)) {
      this.violations.push(`${event.type} with producer ${JSON.stringify(event.producer)} and n ${event.n}`);
    }
  }
}

const schemas = new Map<string, ReturnType<typeof Compile>>();

/** Whether the hub would take this event. */
export function isValid(event: PublishedEvent): boolean {
  if (!Object.hasOwn(EVENTS, event.type)) return false;
  const schema = schemas.get(event.type) ?? Compile(publishedSchema(event.type));
  schemas.set(event.type, schema);
  return schema.Check(event);
}

/** What a hub keeps of one tenant: enough to judge a trainer by. */
export class ScriptedStore {
  readonly events: PublishedEvent[] = [];
  readonly #highest = new Map<string, number>();
  duplicates = 0;

  /** Stores a call as the hub does, an `n` that is not higher than the last one being a duplicate. */
  publish(
    events: PublishedEvent[],
    refuse?: (event: PublishedEvent) => AnswerError | undefined,
  ): PublishAnswer {
    const answer: PublishAnswer = { accepted: 0, duplicates: 0, positions: {}, refused: [] };
    const held = new Set<string>();
    for (const [index, event] of events.entries()) {
      const { job_id = "", producer, n } = event;
      const lane = `${job_id} ${producer?.id}`;
      const refusal = refuse?.(event);
      if (refusal || (producer && held.has(lane))) {
        if (producer && (refusal?.temporary ?? true)) held.add(lane);
        answer.refused.push({ index, ...(refusal ?? { code: "unavailable", message: "", temporary: true }) });
      } else if (producer && n !== undefined && n <= (this.#highest.get(lane) ?? 0)) {
        answer.duplicates += 1;
      } else {
        if (producer && n !== undefined) this.#highest.set(lane, n);
        this.events.push(event);
        answer.accepted += 1;
      }
    }
    this.duplicates += answer.duplicates;
    return answer;
  }

  of<T extends EventType>(type: T): PublishedEvent<T>[] {
    return this.events.filter((event): event is PublishedEvent<T> => event.type === type);
  }
}

/** An event as a hub delivers it. */
export function delivered<T extends EventType>(
  type: T,
  seq: number,
  data: DeliveredEvent<T>["data"],
  rest: Partial<DeliveredEvent<T>> = {},
): DeliveredEvent<T> {
  return {
    feed: "job",
    epoch: "e1",
    seq,
    type,
    tenant_id: "acme",
    job_id: "a",
    timestamp: "2026-01-01T00:00:00.000Z",
    received_at: "2026-01-01T00:00:00.000Z",
    data,
    ...rest,
  };
}

/** A log line at a position of job `a`. */
export function line(seq: number, rest: Partial<DeliveredEvent<"log">> = {}): DeliveredEvent<"log"> {
  return delivered("log", seq, { message: `line ${seq}` }, rest);
}
