/** A run of the SDK without a hub: what it publishes is written down, and commands reach it. */
import { Run } from "../../client/run.ts";
import { Work } from "../../client/work.ts";
import type {
  CommandAction,
  DeliveredEvent,
  EventMap,
  EventType,
  TrainerAnswer,
} from "../../src/protocol/types.ts";

export type Told = Pick<DeliveredEvent, "type" | "product" | "attempt" | "data">;

export interface LocalRun {
  readonly run: Run;
  /** In order. */
  readonly events: readonly Told[];
  /** What the SDK would hand to `onError`. */
  readonly reported: readonly string[];
  /** What the trainer does when it is told to. */
  readonly commands: readonly CommandAction[];
  of<T extends EventType>(type: T): Array<EventMap[T]>;
  command(action: CommandAction): Promise<TrainerAnswer>;
}

/** `onEvent` is called with each event when it is published. */
export function localRun(attempt = 1, onEvent: (event: Told) => void = () => {}): LocalRun {
  const events: Told[] = [];
  const reported: string[] = [];
  const tell = (event: Told) => {
    events.push(structuredClone(event));
    onEvent(event);
  };
  const work = new Work(attempt, {
    changed() {},
    expecting() {},
    left() {},
    status: (status) => tell({ type: "training_status", attempt, data: { status } }),
    report: (error) => reported.push(error.message),
  });
  const run = new Run("job", { attempt }, work.join(0), (build) => {
    const { type, data, envelope } = build();
    tell({ type, data, attempt, ...(envelope.product !== undefined && { product: envelope.product }) });
    const { status } = data as { status?: string };
    if (type === "training_status" && /completed|failed|cancelled/.test(status ?? "")) work.end();
  });
  let ids = 0;
  return {
    run,
    events,
    reported,
    get commands() {
      return work.commands;
    },
    of: <T extends EventType>(type: T) =>
      events.filter((event) => event.type === type).map(({ data }) => data as EventMap[T]),
    command: (action) => work.carryOut({ job_id: "job", command_id: `c${++ids}`, action, timeout_ms: 1_000 }),
  };
}
